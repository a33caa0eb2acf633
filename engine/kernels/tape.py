"""A recording's rows as commands: what its book becomes, message by message (FEED-001 to FEED-010).

One pass over rows in order of time.  Levels are gathered until their message ends and told removals first; trades
become prints; mark, index and funding are told when they change or fall due.  Known levels live in one hash table of
all instruments, best prices on two heaps per instrument whose forgotten entries are dropped when they come to the top.

A level's key is its price for a bid and its negated price for an ask, so that a bid `b` and an ask `-a` cross when
their sum is not negative.  Nothing here can run out of room: `Teller.make_room` counts what the rows may need.

Helpers take tables (`engine.kernels.box.borrow`): arrays would be counted at every call, which is half of the work.
"""

import numpy as np

from engine._jit import helper, inlined, kernel
from engine.codes import (
    BUY,
    ENDS_MESSAGE,
    FUNDING,
    INDEX,
    LEVEL,
    MARK,
    NO_RATE,
    OFF_BOOK,
    OFF_MARKET,
    PRINT,
    ROW_CLEAR,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_LEVEL,
    ROW_MARK,
    ROW_QUOTE,
    ROW_TRADE,
    UNCHECKED,
)
from engine.kernels.box import borrow
from engine.kernels.idmap import home_of

# Places in the counts of one instrument, as `engine.feeds.tape.COUNTS` names them.
MESSAGES, SNAPSHOTS, CROSSED, BEYOND, OFF_BOOK_PRINTS, FUNDING_PAID, BBO_CHECKED, BBO_EQUAL = range(8)
COUNTS_SIZE = 8

# Places in the reader's own numbers.
MESSAGE, MARKET, STAMP, FOLDED, OUT, IS_UNCHECKED, USED = range(7)
SELF_SIZE = 7

PICO_PER_PPB = 1000


@inlined
def find_slot(table, key, market):
    """Return the slot of a level, or the empty one where it belongs."""
    mask = np.int64(len(table) - 1)
    slot = home_of(key ^ (market << 40), len(table))
    while table[slot]["key"] != 0 and (table[slot]["key"] != key or table[slot]["market"] != market):
        slot = (slot + 1) & mask
    return slot


@inlined
def push(heaps, heap, sizes, starts, key):
    """Add a key to a heap; keys are negated, so that the best price comes first."""
    base = starts[heap]
    at = sizes[heap]
    sizes[heap] = at + 1
    while at > 0:
        up = (at - 1) >> 1
        if heaps[base + up] <= -key:
            break
        heaps[base + at] = heaps[base + up]
        at = up
    heaps[base + at] = -key


@inlined
def pop(heaps, heap, sizes, starts):
    """Drop the first key of a heap."""
    base = starts[heap]
    last = sizes[heap] - 1
    sizes[heap] = last
    moved = heaps[base + last]
    at = np.int64(0)
    while 2 * at + 1 < last:
        down = 2 * at + 1
        if down + 1 < last and heaps[base + down + 1] < heaps[base + down]:
            down += 1
        if heaps[base + down] >= moved:
            break
        heaps[base + at] = heaps[base + down]
        at = down
    heaps[base + at] = moved


@inlined
def find_best(table, heaps, sizes, starts, market, side):
    """Return the key of the best known level of a side (0 bids, 1 asks), or 0 where there is none."""
    heap = 2 * market + side
    best = np.int64(0)
    while sizes[heap] > 0:
        key = -heaps[starts[heap]]
        if table[find_slot(table, key, market)]["is_known"]:
            best = key
            break
        pop(heaps, heap, sizes, starts)
    return best


