"""Captures of four venues, as they were recorded: what they hold is what was found in them by other means."""

import gzip
import json
import zipfile
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise

import numpy as np
import pytest

from engine import Exchange, Market
from engine.audit import check_state
from engine.codes import (
    IN_SNAPSHOT,
    INDEX,
    LEVEL,
    MARK_MOVED,
    OFF_MARKET,
    PRINT,
    ROW_FUNDING,
    ROW_INTEREST,
    ROW_LEVEL,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_TRADE,
)
from engine.contract import Tier
from engine.errors import DataError
from engine.feeds import check_lighter_trades, open_feed
from engine.feeds.formats import sniff_file
from engine.feeds.inspect import inspect_tape

zstandard = pytest.importorskip("zstandard", reason="needs the extra `captures`")

BYBIT = "bybit_v5_multi_20260809/BYBIT.jsonl.zst"
OB500 = "bybit_ob500_20241201/2024-12-01_XRPUSDT_ob500.data.zip"
OKX = "cryptofeed_ws_captures/OKX.ws.1.0.gz"
HYPERLIQUID = "hyperliquid_misc/l2book_trades_btc_20250126.gz"
NODE_FILLS = "hyperliquid_node_fills_20251027/node_fills_1000_blocks.jsonl.gz"
LIGHTER = "lighter_btc_20251210/mainnet_order_book_place_cancel_btc.json.gz"


@pytest.fixture(scope="module")
def data(shared):
    """Return a function that finds a recording, or skips."""

    def find(name):
        file = shared / "data" / name
        if not file.is_file():
            pytest.skip(f"not among the recordings: {name}")
        return file

    return find


def make_market(symbol, tick, lot, price_max):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    sizes = {"tick_size": Decimal(tick), "lot_size": Decimal(lot), "price_max": Decimal(price_max)}
    return Market(symbol=symbol, tiers=tiers, quote_unit=Decimal("0.00000001"), **sizes)


def is_sound(facts):
    """Return whether nothing at all is wrong with a recording but stamps that repeat or run back across streams."""
    wrong = ("gaps", "resets", "crossed", "dropped", "negative_latency")
    return not any(facts[name] for name in wrong) and not facts["faults"]


def gather(feed):
    return np.concatenate(list(feed.records()))


def play(feed, market, kinds=()):
    """Run a tape through the engine; return the exchange, and its events of some kinds."""
    exchange = Exchange([market])
    events = np.concatenate([exchange.apply(rows) for rows in feed.chunks(1_024)])
    check_state(exchange.view(), exchange.setup)
    return (exchange, events[np.isin(events["kind"], kinds)]) if kinds else exchange


def known_sides(feed):
    """Return ([(price, ...)] of bids, of asks), best first, as the reader of the tape knows them."""
    keys = feed.teller.known_levels(0).tolist()
    return [key for key in keys if key > 0], [-key for key in keys if key < 0]


def follows_the_feed(exchange, feed):
    depth = exchange.depth(0, 10_000)
    return [[price for price, _ in depth[side]] for side in ("bids", "asks")] == list(known_sides(feed))


# ---------------------------------------------------------------- Bybit


def test_bybit_is_as_it_was_found(data):
    """Six books, none of them with a gap or crossed; 1,594 deltas, 758 tickers and 327 trades of perpetuals.

    Source: FEED-030, FEED-031, FEED-033.
    """
    facts = inspect_tape(data(BYBIT))
    assert is_sound(facts)
    books = {(row["exchange"], row["symbol"]): (row["messages"], row["snapshots"]) for row in facts["instruments"]}
    perpetuals = {symbol: count for (exchange, symbol), count in books.items() if exchange == "bybit"}
    assert perpetuals == {"BTCUSDT": (414, 1), "ETHUSDT": (421, 1), "SOLUSDT": (383, 1), "DOGEUSDT": (380, 1)}
    assert sum(messages - snapshots for messages, snapshots in perpetuals.values()) == 1_594
    assert {symbol for exchange, symbol in books if exchange == "bybit-spot"} == {"BTCUSDT", "ETHUSDT"}
    assert (facts["streams"]["bybit ticker"], facts["streams"]["bybit trades"]) == (758, 327)
    assert facts["streams"]["bybit-spot book"] == 550


