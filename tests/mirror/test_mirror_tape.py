"""The compiled reading of a recorded book against the plainest there is: same commands, same counts, row by row.

It runs in all three modes like the engines' own mirror tests: `engine.kernels.tape` is compiled too.
"""

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.codes import ENDS_MESSAGE, ROW_CLEAR, ROW_LEVEL, ROW_QUOTE, ROW_TRADE
from engine.contract import Market, Tier
from engine.feeds.doubles import count_decimals
from engine.feeds.instruments import Instruments
from engine.feeds.tape import COUNTS, Teller
from engine.layout import RECORD

TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
MARKETS = [
    Market(symbol=name, tick_size=Decimal(1), lot_size=Decimal(1), price_max=Decimal(40), tiers=TIERS) for name in "AB"
]


class PlainTeller:
    """FEED-001, FEED-002 and FEED-009 with dicts: a book is {key: total}, key = price of a bid, -price of an ask."""

    def __init__(self):
        self.books = [{}, {}]
        self.quotes = [None, None]
        self.told = []
        self.counts = [dict.fromkeys(COUNTS, 0) for _ in MARKETS]
        self.open = None  # market, stamp, {key: total}

    def flush(self):
        if self.open is None or not self.open[2]:
            return
        market, stamp, fold = self.open
        book, counts = self.books[market], self.counts[market]
        self.open = None

        def tell(key, total):
            self.told.append((stamp, codes.LEVEL, market, 1 if key > 0 else -1, abs(key), total))

        for key, total in fold.items():
            if not total:
                book.pop(key, None)
                tell(key, 0)
        is_crossed = False
        for key, total in fold.items():
            if not total:
                continue
            reached = [other for other in book if (other > 0) != (key > 0) and key + other >= 0]
            for other in sorted(reached, reverse=True):  # best first: the highest bid, the lowest ask
                is_crossed = True
                del book[other]
                if other not in fold:
                    tell(other, 0)
            book[key] = total
        for key, total in fold.items():
            if total and key not in book:
                tell(key, 0)
        for key, total in fold.items():
            if total and key in book:
                tell(key, total)
        counts["messages"] += 1
        counts["crossed"] += is_crossed
        if self.quotes[market] is not None:
            bid, ask = (max((key for key in book if (key > 0) == up), default=0) for up in (True, False))
            counts["bbo_checked"] += 1
            counts["bbo_equal"] += [bid, -ask] == self.quotes[market]

    def add(self, row):
        ts, kind, market, side, price, qty, flags = row
        counts = self.counts[market]
        if kind in (ROW_LEVEL, ROW_CLEAR):
            if self.open is None or self.open[:2] != (market, ts):
                self.flush()
                self.open = (market, ts, {})
            fold = self.open[2]
            if kind == ROW_CLEAR:
                counts["snapshots"] += 1
                for key in fold:
                    fold[key] = 0
                # in whatever order: what is taken away is compared as a set
                for key in self.books[market]:
                    fold[key] = 0
            elif price > 40:
                counts["beyond"] += 1
            else:
                fold[price if side > 0 else -price] = qty
            if flags & ENDS_MESSAGE:
                self.flush()
            return
        self.flush()
        if kind == ROW_QUOTE:
            self.quotes[market] = self.quotes[market] or [0, 0]
            self.quotes[market][0 if side > 0 else 1] = price
        elif kind == ROW_TRADE:
            self.told.append((ts, codes.PRINT, market, side or 1, price, qty))
            counts["off_book"] += not side


def order_removals(told):
    """Return commands with the runs of removals sorted: their order among themselves says nothing."""
    ordered, run = [], []
    for row in told:
        if row[1] == codes.LEVEL and not row[5]:
            run.append(row)
        else:
            ordered += [*sorted(run), row]
            run = []
    return ordered + sorted(run)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),  # whether time moves on
        st.sampled_from([ROW_LEVEL] * 12 + [ROW_CLEAR, ROW_QUOTE, ROW_TRADE]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([1, -1]),
        st.integers(1, 42),
        st.sampled_from([0, 1, 2, 5]),
        st.sampled_from([0, 0, 0, ENDS_MESSAGE]),
    ),
    max_size=120,
)