@inlined
def tell(out, numbers, kind, market, side, price_tick, qty_lot):
    """Append a command with the stamp of the open message; what it does not say is 0."""
    row = out[numbers[OUT]]
    numbers[OUT] += 1
    row["ts_ns"] = numbers[STAMP]
    row["order_id"] = 0
    row["price_tick"] = price_tick
    row["qty_lot"] = qty_lot
    row["amount_quote"] = 0
    row["account"] = 0
    row["kind"] = kind
    row["market"] = market
    row["side"] = side
    row["tif"] = 0
    row["flags"] = 0
    row["_pad"] = 0
    row["_pad2"] = 0


@kernel
def flush(table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out):
    """Tell the message that waited; the parameters are those of `tell_rows`."""
    flush_message(
        borrow(table),
        borrow(heaps),
        borrow(sizes),
        borrow(starts),
        borrow(instruments),
        borrow(counts),
        borrow(fold_keys),
        borrow(fold_totals),
        borrow(numbers),
        borrow(out),
    )


@helper
def flush_message(table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out):
    """Tell the open message: removals, what its additions cross, then the additions that are left (FEED-002).

    Afterwards the book's best prices are held against the venue's last quote (FEED-022).
    """
    market = numbers[MARKET]
    count = numbers[FOLDED]
    instrument = instruments[market]
    for at in range(count):
        if fold_totals[at] == 0:
            key = fold_keys[at]
            slot = find_slot(table, key, market)
            if table[slot]["is_known"]:
                table[slot]["is_known"] = 0
                instrument["levels"] -= 1
            tell(out, numbers, LEVEL, market, 1 if key > 0 else -1, abs(key), 0)
    is_crossed = False
    bid = find_best(table, heaps, sizes, starts, market, 0)
    ask = find_best(table, heaps, sizes, starts, market, 1)
    for at in range(count):
        if fold_totals[at] == 0:
            continue
        key = fold_keys[at]
        other = ask if key > 0 else bid
        while other != 0 and key + other >= 0:
            # Newest wins, as in the exchange: everything of the other side that this level reaches is stale.
            is_crossed = True
            stale = find_slot(table, other, market)
            table[stale]["is_known"] = 0
            instrument["levels"] -= 1
            if table[stale]["message"] != numbers[MESSAGE]:
                tell(out, numbers, LEVEL, market, 1 if other > 0 else -1, abs(other), 0)
            other = find_best(table, heaps, sizes, starts, market, 1 if key > 0 else 0)
        if key > 0:
            ask = other
            bid = key if bid == 0 else max(bid, key)
        else:
            bid = other
            ask = key if ask == 0 else max(ask, key)
        slot = find_slot(table, key, market)
        if not table[slot]["is_known"]:
            table[slot]["is_known"] = 1
            instrument["levels"] += 1
            push(heaps, 2 * market + (0 if key > 0 else 1), sizes, starts, key)
    for is_kept in range(0 if is_crossed else 1, 2):
        for at in range(count):
            if fold_totals[at] != 0:
                key = fold_keys[at]
                if not is_crossed or table[find_slot(table, key, market)]["is_known"] == is_kept:
                    tell(out, numbers, LEVEL, market, 1 if key > 0 else -1, abs(key), fold_totals[at] * is_kept)
    tally = market * COUNTS_SIZE
    counts[tally + MESSAGES] += 1
    counts[tally + CROSSED] += is_crossed
    if instrument["is_quoted"] and not numbers[IS_UNCHECKED]:
        counts[tally + BBO_CHECKED] += 1
        counts[tally + BBO_EQUAL] += bid == instrument["bid_tick"] and -ask == instrument["ask_tick"]
    numbers[FOLDED] = 0


@inlined
def gather(table, instruments, fold_keys, fold_totals, numbers, market, key, total):
    """Add a level to the open message; the last total of a level counts."""
    slot = find_slot(table, key, market)
    known = table[slot]
    if known["key"] == 0:
        known["key"] = key
        known["market"] = market
        numbers[USED] += 1
    if known["message"] != numbers[MESSAGE]:
        known["message"] = numbers[MESSAGE]
        known["at"] = numbers[FOLDED]
        fold_keys[numbers[FOLDED]] = key
        numbers[FOLDED] += 1
    fold_totals[known["at"]] = total


