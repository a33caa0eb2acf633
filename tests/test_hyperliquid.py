"""A thousand real blocks of Hyperliquid's fills: its positions chain, and its profits are those of our accounting."""

import gzip
import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest

from engine.contract import Market, Tier, build_setup
from engine.errors import DataError
from engine.feeds import check_node_fills, read_node_fills
from engine.feeds.hyperliquid import PERP_DECIMALS, find_liquidations, find_size_decimals, is_perpetual
from engine.reference.ledger import apply_fill, open_state

MICRO = Fraction(1, 10**6)


@pytest.fixture(scope="module")
def fills(shared):
    """Return all fills of the recording."""
    file = shared / "data/hyperliquid_node_fills_20251027/node_fills_1000_blocks.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"the node fills are not among the recordings: {file.name}")
    return list(read_node_fills(file))


@pytest.fixture(scope="module")
def checked(fills):
    """Return the check of the recording."""
    return check_node_fills(fills)


def test_counts_are_those_of_the_notes(fills, checked):
    """Source: FEED-007."""
    blocks = {fill.block for fill in fills}
    assert 777_010_829 <= min(blocks) <= max(blocks) <= 777_011_828  # a thousand, some of them without a fill
    assert len(fills) == 7_282
    assert set(Counter(fill.trade_id for fill in fills).values()) == {2}  # 3,641 trades, each with its two sides
    assert (checked.coins, checked.accounts) == (168, 788)
    assert (checked.trades, checked.unpaired, checked.fills) == (3_304, 0, 6_608)


def test_positions_chain(checked):
    """Position before + fill = position before the next, on all 4,788 occasions.

    Source: FEED-007.
    """
    assert (checked.chained, checked.broken) == (4_788, 0)


def test_closed_pnl_is_ours_up_to_the_entry_display(checked):
    """All 2,355 closings: the venue's entry is our cost / quantity cut down to the price grid.

    Twice, where ours lies on the grid, its double division came out a step lower; never is it anywhere else.

    Source: FEED-007, NUM-003, POS-001.
    """
    assert len(checked.closings) == 2_355
    assert all(closing.is_close for closing in checked.closings)
    slipped = [closing for closing in checked.closings if not closing.is_cut]
    assert len(slipped) == 2
    assert all(closing.low == closing.high == closing.entry + closing.step for closing in slipped)
    assert all((closing.entry / closing.step).denominator == 1 for closing in checked.closings)


def test_known_positions_differ_by_less_than_a_step(checked):
    """200 closings of positions opened in the recording: longs are told too much, shorts too little, a step at most.

    Source: FEED-007, NUM-003.
    """
    known = [closing for closing in checked.closings if closing.is_known]
    assert len(known) == 200
    exact = 0
    for closing in known:
        long = 1 if closing.fill.start > 0 else -1
        told_too_much = (Fraction(closing.fill.closed_pnl) - closing.ours) * long
        assert 0 <= told_too_much <= closing.step * Fraction(closing.fill.closed)
        exact += told_too_much == 0
    assert exact == 115  # the rest have an average entry between two steps


def test_the_ledger_realises_the_same(fills):
    """The reference engine's own ledger in micro-dollars: each closing floors its cost by less than a unit.

    Source: NUM-002, NUM-003, POS-001, POS-002, FEED-007.
    """
    perpetuals = [fill for fill in fills if is_perpetual(fill.coin)]
    decimals = find_size_decimals(perpetuals)
    states = {coin: open_state(build_setup([make_market(coin, places)])) for coin, places in decimals.items()}
    accounts = {name: number for number, name in enumerate(dict.fromkeys(fill.account for fill in fills), 1)}
    floored = {}  # closings so far of each position whose opening was seen
    closings = 0
    for fill in perpetuals:
        who, places, state = (fill.account, fill.coin), decimals[fill.coin], states[fill.coin]
        size = fill.size
        if who not in floored and fill.start and fill.start * fill.end >= 0:
            continue  # its opening was before the recording
        if who not in floored and fill.start:
            size = abs(fill.end)  # what is left of a position from before is gone, this one is new
        position, wallet = state.position(accounts[fill.account], 0), state.wallet(accounts[fill.account], 0)
        before, start = wallet.balance_quote, position.qty_lot
        lots, ticks = size.scaleb(places), fill.price.scaleb(PERP_DECIMALS - places)
        assert (lots, ticks) == (int(lots), int(ticks))
        apply_fill(state, accounts[fill.account], 0, fill.side, int(lots), int(ticks), 0)
        assert position.qty_lot == fill.end.scaleb(places)
        floored.setdefault(who, 0)
        if start * fill.side < 0:
            closings += 1
            floored[who] += 1
            told_more = Fraction(fill.closed_pnl) - (wallet.balance_quote - before) * MICRO
            step = Fraction(fill.closed) / 10 ** (PERP_DECIMALS - places)
            low, high = (0, step) if start > 0 else (-step, 0)
            assert low - floored[who] * MICRO < told_more <= high + floored[who] * MICRO
    assert closings == 200


