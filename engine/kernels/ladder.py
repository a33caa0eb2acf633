"""Price levels by tick under bitmaps of 64: the book's orders and the triggers of positions hang on the same structure.

A ladder's ticks lie under leaves (64 ticks, one word), leaves under pages (64 leaves, one word), pages under up to
three words of summary.  Leaves and pages exist only while something hangs below them, so a market may span 2**31 ticks
and pays for those in use.  Nodes (orders, positions) are linked through `next` and `prev` in their own pool, in the
order of arrival (MATCH-003).  A price level is only ever one side's: bids below asks, long triggers below the mark and
short ones above it; so one bitmap serves both sides.
"""

import numpy as np

from engine._jit import helper, hot, inlined
from engine.kernels.bits import above, below, bit, highest, lowest
from engine.layout import NIL


@hot
def take_leaf(st):
    """Return an empty leaf.  A free leaf's mask holds the next free one plus 1; a fresh one is initialised here."""
    head = st.head[0]
    leaf = head["leaf_free"]
    if leaf != NIL:
        head["leaf_free"] = np.int64(st.leaf_masks[leaf]) - 1
        st.leaf_masks[leaf] = np.uint64(0)
        return leaf
    leaf = head["leaf_used"]
    head["leaf_used"] += 1
    for at in range(leaf * 64, leaf * 64 + 64):
        level = st.levels[at]
        level["qty_lot"] = 0
        level["head"] = NIL
        level["tail"] = NIL
    return leaf


@helper
def take_page(st):
    """Return an empty page, as `take_leaf` does."""
    head = st.head[0]
    page = head["page_free"]
    if page != NIL:
        head["page_free"] = np.int64(st.page_masks[page]) - 1
        st.page_masks[page] = np.uint64(0)
        return page
    page = head["page_used"]
    head["page_used"] += 1
    for at in range(page * 64, page * 64 + 64):
        st.page_leaves[at] = NIL
    return page


@inlined
def find_level(st, ladder, tick):
    """Return the index in `levels` of a tick, or NIL if nothing hangs anywhere near it."""
    page = np.int64(st.pages[st.ladders[ladder]["page_offset"] + (tick >> 12)])
    if page == NIL:
        return np.int64(NIL)
    leaf = np.int64(st.page_leaves[page * 64 + ((tick >> 6) & 63)])
    if leaf == NIL:
        return np.int64(NIL)
    return leaf * 64 + (tick & 63)


@helper
def mark_page(st, ladder, number):
    """Note in the summaries that a page exists."""
    header = st.ladders[ladder]
    offset = header["word_offset"]
    for depth in range(3):
        st.words[offset + (number >> 6)] |= bit(number & 63)
        offset += header["word_counts"][depth]
        number = number >> 6


@helper
def unmark_page(st, ladder, number):
    """Note in the summaries that a page is gone."""
    header = st.ladders[ladder]
    offset = header["word_offset"]
    for depth in range(3):
        st.words[offset + (number >> 6)] &= ~bit(number & 63)
        if st.words[offset + (number >> 6)] != np.uint64(0):
            return
        offset += header["word_counts"][depth]
        number = number >> 6


@hot
def make_level(st, ladder, tick):
    """Return the index in `levels` of a tick, creating leaf and page where needed."""
    at = st.ladders[ladder]["page_offset"] + (tick >> 12)
    page = np.int64(st.pages[at])
    if page == NIL:
        page = np.int64(take_page(st))
        st.pages[at] = page
        mark_page(st, ladder, tick >> 12)
    branch = (tick >> 6) & 63
    leaf = np.int64(st.page_leaves[page * 64 + branch])
    if leaf == NIL:
        leaf = np.int64(take_leaf(st))
        st.page_leaves[page * 64 + branch] = leaf
        st.page_masks[page] |= bit(branch)
    return leaf * 64 + (tick & 63)


@hot
def drop_leaf(st, ladder, tick, leaf):
    """Give back a leaf on which nothing hangs any more, and its page if that was the last."""
    head = st.head[0]
    st.leaf_masks[leaf] = np.uint64(head["leaf_free"] + 1)
    head["leaf_free"] = leaf
    at = st.ladders[ladder]["page_offset"] + (tick >> 12)
    page = np.int64(st.pages[at])
    branch = (tick >> 6) & 63
    st.page_leaves[page * 64 + branch] = NIL
    st.page_masks[page] &= ~bit(branch)
    if st.page_masks[page] == np.uint64(0):
        st.page_masks[page] = np.uint64(head["page_free"] + 1)
        head["page_free"] = page
        st.pages[at] = NIL
        unmark_page(st, ladder, tick >> 12)


@helper
def next_page_above(st, ladder, number):
    """Return the lowest existing page number above `number`, or -1."""
    header = st.ladders[ladder]
    offset = header["word_offset"]
    for depth in range(3):
        word = number >> 6
        found = above(st.words[offset + word], number & 63)
        if depth == 2:
            while found == np.uint64(0) and word + 1 < header["word_counts"][2]:
                word += 1
                found = st.words[offset + word]
        if found != np.uint64(0):
            number = word * 64 + lowest(found)
            for _ in range(depth):
                depth -= 1
                offset -= header["word_counts"][depth]
                number = number * 64 + lowest(st.words[offset + number])
            return number
        offset += header["word_counts"][depth]
        number = word
    return np.int64(-1)


