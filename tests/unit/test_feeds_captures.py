"""Captured messages with everything wrong that can be wrong with them, by hand."""

import gzip
import json
import sys
import zlib
from decimal import Decimal
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.contract import Market, Tier
from engine.errors import DataError, MissingExtraError
from engine.feeds import check_lighter_trades, open_feed
from engine.feeds.captures import count_stamp_text
from engine.feeds.inspect import inspect_tape
from engine.feeds.okx import find_exchange, is_on
from engine.layout import RECORD

T0 = 1_700_000_000
S = 10**9


def make_market(symbol="BTCUSDT", **changes):
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(250_000), **changes}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    return Market(symbol=symbol, tiers=tiers, **settings)


def write(folder, messages, name="capture.ws", address="wss://stream.bybit.com/v5/public/linear"):
    """Write messages a second apart, in cryptofeed's form; one given as text stands as it is."""
    lines = [f"{address} <-> {T0}"]
    for at, message in enumerate(messages, 1):
        lines.append(message if isinstance(message, str) else f"{T0 + at}.5: {json.dumps(message)}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def gather(path, *markets, strict=True, **options):
    feed = open_feed(path, markets, is_strict=strict, **options)
    return feed, np.concatenate([*feed.records(), np.zeros(0, RECORD)])


def kinds(rows):
    return [codes.ROW_NAMES[kind] for kind in rows["kind"].tolist()]


def told(rows, *names):
    return [tuple(row) for row in rows[list(names)].tolist()]


# ---------------------------------------------------------------- recorders


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1700000000", T0 * S),
        ("1700000000.25", T0 * S + 250_000_000),
        ("1700000000123", T0 * S + 123_000_000),
        ("1700000000123456", T0 * S + 123_456_000),
        ("1700000000123456789", T0 * S + 123_456_789),
        ("2023-11-14T22:13:20.1234567Z", T0 * S + 123_456_700),
        ("2023-11-14T22:13:20", T0 * S),
    ],
)
def test_stamps_are_known_by_their_form(text, ns):
    """Source: FEED-030."""
    assert count_stamp_text(text) == ns


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "1700000000.x", "9" * 30, "2023-99-14T22:13:20Z"])
def test_other_stamps_are_refused(text):
    with pytest.raises(ValueError, match=r"expected a stamp|isoformat|month|out of range|int"):
        count_stamp_text(text)


def test_every_recorder_tells_the_same(tmp_path):
    """The same three messages as seven recorders write them.

    Source: FEED-030.
    """
    messages = [book("snapshot", 5, [["100.0", "1"]], [["101.0", "2"]]), trade("100.5", "1"), book("delta", 6, [], [])]
    stamps = [T0 + 1, T0 + 2, T0 + 3]
    pairs = list(zip(stamps, map(json.dumps, messages), strict=True))
    received = [{"t": "recv", "conn": "c", "ts": stamp + 0.5, "data": text} for stamp, text in pairs]
    connected = {"t": "connect", "conn": "c", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/linear"}
    sent = {"t": "send", "conn": "c", "ts": T0, "addr": "wss://x", "data": '{"op":"subscribe"}'}
    listed = [{"ts": stamp + 0.5, "msg": text} for stamp, text in pairs]
    files = {
        "cryptofeed.ws": [
            f"wss://stream.bybit.com/v5/public/linear <-> {T0}",
            *(f"{at}.5: {text}" for at, text in pairs),
        ],
        "cryptofeed.jsonl": [json.dumps(row, separators=(",", ":")) for row in (connected, sent, *received)],
        "nanoseconds.txt": [f"{at}500000000 {text}" for at, text in pairs],
        "iso.txt": [f"2023-11-14T22:13:{20 + at - T0}.5Z {text}" for at, text in pairs],
        "list.json": [json.dumps(listed, indent=2)],
        "flat.json": [json.dumps(listed)],
        "lines.jsonl": [json.dumps(row) for row in listed],
    }
    whole = None
    for name, lines in files.items():
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        rows = gather(path)[1]
        whole = rows if whole is None else whole
        assert (rows == whole).all(), name
        assert rows["ts_ns"].tolist() == [(T0 + 1) * S + S // 2] * 3 + [(T0 + 2) * S + S // 2], name
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(text for _, text in pairs))
    assert set(gather(bare)[1]["ts_ns"]) == {T0 * S}  # nobody noted when they arrived: the venue's stamp


def test_documents_spread_over_lines(tmp_path):
    """Messages as an editor lays them out, numbers and all; one that is cut off is named.

    Source: FEED-030.
    """
    path = tmp_path / "pretty.json"
    messages = [hyper("trades", [hyper_trade(at, number=at)]) for at in (1, 2, 3)]
    path.write_text("\n".join(json.dumps(message, indent=2) for message in messages))
    assert gather(path)[1]["id"].tolist() == [2, 3]
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"pretty\.json: expected JSON to the end, message 3 is none"):
        gather(path)
    listed = [
        {"ts": T0 + 0.5, "msg": "{}"},
        5,
        {"ts": "soon", "msg": "{}"},
        {"ts": T0 + 0.5, "msg": json.dumps(messages[0])},
    ]
    path.write_text(json.dumps(listed, indent=2))
    assert gather(path, strict=False)[0].findings.dropped == {"json": 1, "bad stamp": 1}