def make_market(coin, places):
    """Return a perpetual of the venue: a tick times a lot is always a millionth of a dollar."""
    tier = Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05"))
    tick, lot = Decimal(1).scaleb(places - PERP_DECIMALS), Decimal(1).scaleb(-places)
    return Market(symbol=coin, tick_size=tick, lot_size=lot, settle="USDC", tiers=(tier,), default_leverage=10)


def test_the_one_liquidation_is_recognised(fills):
    """A short of 890 WLFI is bought back in the book at 0.15327, the mark at 0.15319.

    Source: FEED-007.
    """
    (found,) = find_liquidations(fills)
    assert (found.coin, found.side, found.size, found.price) == ("WLFI", 1, Decimal("890.0"), Decimal("0.15327"))
    assert (found.start, found.end, found.mark) == (-890, 0, Decimal("0.15319"))
    assert (found.method, found.is_taker, found.closed_pnl) == ("market", True, Decimal("-11.3475"))
    assert sum(bool(fill.liquidated) for fill in fills) == 2  # its counterparty's side carries the note as well


# ---------------------------------------------------------------- made up


def write(folder, *blocks):
    file = folder / "fills.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(block) + "\n" for block in blocks)
    return file


def fill(side, size, start, price="10", pnl="0.0", **changes):
    row = {"coin": "X", "px": price, "sz": size, "side": side, "time": 1, "startPosition": start, "closedPnl": pnl}
    return row | {"fee": "0", "crossed": True, "tid": 1} | changes


def block(number, *fills):
    return {"block_number": number, "events": [["0xa", fill] for fill in fills]}


def test_a_broken_chain_and_a_false_profit_are_seen(tmp_path):
    """3 bought at 10, then 4 sold though only 3 were there; then a profit two steps off.

    Source: FEED-007.
    """
    rows = (
        fill("B", "3", "0.0"),
        fill("A", "1", "4.0", "11", "1.0"),  # from 4, not from 3
        fill("A", "1", "3.0", "11", "1.000002"),  # the entry would be 9.999998
        fill("A", "1", "2.0", "11", "1.000002"),  # and is believed from then on
    )
    found = check_node_fills(read_node_fills(write(tmp_path, block(1, *rows))))
    assert (found.chained, found.broken, found.unpaired) == (3, 1, 1)
    assert [closing.is_close for closing in found.closings] == [True, False, True]


def test_positions_are_doubles_in_print(tmp_path):
    """3130537.6000000001 is 3130537.6."""
    (read,) = read_node_fills(write(tmp_path, block(1, fill("B", "0.1", "3130537.6000000001"))))
    assert read.end == Decimal("3130537.7")


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([block(1), block(3)], "fills.jsonl.gz:2: field 'block_number': .*expected block 2, got 3"),
        ([{"events": []}], "fills.jsonl.gz:1: field 'block_number': expected this field"),
        ([block(1, {"coin": "X"})], "fills.jsonl.gz:1: field 'time': expected this field"),
        ([block(1, fill("B", "many", "0"))], "fills.jsonl.gz:1: field 'events': expected a block of fills"),
        ([block(1, fill("C", "1", "0"))], "fills.jsonl.gz:1: field 'C': expected this field"),
        ([], "fills.jsonl.gz:1: expected blocks of fills, the file is empty"),
    ],
)
def test_bad_files_are_refused(tmp_path, blocks, says):
    """Source: FEED-007."""
    with pytest.raises(DataError, match=says):
        list(read_node_fills(write(tmp_path, *blocks)))


def test_what_is_no_gzip_is_refused(tmp_path):
    file = tmp_path / "fills.jsonl.gz"
    file.write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_node_fills(file))


@pytest.mark.parametrize(
    ("coin", "is_one"), [("BTC", True), ("kPEPE", True), ("@107", False), ("PURR/USDC", False), ("xyz:GOLD", False)]
)
def test_perpetuals_by_name(coin, is_one):
    assert is_perpetual(coin) is is_one
