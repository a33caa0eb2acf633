"""Every small integer that crosses a boundary, with its name, its meaning and its rule.

A leaf: it imports nothing.  Kernels see the plain ints (frozen when compiled); everything else prints names from the
tables at the bottom.  Command, event and reject numbers are part of the recorded formats: never renumber, only append.
"""

# ---------------------------------------------------------------- commands (CMD-001)
PLACE = 1
CANCEL = 2
CANCEL_ALL = 3
AMEND = 4
DEPOSIT = 5
WITHDRAW = 6
MOVE_MARGIN = 7
SET_LEVERAGE = 8
SET_MARGIN_MODE = 9
INDEX = 10
MARK = 11
LEVEL = 12
PRINT = 13
FUNDING = 14
FUND_DEPOSIT = 15
CLOCK = 16
ASSIGN = 17  # a position brought from elsewhere, against the outside (POS-006)
SET_TIERS = 18  # another tier table is in force from now on (TIER-002)

# sides; a position's sign and an order's side are the same numbers
BUY = 1
SELL = -1

# time in force
GTC = 0
IOC = 1
FOK = 2

# command flags, a bit set
MARKET_ORDER = 1  # place: no limit of its own, the order collar is the limit
POST_ONLY = 2
REDUCE_ONLY = 4
OFF_BOOK = 8  # print: INSURANCE_FUND, ADL, NA prints of a venue; moves nothing
STP_NEWEST = 16  # self-trade prevention: cancel the incoming order
STP_OLDEST = 32  # ... the resting one; both bits: both orders

# ---------------------------------------------------------------- rows of a recording (FEED-008)
ROW_TRADE = 1
ROW_LEVEL = 2  # the outside quantity at this price is now this
ROW_CLEAR = 3  # the book is gone; what follows in the message is the new one
ROW_QUOTE = 4  # the venue's own best price of a side
ROW_LIQUIDATION = 5  # a liquidation order the venue told of; a consequence, never a command
ROW_MARK = 6
ROW_INDEX = 7
ROW_LAST = 8
ROW_FUNDING = 9
ROW_PREDICTED = 10  # the rate of the period after
ROW_INTEREST = 11  # open interest
ROW_ADD = 12  # an order came to rest; where single orders are recorded they come beside the levels they make
ROW_CHANGE = 13  # its quantity (and price) is now this
ROW_DELETE = 14
ROW_FILL = 15  # this much of a resting order was traded

# row flags, a bit set
IN_SNAPSHOT = 1
ENDS_MESSAGE = 2  # the last level of a message: the book is whole after it
OFF_MARKET = 4  # trade: INSURANCE_FUND, ADL, NA, auctions; met no order of the book
NO_RATE = 8  # funding: only the due time is told
UNCHECKED = 16  # level: of a book not whole yet, or fetched: the venue's best prices of this moment are not its own

# margin modes
CROSS = 0
ISOLATED = 1
PORTFOLIO = 2  # of an account's whole cross domain in an asset, not of a position (PORT-002)

# ---------------------------------------------------------------- events (EVT-001)
ACCEPTED = 1
REJECTED = 2
TRADE = 3
CANCELED = 4
AMENDED = 5
MARK_MOVED = 6
MARGIN_CALL = 7
LIQUIDATION_STARTED = 8
LIQUIDATION_FILL = 9
LIQUIDATION_ENDED = 10
TAKEOVER = 11
FUND_CREDIT = 12
FUND_DEBIT = 13
DEFICIT = 14
ADL_STARTED = 15
ADL_FILL = 16
ADL_NOTICE = 17
HAIRCUT = 18
FUNDING_PAYMENT = 19
TIERS_CHANGED = 20
FUNDING_RATE = 22
VARIATION = 21

# ---------------------------------------------------------------- reasons inside events
# canceled
BY_USER = 1
BY_IOC = 2
BY_SELF_TRADE = 3
BY_REDUCE_ONLY = 4
BY_LIQUIDATION = 5
BY_ADL = 6
# adl_started
FUND_SHORT = 1  # the fund cannot pay for the next lot the book offers
BOOK_EMPTY = 2  # nothing (more) rests inside the liquidation collar
FUND_HELD = 3  # the ADL trigger keeps the fund from paying for the next lot the book offers (ADL-019)
LOSS_LIMIT = 5  # the next fill would cost the fund more than one liquidation may (STAGE-008)
# liquidation_ended: one of the above, or
COOLDOWN = 4  # a step was taken, the next one waits (STAGE-004)

