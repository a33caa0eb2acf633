"""Names and human units: accounts and orders by name, prices, quantities and money as decimals.

Source: CHECK-002, NUM-001.
"""

from collections.abc import Mapping
from decimal import Decimal

from engine.check.places import Form
from engine.codes import EXTERNAL, PPB, PPM
from engine.contract import Market, Setup
from engine.errors import list_known
from engine.units import count_units

HOUSE = -1
COUNT_MOST = (1 << 63) - 1
SPECIAL = {"outside": EXTERNAL, "house": HOUSE}


class Names:
    """What the numbers of one scenario are called.

    Parameters
    ----------
    setup : Setup
        Assets and funds by name.
    markets : sequence of Market
        Symbols, ticks and lots.
    """

    def __init__(self, setup: Setup, markets: tuple[Market, ...]) -> None:
        self.setup, self.markets = setup, markets
        self.symbols = [market.symbol for market in markets]
        self.accounts: dict[str, int] = {}
        self.orders: dict[str, int] = {}

    # ------------------------------------------------------------ names

    def add_account(self, form: Form, field: str, name: str) -> int:
        """Give a new account the next number, 1 first."""
        if name in self.accounts or name in SPECIAL:
            form.refuse(field, f"'{name}' is another account already")
        self.accounts[name] = len(self.accounts) + 1
        return self.accounts[name]

    def find(self, form: Form, field: str, name: object, known: Mapping[str, int], what: str) -> int:
        """Return the number of a known name, or refuse the field listing the known ones."""
        if not isinstance(name, str) or name not in known:
            form.refuse(field, f"unknown {what} '{name}', {list_known(name, known or ['none'])}")
        return known[name]

    def find_account(self, form: Form, field: str, name: object) -> int:
        """Return an account's number."""
        return self.find(form, field, name, self.accounts | SPECIAL, "account")

    def find_market(self, form: Form, field: str, name: object) -> int:
        """Return a market's index."""
        return self.find(form, field, name, {symbol: at for at, symbol in enumerate(self.symbols)}, "market")

    def find_order(self, name: object) -> int:
        """Return the id of an order's name; a new name gets the next one, 1 first."""
        return self.orders.setdefault(str(name), len(self.orders) + 1)

    def call_account(self, account: int) -> str:
        """Return an account's name."""
        named = {number: name for name, number in (self.accounts | SPECIAL).items()}
        return named.get(account, str(account))

    def call_order(self, order_id: int) -> str:
        """Return an order's name, "" for the outside's."""
        return next((name for name, number in self.orders.items() if number == order_id), "")

    # ------------------------------------------------------------ units

    def unit(self, suffix: str, market: int) -> Decimal:
        """Return what one of a field's integers stands for: `tick`, `lot`, `quote`, `ppm` or `ppb`."""
        chosen = self.markets[market]
        return {
            "tick": chosen.tick_size,
            "lot": chosen.lot_size,
            "quote": chosen.quote_unit,
            "ppm": Decimal(1) / PPM,
            "ppb": Decimal(1) / PPB,
        }[suffix]

    def asset_market(self, asset: int) -> int:
        """Return the first market that settles in an asset."""
        return next(at for at, rules in enumerate(self.setup.markets) if rules.asset == asset)

    def count(self, form: Form, field: str, value: object, suffix: str, market: int) -> int:
        """Return a decimal in a market's integers, or refuse a value that is between two of them (NUM-001)."""
        number = form.to_number(field, value)
        try:
            count = count_units(number, self.unit(suffix, market), "value")
        except ValueError as error:
            form.refuse(field, str(error))
        if abs(count) > COUNT_MOST:
            form.refuse(field, f"expected at most {COUNT_MOST} units of {self.unit(suffix, market)}, got {value}")
        return count
