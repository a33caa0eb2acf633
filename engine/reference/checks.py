"""What a command must have, the checks that commands share, and the word that one was accepted."""

from typing import Protocol

from engine import codes
from engine.codes import BUY, EXTERNAL, MONEY_MAX, SELL
from engine.reference.book import Order
from engine.reference.ledger import State, count_open_interest, emit
from engine.reference.margin import count_resting


class Command(Protocol):
    """What a command must have; which field means what for which kind stands in the rule book (CMD-001)."""

    @property
    def ts_ns(self) -> int:
        """When it was sent, ns since the epoch."""

    @property
    def order_id(self) -> int:
        """The order placed, canceled or amended."""

    @property
    def price_tick(self) -> int:
        """Limit, mark, index, level or trade price."""

    @property
    def qty_lot(self) -> int:
        """Quantity, never signed."""

    @property
    def amount_quote(self) -> int:
        """Money, or the setting of a `set_` command, or the funding rate per 10^9."""

    @property
    def account(self) -> int:
        """Whose command it is."""

    @property
    def kind(self) -> int:
        """Which command it is."""

    @property
    def market(self) -> int:
        """Index of the market."""

    @property
    def side(self) -> int:
        """1 buys, -1 sells."""

    @property
    def tif(self) -> int:
        """Time in force of a place."""

    @property
    def flags(self) -> int:
        """Bit set of a place or a print."""


def check_side(state: State, command: Command) -> int:
    """Return the reject code of a side that is neither buy nor sell (CMD-002)."""
    return 0 if command.side in (BUY, SELL) else codes.BAD_SIDE


def check_price(state: State, command: Command) -> int:
    """Return the reject code of a price outside the market's range (CMD-002)."""
    top = state.rules(command.market).price_max_tick
    return 0 if 1 <= command.price_tick <= top else codes.BAD_PRICE


def check_order_qty(state: State, command: Command, market: int) -> int:
    """Return the reject code of a quantity no order may have (MATCH-011)."""
    return 0 if 1 <= command.qty_lot <= state.rules(market).order_max_lot else codes.BAD_QTY


def check_known_mark(state: State, market: int) -> int:
    """Return the reject code of a market that has no mark yet (MARGIN-006)."""
    return 0 if state.marks[market] else codes.NO_MARK


def check_interest(state: State, market: int, qty_lot: int) -> int:
    """Return the reject code of a trade that could lift the open interest above its limit.

    Source: NUM-006.
    """
    after = count_open_interest(state, market) + qty_lot
    return codes.OPEN_INTEREST_LIMIT if after > state.rules(market).open_interest_max_lot else 0


def check_reach(state: State, account: int, market: int, side: int, qty_lot: int, without: Order | None) -> int:
    """Return the reject code of an order whose account could reach past the open interest limit on its side.

    Source: NUM-006.
    """
    resting = count_resting(state, account, market, side, without)
    after = state.position(account, market).qty_lot * side + resting + qty_lot
    return codes.OPEN_INTEREST_LIMIT if after > state.rules(market).open_interest_max_lot else 0


def check_outside_money(state: State, market: int) -> int:
    """Return the reject code of any trade while the outside's wallet is beyond its limit.

    Source: NUM-006.
    """
    wallet = state.wallet(EXTERNAL, state.rules(market).asset)
    return codes.MONEY_LIMIT if abs(wallet.balance_quote) > MONEY_MAX else 0


def check_deposit(state: State, market: int, amount_quote: int) -> int:
    """Return the reject code of a deposit that would lift an asset's total above its limit.

    Source: CMD-005, NUM-006.
    """
    total = state.assets[state.rules(market).asset].deposits_quote
    return codes.MONEY_LIMIT if total + amount_quote > MONEY_MAX else 0


def accept(state: State, command: Command, **fields: int) -> None:
    """Emit the event that a command of an account was accepted.

    Source: CMD-004.
    """
    emit(
        state,
        codes.ACCEPTED,
        code=command.kind,
        account=command.account,
        market=command.market,
        **fields,
    )