# ---------------------------------------------------------------- rejects (CMD-002)
UNKNOWN_COMMAND = 101
TIME_REVERSED = 102
UNKNOWN_MARKET = 103
UNKNOWN_ACCOUNT = 104
BAD_SIDE = 105
BAD_PRICE = 106
BAD_QTY = 107
BAD_AMOUNT = 108
BAD_FLAGS = 109
BAD_ORDER_ID = 110
DUPLICATE_ORDER_ID = 201
UNKNOWN_ORDER = 202
POST_ONLY_CROSSES = 203
FOK_UNFILLABLE = 204
NOTHING_TO_REDUCE = 205
NO_MARK = 301
INSUFFICIENT_MARGIN = 302
OPEN_INTEREST_LIMIT = 303
MONEY_LIMIT = 304
POSITION_OPEN = 305
BAD_LEVERAGE = 306
NOT_ISOLATED = 307

# ---------------------------------------------------------------- batch status
OK = 0
EVENTS_FULL = 501
ORDERS_FULL = 502
POSITIONS_FULL = 503
ACCOUNTS_FULL = 504
BROKEN_ROUNDS = 901  # the trigger rounds did not settle (STEP-004)
BROKEN_MONEY = 902  # a balance left the proven range (NUM-006)

# ---------------------------------------------------------------- policies by name; its place is its code (LIQ-002)
MARK_MODELS = ("recorded", "index", "last", "median3", "ema_basis")
MARK_RECORDED, MARK_INDEX, MARK_LAST, MARK_MEDIAN3, MARK_EMA_BASIS = 0, 1, 2, 3, 4  # from `last` on: derived
FUNDING_RECORDED, FUNDING_PREMIUM = 0, 1
PREMIUM_MID, PREMIUM_IMPACT = 0, 1
AVERAGE_FLAT, AVERAGE_LINEAR = 0, 1
PAY_ON_MARK, PAY_ON_INDEX = 0, 1
LINEAR, INVERSE = 0, 1  # kinds of contract (NUM-002, INV-001)
POLICIES: dict[str, tuple[str, ...]] = {
    "kind": ("linear", "inverse"),
    "mark_model": MARK_MODELS,
    "margin_mode": ("cross", "isolated", "portfolio"),
    "refill": ("tape",),
    "cancel": ("account", "market", "none"),
    "size": ("full", "tiered", "share"),
    "limit": ("none", "bankruptcy", "fillable"),
    "surplus": ("fund", "trader", "capped_fee"),
    "backstop": ("adl", "takeover", "vault"),
    "adl_trigger": ("fund_empty", "equity", "drawdown"),
    "adl_price": ("bankruptcy", "mark", "previous_mark", "bankruptcy_within"),
    "adl_score": (
        "bitmex",
        "binance",
        "kucoin",
        "upnl_leverage",
        "leverage_yield",
        "hyperliquid_docs",
        "hyperliquid_decompiled",
        "none",
    ),
    "adl_allocation": (
        "queue",
        "pro_rata_contracts",
        "pro_rata_pnl",
        "pro_rata_equity",
        "leverage_draining",
        "min_max",
    ),
    "adl_fees": ("on", "off"),
    "adl_cancel_victims": ("on", "off"),
    "lights": ("rank", "quantity"),
    "after_share": ("wait", "full"),
    "shortfall": ("cut", "refuse"),
    "adl_gate": ("always", "insolvent"),
    "funding_model": ("recorded", "premium"),
    "funding_premium": ("mid", "impact"),
    "funding_average": ("flat", "linear"),
    "funding_pay_on": ("mark", "index"),
    "takeover_price": ("bankruptcy", "mark"),
    "unwind": ("none", "immediate", "stepped"),
    "unwind_last": ("off", "on"),
    "settlement": ("close", "mark"),
    "order_margin": ("initial", "none"),
}
TRIGGER_FUND_EMPTY, TRIGGER_EQUITY, TRIGGER_DRAWDOWN = range(3)
PRICE_BANKRUPTCY, PRICE_MARK, PRICE_PREVIOUS, PRICE_WITHIN = range(4)
SCORE_BITMEX, SCORE_BINANCE, SCORE_KUCOIN, SCORE_UPNL_LEVERAGE = range(4)
SCORE_LEVERAGE_YIELD, SCORE_HYPERLIQUID_DOCS, SCORE_HYPERLIQUID_DECOMPILED, SCORE_NONE = range(4, 8)
ALLOT_QUEUE, ALLOT_CONTRACTS, ALLOT_PNL, ALLOT_EQUITY, ALLOT_DRAINING, ALLOT_MIN_MAX = range(6)
LIGHTS_RANK, LIGHTS_QUANTITY = range(2)
SCOPE_ACCOUNT, SCOPE_MARKET, SCOPE_NONE = 0, 1, 2  # cancel
SIZE_FULL, SIZE_TIERED, SIZE_SHARE = 0, 1, 2
LIMIT_NONE, LIMIT_BANKRUPTCY, LIMIT_FILLABLE = 0, 1, 2
SURPLUS_FUND, SURPLUS_TRADER, SURPLUS_CAPPED = 0, 1, 2
AFTER_WAIT, AFTER_FULL = 0, 1  # after_share
SHORTFALL_CUT, SHORTFALL_REFUSE = 0, 1
GATE_ALWAYS, GATE_INSOLVENT = 0, 1  # adl_gate
BACKSTOP_ADL, BACKSTOP_TAKEOVER, BACKSTOP_VAULT = 0, 1, 2
TAKEN_AT_BANKRUPTCY, TAKEN_AT_MARK = 0, 1
UNWIND_NONE, UNWIND_IMMEDIATE, UNWIND_STEPPED = 0, 1, 2
SETTLED_AT_CLOSE, SETTLED_AT_MARK = 0, 1

