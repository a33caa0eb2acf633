"""The fields of an event in human units and under the names a reader expects (CHECK-004, EVT-001).

An event's integers become decimals, its accounts and orders names, its codes words; what a kind calls its own way
(`equity` of a liquidation that starts, `paid_by_fund` of a deficit) has that name here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine import codes
from engine.check.names import Names
from engine.check.places import Form, show
from engine.check.rig import name_kind
from engine.errors import list_known

# name -> (field of EVENT, how it is read)
GENERAL: dict[str, tuple[str, str]] = {
    "account": ("account", "account"),
    "other": ("other", "account"),
    "market": ("market", "market"),
    "side": ("side", "side"),
    "price": ("price_tick", "tick"),
    "mark": ("mark_tick", "tick"),
    "bankruptcy": ("bankruptcy_tick", "tick"),
    "qty": ("qty_lot", "lot"),
    "amount": ("amount_quote", "quote"),
    "other_amount": ("other_amount_quote", "quote"),
    "fee": ("fee_quote", "quote"),
    "other_fee": ("other_fee_quote", "quote"),
    "margin": ("margin_quote", "quote"),
    "other_margin": ("other_margin_quote", "quote"),
    "order": ("order_id", "order"),
    "other_order": ("other_order_id", "order"),
    "code": ("code", "code"),
    "rank": ("rank", "number"),
    "count": ("count", "number"),
    "flags": ("flags", "number"),
}
_DOMAIN = {
    "asset": ("other", "asset"),
    "equity": ("amount_quote", "quote"),
    "maintenance": ("other_amount_quote", "quote"),
}
_DEFICIT = {"deficit": ("order_id", "number")}
OWN: dict[int, dict[str, tuple[str, str]]] = {
    codes.MARGIN_CALL: _DOMAIN,
    codes.LIQUIDATION_STARTED: _DOMAIN,
    codes.LIQUIDATION_ENDED: _DOMAIN | {"waived": ("fee_quote", "quote"), "lots": ("qty_lot", "number")},
    codes.LIQUIDATION_FILL: _DEFICIT,
    codes.TAKEOVER: _DEFICIT,
    codes.FUND_CREDIT: {"fund": ("other", "fund"), "of_it_fee": ("other_amount_quote", "quote")},
    codes.FUND_DEBIT: {"fund": ("other", "fund"), **_DEFICIT},
    codes.DEFICIT: {
        **_DEFICIT,
        "paid_by_fund": ("other_amount_quote", "quote"),
        "paid_by_adl": ("fee_quote", "quote"),
        "paid_by_haircut": ("margin_quote", "quote"),
        "unpaid": ("other_margin_quote", "quote"),
    },
    codes.ADL_STARTED: {"reason": ("code", "reason")},
    codes.ADL_FILL: {
        "victim": ("other", "account"),
        "realised": ("other_amount_quote", "quote"),
        "score": ("other_order_id", "number"),
        **_DEFICIT,
    },
    codes.ADL_NOTICE: {"bankrupt": ("other", "account"), "left": ("qty_lot", "lot")},
    codes.HAIRCUT: _DEFICIT,
    codes.REJECTED: {"reason": ("code", "reject")},
    codes.CANCELED: {"reason": ("code", "cancel")},
    codes.ACCEPTED: {"command": ("code", "command")},
}
# why a walk through the book ended; a version without the policy has not got the reason
_ENDS = ("FUND_SHORT", "BOOK_EMPTY", "LOSS_LIMIT", "COOLDOWN", "FUND_HELD")
REASONS = {getattr(codes, name): name.lower() for name in _ENDS if hasattr(codes, name)}
WORDS: dict[str, Mapping[int, str]] = {
    "side": {codes.BUY: "buy", codes.SELL: "sell", 0: "none"},
    "reason": REASONS,
    "cancel": codes.CANCEL_NAMES,
    "command": codes.COMMAND_NAMES,
    "reject": {code: name for code, (name, _, _) in codes.REJECTS.items()},
}
NUMBERS = ("tick", "lot", "quote", "number", "code")


@dataclass(frozen=True)
class Wanted:
    """One field an expectation names."""

    expected: Any
    read: Callable[[Any], Any]

    def matches(self, event: Any) -> bool:
        """Return whether an event has it."""
        return bool(self.read(event) == self.expected)


def read_field(form: Form, name: str, kind: int, names: Names) -> Wanted:
    """Return what a form expects of one field of an event of this kind; refuses names the kind does not have."""
    fields = GENERAL | OWN.get(kind, {})
    if name not in fields:
        form.refuse(name, f"unknown field of {codes.EVENT_NAMES[kind]}, {list_known(name, fields)}")
    field, how = fields[name]
    expected: Any = form.number(name) if how in NUMBERS else form.text(name)
    if how == "side":
        expected = {"long": "buy", "short": "sell"}.get(expected, expected)
    if how == "account":
        names.find_account(form, name, expected)
    return Wanted(expected, lambda event: read_value(event, field, how, names))


def read_value(event: Any, field: str, how: str, names: Names) -> Any:
    """Return one field of an event: a decimal, or a name."""
    value = getattr(event, field)
    if how in ("tick", "lot", "quote"):
        # the event of a cross domain names its asset instead of a market
        market = event.market if event.market >= 0 else names.asset_market(event.other)
        return value * names.unit(how, market)
    if how in ("number", "code"):
        return Decimal(value)
    if how in WORDS:
        return WORDS[how].get(value, str(value))
    if how == "account":
        return names.call_account(value)
    if how == "order":
        return names.call_order(value)
    tables = {"market": names.symbols, "asset": names.setup.assets, "fund": names.setup.funds}
    return tables[how][value] if value >= 0 else "none"


def show_event(event: Any, wanted: Mapping[str, Wanted], names: Names) -> str:
    """Return an event's kind with the fields an expectation asked for."""
    found = [(name, field.read(event)) for name, field in wanted.items()]
    shown = [f"{name} {show(value) if isinstance(value, Decimal) else value}" for name, value in found]
    return f"{name_kind(event)} ({', '.join(shown)})"
