"""The canonical state, and its digest: the same for both engines, whatever their memory looks like (STATE-001)."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import PEAK_BUCKETS

Rows = Sequence[tuple[int, ...]] | NDArray[np.int64]


class View(NamedTuple):
    """Everything that decides what happens next, as rows of integers.

    Source: STATE-001.
    """

    clock: Rows  # (1, 3): seq, ts_ns, deficit_id
    markets: Rows  # (markets, 5): mark_tick, index_tick, last_tick, open_interest_lot, 0
    orders: Rows  # (n, 7): market, side, price_tick, qty_lot, account, order_id, flags; by market, bids then asks, in
    # matching order (the outside's have order id 0)
    # (n, 9): account, market, qty_lot, cost_quote, margin_quote, opened_seq, leverage_ppm, mode, called
    positions: (
        Rows  # by account and market, those that are open or have a leverage or mode other than the market's default
    )
    wallets: Rows  # (n, 4): account, asset, balance_quote, called; by account and asset, where either is not 0
    funds: Rows  # (funds, 2): balance_quote, low_quote
    assets: Rows  # (assets, 6): fees, rounding, insolvency, deposits, withdrawals, waived (all _quote)
    tables: Rows = ()  # (n, 2): market, tier table in force; by market, where it is not table 0
    # (n, 64): market, previous_tick, adl_active, peak_bucket, then PEAK_BUCKETS highest balances of the fund, oldest
    # first; for markets priced by the previous mark or with a drawdown trigger, 0 where the other policy is not used
    adl: Rows = ()
    # (n, 5): account, asset, market (-1: cross), due_ns (0: the next command), 0 rests / 1 cools; in this order
    resting: Rows = ()
    # (n, 3): market, place, number, of markets whose mark or funding rate is derived from the past book: at places 0 to
    # 5 the last funding rate, count, sum and weighted sum of the premium samples, average of the basis and what the
    # time before its first sample weighs, then the samples of the basis, oldest first
    averages: Rows = ()
    # (n, 3): account, asset, 1 in portfolio mode or 0; by account and asset, where accounts start otherwise
    portfolios: Rows = ()
    entries: Rows = ()  # (n, 2): market, account; of markets settled at the mark, in the order of entry (CASH-002)
    unwinding: Rows = ()  # (n, 2): market, ts_ns at which the house's next step is due (HOUSE-007)


WIDTHS = {"clock": 3, "markets": 5, "orders": 7, "positions": 9, "wallets": 4, "funds": 2, "assets": 6, "tables": 2}
WIDTHS["adl"] = 4 + PEAK_BUCKETS
WIDTHS["resting"] = 5
WIDTHS["averages"] = 3
WIDTHS["portfolios"] = 3
WIDTHS |= {"entries": 2, "unwinding": 2}
# Tables that only some policies fill: without rows they are not hashed, so that a policy nobody uses moves no digest.
OPTIONAL: frozenset[str] = frozenset({"tables", "adl", "resting", "averages", "portfolios", "entries", "unwinding"})


def compute_digest(view: View) -> str:
    """Return the blake2b digest (32 hex digits) of a canonical state.

    Source: STATE-001.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, rows in view._asdict().items():
        if name in OPTIONAL and not len(rows):
            continue
        table = np.ascontiguousarray(np.asarray(rows, dtype="<i8").reshape(-1, WIDTHS[name]))
        total.update(f"{name} {len(table)}\n".encode())
        total.update(table.tobytes())
    return total.hexdigest()
