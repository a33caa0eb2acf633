"""OKX's websocket as recorders keep it: numbers, checksums, indexes, funding."""

import zlib
from decimal import Decimal
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataError
from engine.feeds.inspect import inspect_tape
from engine.feeds.okx import find_exchange, is_on
from tests.unit.test_feeds_captures import T0, S, gather, kinds, make_market, told, write


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