@given(ROWS, st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_the_compiled_teller_tells_what_the_plain_one_does(drawn, sizes):
    """FEED-001 FEED-002 FEED-009: whatever the rows, and wherever the blocks are cut."""
    rows, ts = [], 1
    for step, *rest in drawn:
        ts += step
        rows.append((ts, *rest))
    plain = PlainTeller()
    for row in rows:
        plain.add(row)
    plain.flush()
    records = np.zeros(len(rows), RECORD)
    for at, (ts_ns, kind, market, side, price, qty, flags) in enumerate(rows):
        records[at] = (ts_ns, 0, 0, price, qty if kind != ROW_TRADE else qty + 1, kind, market, side, flags, 0)
    teller = Teller(Instruments(MARKETS))
    told, start, turn = [], 0, 0
    while start < len(records):
        size = sizes[turn % len(sizes)]
        told += teller.tell(records[start : start + size]).tolist()
        start, turn = start + size, turn + 1
    told += teller.finish().tolist()
    # ts_ns, order_id, price_tick, qty_lot, amount_quote, account, kind, market, side, ...
    got = [(row[0], row[6], row[7], row[8], row[2], row[3]) for row in told]
    wanted = [row if row[1] == codes.LEVEL else (*row[:5], row[5] + 1) for row in plain.told]
    assert order_removals(got) == order_removals(wanted)
    assert [dict(zip(COUNTS, row, strict=True)) for row in teller.counts.tolist()] == plain.counts or not rows
    for market, book in enumerate(plain.books):
        if rows:
            assert teller.known_levels(market).tolist() == sorted(book, reverse=True)


def test_levels_that_came_and_went_are_forgotten():
    """FEED-009: memory is bounded by the book, not by the length of the tape."""
    market = Market(symbol="A", tick_size=Decimal(1), lot_size=Decimal(1), tiers=TIERS)
    teller = Teller(Instruments([market]))
    for start in range(1, 20_000, 500):
        rows = np.zeros(1_000, RECORD)
        rows["kind"], rows["side"], rows["ts_ns"] = ROW_LEVEL, 1, np.arange(1_000) + start
        rows["price"] = np.repeat(np.arange(start, start + 500), 2)
        rows["qty"] = np.tile([1, 0], 500)
        teller.tell(rows)
    teller.finish()
    assert not len(teller.known_levels(0))
    assert teller.room() < 20_000


decimal_texts = st.one_of(
    st.decimals(0, 10**9, places=3).map(str),
    st.sampled_from(["", "x", "nan", "inf", "1e300", "-5", "0.5", "0.55", "123456789012345.6", "1e-999", "0.000"]),
)


@given(st.lists(decimal_texts, min_size=1, max_size=20), st.sampled_from(["0.5", "0.001", "1", "10", "1e-8"]))
def test_decimals_are_counted_where_doubles_prove_it(texts, unit):
    """FEED-060: a count is the decimal's own, and what stays unproven has more digits, no number or no such count."""
    least, most, digits = 1, 10**12, 15
    exponent = Decimal(unit).as_tuple().exponent
    power = 10 ** max(-exponent, 0)
    step = int(Decimal(unit) * power)
    doubles = []
    for text in texts:
        try:
            doubles.append(float(text))
        except ValueError:
            doubles.append(float("nan"))
    counts = np.empty(len(texts), np.int64)
    lengths = np.array([len(text) for text in texts], np.uint32)
    are_zero = np.array([text in ("0.000", "0") for text in texts])
    most = min(most, (10**digits - 1) // step)
    bounds = (np.int64(least), np.int64(most), np.int64(digits))
    with np.errstate(over="ignore", invalid="ignore"):
        left = count_decimals(np.array(doubles), lengths, are_zero, float(step), float(power), *bounds, counts)
    assert left == np.count_nonzero(counts < 0)
    for text, count in zip(texts, counts.tolist(), strict=True):
        try:
            wanted = Decimal(text) / Decimal(unit)
        except ArithmeticError:
            wanted = None
        is_count = wanted is not None and wanted.is_finite() and wanted == int(wanted) and len(text) <= digits
        if is_count and (text in ("0.000", "0") or least <= wanted <= most):
            assert count == wanted
        else:
            assert count == -1