def test_connections_after_each_other_are_read_side_by_side(tmp_path):
    """Source: FEED-030."""
    rows = [
        {"t": "connect", "conn": "a", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/linear"},
        {"t": "recv", "conn": "a", "ts": T0 + 1.0, "data": json.dumps(trade("100.0", "1"))},
        {"t": "recv", "conn": "a", "ts": T0 + 3.0, "data": json.dumps(trade("102.0", "1"))},
        {"t": "connect", "conn": "b", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/spot"},
        {"t": "recv", "conn": "b", "ts": T0 + 2.0, "data": json.dumps(trade("101.0", "1"))},
    ]
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(json.dumps(row, separators=(",", ":")) for row in rows))
    feed, found = gather(path)
    names = [feed.instruments.rows[market].exchange for market in found["market"]]
    assert names == ["bybit", "bybit-spot", "bybit"]
    assert (np.diff(found["price"]) > 0).all()


def test_files_side_by_side_are_merged(tmp_path):
    """Source: FEED-030."""
    odd = write(tmp_path, [f"{T0 + at}.0: {json.dumps(trade(f'{at}.0', '1'))}" for at in (1, 3, 5)], "odd.ws")
    even = write(tmp_path, [f"{T0 + at}.0: {json.dumps(trade(f'{at}.0', '1'))}" for at in (2, 4, 6)], "even.ws")
    for paths in ([odd, even], [even, odd]):
        rows = gather(paths)[1]
        assert (np.diff(rows["price"]) > 0).all()
        assert len(rows) == 6


def test_archives_that_end_early(tmp_path):
    """Gzip and zstd, whole frames after each other, cut anywhere, damaged.

    Source: FEED-030.
    """
    zstandard = pytest.importorskip("zstandard")
    plain = write(tmp_path, [trade(f"{100 + at}.0", "1") for at in range(200)]).read_bytes()
    half = plain.index(b"\n", len(plain) // 2) + 1
    frames = zstandard.compress(plain[:half]) + zstandard.compress(plain[half:])
    path = tmp_path / "capture.zst"
    path.write_bytes(frames)
    assert len(gather(path)[1]) == 200
    for cut in (len(frames) - 1, len(frames) - 200):
        path.write_bytes(frames[:cut])
        with pytest.raises(DataError, match=r"capture\.zst:\d+: expected a .* (it ends early|is not complete)"):
            gather(path, strict=False)
    path.write_bytes(frames[:-200] + bytes(200))
    with pytest.raises(DataError, match=r"capture\.zst:\d+: expected a "):
        gather(path, strict=False)
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(plain)[:-20])
    with pytest.raises(DataError, match=r"capture\.gz:\d+: expected a "):
        gather(packed, strict=False)


def test_zstd_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "capture.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(MissingExtraError, match=r"pip install 'perp-engine\[captures\]'"):
        open_feed(path)


def test_a_capture_is_read_as_it_is_asked_for(tmp_path):
    """The first rows come before the file was read to its end, which a bad line would tell.

    Source: FEED-030.
    """
    path = write(tmp_path, [*(trade(f"{at}.0", "1") for at in range(1, 20_000)), "later: {}"])
    feed = open_feed(path)
    blocks = feed.records()
    assert 0 < len(next(blocks)) < 10_000
    with pytest.raises(DataError, match="field 'stamp'"):
        list(blocks)


# ---------------------------------------------------------------- Bybit


def book(kind, number, bids, asks, symbol="BTCUSDT", depth=50):
    data = {"s": symbol, "b": bids, "a": asks, "u": number, "seq": 1}
    return {"topic": f"orderbook.{depth}.{symbol}", "type": kind, "ts": T0 * 1000, "data": data}


def trade(price, size, side="Buy", symbol="BTCUSDT", **more):
    one = {"T": T0 * 1000, "s": symbol, "S": side, "v": size, "p": price, "i": "7", "BT": False} | more
    return {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": T0 * 1000, "data": [one]}


def ticker(symbol="BTCUSDT", **data):
    return {"topic": f"tickers.{symbol}", "type": "delta", "ts": T0 * 1000, "data": {"symbol": symbol} | data}


SNAPSHOT = book("snapshot", 10, [["100.0", "1"]], [["101.0", "2"]])


@pytest.mark.parametrize(
    ("messages", "gaps", "resets", "says"),
    [
        ([SNAPSHOT, book("delta", 11, [["99.0", "1"]], [])], 0, 0, ""),
        (
            [SNAPSHOT, book("delta", 12, [["99.0", "1"]], [])],
            1,
            0,
            "expected the update after 10, got the one after 11",
        ),
        ([SNAPSHOT, book("delta", 10, [["99.0", "1"]], [])], 1, 0, "expected the update after 10, got the one after 9"),
        ([book("delta", 12, [["99.0", "1"]], [])], 1, 0, "expected a snapshot before the first update"),
        ([SNAPSHOT, book("snapshot", 90, [["99.0", "1"]], [])], 0, 1, ""),
        ([SNAPSHOT, book("delta", 1, [["99.0", "1"]], [])], 0, 1, ""),
        ([SNAPSHOT, book("delta", 11, [["x", "1"]], []), book("delta", 12, [], [])], 0, 0, ""),
    ],
)
def test_updates_of_bybit_follow_each_other(tmp_path, messages, gaps, resets, says):
    """Source: FEED-032, FEED-033."""
    facts = inspect_tape(write(tmp_path, messages))
    assert (facts["gaps"], facts["resets"]) == (gaps, resets)
    if says:
        assert (
            f"capture.ws:{len(messages) + 1}: field 'u': BTCUSDT: {says}, updates were lost"
            in facts["faults"][0]["error"]
        )
        with pytest.raises(DataError, match=says):
            inspect_tape(write(tmp_path, messages), is_strict=True)


def test_a_snapshot_replaces_and_a_delta_changes(tmp_path):
    """Source: FEED-002, FEED-033."""
    messages = [
        SNAPSHOT,
        book("delta", 11, [["100.0", "0"], ["99.9", "3"]], []),
        book("snapshot", 50, [["98.0", "1"]], []),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert kinds(rows) == ["clear", "level", "level", "level", "level", "clear", "level"]
    assert rows["id"].tolist() == [10, 10, 10, 11, 11, 50, 50]
    assert [bool(flags & codes.ENDS_MESSAGE) for flags in rows["flags"]] == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    for _ in feed.chunks():
        pass
    assert feed.teller.known_levels(0).tolist() == [980]


FAULTS = [
    (book("delta", 11, [["100.05", "1"]], []), "bad price", "field 'price': expected a multiple of 0.1, got 100.05"),
    (book("delta", 11, [["-1.0", "1"]], []), "bad price", "field 'price': expected a number that is not negative"),
    (book("delta", 11, [["99.0", "0.0005"]], []), "bad size", "field 'size': expected a multiple of 0.001"),
    (trade("100.0", "1", side="Both"), "bad side", "field 'side': expected Buy or Sell"),
    (trade("100.0", "0"), "bad size", "field 'size': expected 0.001 to"),
    (trade("nan", "1"), "bad price", "field 'price':"),
    (trade("100.0", "1", T=-5), "bad T", "field 'T': expected milliseconds since 1970"),
    (ticker(markPrice="?"), "bad mark", "field 'mark':"),
    (ticker(fundingRate="3", markPrice="100.0"), "bad rate", "field 'rate': expected a rate within -1 to 1"),
    (ticker(nextFundingTime="soon"), "bad nextFundingTime", "field 'nextFundingTime': expected milliseconds"),
    (f"{T0 + 9}.5: {{not json", "json", "expected a message"),
    (f'{T0 + 9}.5: {{"topic": 5}}', "json", "expected a message"),
    (f"later: {json.dumps(SNAPSHOT)}", "bad stamp", "field 'stamp': expected a stamp, got 'later'"),
]


@pytest.mark.parametrize(("bad", "reason", "says"), FAULTS)
def test_what_cannot_be_read_is_left_out_with_its_place(tmp_path, bad, reason, says):
    """Source: FEED-032."""
    path = write(tmp_path, [SNAPSHOT, bad, trade("100.0", "1")])
    facts = inspect_tape(path, [make_market()])
    assert facts["dropped_by"] == {reason: 1}
    assert "capture.ws:3: " in facts["faults"][0]["error"]
    assert says in facts["faults"][0]["error"]
    assert facts["gaps"] == 0
    rows = gather(path, make_market(), strict=False)[1]
    assert kinds(rows) == ["clear", "level", "level", "trade"]
    with pytest.raises(DataError, match=r"capture\.ws:3: "):
        gather(path, make_market())


def test_one_bad_trade_takes_no_other_with_it(tmp_path):
    """Source: FEED-032."""
    message = trade("100.0", "1")
    message["data"] += trade("x", "1")["data"] + trade("102.0", "1")["data"]
    feed, rows = gather(write(tmp_path, [message]), strict=False)
    assert [int(price) * feed.instruments.rows[0].tick for price in rows["price"]] == [100, 102]
    assert feed.findings.dropped == {"bad price": 1}


def test_a_crossed_book_is_counted(tmp_path):
    """Source: FEED-002."""
    path = write(tmp_path, [SNAPSHOT, book("delta", 11, [["101.0", "1"]], [])])
    assert inspect_tape(path)["crossed"] == 1
    with pytest.raises(DataError, match="expected no crossed book"):
        inspect_tape(path, is_strict=True)


def test_a_stamp_that_falls_is_reported(tmp_path):
    path = write(tmp_path, [SNAPSHOT, f"{T0}.1: {json.dumps(trade('100.0', '1'))}"])
    facts = inspect_tape(path)
    assert facts["reversed_local"] == 1
    assert "capture.ws:3: field 'stamp'" in facts["faults"][0]["error"]
    rows = gather(path, strict=False)[1]
    assert (np.diff(rows["ts_ns"]) >= 0).all()
    with pytest.raises(DataError, match="field 'stamp'"):
        gather(path)


def test_other_symbols_are_not_asked_for(tmp_path):
    path = write(tmp_path, [SNAPSHOT, trade("1.5", "3", symbol="XRPUSDT"), book("snapshot", 1, [], [], "XRPUSDT")])
    feed, rows = gather(path, make_market())
    assert kinds(rows) == ["clear", "level", "level"]
    assert feed.findings.counts["unused"] == 2


def test_spot_beside_a_perpetual_is_no_market(tmp_path):
    """Whichever comes first; alone, it is one.

    Source: FEED-031.
    """
    perpetual = write(tmp_path, ["", trade("100.0", "1")], "a.ws")
    spot = write(tmp_path, [trade("50.0", "1")], "b.ws", "wss://stream.bybit.com/v5/public/spot")
    for paths in ([perpetual, spot], [spot, perpetual]):
        assert gather(paths, make_market())[1]["price"].tolist() == [1_000]
    assert gather(spot, make_market())[1]["price"].tolist() == [500]
    found = np.concatenate(
        list(open_feed([perpetual, spot], [make_market()], indexes={"BTCUSDT": "bybit-spot:BTCUSDT"}).chunks())
    )
    assert found["kind"].tolist() == [codes.INDEX, codes.PRINT]
    assert found["price_tick"].tolist() == [500, 1_000]


def test_trades_and_liquidations_have_their_sides(tmp_path):
    """A block trade is off the market; a liquidated long sells, in either form.

    Source: FEED-033.
    """
    every = {
        "topic": "allLiquidation.BTCUSDT",
        "ts": T0 * 1000,
        "data": [{"T": T0 * 1000, "S": "Sell", "v": "1", "p": "90.0"}],
    }
    one = {"topic": "liquidation.BTCUSDT", "ts": T0 * 1000}
    one["data"] = {"updatedTime": T0 * 1000, "symbol": "BTCUSDT", "side": "Buy", "size": "2", "price": "91.0"}
    rows = gather(
        write(tmp_path, [trade("100.0", "1", "Sell"), trade("100.0", "1", BT=True), every, one]), make_market()
    )[1]
    assert kinds(rows) == ["trade", "trade", "liquidation", "liquidation"]
    assert rows["side"].tolist() == [-1, 1, 1, -1]
    assert rows["flags"].tolist() == [0, codes.OFF_MARKET, 0, 0]
    assert rows["qty"].tolist() == [1_000, 1_000, 1_000, 2_000]


def test_tickers_tell_what_they_hold(tmp_path):
    """A rate alone, a due time alone, then one after the due time: it is paid, at the last rate before.

    Source: FEED-033, FEED-006.
    """
    due, after = (T0 + 3) * 1000, (T0 + 28_803) * 1000
    messages = [
        ticker(fundingRate="0.0001", nextFundingTime=str(due), markPrice="100.04", indexPrice="100.26"),
        ticker(fundingRate="0.0002"),
        ticker(bid1Price="100.0"),
        ticker(nextFundingTime=str(after), fundingRate="0.0005", openInterest="12.5", lastPrice="100.0"),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert kinds(rows) == ["funding", "index", "mark", "funding", "funding", "interest", "last"]
    funding = rows[rows["kind"] == codes.ROW_FUNDING]
    assert told(funding, "price", "qty") == [
        (100_000_000, due * 10**6),
        (200_000_000, 0),
        (500_000_000, after * 10**6),
    ]
    commands = np.concatenate(list(feed.chunks()))
    assert commands["kind"].tolist() == [codes.INDEX, codes.MARK, codes.FUNDING]
    assert commands["price_tick"].tolist()[:2] == [1_003, 1_000]
    assert commands["amount_quote"].tolist()[2] == 200_000


def test_a_due_time_alone_keeps_the_rate(tmp_path):
    """Source: FEED-033, FEED-006."""
    dues = [str((T0 + at) * 1000) for at in (2, 28_802)]
    messages = [ticker(fundingRate="0.0001", nextFundingTime=dues[0]), ticker(), ticker(nextFundingTime=dues[1])]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert told(rows, "price", "flags") == [(100_000_000, 0), (0, codes.NO_RATE)]
    (paid,) = np.concatenate(list(feed.chunks()))
    assert (paid["kind"], paid["amount_quote"]) == (codes.FUNDING, 100_000)


def test_one_depth_is_the_book(tmp_path):
    """The first met; depth 1 is quotes, sides that do not change are not told, ones that are gone have no price.

    Source: FEED-031.
    """
    messages = [
        SNAPSHOT,
        book("snapshot", 500, [["100.0", "9"]], [], depth=200),
        book("snapshot", 3, [["100.0", "1"]], [["101.0", "2"]], depth=1),
        book("delta", 4, [["100.0", "0"], ["99.0", "4"]], [], depth=1),
        book("delta", 5, [], [["101.0", "0"]], depth=1),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert feed.findings.counts["other_channels"] == 1
    quotes = rows[rows["kind"] == codes.ROW_QUOTE]
    assert told(quotes, "side", "price", "qty") == [(1, 1_000, 1_000), (-1, 1_010, 2_000), (1, 990, 4_000), (-1, 0, 0)]


# ---------------------------------------------------------------- OKX


def okx(channel, data, action="", symbol="BTC-USDT-SWAP"):
    found = {"arg": {"channel": channel, "instId": symbol}, "data": data}
    return found | ({"action": action} if action else {})


def sum_check(bids, asks):
    """Return OKX's checksum of a book given as {price text: size text}, by sorting decimals."""
    best_bids = sorted(bids.items(), key=lambda level: -Decimal(level[0]))[:25]
    best_asks = sorted(asks.items(), key=lambda level: Decimal(level[0]))[:25]
    words = [":".join(level) for pair in zip_longest(best_bids, best_asks) for level in pair if level]
    return int(np.uint32(zlib.crc32(":".join(words).encode())).astype(np.int32))


class Venue:
    """A venue that tells its book with checksums and numbers."""

    def __init__(self):
        self.sides = ({}, {})
        self.number = 0

    def tell(self, bids, asks, action="update", **more):
        if action == "snapshot":
            self.sides = ({}, {})
        for side, levels in zip(self.sides, (bids, asks), strict=True):
            for price, size in levels:
                if Decimal(size):
                    side[price] = size
                else:
                    side.pop(price, None)
        self.number += 1
        lists = {"bids": [[*level, "0", "1"] for level in bids], "asks": [[*level, "0", "1"] for level in asks]}
        numbers = {"seqId": self.number, "prevSeqId": -1 if action == "snapshot" else self.number - 1}
        data = lists | numbers | {"ts": str(T0 * 1000), "checksum": sum_check(*self.sides)} | more
        return okx("books", [data], action)


SIZES = st.sampled_from(["0", "1", "2.50", "0.3"])
UPDATES = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 60).map(lambda at: f"{at / 10:.1f}"), SIZES, max_size=8),
        st.dictionaries(st.integers(61, 120).map(lambda at: f"{at / 10:.1f}"), SIZES, max_size=8),
    ),
    min_size=1,
    max_size=12,
)


@given(UPDATES)
def test_checksums_are_those_of_the_venue(tmp_path_factory, updates):
    """Source: FEED-034."""
    venue = Venue()
    messages = [venue.tell([("3.0", "1")], [("9.0", "1.0")], "snapshot")]
    messages += [venue.tell(list(bids.items()), list(asks.items())) for bids, asks in updates]
    facts = inspect_tape(write(tmp_path_factory.mktemp("okx"), messages, address="wss://ws.okx.com:8443/ws/v5/public"))
    assert (facts["checksums"], facts["checksums_equal"], facts["gaps"]) == (len(messages), len(messages), 0)


def tell_three():
    venue = Venue()
    return [
        venue.tell([("100.0", "1")], [("101.0", "2")], "snapshot"),
        venue.tell([("99.0", "3")], []),
        venue.tell([], [("102.0", "4")]),
        venue.tell([("98.0", "5")], []),
        venue.tell([("100.0", "1")], [("101.0", "2")], "snapshot"),
        venue.tell([("97.0", "1")], []),
    ]


@pytest.mark.parametrize("is_numbered", [True, False])
def test_a_lost_update_of_okx_is_one_gap(tmp_path, is_numbered):
    """By its number or by its sum; the sums stay wrong until the next snapshot, for the one reason.

    Source: FEED-034.
    """
    messages = tell_three()
    del messages[1]
    if not is_numbered:
        for message in messages:
            del message["data"][0]["seqId"], message["data"][0]["prevSeqId"]
    path = write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public")
    facts = inspect_tape(path)
    assert (facts["gaps"], facts["resets"]) == (1, 1)
    assert (facts["checksums"], facts["checksums_equal"]) == (5, 3)
    field = "prevSeqId" if is_numbered else "checksum"
    assert f"capture.ws:3: field '{field}': BTC-USDT-SWAP: expected" in facts["faults"][0]["error"]
    with pytest.raises(DataError, match="updates were lost"):
        inspect_tape(path, is_strict=True)


def test_a_wrong_checksum_is_a_gap_each_time_it_goes_wrong(tmp_path):
    """Source: FEED-034."""
    messages = tell_three()
    for at in (1, 3):
        messages[at]["data"][0]["checksum"] += 1
    facts = inspect_tape(write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public"))
    assert (facts["gaps"], facts["checksums"], facts["checksums_equal"]) == (2, 6, 4)


def test_a_snapshot_that_is_wrong_itself_is_a_gap_of_its_own(tmp_path):
    """Source: FEED-034."""
    messages = tell_three()
    del messages[1]
    messages[3]["data"][0]["checksum"] += 1
    path = write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public")
    assert inspect_tape(path)["gaps"] == 2


def test_books5_are_whole_and_quotes_are_quotes(tmp_path):
    """Source: FEED-031, FEED-034."""
    levels = {"bids": [["100.0", "1", "0", "1"]], "asks": [], "ts": str(T0 * 1000)}
    messages = [okx("books5", [levels]), okx("books5", [levels]), okx("bbo-tbt", [levels])]
    feed, rows = gather(write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public"))
    assert kinds(rows) == ["clear", "level", "clear", "level", "quote"]
    assert feed.findings.counts["resets"] == feed.findings.counts["gaps"] == 0


def test_an_index_is_told_to_what_is_on_it(tmp_path):
    """To a swap that was met, to a market asked for before it is, not to spot, nor to another index's.

    Source: FEED-035.
    """
    index = [{"instId": "BTC-USDT", "idxPx": "100.2", "ts": str(T0 * 1000)}]
    mark = [{"instId": "BTC-USDT-SWAP", "instType": "SWAP", "markPx": "100.4", "ts": str(T0 * 1000)}]
    spot = [{"instId": "BTC-USDT", "last": "100.0", "ts": str(T0 * 1000)}]
    messages = [
        okx("index-tickers", index, symbol="BTC-USDT"),
        okx("mark-price", mark),
        okx("tickers", spot, symbol="BTC-USDT"),
    ]
    path = write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public")
    feed, rows = gather(path)
    assert kinds(rows) == ["index", "mark", "last"]
    assert [feed.instruments.rows[market].exchange for market in rows["market"]] == ["okex-swap", "okex-swap", "okex"]
    assert rows["ts_ns"][0] == rows["ts_ns"][1]  # it was kept until the swap was met
    rows = gather(path, make_market("BTC-USDT-SWAP"))[1]
    assert kinds(rows) == ["index", "mark"]
    assert rows["ts_ns"][0] < rows["ts_ns"][1]


@pytest.mark.parametrize(
    ("symbol", "exchange", "index"),
    [
        ("BTC-USDT", "okex", None),
        ("BTC-USDT-SWAP", "okex-swap", "BTC-USDT"),
        ("BTC-USD-220527", "okex-futures", "BTC-USD"),
        ("BTC-USD_UM_XPERP-310404", "okex-futures", "BTC-USD"),
        ("BTC-USDC-SWAP", "okex-swap", "BTC-USDC"),
        ("BTC-USD-220527-30000-C", "okex-options", None),
    ],
)
def test_okx_ids_say_what_they_are(symbol, exchange, index):
    """Source: FEED-035."""
    assert find_exchange(symbol) == exchange
    names = [name for name in ("BTC-USD", "BTC-USDT", "BTC-USDC") if is_on(symbol, name, T0 * S)]
    assert names == ([index] if index else [])
    assert is_on("BTC-USDC-SWAP", "BTC-USD", 1_600_000_000 * S)


def test_okx_funding_and_liquidations(tmp_path):
    """Source: FEED-034, FEED-035."""
    funding = {
        "instId": "BTC-USDT-SWAP",
        "fundingRate": "0.0003",
        "fundingTime": "1700006400000",
        "nextFundingRate": "",
    }
    order = {"side": "sell", "sz": "5", "bkPx": "99.0", "ts": str(T0 * 1000), "bkLoss": "0", "posSide": "long"}
    messages = [
        okx("funding-rate", [funding]),
        okx("open-interest", [{"instId": "BTC-USDT-SWAP", "oi": "77.5", "ts": str(T0 * 1000)}]),
        {
            "arg": {"channel": "liquidation-orders"},
            "data": [{"instId": "BTC-USDT-SWAP", "details": [order, order | {"sz": "x"}]}],
        },
        okx(
            "trades", [{"instId": "BTC-USDT-SWAP", "tradeId": "9", "px": "100.0", "sz": "1", "side": "buy", "ts": "1"}]
        ),
        okx(
            "trades-all",
            [{"instId": "BTC-USDT-SWAP", "tradeId": "9", "px": "100.0", "sz": "1", "side": "buy", "ts": "1"}],
        ),
        {"event": "subscribe", "arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"}},
        f"{T0 + 9}.5: pong",
    ]
    path = write(tmp_path, messages, address="wss://ws.okx.com:8443/ws/v5/public")
    feed, rows = gather(path, make_market("BTC-USDT-SWAP", lot_size=Decimal(1)), strict=False)
    assert kinds(rows) == ["funding", "interest", "liquidation", "trade"]
    assert told(rows, "side", "price", "qty") == [
        (0, 300_000_000, 1_700_006_400 * S),
        (0, 0, 77_500_000),
        (-1, 990, 5),
        (1, 1_000, 1),
    ]
    assert feed.findings.dropped == {"bad sz": 1}
    assert feed.findings.counts["other_channels"] == 1


# ---------------------------------------------------------------- Hyperliquid


def hyper(channel, data):
    return {"channel": channel, "data": data}


def hyper_trade(ms, price="100.0", number=1, coin="BTC", side="B"):
    return {"coin": coin, "side": side, "px": price, "sz": "1", "time": T0 * 1000 + ms, "hash": "0x", "tid": number}


def test_trades_from_before_a_subscription_are_not_told_again(tmp_path):
    """The first message of a coin, and whatever a new subscription repeats.

    Source: FEED-036.
    """
    messages = [
        hyper("trades", [hyper_trade(10), hyper_trade(20)]),
        hyper("trades", [hyper_trade(30, number=3), hyper_trade(30, number=4, side="A")]),
        hyper("trades", [hyper_trade(20), hyper_trade(30, number=4), hyper_trade(40, number=5)]),
    ]
    feed, rows = gather(write(tmp_path, messages))
    assert feed.findings.rows == {"hyperliquid earlier trades": 3, "hyperliquid trades": 4}
    assert rows["id"].tolist() == [3, 4, 4, 5]
    assert rows["side"].tolist() == [1, -1, 1, 1]


def test_every_book_of_hyperliquid_is_whole(tmp_path):
    """Source: FEED-036."""
    sides = [[{"px": "100.0", "sz": "1", "n": 1}], [{"px": "101.0", "sz": "1", "n": 1}]]
    empty = {"coin": "BTC", "time": T0 * 1000, "levels": [[], []]}
    whole = empty | {"levels": sides}
    feed, rows = gather(write(tmp_path, [hyper("l2Book", each) for each in (whole, whole, empty)]))
    assert kinds(rows) == ["clear", "level", "level"] * 2 + ["clear"]
    assert (feed.findings.counts["duplicate_books"], feed.findings.counts["resets"]) == (1, 0)
    assert rows["flags"][-1] == codes.IN_SNAPSHOT | codes.ENDS_MESSAGE
    bad = [hyper("l2Book", whole | {"levels": [sides[0], [{"px": "x", "sz": "1", "n": 1}]]})]
    assert inspect_tape(write(tmp_path, bad))["dropped_by"] == {"bad price": 1}


def test_contexts_are_funded_by_the_hour(tmp_path):
    """Source: FEED-037."""
    context = {"markPx": "100.2", "oraclePx": "100.4", "funding": "0.0000125", "openInterest": "7.5"}
    messages = [
        hyper("activeAssetCtx", {"coin": "BTC", "ctx": context}),
        hyper("bbo", {"coin": "BTC", "time": 1, "bbo": [None, None]}),
    ]
    rows = gather(write(tmp_path, messages))[1]
    assert kinds(rows) == ["funding", "interest", "index", "mark", "quote", "quote"]
    assert told(rows, "price", "qty")[:2] == [(12_500_000, (T0 // 3_600 + 1) * 3_600 * S), (0, 7_500_000)]
    assert told(rows, "side", "price", "qty")[4:] == [(1, 0, 0), (-1, 0, 0)]


def test_a_users_fill_tells_the_liquidation_it_is_of(tmp_path):
    """The order is the taker's: the user's own side, or the other one where he made the trade.

    Source: FEED-037.
    """
    found = {"liquidation": {"liquidatedUser": "0xa", "markPx": "100", "method": "market"}}
    fills = [node_fill("A", False, 1, **found), node_fill("A", True, 2, **found), node_fill("A", True, 3)]
    rows = gather(write(tmp_path, [hyper("userFills", {"user": "0xb", "fills": fills})]))[1]
    assert told(rows, "id", "side") == [(1, 1), (2, -1)]
    assert kinds(rows) == ["liquidation", "liquidation"]


def node_fill(side, crossed, number=1, **changes):
    fill = {"coin": "BTC", "px": "100.0", "sz": "2", "side": side, "time": T0 * 1000, "crossed": crossed, "tid": number}
    return fill | changes


def node_blocks(folder, *blocks):
    path = folder / "node_fills.jsonl"
    rows = [
        {"local_time": f"2023-11-14T22:13:{20 + at}.5", "block_time": "", "block_number": number, "events": events}
        for at, (number, events) in enumerate(blocks)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_node_fills_are_told_by_the_taker(tmp_path):
    """A trade; a liquidation in the book; one taken over by the vault; an ADL; half a trade; a block that is missing.

    Source: FEED-038.
    """
    market = {"liquidation": {"liquidatedUser": "0xb", "markPx": "100", "method": "market"}}
    vault = {"liquidation": {"liquidatedUser": "0xa", "markPx": "100", "method": "backstop"}}
    adl = {"dir": "Auto-Deleveraging"}
    path = node_blocks(
        tmp_path,
        (5, [["0xa", node_fill("B", False)], ["0xb", node_fill("A", True)]]),
        (6, [["0xa", node_fill("B", False, 2, **market)], ["0xb", node_fill("A", True, 2, **market)]]),
        (8, [["0xa", node_fill("B", False, 3, **vault)], ["0xb", node_fill("A", True, 3, **vault)]]),
        (9, [["0xa", node_fill("A", False, 4, **adl)], ["0xb", node_fill("B", True, 4, **adl)]]),
        (10, [["0xa", node_fill("A", False, 5)], ["0xa", node_fill("A", True, 6)], ["0xb", node_fill("B", True, 6)]]),
    )
    feed, rows = gather(path, strict=False)
    assert kinds(rows) == ["trade", "trade", "liquidation", "trade", "liquidation", "trade"]
    assert rows["side"].tolist() == [-1, -1, -1, -1, 1, 1]
    off = codes.OFF_MARKET
    assert rows["flags"].tolist() == [0, 0, 0, off, 0, off]
    assert feed.findings.dropped == {"unpaired": 2}
    assert feed.findings.counts["gaps"] == 1
    assert "node_fills.jsonl:3: field 'block_number': expected block 7, got 8" in str(feed.findings.faults[0].error)
    assert (rows["ts_ns"][0], rows["exchange_ns"][0]) == (T0 * S + S // 2, T0 * S)


# ---------------------------------------------------------------- Lighter


def lighter_book(kind, offset, bids, asks, **numbers):
    levels = [[{"price": price, "size": size} for price, size in side] for side in (bids, asks)]
    body = {"code": 0, "bids": levels[0], "asks": levels[1], "offset": offset} | numbers
    return {
        "channel": "order_book:1",
        "type": f"{kind}/order_book",
        "timestamp": T0 * 1000,
        "offset": offset,
        "order_book": body,
    }


def lighter_trade(number, price="100.0", kind="trade", is_maker_ask=True, before=("0", "0")):
    return {
        "trade_id": number,
        "type": kind,
        "size": "2",
        "price": price,
        "ask_account_id": 7,
        "bid_account_id": 8,
        "is_maker_ask": is_maker_ask,
        "timestamp": T0 * 1000,
        "taker_position_size_before": before[0],
        "maker_position_size_before": before[1],
    }


def lighter_trades(trades, liquidations=None, kind="update"):
    return {
        "channel": "trade:1",
        "type": f"{kind}/trade",
        "nonce": 1,
        "trades": trades,
        "liquidation_trades": liquidations,
    }


@pytest.mark.parametrize(
    ("updates", "gaps", "says"),
    [
        ([lighter_book("update", 11, [("99.0", "1")], [])], 0, ""),
        (
            [lighter_book("update", 13, [("99.0", "1")], [])],
            1,
            "field 'offset': 1: expected the update after 10, got the one after 12",
        ),
        ([lighter_book("update", 15, [], [], begin_nonce=500, nonce=501)], 0, ""),
        (
            [lighter_book("update", 11, [], [], begin_nonce=499, nonce=501)],
            1,
            "field 'begin_nonce': 1: expected the update after 500",
        ),
    ],
)
def test_updates_of_lighter_follow_each_other(tmp_path, updates, gaps, says):
    """Source: FEED-039."""
    first = lighter_book("subscribed", 10, [("100.0", "1")], [("101.0", "1")], nonce=500)
    path = write(tmp_path, [first, *updates])
    facts = inspect_tape(path)
    assert (facts["gaps"], facts["resets"]) == (gaps, 0)
    assert not says or says in facts["faults"][0]["error"]
    assert inspect_tape(write(tmp_path, [first, *updates, first]))["resets"] == 1
    assert inspect_tape(write(tmp_path, updates))["gaps"] == 1


def test_lighter_trades_come_by_their_number(tmp_path):
    """Newest first as told, oldest first as read; earlier ones only as liquidations; deleveraging is off the market.

    Source: FEED-040.
    """
    messages = [
        lighter_trades([lighter_trade(2)], [lighter_trade(1, kind="liquidation", is_maker_ask=False)], "subscribed"),
        lighter_trades([lighter_trade(6, kind="deleverage"), lighter_trade(4)], [lighter_trade(5, kind="liquidation")]),
        {"channel": "market_stats:1", "type": "update/market_stats", "market_stats": {"market_id": 1, "symbol": "BTC"}},
    ]
    feed, rows = gather(write(tmp_path, messages))
    assert feed.instruments.rows[0].symbol == "BTC"  # though its name came last
    assert kinds(rows) == ["liquidation", "trade", "trade", "liquidation", "trade"]
    assert rows["id"].tolist() == [1, 4, 5, 5, 6]
    assert rows["side"].tolist() == [-1, 1, 1, 1, 1]
    assert rows["flags"].tolist() == [0, 0, 0, 0, codes.OFF_MARKET]


def test_lighter_rates_are_percent_an_hour(tmp_path):
    """Source: FEED-041."""
    stats = {
        "market_id": 1,
        "symbol": "BTC",
        "current_funding_rate": "0.0012",
        "funding_timestamp": T0 // 3_600 * 3_600_000 + 2,
    }
    message = {"channel": "market_stats:1", "type": "update/market_stats", "market_stats": stats}
    every = {"channel": "market_stats:all", "type": "update/market_stats", "market_stats": {"1": stats}}
    for told_by in (message, every):
        rows = gather(write(tmp_path, [told_by]))[1]
        assert told(rows, "price", "qty") == [(12_000_000, (T0 // 3_600 + 1) * 3_600 * S)]


def test_a_position_that_does_not_chain_is_found(tmp_path):
    """The buyer takes 2 from the seller twice; then the buyer is said to hold 5, not 4.

    Source: FEED-040.
    """
    trades = [lighter_trade(1), lighter_trade(2, before=("2", "-2")), lighter_trade(3, before=("5", "-4"))]
    check = check_lighter_trades(write(tmp_path, [lighter_trades([each]) for each in trades]))
    assert check == (3, 0, 2, 4, 1)
    with pytest.raises(DataError, match=r"capture\.ws:2: expected a message of trades"):
        check_lighter_trades(write(tmp_path, [lighter_trades([lighter_trade(1, before=("many", "0"))])]))


# ---------------------------------------------------------------- whatever it is


@given(st.lists(st.sampled_from([SNAPSHOT, *(bad for bad, _, _ in FAULTS)]), max_size=6))
def test_faults_are_counted_one_by_one(tmp_path_factory, messages):
    """Whatever faults follow each other, each is dropped once and nothing of it is told.

    Source: FEED-032.
    """
    path = write(tmp_path_factory.mktemp("bybit"), [SNAPSHOT, *messages])
    facts = inspect_tape(path, [make_market()])
    assert facts["dropped"] == sum(message is not SNAPSHOT for message in messages)
    rows = gather(path, make_market(), strict=False)[1]
    assert set(kinds(rows)) == {"clear", "level"}
    assert len(rows) == 3 * (1 + sum(message is SNAPSHOT for message in messages))
