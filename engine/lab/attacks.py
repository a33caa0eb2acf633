"""Attacks on liquidation, fund and queue: each a pair of runs of one story, honest and attacking (ATK-001).

A file holds markets, policies (what they change in a market) and attacks.  The stories are those of `perp check`, and
are played on the real exchange with every event audited; what is computed here is one difference.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.check.own import OwnPlay, read_markets
from engine.check.places import Fields, Form, Items, read_json, show
from engine.check.play import Mismatch, Options
from engine.codes import EXTERNAL
from engine.contract import Market
from engine.errors import ConfigError, DataError, InvariantError, list_known
from engine.files import explain_misfit
from engine.venues import read_venue

FILE = Path(__file__).with_name("attacks.json")  # our own attacks
SIDES = ("honest", "attack")
TABLES = ("liquidation", "adl", "funding")  # of a market file, merged field by field
VENUE = "venue:"  # a policy of this name is a preset's liquidation and ADL
OUTSIDE, FUND, HOUSE, FEES, UNPAID = "the outside", "fund", "house", "fees", "unpaid"
RESERVED = (OUTSIDE, FUND, HOUSE, FEES, UNPAID)
Overrides = dict[str, Any]
Wealth = dict[str, int]


class Outcome(NamedTuple):
    """One attack under one policy; money in units of the settlement asset.

    Parameters
    ----------
    honest, attacking : int
        What all the attacker's accounts have at the end, at the mark, in either run.
    changes : dict
        What everybody has more with the attack than without it: accounts and the outside by name, `fund`, `house` (its
        position at the mark), `fees` (with rounding) and `unpaid` (the exchange's insolvency).  Sums to 0.

    Source: ATK-002.
    """

    attack: str
    policy: str
    honest: int
    attacking: int
    changes: Wealth

    @property
    def gain(self) -> int:
        """Return what the attack brought its owner, fees included; below 0 where it cost him."""
        return self.attacking - self.honest


class _Side(OwnPlay):
    """One run of an attack: its cast and steps, with those of the side between them."""

    def __init__(self, form: Form, side: str, options: Options, overrides: Overrides) -> None:
        markets = [change_market(market, overrides) for market in read_markets(form, options)]
        super().__init__(form, options, markets)
        if len(self.rig.setup.assets) > 1:
            form.refuse("markets", "expected markets of one settlement asset")
        self.own = form.form(side) if form.has(side) else None
        self.start: Wealth = {}

    def run(self) -> None:
        """Set up, then the steps `before`, those of the side, and `after`."""
        self.fill_funds()
        for form in (self.form, self.own):
            if form:
                items = form.items("accounts", None)
                for account, line in zip(items, items.lines, strict=True):
                    self.open_account(account, line)
        for name in RESERVED:
            if name in self.names.accounts:
                self.form.refuse("accounts", f"'{name}' is what the exchange's own money is called")
        self.start = self.measure()
        parts = ((self.form, "before"), (self.own, "steps"), (self.form, "after"))
        steps = [fields for form, name in parts if form for fields in form.forms(name, None)]
        if self.own:
            self.own.end("note")
        for number, fields in enumerate(steps, 1):
            self.step, self.line = number, fields.line
            self.take(fields)

    def measure(self) -> Wealth:
        """Return what everybody has, at the mark; it sums to what was paid in (MONEY-001).

        Source: ATK-002.
        """
        rig = self.rig
        found = {name: rig.equity(account, 0) for name, account in self.names.accounts.items()}
        found[OUTSIDE] = rig.equity(EXTERNAL, 0)
        fees, rounding, insolvency, deposits, withdrawals, _ = (int(number) for number in rig.view.assets[0])
        found[FUND] = sum(int(row[0]) for row in rig.view.funds)
        found[HOUSE] = rig.equity(-1, 0)
        found[FEES], found[UNPAID] = fees + rounding, insolvency
        if sum(found.values()) != deposits - withdrawals:
            raise InvariantError(f"attack: {sum(found.values())} units are held of {deposits - withdrawals} paid in")
        return found


class AttackFile:
    """A file of attacks, read and looked through, nothing played yet.

    Parameters
    ----------
    path : path
        JSON; our own attacks if none is given.

    Raises
    ------
    DataError
        Naming file and line: no JSON, no attacks, an id twice, an unknown policy.

    Source: ATK-001.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path else FILE
        form = Form(self.path, read_json(self.path), 1, "an object with a list 'attacks'")
        self.markets = form.take("markets", Fields())
        if not isinstance(self.markets, Fields):
            form.refuse("markets", "expected an object of named markets")
        policies = form.form("policies") if form.has("policies") else None
        self.policies: dict[str, Overrides] = {}
        for name in policies.fields if policies else ():
            self.policies[name] = _plain(policies.form(name).fields) if policies else {}
        self.forms: dict[str, Form] = {}
        for attack in form.forms("attacks"):
            name = attack.text("id")
            if name in self.forms:
                attack.refuse("id", f"'{name}' is another attack already")
            self.forms[name] = attack
            self.list_policies(name)
        form.end("about", "note")
        if not self.forms:
            form.refuse("attacks", "expected at least one attack")

    def list_policies(self, attack: str) -> list[str]:
        """Return the policies an attack is played under, unless others are asked for."""
        form = self.forms[attack]
        return _texts(form, "policies", self.policies) or list(self.policies)

    def find_policy(self, text: str) -> Overrides:
        """Return what a policy changes: a name of the file, `venue:NAME`, or `adl.score=binance,...`.

        Raises
        ------
        ConfigError
            If it is none of these; names are listed.

        Source: ATK-001.
        """
        if text in self.policies:
            return self.policies[text]
        if text.startswith(VENUE):
            tables = read_venue(text.removeprefix(VENUE)).fill()
            return {name: tables[name] for name in ("liquidation", "adl") if name in tables}
        overrides: Overrides = {}
        for part in text.split(","):
            path, sign, value = part.partition("=")
            table, _, field = path.strip().rpartition(".")
            if not sign or not field or (table and table not in TABLES):
                raise ConfigError(
                    f"--policy: unknown '{part}', {list_known(part, [*self.policies, 'venue:NAME', 'adl.FIELD=VALUE'])}"
                )
            (overrides.setdefault(table, {}) if table else overrides)[field] = value.strip()
        return overrides

    def describe(self, attack: str) -> dict[str, Any]:
        """Return an attack's title, the rules that make it work or not, and their sources."""
        form = self.forms[attack]
        rule, source = _texts(form, "rule"), _texts(form, "source")
        return {"id": attack, "title": form.text("title", ""), "rule": rule, "source": source}

    def play(self, attack: str, policy: str, engine: str = "compiled") -> Outcome:
        """Play both runs of an attack under a policy, and compare them.

        Parameters
        ----------
        policy : str
            As of `find_policy`.
        engine : {"compiled", "reference", "both"}

        Raises
        ------
        DataError
            If a command is not accepted, or the two runs do not begin with the same money in the same hands.
        ConfigError
            If the policy does not fit the market.
        InvariantError
            If money is not conserved.

        Source: ATK-001, ATK-002.
        """
        form, overrides = self.forms[attack], self.find_policy(policy)
        attackers = _texts(form, "attackers")
        runs: list[_Side] = []
        for side in SIDES:
            try:
                runs.append(_Side(form, side, Options(self.path, engine, self.markets), overrides))
                runs[-1].run()
            except Mismatch as mismatch:
                found = mismatch.difference
                where = f"{attack}, {side} under {policy}"
                raise DataError(self.path, found.line, where, f"{found.what}: {found.expected}") from mismatch
        form.end("id", "title", "rule", "source", "policies", "note", *SIDES)
        honest, attacking = runs
        _check_start(form, attackers, honest.start, attacking.start)
        before, after = honest.measure(), attacking.measure()
        changes = {name: after.get(name, 0) - before.get(name, 0) for name in {**before, **after}}
        if sum(changes.values()):
            form.refuse("attackers", f"{sum(changes.values())} units more are paid in with the attack than without it")
        had, has = (sum(wealth[name] for name in attackers) for wealth in (before, after))
        return Outcome(attack, policy, had, has, changes)

    def unit_of(self, attack: str) -> tuple[Decimal, str]:
        """Return the unit an attack's money is counted in, and the asset."""
        market = read_markets(self.forms[attack], Options(self.path, "reference", self.markets))[0]
        return market.quote_unit, market.settle


def compose_attack(facts: dict[str, Any]) -> str:
    """Return an attack as a page: what it is, why it works or not, a row per policy.

    Parameters
    ----------
    facts : dict
        As `describe_attack` returns it.

    Source: ATK-003.
    """
    unit = Decimal(facts["unit"])
    lines = [f"{facts['id']}: {facts['title']}", *(f"  {line}" for line in facts["rule"])]
    lines.append(f"  source: {'; '.join(facts['source'])}")
    titles = ("policy", "gain", "others", OUTSIDE, FUND, HOUSE, FEES, UNPAID)
    width = max(len(titles[0]), *(len(row["policy"]) for row in facts["outcomes"]))
    lines.append("  " + titles[0].ljust(width) + "".join(title.rjust(12) for title in titles[1:]))
    for row in facts["outcomes"]:
        cells = (row["gain_quote"], row["others_quote"], *(row["changes_quote"][name] for name in titles[3:]))
        lines.append("  " + row["policy"].ljust(width) + "".join(f"{count * unit:>12,}" for count in cells))
    return "\n".join(lines) + "\n"


def describe_attack(file: AttackFile, attack: str, policies: Sequence[str], engine: str) -> dict[str, Any]:
    """Play an attack under some policies and return what came of it.

    Source: ATK-003.
    """
    unit, asset = file.unit_of(attack)
    attackers = _texts(file.forms[attack], "attackers")
    rows = []
    for policy in policies:
        outcome = file.play(attack, policy, engine)
        others = [count for name, count in outcome.changes.items() if name not in (*attackers, *RESERVED)]
        rows.append(
            {
                "policy": policy,
                "honest_quote": outcome.honest,
                "attacking_quote": outcome.attacking,
                "gain_quote": outcome.gain,
                "others_quote": sum(others),
                "changes_quote": outcome.changes,
            }
        )
    return {**file.describe(attack), "asset": asset, "unit": format(unit, "f"), "outcomes": rows}


def change_market(market: Market, overrides: Mapping[str, Any]) -> Market:
    """Return a market with what a policy changes in it.

    Raises
    ------
    ConfigError
        Naming the field, if there is none of this name or its value does not fit.

    Source: ATK-001.
    """
    plain = msgspec.to_builtins(market)
    for name, value in overrides.items():
        plain[name] = plain.get(name, {}) | value if name in TABLES and isinstance(value, Mapping) else value
    try:
        return msgspec.convert(plain, Market, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{market.symbol}: {explain_misfit(error, Market)}") from error


def _plain(value: Any) -> Any:
    """Return a JSON value as a market file's: objects as tables, numbers as text, exactly."""
    if isinstance(value, Fields):
        return {name: _plain(item) for name, item in value.items()}
    return show(value) if isinstance(value, Decimal) else value


def _texts(form: Form, name: str, known: Mapping[str, Any] | None = None) -> list[str]:
    items: Items = form.items(name, None)
    for item in items:
        if not isinstance(item, str) or (known is not None and item not in known):
            form.refuse(
                name,
                f"unknown '{item}', {list_known(item, known)}" if known else "expected a list of texts",
            )
    return list(items)


def _check_start(form: Form, attackers: Sequence[str], honest: Wealth, attacking: Wealth) -> None:
    """Refuse a pair in which the attack begins with other money than the honest run, or somebody else does."""
    missing = [name for name in attackers if name not in honest or name not in attacking]
    if missing or not attackers:
        form.refuse("attackers", f"expected names of accounts of both runs, got {', '.join(missing) or 'none'}")
    totals = [
        {"the attacker": sum(start[name] for name in attackers)}
        | {name: count for name, count in start.items() if name not in attackers}
        for start in (honest, attacking)
    ]
    for name in {**totals[0], **totals[1]}:
        pair = [total.get(name, 0) for total in totals]
        # the outside is the other side of what is brought in, at the mark as good as it came
        if pair[0] != pair[1]:
            form.refuse("attackers", f"{name} begins with {pair[0]} units in one run and {pair[1]} in the other")