def list_tickers(file, address, symbol):
    """Return what the tickers of an instrument told, decoded anew."""
    with zstandard.open(file, "rt") as lines:
        told = [json.loads(line) for line in lines]
    (conn,) = {line["conn"] for line in told if line["t"] == "connect" and line["addr"].endswith(address)}
    messages = [json.loads(line["data"]) for line in told if line["t"] == "recv" and line["conn"] == conn]
    return [message["data"] for message in messages if message.get("topic") == f"tickers.{symbol}"]


def test_a_bybit_perpetual_plays(data):
    """The perpetual BTCUSDT alone: spot of that name stays out, the book is the feed's, the marks are the ticker's.

    Source: FEED-031, FEED-033, FEED-005.
    """
    market = make_market("BTCUSDT", "0.1", "0.001", 200_000)
    feed = open_feed(data(BYBIT), [market])
    exchange, moved = play(feed, market, [MARK_MOVED])
    assert (feed.counts["messages"], feed.counts["crossed"], feed.counts["gaps"]) == (414, 0, 0)
    assert feed.instruments.rows[0].exchange == "bybit"
    assert follows_the_feed(exchange, feed)
    assert [len(side) for side in known_sides(feed)] == [200, 200]
    tickers = list_tickers(data(BYBIT), "linear", "BTCUSDT")
    marks = [ticker["markPrice"] for ticker in tickers if "markPrice" in ticker]
    ticks = [int((Decimal(mark) * 10).to_integral_value(ROUND_HALF_EVEN)) for mark in marks]
    changes = [tick for tick, before in zip(ticks, [0, *ticks], strict=False) if tick != before]
    assert moved["price_tick"].tolist() == changes
    assert len(changes) == 14


def test_bybit_spot_is_an_index(data):
    """The trades of spot BTCUSDT, named outright, are an index; nothing else of spot is told.

    Source: FEED-031.
    """
    market = make_market("BTCUSDT", "0.1", "0.001", 200_000)
    plain, indexed = (
        np.concatenate(list(open_feed(data(BYBIT), [market], indexes=indexes).chunks()))
        for indexes in ({}, {"BTCUSDT": "bybit-spot:BTCUSDT"})
    )
    for rows in (plain, indexed):
        assert set(rows["market"]) == {0}
    kinds = [Counter(rows["kind"].tolist()) for rows in (plain, indexed)]
    assert kinds[0][LEVEL] == kinds[1][LEVEL]
    assert kinds[0][PRINT] == kinds[1][PRINT]
    spot = {651_404, 651_405}  # 65,140.4 and 65,140.5
    indexes = [set(rows[rows["kind"] == INDEX]["price_tick"].tolist()) for rows in (plain, indexed)]
    assert spot <= indexes[1]
    assert not spot <= indexes[0]


def test_ob500_is_contiguous(data):
    """Fifty messages, a snapshot of 500 levels a side and 49 deltas.

    Source: FEED-030, FEED-033.
    """
    facts = inspect_tape(data(OB500))
    assert is_sound(facts)
    assert (facts["instruments"][0]["messages"], facts["instruments"][0]["snapshots"]) == (50, 1)
    market = make_market("XRPUSDT", "0.0001", "1", 100)
    feed = open_feed(data(OB500), [market])
    rows = gather(feed)
    assert ((rows["kind"] == ROW_LEVEL) & (rows["id"] == rows["id"][0])).sum() == 1_000
    assert follows_the_feed(play(feed, market), feed)


