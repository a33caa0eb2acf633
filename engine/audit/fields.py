"""Which fields an event of each kind has; all others are 0 (EVT-001)."""

from engine import codes
from engine.layout import EVENT

# What an event of each kind may hold beside seq, ts_ns and kind; every other field is 0 (EVT-001).
_DOMAIN = "account market other amount_quote other_amount_quote"
_TRADE = (
    "account other market side price_tick qty_lot order_id other_order_id fee_quote other_fee_quote "
    "margin_quote other_margin_quote mark_tick"
)
_NAMED = {
    codes.REJECTED: "code rank account market order_id other",
    codes.TRADE: _TRADE,
    codes.CANCELED: "code account market side order_id price_tick qty_lot",
    codes.AMENDED: "account market side order_id price_tick qty_lot",
    codes.MARK_MOVED: "market price_tick mark_tick",
    codes.MARGIN_CALL: _DOMAIN,
    codes.LIQUIDATION_STARTED: _DOMAIN,
    codes.LIQUIDATION_FILL: _TRADE + " amount_quote bankruptcy_tick",
    codes.LIQUIDATION_ENDED: _DOMAIN + " qty_lot fee_quote code",
    codes.TAKEOVER: (
        "account other market side qty_lot price_tick order_id margin_quote amount_quote other_amount_quote "
        "bankruptcy_tick mark_tick"
    ),
    codes.FUND_CREDIT: "account other market amount_quote other_amount_quote",
    codes.FUND_DEBIT: "account other market amount_quote order_id",
    codes.DEFICIT: (
        "order_id account market side price_tick qty_lot amount_quote other_amount_quote fee_quote margin_quote "
        "other_margin_quote other_fee_quote"
    ),
    codes.ADL_STARTED: "account market side qty_lot code count mark_tick bankruptcy_tick",
    codes.ADL_FILL: _TRADE + " bankruptcy_tick amount_quote other_amount_quote rank count",
    codes.ADL_NOTICE: "account market side qty_lot other",
    codes.HAIRCUT: "account market amount_quote order_id margin_quote count",
    codes.FUNDING_PAYMENT: "account market amount_quote qty_lot margin_quote mark_tick",
    codes.TIERS_CHANGED: "market code rank",
    codes.FUNDING_RATE: "market amount_quote other_amount_quote price_tick mark_tick",
    codes.VARIATION: "account market qty_lot mark_tick amount_quote other_amount_quote order_id",
}
_NAMED_ACCEPTED = {
    codes.PLACE: "side order_id price_tick qty_lot flags",
    codes.CANCEL_ALL: "",
    codes.DEPOSIT: "amount_quote",
    codes.WITHDRAW: "amount_quote",
    codes.FUND_DEPOSIT: "amount_quote other",
    codes.MOVE_MARGIN: "amount_quote margin_quote",
    codes.SET_LEVERAGE: "amount_quote",
    codes.SET_MARGIN_MODE: "amount_quote",
    codes.ASSIGN: "side qty_lot price_tick amount_quote margin_quote",
}


def _list_unnamed(named: str) -> tuple[str, ...]:
    return tuple(name for name in EVENT.names or () if name not in ("seq", "ts_ns", "kind", *named.split()))


UNNAMED = {kind: _list_unnamed(named) for kind, named in _NAMED.items()}
UNNAMED_ACCEPTED = {code: _list_unnamed("code account market " + named) for code, named in _NAMED_ACCEPTED.items()}
