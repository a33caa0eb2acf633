"""Warning signs of a market, each in the plainest way (SIGN-002..SIGN-005)."""

from engine.codes import BUY, EXTERNAL, PPM, SELL
from engine.reference.adl import rank_candidates
from engine.reference.ledger import State
from engine.reference.margin import domain_of, has_no_edge, is_liquidatable

NEAR_PPM, FAR_PPM = 10_000, 50_000  # how far from the middle depth is counted
FALLS_PPM = (10_000, 20_000, 50_000, 100_000)  # of the mark, for what would be liquidated
TOP = 10
SHARE_BITS = 30


def count_signs(state: State, market: int) -> list[int]:
    """Return best prices, depth, what falls, how open interest and queues are spread, as the kernel counts them.

    Source: SIGN-002, SIGN-003, SIGN-004, SIGN-005.
    """
    open_ = [
        (account, position.qty_lot)
        for (account, place), position in state.positions.items()
        if place == market and position.qty_lot and account > EXTERNAL
    ]
    return [
        *_count_depth(state, market),
        *_count_falls(state, market, [(account, qty) for account, qty in open_ if qty > 0]),
        *_count_falls(state, market, [(account, qty) for account, qty in open_ if qty < 0]),
        *_count_spread([abs(qty) for _, qty in open_]),
        *_count_queue(state, market, BUY),
        *_count_queue(state, market, SELL),
    ]


def _count_depth(state: State, market: int) -> list[int]:
    """Return the best bid and ask, and what rests within 1 and 5 percent of their middle (SIGN-002)."""
    bids, asks = (list(state.books[market].iterate(side)) for side in (BUY, SELL))
    bid, ask = (orders[0].price_tick if orders else 0 for orders in (bids, asks))
    middle_half = bid + ask if bid and ask else 2 * max(bid, ask)
    depth = [
        sum(order.qty_lot for order in orders if abs(2 * order.price_tick - middle_half) * PPM <= middle_half * ppm)
        for orders in (bids, asks)
        for ppm in (NEAR_PPM, FAR_PPM)
    ]
    return [bid, ask, *depth]


def _count_falls(state: State, market: int, held: list[tuple[int, int]]) -> list[int]:
    """Return how many lots of one side would be liquidated with the mark 1, 2, 5, 10 percent against it (SIGN-003)."""
    found, mark = [0] * len(FALLS_PPM), state.marks[market]
    for account, qty in held:
        if mark == 0 or has_no_edge(state, market, qty):
            continue
        domain = domain_of(state, account, market)
        for place in reversed(range(len(FALLS_PPM))):
            way = mark * FALLS_PPM[place] // PPM
            state.marks[market] = mark - way if qty > 0 else min(mark + way, state.rules(market).price_max_tick)
            would_fall = is_liquidatable(state, domain)
            state.marks[market] = mark
            if not would_fall:
                break  # nor by less
            found[place] += abs(qty)
    return found


def _count_spread(lots: list[int]) -> list[int]:
    """Return how many positions there are, their lots, those of the ten largest, and squared shares (SIGN-004)."""
    total, largest = sum(lots), sorted(lots, reverse=True)[:TOP]
    down = max(total.bit_length() - 32, 0)
    squares = sum((((qty >> down) << SHARE_BITS) // (total >> down)) ** 2 for qty in lots)
    return [len(lots), total, sum(largest), squares]


def _count_queue(state: State, market: int, side: int) -> list[int]:
    """Return a queue's length and lots, and those of its first ten and its first hundredth (SIGN-005)."""
    lots = [abs(candidate.qty_lot) for candidate in rank_candidates(state, market, side)]
    return [len(lots), sum(lots), sum(lots[:TOP]), sum(lots[: -(-len(lots) // 100)])]
