"""What the bytes mean, said once: record dtypes, the state tuple, capacities.

A leaf (numpy and `codes` only).  Money is int64 in the smallest unit of its asset, prices in ticks, quantities in lots,
time in ns; narrow fields hold only array positions, prices below 2**31 and flags.  Explicit padding is always zero, so
that raw bytes can be compared and hashed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NIL = -1  # "no slot" in every link; test for it before indexing, since -1 reads the last element
LEAF_TICKS = 64  # ticks under one leaf of a ladder: one bitmap word
LINE_BYTES = 64  # of the processor's cache; state arrays and event buffers begin on one
PAGE_TICKS = 4096  # ticks under one page: 64 leaves

COMMAND = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("order_id", "<i8"),
        ("price_tick", "<i8"),
        ("qty_lot", "<i8"),
        ("amount_quote", "<i8"),
        ("account", "<i4"),
        ("kind", "<i2"),
        ("market", "<i2"),
        ("side", "i1"),
        ("tif", "u1"),
        ("flags", "<u2"),
        ("_pad", "<i4"),
        ("_pad2", "<i8"),
    ]
)
assert COMMAND.itemsize == 64  # tape format 1: a change here is a new format number

# One row of a recording, whatever the format it came in (FEED-008).
RECORD = np.dtype(
    [
        ("ts_ns", "<i8"),  # arrival by the recorder's clock; the venue's stamp where there is no other
        ("exchange_ns", "<i8"),  # the venue's stamp; 0 where it told none
        ("id", "<i8"),  # of the trade, order or book update; 0 where it told none
        ("price", "<i8"),  # ticks; fine units of MARK, INDEX, LAST; parts per 10**12 of FUNDING and PREDICTED
        ("qty", "<i8"),  # lots; parts per million of INTEREST; of FUNDING when it is due, in ns
        ("kind", "<i2"),
        ("market", "<i2"),  # the instrument's index
        ("side", "i1"),  # 1 bid, buyer took; -1 ask, seller took; 0 unknown
        ("flags", "u1"),
        ("_pad", "<u2"),
    ]
)
assert RECORD.itemsize == 48

# What the reader of a tape keeps of an instrument.
INSTRUMENT = np.dtype(
    [
        ("fine_per_tick", "<i8"),
        ("price_max_tick", "<i8"),
        ("mark_tick", "<i8"),  # last told
        ("index_tick", "<i8"),
        ("funding_due_ns", "<i8"),
        ("funding_ppb", "<i8"),
        ("bid_tick", "<i8"),  # last quote
        ("ask_tick", "<i8"),
        ("is_quoted", "<i8"),
        ("levels", "<i8"),  # known
    ]
)
# One level of a recorded book as its reader knows it; a slot of a hash table.
KNOWN_LEVEL = np.dtype(
    [
        ("key", "<i8"),  # price of a bid, negated of an ask; 0: the slot is empty
        ("message", "<i8"),  # the last message that named it
        ("at", "<i4"),  # where in that message
        ("market", "<i2"),
        ("is_known", "u1"),
        ("_pad", "u1"),
    ]
)
assert KNOWN_LEVEL.itemsize == 24

# The matching challenge's dump record, and one report on it (40 bytes each).
MESSAGE = np.dtype(
    [
        ("kind", "u1"),  # 0 new, 1 cancel, 2 modify
        ("side", "u1"),  # 0 buy, 1 sell
        ("ioc", "u1"),
        ("_pad", "u1"),
        ("qty", "<i4"),
        ("seq", "<i8"),
        ("order_id", "<i8"),
        ("price", "<i8"),
        ("_reserved", "<i8"),
    ]
)
assert MESSAGE.itemsize == 40
REPORT = np.dtype(
    [
        ("seq", "<i8"),
        ("order_id", "<i8"),  # a trade's maker
        ("other_id", "<i8"),  # a trade's taker
        ("price", "<i8"),
        ("qty", "<i4"),
        ("kind", "u1"),  # 0 ack, 1 trade, 2 cancel ack, 3 modify ack, 4 cancel reject, 5 modify reject
        ("side", "u1"),
        ("_pad", "<u2"),
    ]
)
assert REPORT.itemsize == 40

# Which field means what for which kind stands in the table EVT-001 of docs/spec.md.
EVENT = np.dtype(
    [
        ("seq", "<i8"),
        ("ts_ns", "<i8"),
        ("kind", "<i2"),
        ("code", "<i2"),
        ("market", "<i2"),
        ("side", "i1"),
        ("flags", "u1"),
        ("account", "<i4"),
        ("other", "<i4"),
        ("rank", "<i4"),
        ("count", "<i4"),
        ("mark_tick", "<i4"),
        ("bankruptcy_tick", "<i4"),
        ("price_tick", "<i8"),
        ("qty_lot", "<i8"),
        ("order_id", "<i8"),
        ("other_order_id", "<i8"),
        ("amount_quote", "<i8"),
        ("other_amount_quote", "<i8"),
        ("fee_quote", "<i8"),
        ("other_fee_quote", "<i8"),
        ("margin_quote", "<i8"),
        ("other_margin_quote", "<i8"),
    ]
)
assert EVENT.itemsize == 128

# One order is one cache line.  `price_tick`, `next`, `prev` are the names every ladder node has.
ORDER = np.dtype(
    [
        ("price_tick", "<i8"),
        ("qty_lot", "<i8"),
        ("order_id", "<i8"),
        ("priority", "<i8"),  # grows with every queueing: the time in price-time
        ("next", "<i4"),
        ("prev", "<i4"),
        ("account", "<i4"),
        ("position", "<i4"),  # slot of the owner's position in this market
        ("own_next", "<i4"),  # the owner's other orders in this market
        ("own_prev", "<i4"),
        ("market", "<i2"),
        ("side", "i1"),
        ("flags", "u1"),
        ("level", "<i4"),  # where in `levels` it queues
    ]
)
assert ORDER.itemsize == 64

# The first cache line has what an order asks of its owner's position and what it changes there; the second, what only a
# fill or the trigger ladder needs.
POSITION = np.dtype(
    [
        ("qty_lot", "<i8"),
        ("cost_quote", "<i8"),
        ("buy_lot", "<i8"),  # resting, not reduce-only
        ("sell_lot", "<i8"),
        ("account", "<i4"),
        ("market", "<i4"),
        ("next_owned", "<i4"),  # the account's position in the next market
        ("orders_head", "<i4"),
        ("leverage_ppm", "<i4"),  # 1e6 / leverage, rounded up
        ("mode", "u1"),
        ("hung", "i1"),  # 0 not on the trigger ladder, else the side it hangs on
        ("flags", "u1"),  # PENDING, TOUCHED, CALLED of an isolated position
        ("table", "u1"),  # tier table under which it was hung: on the ladder of that table
        ("entered", "<i4"),  # 1: it has its place among those of a market settled at the mark
        ("level", "<i4"),  # where in `levels` it hangs
        ("price_tick", "<i8"),  # trigger price under which the position hangs
        ("margin_quote", "<i8"),  # isolated margin, 0 for cross
        ("opened_seq", "<i8"),
        ("hung_lot", "<i8"),  # quantity this node added to its trigger level
        ("spare_quote", "<i8"),  # equity an isolated position may lose without hanging at another price; WALLET: cross
        ("next", "<i4"),
        ("prev", "<i4"),
        ("next_entered", "<i4"),  # the position that entered next
        ("_pad", "<i4", (3,)),
    ]
)
assert POSITION.itemsize == 128

# A power of two: no wallet lies in two cache lines.  An account's wallets lie together, one per asset; the first says
# where its positions begin, so that an order that needs both waits for one line.
WALLET = np.dtype(
    [
        ("balance_quote", "<i8"),
        ("spare_quote", "<i8"),
        ("last_market", "<i4"),
        ("flags", "<u4"),
        ("positions_head", "<i4"),  # in the first wallet: the account's position in its first market
        ("_pad", "<i4"),
    ]
)
assert WALLET.itemsize == 32

LEVEL_RECORD = np.dtype([("qty_lot", "<i8"), ("head", "<i4"), ("tail", "<i4")])
assert LEVEL_RECORD.itemsize == 16

LADDER = np.dtype(
    [
        ("best_bid", "<i8"),  # 0: none
        ("best_ask", "<i8"),  # limit_tick: none
        ("limit_tick", "<i8"),  # one past the highest price
        ("page_offset", "<i8"),  # this ladder's part of `pages`
        ("word_offset", "<i8"),  # this ladder's part of `words`, three summaries after each other
        ("word_counts", "<i8", (3,)),
        # triggers of a tier table that is not in force (TIER-003)
        ("most_lot", "<i8"),  # the largest that hangs here, or did since it was empty
        ("wide_ppm", "<i8"),  # the most that the table in force asks beyond this ladder's, of a notional
        ("slope_ppm", "<i8"),  # what a unit of value moves a position's slack by, at least
        ("valid_quote", "<i8"),  # the notional up to which both are true
    ]
)

MARKET = np.dtype(
    [
        # parameters, never changed by a kernel
        ("multiplier", "<i8"),  # money per tick and lot
        ("price_max_tick", "<i8"),
        ("order_max_lot", "<i8"),
        ("open_interest_max_lot", "<i8"),
        ("maker_fee_ppm", "<i8"),
        ("taker_fee_ppm", "<i8"),
        ("liquidation_fee_ppm", "<i8"),
        ("order_collar_ppm", "<i8"),
        ("liquidation_collar_ppm", "<i8"),
        ("tier_count", "<i8"),
        ("leverage_ppm", "<i8"),  # 1e6 / default leverage, rounded up
        ("asset", "<i4"),
        ("fund", "<i4"),
        ("mark_model", "<i4"),
        ("margin_mode", "<i4"),
        ("adl_fees", "<i4"),
        # state
        ("external", "<i4"),  # slot of the outside's position
        ("mark_tick", "<i8"),  # 0: none yet
        ("index_tick", "<i8"),
        ("last_tick", "<i8"),
        ("open_interest_lot", "<i8"),  # sum of the long quantities
        ("own_orders", "<i8"),  # resting orders that are not the outside's
        # parameters again
        ("kind", "<i4"),
        ("table_count", "<i4"),
        ("tables_at", "<i4"),  # where in `tiers` its tables stand, TIERS_MAX rows each; 0: there is one, never changed
        ("ladders_at", "<i4"),  # where in `ladders` the trigger ladders of its tables from 1 on stand
        # state again
        ("tier_table", "<i4"),  # the one in force, of which `tiers` has a copy at the market's place
        ("loose", "<i4"),  # 1: a position may hang nowhere because the mark stood at the edge of its range
        # parameters of auto-deleveraging
        ("adl_trigger", "<i4"),
        ("adl_price", "<i4"),
        ("adl_score", "<i4"),
        ("adl_allocation", "<i4"),
        ("adl_cancel_victims", "<i4"),
        ("lights", "<i4"),
        ("adl_drawdown_ppm", "<i8"),
        ("adl_release_ppm", "<i8"),
        ("adl_within_ppm", "<i8"),
        ("adl_bucket_ns", "<i8"),
        ("whole_quote", "<i8"),  # money that is one whole unit of the asset
        # state of auto-deleveraging
        ("previous_tick", "<i8"),  # the mark before the one in force, 0: none
        ("adl_active", "<i8"),  # 1: the drawdown trigger keeps the fund from paying
        ("peak_bucket", "<i8"),  # the latest bucket of `peaks`
        # parameters of stages 1 to 3 and of the gate (STAGE-001..STAGE-009)
        ("share_ppm", "<i8"),
        ("share_min_quote", "<i8"),
        ("full_below_quote", "<i8"),
        ("step_max_quote", "<i8"),
        ("cooldown_ns", "<i8"),
        ("spread_ppm", "<i8"),
        ("adjustment_ppm", "<i8"),
        ("surplus_fee_ppm", "<i8"),
        ("fund_loss_max_quote", "<i8"),
        ("cancel", "<i4"),
        ("size", "<i4"),
        ("after_share", "<i4"),
        ("limit", "<i4"),
        ("surplus", "<i4"),
        ("shortfall", "<i4"),
        ("adl_gate", "<i4"),
        ("_pad", "<i4"),
        # parameters again: marks and funding derived from the book
        ("basis_interval_s", "<i8"),
        ("basis_samples", "<i8"),
        ("basis_decay_ppb", "<i8"),
        ("basis_band_ppm", "<i8"),
        ("closeout_moves_last", "<i8"),
        ("funding_model", "<i8"),
        ("funding_interval_s", "<i8"),
        ("funding_offset_s", "<i8"),
        ("funding_period_s", "<i8"),
        ("funding_interest_ppb", "<i8"),
        ("funding_clamp_ppb", "<i8"),
        ("funding_cap_ppb", "<i8"),
        ("funding_premium", "<i8"),
        ("funding_average", "<i8"),
        ("funding_sample_s", "<i8"),
        ("funding_pay_on", "<i8"),
        ("impact_quote", "<i8"),
        # portfolio margin (PORT-001): parameters, never changed by a kernel
        ("underlying", "<i8"),  # equal for what offsets
        ("fall_ppm", "<i8"),  # the widest moves of the grid, both positive; 0: no grid
        ("rise_ppm", "<i8"),
        ("contingency_ppm", "<i8"),
        ("portfolio_initial_ppm", "<i8"),
        # the house: parameters, then state
        ("backstop", "<i8"),
        ("vault_below_ppm", "<i8"),
        ("takeover_price", "<i8"),
        ("carry_ppm", "<i8"),
        ("unwind", "<i8"),
        ("unwind_interval_ns", "<i8"),
        ("unwind_share_ppm", "<i8"),
        ("unwind_full_lot", "<i8"),
        ("unwind_depth_ppm", "<i8"),
        ("unwind_range_ppm", "<i8"),
        ("unwind_last", "<i8"),
        ("closeout_fee_ppm", "<i8"),
        ("house", "<i8"),  # slot of the house's position, NIL: there is none
        ("unwind_due_ns", "<i8"),  # when the next step is due, 0: none
        # settlement at the mark: parameters, then state
        ("settlement", "<i8"),
        ("order_margin", "<i8"),
        ("short_maintenance_ppm", "<i8"),
        ("entered_head", "<i4"),  # positions in the order in which their accounts entered
        ("entered_tail", "<i4"),
        ("settle_due", "<i8"),  # 1: to be settled before the next trigger round
    ]
)

# What a market remembers of its past book (MARK-002, FUND-011); the basis samples themselves are in `samples`.
AVERAGE = np.dtype(
    [
        ("rate_ppb", "<i8"),  # the last funding rate
        ("premium_count", "<i8"),  # samples of the funding interval that runs
        ("premium_sum_ppb", "<i8"),
        ("premium_weighted_ppb", "<i8"),  # the first sample once, the second twice, ...
        ("ema_micro", "<i8"),
        ("ema_start_ppb", "<i8"),  # what the time before the first sample would still weigh
        ("ring_offset", "<i8"),  # this market's part of `samples`
        ("ring_next", "<i8"),  # where in it the next sample goes, over the oldest once it is full
        ("ring_count", "<i8"),
        ("ring_sum_half", "<i8"),
        # the state before the command being applied, where it passes an instant
        ("has_basis", "<i8"),
        ("has_premium", "<i8"),
        ("seen_basis_half", "<i8"),
        ("seen_premium_ppb", "<i8"),
    ]
)

TIER = np.dtype(
    [("floor_quote", "<i8"), ("initial_ppm", "<i8"), ("maintenance_ppm", "<i8"), ("deduction_quote", "<i8")]
)

ASSET = np.dtype(
    [
        ("fees_quote", "<i8"),
        ("rounding_quote", "<i8"),
        ("insolvency_quote", "<i8"),  # <= 0: what nobody paid
        ("deposits_quote", "<i8"),
        ("withdrawals_quote", "<i8"),
        ("waived_quote", "<i8"),  # fees not charged because nothing was left
        ("call_ppm", "<i8"),  # margin call level, 0: off
        ("settlement", "<i8"),
        ("settled_seq", "<i8"),  # the last command in which a market of it was settled at the mark
    ]
)

FUND = np.dtype([("balance_quote", "<i8"), ("low_quote", "<i8"), ("asset", "<i4"), ("debited", "<i4")])

HEAP = np.dtype([("key", "<i8"), ("tie", "<i8"), ("minor", "<i8"), ("item", "<i8")])

HEAD = np.dtype(
    [
        ("seq", "<i8"),
        ("ts_ns", "<i8"),
        ("priority", "<i8"),
        ("deficit_id", "<i8"),
        ("order_free", "<i8"),  # free slots are chained through `next`
        ("order_used", "<i8"),  # slots below this were handed out at least once
        ("order_count", "<i8"),
        ("position_used", "<i8"),
        ("leaf_free", "<i8"),
        ("leaf_used", "<i8"),
        ("page_free", "<i8"),
        ("page_used", "<i8"),
        ("pending_count", "<i8"),
        ("touched_count", "<i8"),
        ("event_count", "<i8"),
        ("is_staged", "<i8"),  # 1: the last event is in `stage`, and not in the buffer yet
        ("asset_count", "<i8"),
        ("market_count", "<i8"),
        ("queue_live", "<i8"),  # 1: `queue` ranks `queue_side` of `queue_market` at today's marks
        ("queue_market", "<i8"),
        ("queue_side", "<i8"),
        ("queue_count", "<i8"),  # heap records, stale ones included
        ("queue_length", "<i8"),  # candidates
        ("fault", "<i8"),
        ("uneasy_count", "<i8"),
        ("watch_count", "<i8"),  # markets whose fund is watched for a drawdown
        ("derived_count", "<i8"),  # markets whose mark follows the last trade and the book
        ("adl_tick", "<i8"),  # price of the deleveraging at hand, 0: the bankruptcy value
        ("adl_count", "<i8"),  # and its queue's length
        ("allot_lot", "<i8"),  # what it allots, and what closing all of that costs the victims
        ("allot_loss_quote", "<i8"),
        ("resting_count", "<i8"),
        ("lost_quote", "<i8"),  # what the fills of the present liquidation cost the fund (STAGE-008)
        ("due_ns", "<i8"),  # when next a sample or a funding is due; no command before it looks further
        ("house_count", "<i8"),  # markets in which the house holds a position
        ("settle_count", "<i8"),  # markets to be settled
    ]
)

# domain flags, on a WALLET (cross) or a POSITION (isolated)
PENDING = 1
TOUCHED = 2
CALLED = 4
QUEUED = 8  # on a POSITION: a candidate of the standing ADL queue
UNEASY = 128  # in `uneasy`
RESTING = 16  # not looked at until it wakes (WAKE-001)
COOLING = 32  # a share was closed; until it has cooled the rest is closed in full (WAKE-002)
LEFT = 64  # on a POSITION: left open by the present liquidation (STAGE-009)
NETTED = 256  # on a WALLET: the cross domain is margined as a portfolio (PORT-002)


class State(NamedTuple):
    """Everything one exchange owns, as C-contiguous arrays; `Exchange` allocates, kernels change them in place.

    Kernels never grow them.  Every node on a ladder needs at most a leaf and a page of its own, so `leaf_masks` and
    `page_masks` are as long as orders and positions together, or as the price range has leaves and pages, if that is
    less; fresh ones are initialised when they are taken, and cost nothing before.
    """

    head: NDArray[np.void]  # (1,) HEAD
    markets: NDArray[np.void]  # (markets,) MARKET
    tiers: NDArray[np.void]  # (markets * TIERS_MAX + all tables of markets that have several,) TIER
    assets: NDArray[np.void]  # (assets,) ASSET
    funds: NDArray[np.void]  # (funds,) FUND
    wallets: NDArray[np.void]  # (accounts * assets,) WALLET
    positions: NDArray[np.void]  # (positions,) POSITION
    orders: NDArray[np.void]  # (orders,) ORDER
    idmap: NDArray[np.int64]  # (power of two,) order id -> slot, as `kernels/idmap.py` packs it
    ladders: NDArray[np.void]  # (2 * markets + further tables,) LADDER, the book then the triggers of each market
    pages: NDArray[np.int32]  # page number -> page slot, all ladders after each other
    words: NDArray[np.uint64]  # summaries of `pages`, three levels per ladder
    page_masks: NDArray[np.uint64]  # (page slots,) which of a page's 64 leaves exist
    page_leaves: NDArray[np.int32]  # (page slots * 64,) leaf slots
    leaf_masks: NDArray[np.uint64]  # (leaf slots,) which of a leaf's 64 ticks are occupied
    levels: NDArray[np.void]  # (leaf slots * 64,) LEVEL_RECORD
    pending: NDArray[np.int64]  # domains to look at in the next trigger round
    touched: NDArray[np.int64]  # domains changed by the current command
    triggers: NDArray[np.void]  # HEAP, the round's liquidations, worst first
    queue: NDArray[np.void]  # HEAP, the ADL queue being served
    stage: NDArray[np.void]  # (2,) EVENT: where one is filled in that the buffer gets when the next is begun, by turns
    uneasy: NDArray[np.int64]  # domains to look at whenever a mark moves, whichever way
    peaks: NDArray[np.int64]  # (markets * PEAK_BUCKETS,) a watched fund's highest balances, by bucket mod PEAK_BUCKETS
    resting: NDArray[np.void]  # HEAP by due time, domains that rest or cool; empty where no policy lets one rest
    averages: NDArray[np.void]  # (markets,) AVERAGE
    samples: NDArray[np.int64]  # basis samples in half ticks, a ring for each market marked by `median3`


STATE_DTYPES: dict[str, np.dtype[np.void] | np.dtype[np.int32] | np.dtype[np.int64] | np.dtype[np.uint64]] = {
    "head": HEAD,
    "markets": MARKET,
    "tiers": TIER,
    "assets": ASSET,
    "funds": FUND,
    "wallets": WALLET,
    "positions": POSITION,
    "orders": ORDER,
    "idmap": np.dtype(np.int64),
    "ladders": LADDER,
    "pages": np.dtype(np.int32),
    "words": np.dtype(np.uint64),
    "page_masks": np.dtype(np.uint64),
    "page_leaves": np.dtype(np.int32),
    "leaf_masks": np.dtype(np.uint64),
    "levels": LEVEL_RECORD,
    "pending": np.dtype(np.int64),
    "touched": np.dtype(np.int64),
    "triggers": HEAP,
    "queue": HEAP,
    "stage": EVENT,
    "uneasy": np.dtype(np.int64),
    "peaks": np.dtype(np.int64),
    "resting": HEAP,
    "averages": AVERAGE,
    "samples": np.dtype(np.int64),
}
BOX_WORDS = 2 * len(State._fields) + 3  # address and length of every array and of the events, and who owns those