EXTERNAL = 0  # the account that is the recorded market's other side (OUT-001)
HOUSE = -1  # the account whose money is the market's fund (HOUSE-001)

# ---------------------------------------------------------------- fixed numbers of the rules
PPM = 1_000_000
PPB = 1_000_000_000  # funding rates and scores
ROUNDS_MAX = 10_000  # trigger rounds within one command (STEP-004)
FUNDINGS_MAX = 24  # ends of funding intervals that one command pays (FUND-015)
NS = 1_000_000_000  # nanoseconds in a second
MICRO = 1_000_000  # an averaged basis is counted in millionths of half a tick, an impact price of a tick
VALUE_MAX = 1 << 58  # the largest notional a market may hold (NUM-006)
PORTFOLIO_VALUE_MAX = 1 << 61  # ... and all markets together that settle in an asset with portfolio mode (PORT-001)
MONEY_MAX = 1 << 60  # the largest deposits, and outside cash, of one asset (NUM-006)
SATURATED = 1 << 62  # scores and ratios stop here (NUM-005)
PRICE_MAX_LIMIT = (1 << 31) - 1
MARKETS_MAX = 16
TIERS_MAX = 64
TABLES_MAX = 8  # tier tables of a market (TIER-001)
PEAK_BUCKETS = 60  # parts of the window over which a fund's peak is kept (ADL-021)
MOVES_MAX = 64  # price moves of a portfolio grid (PORT-001)

COMMAND_NAMES: dict[int, str] = {
    PLACE: "place",
    CANCEL: "cancel",
    CANCEL_ALL: "cancel_all",
    AMEND: "amend",
    DEPOSIT: "deposit",
    WITHDRAW: "withdraw",
    MOVE_MARGIN: "move_margin",
    SET_LEVERAGE: "set_leverage",
    SET_MARGIN_MODE: "set_margin_mode",
    INDEX: "index",
    MARK: "mark",
    LEVEL: "level",
    PRINT: "print",
    FUNDING: "funding",
    FUND_DEPOSIT: "fund_deposit",
    CLOCK: "clock",
    ASSIGN: "assign",
    SET_TIERS: "set_tiers",
}

EVENT_NAMES: dict[int, str] = {
    ACCEPTED: "accepted",
    REJECTED: "rejected",
    TRADE: "trade",
    CANCELED: "canceled",
    AMENDED: "amended",
    MARK_MOVED: "mark",
    MARGIN_CALL: "margin_call",
    LIQUIDATION_STARTED: "liquidation_started",
    LIQUIDATION_FILL: "liquidation_fill",
    LIQUIDATION_ENDED: "liquidation_ended",
    TAKEOVER: "takeover",
    FUND_CREDIT: "fund_credit",
    FUND_DEBIT: "fund_debit",
    DEFICIT: "deficit",
    ADL_STARTED: "adl_started",
    ADL_FILL: "adl_fill",
    ADL_NOTICE: "adl_notice",
    HAIRCUT: "haircut",
    FUNDING_PAYMENT: "funding_payment",
    TIERS_CHANGED: "tiers",
    FUNDING_RATE: "funding_rate",
    VARIATION: "variation",
}