def test_bybit_before_v5_is_not_taken_for_it(data):
    assert sniff_file(data("cryptofeed_ws_captures/BYBIT.ws.25.0.gz")) is None
    assert sniff_file(data("cryptofeed_ws_captures/BYBIT.ws.26.0.gz")) is None


def test_a_lost_delta_is_a_gap(data, tmp_path):
    """Two of fifty messages are taken out: the one before the last, and the snapshot.

    Source: FEED-033.
    """
    with zipfile.ZipFile(data(OB500)) as archive:
        lines = archive.read(archive.namelist()[0]).splitlines()
    file = tmp_path / "XRPUSDT_ob500.data"
    file.write_bytes(b"\n".join([*lines[1:-2], lines[-1]]))
    facts = inspect_tape(file)
    assert facts["gaps"] == 2
    assert "expected a snapshot before the first update" in facts["faults"][0]["error"]
    assert "field 'u': XRPUSDT: expected the update after" in facts["faults"][1]["error"]
    with pytest.raises(DataError, match=r"ob500\.data:1: field 'u'"):
        inspect_tape(file, is_strict=True)


# ---------------------------------------------------------------- OKX


@pytest.mark.parametrize("name", [OKX, "btcusdt_4min/okx_books_checksum_20220513.ws.gz"])
def test_okx_checksums_are_all_right(data, name):
    """290 of 290 of the venue's own checksums, over a spot, a swap's and a future's book.

    Source: FEED-034, FEED-035.
    """
    facts = inspect_tape(data(name))
    assert is_sound(facts)
    assert (facts["checksums"], facts["checksums_equal"]) == (290, 290)
    books = {(row["exchange"], row["symbol"]): row["messages"] for row in facts["instruments"]}
    assert books == {
        ("okex-futures", "BTC-USD-220527"): 99,
        ("okex-swap", "UNI-USD-SWAP"): 93,
        ("okex", "BTC-USDT"): 98,
    }
    trades = [count for name, count in facts["streams"].items() if name.endswith(" trades")]
    assert sum(trades) == 74