@inlined
def round_half_even(count, per):
    """Return count / per, a tie going to the even whole; neither is negative."""
    whole = count // per
    rest = 2 * (count - whole * per)
    if rest > per or (rest == per and whole & 1):
        whole += 1
    return whole


@inlined
def round_rate(pico):
    """Return a rate in parts per 10**12 in parts per 10**9, half-even."""
    rate = round_half_even(abs(pico), PICO_PER_PPB)
    return rate if pico >= 0 else -rate


@kernel
def merge_rows(joined, ends, out):
    """Bring runs of rows, each in order of time, into one order; at equal stamps the earlier run goes first.

    Parameters
    ----------
    joined : RECORD array
        The runs, one after the other.
    ends : array of int64
        Where each run ends in it.
    out : RECORD array
        As long as `joined`.
    """
    at = np.zeros(len(ends), np.int64)
    at[1:] = ends[:-1]
    place = np.int64(0)
    while place < len(joined):
        first, other = np.int64(-1), np.int64(-1)  # the run whose turn it is, and the one that ends its turn
        stamp, until = np.int64(0), np.int64(0)
        for run in range(len(ends)):
            if at[run] == ends[run]:
                continue
            next_ns = joined[at[run]]["ts_ns"]
            if first < 0 or next_ns < stamp:
                other, until = first, stamp
                first, stamp = np.int64(run), next_ns
            elif other < 0 or next_ns < until:
                other, until = np.int64(run), next_ns
        while at[first] < ends[first]:
            row = joined[at[first]]
            if other >= 0 and (row["ts_ns"] > until or (row["ts_ns"] == until and other < first)):
                break
            out[place] = row
            place += 1
            at[first] += 1


@kernel
def count_levels(rows, per_market):
    """Add to each market's count the rows that name levels of it, and return how many there are."""
    total = np.int64(0)
    for at in range(len(rows)):
        kind = rows[at]["kind"]
        if kind == ROW_LEVEL or kind == ROW_CLEAR:
            per_market[rows[at]["market"]] += 1
            total += 1
    return total


@kernel
def tell_rows(rows, table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out):
    """Turn rows into commands.

    Parameters
    ----------
    rows : RECORD array
        In order of time; those of one message of one instrument stand together.
    table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers : arrays
        The reader's state (`engine.feeds.tape.Teller`).
    out : COMMAND array
        Has room for everything; what it holds does not matter.

    Returns
    -------
    int
        How many commands were written.
    """
    tell_each(
        borrow(rows),
        borrow(table),
        borrow(heaps),
        borrow(sizes),
        borrow(starts),
        borrow(instruments),
        borrow(counts),
        borrow(fold_keys),
        borrow(fold_totals),
        borrow(numbers),
        borrow(out),
    )
    return numbers[OUT]