ROW_NAMES: dict[int, str] = {
    ROW_TRADE: "trade",
    ROW_LEVEL: "level",
    ROW_CLEAR: "clear",
    ROW_QUOTE: "quote",
    ROW_LIQUIDATION: "liquidation",
    ROW_MARK: "mark",
    ROW_INDEX: "index",
    ROW_LAST: "last",
    ROW_FUNDING: "funding",
    ROW_PREDICTED: "predicted",
    ROW_INTEREST: "interest",
    ROW_ADD: "add",
    ROW_CHANGE: "change",
    ROW_DELETE: "delete",
    ROW_FILL: "fill",
}

CANCEL_NAMES: dict[int, str] = {
    BY_USER: "user",
    BY_IOC: "ioc",
    BY_SELF_TRADE: "self_trade",
    BY_REDUCE_ONLY: "reduce_only",
    BY_LIQUIDATION: "liquidation",
    BY_ADL: "adl",
}

# code -> (name, what was wrong, rule)
REJECTS: dict[int, tuple[str, str, str]] = {
    UNKNOWN_COMMAND: ("unknown_command", "the command kind is not one of the table's", "CMD-002"),
    TIME_REVERSED: ("time_reversed", "the command is older than the one before it", "CMD-002"),
    UNKNOWN_MARKET: ("unknown_market", "the market index is not configured", "CMD-002"),
    UNKNOWN_ACCOUNT: ("unknown_account", "the account is negative, or is the outside's", "CMD-002"),
    BAD_SIDE: ("bad_side", "the side is neither 1 (buy) nor -1 (sell)", "CMD-002"),
    BAD_PRICE: ("bad_price", "the price is outside 1..price_max_tick", "CMD-002"),
    BAD_QTY: ("bad_qty", "the quantity is outside 1..order_max_lot", "CMD-002"),
    BAD_AMOUNT: ("bad_amount", "the amount is outside the command's range", "CMD-002"),
    BAD_FLAGS: ("bad_flags", "the flags or the time in force contradict each other", "CMD-002"),
    BAD_ORDER_ID: ("bad_order_id", "an order id must be positive", "CMD-002"),
    DUPLICATE_ORDER_ID: ("duplicate_order_id", "an order with this id still rests", "CMD-003"),
    UNKNOWN_ORDER: ("unknown_order", "no such order of this account rests", "CMD-003"),
    POST_ONLY_CROSSES: ("post_only_crosses", "the post-only order would trade at once", "MATCH-006"),
    FOK_UNFILLABLE: ("fok_unfillable", "the whole quantity cannot be had inside the limit", "MATCH-007"),
    NOTHING_TO_REDUCE: ("nothing_to_reduce", "the account has no position this order could reduce", "MATCH-008"),
    NO_MARK: ("no_mark", "the market has no mark price yet", "MARGIN-006"),
    INSUFFICIENT_MARGIN: ("insufficient_margin", "the free collateral does not cover the command", "MARGIN-006"),
    OPEN_INTEREST_LIMIT: ("open_interest_limit", "the market's open interest would pass its limit", "NUM-006"),
    MONEY_LIMIT: ("money_limit", "the asset's total would leave the proven range", "NUM-006"),
    POSITION_OPEN: ("position_open", "the margin mode changes only without position or orders", "MARGIN-008"),
    BAD_LEVERAGE: ("bad_leverage", "the leverage is below 1 or above the first tier's maximum", "MARGIN-007"),
    NOT_ISOLATED: ("not_isolated", "the account has no isolated position in this market", "MARGIN-009"),
}

STATUS_NAMES: dict[int, str] = {
    OK: "ok",
    EVENTS_FULL: "events_full",
    ORDERS_FULL: "orders_full",
    POSITIONS_FULL: "positions_full",
    ACCOUNTS_FULL: "accounts_full",
    BROKEN_ROUNDS: "broken_rounds",
    BROKEN_MONEY: "broken_money",
}