def test_a_lost_message_of_okx_is_a_gap(data, tmp_path):
    """An update of the swap is left out: its sums are wrong from there on, for that one reason.

    Source: FEED-034.
    """
    lines = gzip.decompress(data(OKX).read_bytes()).splitlines(keepends=True)
    swap = [at for at, line in enumerate(lines) if b'"action":"update"' in line and b"UNI-USD-SWAP" in line]
    lost = swap[len(swap) // 2]
    file = tmp_path / "okx.gz"
    file.write_bytes(gzip.compress(b"".join(lines[:lost] + lines[lost + 1 :])))
    facts = inspect_tape(file)
    assert facts["gaps"] >= 1
    assert facts["checksums"] == 289
    assert facts["checksums_equal"] < 289
    assert "field 'checksum': UNI-USD-SWAP: expected a book of checksum" in facts["faults"][0]["error"]
    with pytest.raises(DataError, match="updates were lost"):
        inspect_tape(file, is_strict=True)


def test_an_okx_swap_plays(data):
    market = make_market("UNI-USD-SWAP", "0.001", "1", 100)
    feed = open_feed(data(OKX), [market])
    exchange = play(feed, market)
    assert (feed.counts["messages"], feed.counts["crossed"], feed.findings.counts["checksums_equal"]) == (93, 0, 93)
    assert follows_the_feed(exchange, feed)
    assert feed.findings.counts["unused"] > 190  # the other two instruments' messages


# ---------------------------------------------------------------- Hyperliquid


def test_hyperliquid_snapshots_and_trades(data):
    """46 books, one of them twice, and 9 messages of trades, the first of which is history.

    Source: FEED-036.
    """
    facts = inspect_tape(data(HYPERLIQUID))
    assert is_sound(facts)
    assert facts["streams"] == {
        "hyperliquid book": 46,
        "hyperliquid earlier trades": 30,
        "hyperliquid trades": 34,
    }
    lines = gzip.decompress(data(HYPERLIQUID).read_bytes()).decode().splitlines()
    told = [json.loads(line.partition(" ")[2]) for line in lines]
    assert Counter(message["channel"] for message in told) == {"l2Book": 46, "trades": 9}
    books = [message["data"]["levels"] for message in told if message["channel"] == "l2Book"]
    plain = [[[(level["px"], level["sz"]) for level in side] for side in book] for book in books]
    twins = sum(book == before for before, book in pairwise(plain))
    assert facts["duplicate_books"] == twins > 0


def test_a_hyperliquid_coin_plays(data):
    market = make_market("BTC", "1", "0.00001", 1_000_000)
    feed = open_feed(data(HYPERLIQUID), [market])
    exchange = play(feed, market)
    assert (feed.counts["messages"], feed.counts["snapshots"], feed.counts["crossed"]) == (46, 46, 0)
    assert follows_the_feed(exchange, feed)
    assert [len(side) for side in known_sides(feed)] == [20, 20]


def test_node_fills_are_trades(data):
    """7,282 fills are 3,641 trades, one of them a liquidation: 890 WLFI bought back.

    Source: FEED-038.
    """
    facts = inspect_tape(data(NODE_FILLS))
    assert is_sound(facts)
    assert facts["streams"] == {"hyperliquid blocks": 1_000, "hyperliquid trades": 3_641}
    feed = open_feed(data(NODE_FILLS))
    rows = gather(feed)
    assert (rows["kind"] == ROW_TRADE).sum() == 3_641
    assert not (rows["flags"] & OFF_MARKET).any()
    (found,) = rows[rows["kind"] == ROW_LIQUIDATION]
    row = feed.instruments.rows[found["market"]]
    assert (row.symbol, int(found["side"])) == ("WLFI", 1)
    assert (int(found["price"]) * row.tick, int(found["qty"]) * row.lot) == (Decimal("0.15327"), Decimal("890.0"))
    assert (np.diff(rows["ts_ns"]) >= 0).all()


def test_node_fills_fill_a_market(data):
    market = make_market("BTC", "0.1", "0.00001", 1_000_000)
    feed = open_feed(data(NODE_FILLS), [market])
    told = np.concatenate(list(feed.chunks()))
    blocks = [json.loads(line) for line in gzip.decompress(data(NODE_FILLS).read_bytes()).splitlines()]
    fills = [fill for block in blocks for _, fill in block["events"] if fill["coin"] == "BTC" and fill["crossed"]]
    sides = [1 if fill["side"] == "B" else -1 for fill in fills]
    assert sorted(told["side"].tolist()) == sorted(sides)
    assert told["qty_lot"].sum() == sum(Decimal(fill["sz"]) for fill in fills).scaleb(5)


def test_a_users_liquidation_is_told(data):
    """A maker's fill against somebody's liquidation: the order bought.

    Source: FEED-037.
    """
    feed = open_feed(data("hyperliquid_misc/crates_adapters_hyperliquid_test_data_ws_user_fill_liquidation.json"))
    (row,) = gather(feed)
    assert (int(row["kind"]), int(row["side"]), int(row["id"])) == (ROW_LIQUIDATION, 1, 745210434703679)
    assert int(row["price"]) * feed.instruments.rows[0].tick == 66_653


def test_contexts_without_names_have_places(data):
    """Mark, oracle, funding and open interest of 412 contracts.

    Source: FEED-037.
    """
    file = data("hyperliquid_misc/crates_adapters_hyperliquid_test_data_ws_all_dexs_asset_ctxs.json")
    told = json.loads(file.read_text())["data"]["ctxs"]
    feed = open_feed(file)
    rows = gather(feed)
    assert sum(len(contexts) for _, contexts in told) == feed.findings.rows["hyperliquid ticker"] == 412
    first = rows[rows["market"] == 0]
    mark = first[first["kind"] == ROW_MARK]["price"][0] * feed.instruments.rows[0].fine_unit
    assert (feed.instruments.rows[0].symbol, mark) == ("[0]", Decimal(told[0][1][0]["markPx"]))
    assert first[first["kind"] == ROW_FUNDING]["price"][0] == Decimal("-0.0000015186").scaleb(12)
    assert first[first["kind"] == ROW_INTEREST]["qty"][0] == Decimal("27353.17682").scaleb(6)


# ---------------------------------------------------------------- Lighter


def test_lighter_is_as_it_was_found(data):
    """2,549 updates without a gap, 673 live trades, 50 liquidations from before; 1,081 positions chain.

    Source: FEED-039, FEED-040, FEED-041.
    """
    facts = inspect_tape(data(LIGHTER))
    assert is_sound(facts)
    (book,) = facts["instruments"]
    assert (book["symbol"], book["messages"], book["snapshots"], book["crossed"]) == ("BTC", 2_550, 1, 0)
    assert facts["streams"]["lighter trades"] == 673
    assert facts["streams"]["lighter earlier liquidations"] == 50
    assert facts["streams"]["lighter ticker"] == 204
    check = check_lighter_trades(data(LIGHTER))
    assert check._asdict() == {"trades": 673, "earlier": 100, "accounts": 265, "chained": 1_081, "broken": 0}


def test_a_lighter_market_plays(data):
    """The book of 5,701 levels and all trades; the funding is due at the next hour, at 0.0012 percent.

    Source: FEED-040, FEED-041.
    """
    market = make_market("BTC", "0.1", "0.00001", 1_000_000)
    feed = open_feed(data(LIGHTER), [market])
    exchange = play(feed, market)
    assert follows_the_feed(exchange, feed)
    rows = gather(feed)
    trades = rows[rows["kind"] == ROW_TRADE]
    assert (np.diff(trades["id"]) > 0).all()
    assert len(trades) == 673
    assert (rows["kind"] == ROW_LIQUIDATION).sum() == 50
    assert ((rows["kind"] == ROW_LEVEL) & (rows["flags"] & IN_SNAPSHOT != 0)).sum() == 3_677 + 2_024
    funding = rows[rows["kind"] == ROW_FUNDING]
    assert set(funding["price"]) == {12_000_000}
    assert set(funding["qty"]) == {1_765_396_800 * 10**9}  # 20:00 UTC


def test_a_lost_update_and_a_false_position_of_lighter(data, tmp_path):
    """Source: FEED-039, FEED-040."""
    messages = json.loads(gzip.decompress(data(LIGHTER).read_bytes()))
    told = [json.loads(message["msg"]) for message in messages]
    updates = [at for at, message in enumerate(told) if message["type"] == "update/order_book"]
    trades = [at for at, message in enumerate(told) if message["type"] == "update/trade"]
    del messages[updates[1_000]]
    file = tmp_path / "gap.json"
    file.write_text(json.dumps(messages, indent=2))
    assert inspect_tape(file)["gaps"] == 1
    messages = [messages[0], *({"ts": 1 + at, "msg": json.dumps(told[number])} for at, number in enumerate(trades))]
    del messages[150]
    file.write_text(json.dumps(messages))
    assert check_lighter_trades(file).broken > 0


# ---------------------------------------------------------------- archives


def test_a_capture_that_ends_early_is_refused(data, tmp_path):
    """Half of a zstd file is no file, however whole its last message looks.

    Source: FEED-030.
    """
    whole = data(BYBIT).read_bytes()
    file = tmp_path / "half.jsonl.zst"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.jsonl\.zst:\d+: expected a complete archive, it ends early"):
        inspect_tape(file)
    damaged = bytearray(whole)
    damaged[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"half\.jsonl\.zst:\d+: expected a sound archive"):
        inspect_tape(file)
    gz = tmp_path / "half.gz"
    gz.write_bytes(data(OKX).read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"half\.gz:\d+: expected a complete archive"):
        inspect_tape(gz)