@helper
def tell_each(rows, table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out):
    """Turn rows into commands (`tell_rows`)."""
    numbers[OUT] = 0
    for at in range(len(rows)):
        row = rows[at]
        kind = row["kind"]
        market = np.int64(row["market"])
        instrument = instruments[market]
        if kind == ROW_LEVEL or kind == ROW_CLEAR:
            if numbers[FOLDED] and (numbers[MARKET] != market or numbers[STAMP] != row["ts_ns"]):
                flush_message(table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out)
            if numbers[FOLDED] == 0:
                numbers[MESSAGE] += 1
                numbers[IS_UNCHECKED] = row["flags"] & UNCHECKED
            numbers[MARKET] = market
            numbers[STAMP] = row["ts_ns"]
            if kind == ROW_CLEAR:
                counts[market * COUNTS_SIZE + SNAPSHOTS] += 1
                # It replaces everything told before it, in this message too.
                for folded in range(numbers[FOLDED]):
                    fold_totals[folded] = 0
                for heap in range(2 * market, 2 * market + 2):
                    for place in range(starts[heap], starts[heap] + sizes[heap]):
                        key = -heaps[place]
                        if table[find_slot(table, key, market)]["is_known"]:
                            gather(table, instruments, fold_keys, fold_totals, numbers, market, key, 0)
            elif row["price"] > instrument["price_max_tick"]:
                # Somebody always offers at ten times the price: out of the ladder's reach, and of any order's.
                counts[market * COUNTS_SIZE + BEYOND] += 1
            else:
                key = row["price"] if row["side"] > 0 else -row["price"]
                gather(table, instruments, fold_keys, fold_totals, numbers, market, key, row["qty"])
            if row["flags"] & ENDS_MESSAGE and numbers[FOLDED]:
                flush_message(table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out)
            continue
        if numbers[FOLDED]:
            flush_message(table, heaps, sizes, starts, instruments, counts, fold_keys, fold_totals, numbers, out)
        numbers[STAMP] = row["ts_ns"]
        if kind == ROW_TRADE:
            is_off = row["side"] == 0 or row["flags"] & OFF_MARKET != 0
            tell(out, numbers, PRINT, market, row["side"] if row["side"] != 0 else BUY, row["price"], row["qty"])
            if is_off:
                out[numbers[OUT] - 1]["flags"] = OFF_BOOK
                counts[market * COUNTS_SIZE + OFF_BOOK_PRINTS] += 1
        elif kind == ROW_QUOTE:
            instrument["is_quoted"] = 1
            if row["side"] > 0:
                instrument["bid_tick"] = row["price"]
            else:
                instrument["ask_tick"] = row["price"]
        elif kind == ROW_MARK or kind == ROW_INDEX:
            tick = round_half_even(row["price"], instrument["fine_per_tick"])
            if kind == ROW_MARK and tick != instrument["mark_tick"]:
                instrument["mark_tick"] = tick
                tell(out, numbers, MARK, market, 0, tick, 0)
            elif kind == ROW_INDEX and tick != instrument["index_tick"]:
                instrument["index_tick"] = tick
                tell(out, numbers, INDEX, market, 0, tick, 0)
        elif kind == ROW_FUNDING:
            due = row["qty"]
            if due != 0 and due != instrument["funding_due_ns"]:
                # A new stamp that the old one has not reached is a change of the schedule, not a payment.
                old = instrument["funding_due_ns"]
                if old != 0 and old < due and max(row["ts_ns"], row["exchange_ns"]) >= old:
                    tell(out, numbers, FUNDING, market, 0, 0, 0)
                    out[numbers[OUT] - 1]["amount_quote"] = instrument["funding_ppb"]
                    counts[market * COUNTS_SIZE + FUNDING_PAID] += 1
                instrument["funding_due_ns"] = due
            if row["flags"] & NO_RATE == 0:
                instrument["funding_ppb"] = round_rate(row["price"])


@kernel
def move_levels(table, heaps, sizes, starts, new_table, new_heaps, new_starts, numbers, message):
    """Move what is known, and what the open message names, to larger or emptier arrays."""
    numbers[USED] = 0
    for slot in range(len(table)):
        level = table[slot]
        if level["key"] != 0 and (level["is_known"] or level["message"] == message):
            new_table[find_slot(new_table, level["key"], np.int64(level["market"]))] = level
            numbers[USED] += 1
    for heap in range(len(sizes)):
        base = starts[heap]
        size = sizes[heap]
        sizes[heap] = 0
        for place in range(base, base + size):
            key = -heaps[place]
            slot = find_slot(table, key, np.int64(heap >> 1))
            if table[slot]["is_known"] == 1:
                table[slot]["is_known"] = 2  # moved: a level that came, went and came again lies there twice
                push(new_heaps, heap, sizes, new_starts, key)