@helper
def next_page_below(st, ladder, number):
    """Return the highest existing page number below `number`, or -1."""
    header = st.ladders[ladder]
    offset = header["word_offset"]
    for depth in range(3):
        word = number >> 6
        found = below(st.words[offset + word], number & 63)
        if depth == 2:
            while found == np.uint64(0) and word > 0:
                word -= 1
                found = st.words[offset + word]
        if found != np.uint64(0):
            number = word * 64 + highest(found)
            for _ in range(depth):
                depth -= 1
                offset -= header["word_counts"][depth]
                number = number * 64 + highest(st.words[offset + number])
            return number
        offset += header["word_counts"][depth]
        number = word
    return np.int64(-1)


@hot
def next_above(st, ladder, tick):
    """Return the lowest occupied tick above `tick`, or the ladder's limit_tick; O(log ticks)."""
    header = st.ladders[ladder]
    number = tick >> 12
    page = np.int64(st.pages[header["page_offset"] + number])
    if page != NIL:
        branch = (tick >> 6) & 63
        leaf = np.int64(st.page_leaves[page * 64 + branch])
        if leaf != NIL:
            found = above(st.leaf_masks[leaf], tick & 63)
            if found != np.uint64(0):
                return (tick >> 6) * 64 + lowest(found)
        found = above(st.page_masks[page], branch)
        if found != np.uint64(0):
            branch = lowest(found)
            leaf = np.int64(st.page_leaves[page * 64 + branch])
            return (number * 64 + branch) * 64 + lowest(st.leaf_masks[leaf])
    number = next_page_above(st, ladder, number)
    if number < 0:
        return header["limit_tick"]
    page = np.int64(st.pages[header["page_offset"] + number])
    branch = lowest(st.page_masks[page])
    leaf = np.int64(st.page_leaves[page * 64 + branch])
    return (number * 64 + branch) * 64 + lowest(st.leaf_masks[leaf])


@hot
def next_below(st, ladder, tick):
    """Return the highest occupied tick below `tick`, or 0; O(log ticks)."""
    header = st.ladders[ladder]
    number = tick >> 12
    page = np.int64(st.pages[header["page_offset"] + number])
    if page != NIL:
        branch = (tick >> 6) & 63
        leaf = np.int64(st.page_leaves[page * 64 + branch])
        if leaf != NIL:
            found = below(st.leaf_masks[leaf], tick & 63)
            if found != np.uint64(0):
                return (tick >> 6) * 64 + highest(found)
        found = below(st.page_masks[page], branch)
        if found != np.uint64(0):
            branch = highest(found)
            leaf = np.int64(st.page_leaves[page * 64 + branch])
            return (number * 64 + branch) * 64 + highest(st.leaf_masks[leaf])
    number = next_page_below(st, ladder, number)
    if number < 0:
        return np.int64(0)
    page = np.int64(st.pages[header["page_offset"] + number])
    branch = highest(st.page_masks[page])
    leaf = np.int64(st.page_leaves[page * 64 + branch])
    return (number * 64 + branch) * 64 + highest(st.leaf_masks[leaf])


@hot
def hang_node(st, ladder, nodes, slot, side, qty):
    """Append node `slot` to the tail of the level of its `price_tick`, on `side` (1: bid or long, -1: ask or short).

    Source: MATCH-003, MARGIN-010.
    """
    node = nodes[slot]
    tick = node["price_tick"]
    at = make_level(st, ladder, tick)
    level = st.levels[at]
    node["level"] = at
    node["next"] = NIL
    node["prev"] = level["tail"]
    level["qty_lot"] += qty
    if level["tail"] == NIL:
        level["head"] = slot
        st.leaf_masks[at >> 6] |= bit(at & 63)
        header = st.ladders[ladder]
        if side > 0:
            if tick > header["best_bid"]:
                header["best_bid"] = tick
        elif tick < header["best_ask"]:
            header["best_ask"] = tick
    else:
        nodes[level["tail"]]["next"] = slot
    level["tail"] = slot


@hot
def drop_levels(st, ladder, levels, leaf, first_tick, last_tick, side):
    """Forget the levels of a leaf, a bit each, on which nothing hangs any more; all of one side, first to last."""
    st.leaf_masks[leaf] &= ~levels
    header = st.ladders[ladder]
    if side > 0:
        if last_tick == header["best_bid"]:
            header["best_bid"] = next_below(st, ladder, first_tick)
    elif first_tick == header["best_ask"]:
        header["best_ask"] = next_above(st, ladder, last_tick)
    if st.leaf_masks[leaf] == np.uint64(0):
        drop_leaf(st, ladder, first_tick, leaf)


@hot
def unhang_node(st, ladder, nodes, slot, side, qty):
    """Unlink node `slot`; `qty` is what of its quantity is still counted in its level."""
    node = nodes[slot]
    at = np.int64(node["level"])
    level = st.levels[at]
    level["qty_lot"] -= qty
    before, after = node["prev"], node["next"]
    if before == NIL:
        level["head"] = after
    else:
        nodes[before]["next"] = after
    if after == NIL:
        level["tail"] = before
    else:
        nodes[after]["prev"] = before
    if level["head"] == NIL:
        drop_levels(st, ladder, bit(at & 63), at >> 6, node["price_tick"], node["price_tick"], side)
