"""Our own scenarios: commands in human units, expectations after any of them (profile `perp`).

Source: CHECK-002.
"""

from typing import Any

import msgspec

from engine.check.expect import Expectations
from engine.check.names import Names
from engine.check.places import Fields, Form
from engine.check.play import Options, Play
from engine.check.rig import Rig, find_rejection
from engine.codes import COMMAND_NAMES, REJECTS
from engine.commands import (
    KINDS,
    MODES,
    SIDES,
    STPS,
    TIFS,
    Amend,
    Assign,
    Cancel,
    Command,
    Deposit,
    FundDeposit,
    SetLeverage,
    SetMarginMode,
)
from engine.contract import Market, load_market
from engine.errors import ConfigError
from engine.files import explain_misfit
from engine.scenario.shock import parse_duration

STRUCTS: dict[str, type[Command]] = {str(struct.__struct_config__.tag): struct for struct in KINDS}
CHOICES = {"side": SIDES, "tif": TIFS, "stp": STPS, "mode": MODES}
SUFFIXES = ("tick", "lot", "quote", "ppb", "ppm")
REJECT_CODES = {name: code for code, (name, _, _) in REJECTS.items()}


def read_market(form: Form, options: Options) -> Market:
    """Return a market: fields of its own over those of a named one (`like`) or of a file (`file`).

    Raises
    ------
    ConfigError
        Naming file, line and path.

    Source: CHECK-002, CFG-001.
    """
    own = {name: value for name, value in form.fields.items() if name not in ("like", "file")}
    base: dict[str, Any] = {}
    if form.has("like"):
        name = form.text("like", known=options.markets)
        base = msgspec.to_builtins(read_market(Form(options.file, options.markets[name]), options))
    elif form.has("file"):
        base = msgspec.to_builtins(load_market(options.file.parent / form.text("file")))
    for name in ("liquidation", "adl"):
        if isinstance(own.get(name), dict):
            own[name] = base.get(name, {}) | own[name]
    try:
        return msgspec.convert(base | own, Market, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{options.file}:{form.line}: {explain_misfit(error, Market)}") from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"{options.file}:{form.line}: {error}") from error


def read_markets(form: Form, options: Options) -> list[Market]:
    """Return a scenario's markets, in index order."""
    items = form.items("markets")
    found = []
    for at, (item, line) in enumerate(zip(items, items.lines, strict=True)):
        if isinstance(item, str):
            item = Fields(like=item)
            item.line, item.lines = line, {"like": line}
        found.append(read_market(Form(form.file, item, line, f"markets[{at}] to be a name or an object"), options))
    return found


class OwnPlay(Play):
    """A scenario of our own format.

    Parameters
    ----------
    markets : list of Market, optional
        Instead of those the scenario names: the same story under other rules.

    Source: CHECK-002.
    """

    def __init__(self, form: Form, options: Options, markets: list[Market] | None = None) -> None:
        super().__init__(form, options)
        markets = read_markets(form, options) if markets is None else markets
        line = form.fields.lines["markets"]
        self.rig = Rig(markets, options.engine, f"{options.file}:{line}")
        self.names = Names(self.rig.setup, self.rig.markets)
        self.expectations = Expectations(self, self.rig, self.names)

    def run(self) -> None:
        """Set up funds and accounts, take the steps, compare."""
        form = self.form
        self.fill_funds()
        for account, line in zip(form.items("accounts", None), form.items("accounts", None).lines, strict=True):
            self.open_account(account, line)
        steps = form.forms("steps", None)
        expect = form.form("expect") if form.has("expect") else None
        form.end("id", "title", "profile", "note", "source")
        for step, fields in enumerate(steps, 1):
            self.step, self.line = step, fields.line
            self.take(fields)
        if expect:
            self.step, self.line = 0, expect.line
            self.expectations.check(expect, self.rig.events)

    # ------------------------------------------------------------ setting up

    def fill_funds(self) -> None:
        """Pay in what the funds start with."""
        setup = self.rig.setup
        for form, field, fund in self.form.spread("funds", setup.funds, "fund") if self.form.has("funds") else ():
            market = next(at for at, rules in enumerate(setup.markets) if rules.fund == fund)
            amount = self.names.count(form, field, form.take(field), "quote", market)
            if amount:
                self.must(form, field, FundDeposit(market=market, amount_quote=amount))

    def open_account(self, given: Any, line: int) -> None:
        """Make an account, with its money, settings and positions."""
        if isinstance(given, str):
            given = Fields(name=given)
            given.line, given.lines = line, {"name": line}
        form = Form(self.form.file, given, line, "'accounts' to hold names and objects")
        account = self.names.add_account(form, "name", form.text("name"))
        assets, symbols = self.rig.setup.assets, self.names.symbols
        for where, field, asset in form.spread("deposit", assets, "asset") if form.has("deposit") else ():
            market = self.names.asset_market(asset)
            amount = self.names.count(where, field, where.take(field), "quote", market)
            self.must(where, field, Deposit(account=account, market=market, amount_quote=amount))
        for where, field, market in form.spread("mode", symbols, "market") if form.has("mode") else ():
            self.must(
                where,
                field,
                SetMarginMode(account=account, market=market, mode=where.text(field, known=MODES)),
            )
        for where, field, market in form.spread("leverage", symbols, "market") if form.has("leverage") else ():
            self.must(where, field, SetLeverage(account=account, market=market, leverage=where.whole(field)))
        positions = form.forms("positions", None)
        form.end("note")
        for position in positions:
            self.assign(position, account)

    def assign(self, form: Form, account: int) -> None:
        """Bring a position from elsewhere (POS-006): signed quantity, entry price, collateral."""
        names, market = self.names, self.market_of(form)
        qty_lot = names.count(form, "qty", form.take("qty"), "lot", market)
        command = Assign(
            account=account,
            market=market,
            side="buy" if qty_lot > 0 else "sell",
            qty_lot=abs(qty_lot),
            price_tick=names.count(form, "price", form.take("price"), "tick", market),
            amount_quote=names.count(form, "collateral", form.take("collateral", 0), "quote", market),
        )
        form.end("note")
        self.must(form, "qty", command)

    def must(self, form: Form, field: str, command: Command) -> None:
        """Send a command of the setting up, which has to be accepted."""
        self.line = form.fields.lines[field]
        rejection = find_rejection(self.rig.send(command))
        if rejection:
            name, wrong, _ = REJECTS[rejection.code]
            self.differ(f"setting up: {COMMAND_NAMES[rejection.rank]}", "it to be accepted", f"{name}: {wrong}")

    # ------------------------------------------------------------ steps

    def market_of(self, form: Form) -> int:
        """Return the market a form names; without a name the only one."""
        if form.has("market") or len(self.names.symbols) > 1:
            return self.names.find_market(form, "market", form.text("market"))
        return 0

    def take(self, form: Form) -> None:
        """Send a step's command and compare what the step expects."""
        kind = form.text("command", known=STRUCTS)
        if form.has("at"):
            try:
                self.rig.now_ns = parse_duration(str(form.take("at")))
            except ValueError as error:
                form.refuse("at", str(error))
        rejected = form.text("rejected", None, known=REJECT_CODES)
        expect = form.form("expect") if form.has("expect") else None
        command = self.read_command(form, STRUCTS[kind])
        form.end("note")
        events = self.rig.send(command)
        rejection = find_rejection(events)
        got = REJECTS[rejection.code][0] if rejection else None
        self.compare(
            kind,
            f"to be rejected: {rejected}" if rejected else "it to be accepted",
            f"to be rejected: {got}" if got else "it to be accepted",
        )
        if expect:
            self.expectations.check(expect, events)

    def read_command(self, form: Form, struct: type[Command]) -> Command:
        """Return a step's command: the struct's fields, without their units in the names.

        `price_tick` is read from `price`, `qty_lot` from `qty`, `amount_quote` from `amount`, `order_id` from `order`.
        """
        values: dict[str, Any] = {"ts_ns": self.rig.now_ns}
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        market = self.market_of(form) if "market" in fields and struct not in (Amend, Cancel) else 0
        for name, field in fields.items():
            base, _, suffix = name.rpartition("_")
            short = base if suffix in SUFFIXES or name == "order_id" else name
            if name in values:
                continue
            if name == "market":
                values[name] = market
            elif name == "account":
                values[name] = self.names.find(form, name, form.take(name), self.names.accounts, "account")
            elif not form.has(short) and not field.required:
                continue
            elif name == "order_id":
                values[name] = self.names.find_order(form.text(short))
            elif suffix in SUFFIXES:
                values[name] = self.names.count(form, short, form.take(short), suffix, market)
            elif name in CHOICES:
                values[name] = form.text(name, known=CHOICES[name])
            elif field.type is bool:
                values[name] = form.flag(name)
            else:
                values[name] = form.whole(name)
        return struct(**values)
