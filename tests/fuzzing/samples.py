"""Small hand-made files of everything the engine reads: what fuzzing starts from where no recording is at hand."""

import gzip
import io
import json
import zipfile
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine import codes
from engine.contract import Market, Tier
from engine.layout import COMMAND

MS, S = 1_700_000_000_000, 1_700_000_000
NS = S * 10**9
TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
MARKET = Market(
    symbol="BTCUSDT",
    settle="USDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    price_max=Decimal(250_000),
    tiers=TIERS,
)


class Sample(NamedTuple):
    """One file: its name, which some formats go by, and its bytes."""

    name: str
    data: bytes


def _lines(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _dump(*messages: object) -> list[str]:
    return [json.dumps(message, separators=(",", ":")) for message in messages]


def _capture(address: str, *messages: object) -> bytes:
    texts = [f"{S + at}.5: {text}" for at, text in enumerate(_dump(*messages), 1)]
    return _lines(f"{address} <-> {S}", *texts)


# ---------------------------------------------------------------- delimited text


def tardis() -> list[Sample]:
    """Every type of Tardis CSV."""
    head = "exchange,symbol,timestamp,local_timestamp"
    row = f"binance-futures,BTCUSDT,{MS}000,{MS}100"
    later = f"binance-futures,BTCUSDT,{MS}200,{MS}300"
    ladder = ",".join(
        f"{side}[{at}].{what}" for at in (0, 1) for side in ("asks", "bids") for what in ("price", "amount")
    )
    ticker = "funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,mark_price"
    texts = {
        "trades": (f"{head},id,side,price,amount", f"{row},7,buy,100.5,0.010", f"{later},8,sell,100.4,2"),
        "liquidations": (f"{head},id,side,price,amount", f"{row},,buy,100.5,0.010", f"{later},,sell,100.4,2"),
        "quotes": (f"{head},ask_amount,ask_price,bid_price,bid_amount", f"{row},1,100.6,100.5,2", f"{later},,,100.5,3"),
        "incremental_book_L2": (
            f"{head},is_snapshot,side,price,amount",
            *(f"{row},true,{side},{price},1.5" for side, price in (("bid", "100.5"), ("ask", "100.6"), ("bid", "99"))),
            f"{later},false,ask,100.6,0",
            f"{later},false,bid,100.6,0.001",
        ),
        "book_snapshot_2": (f"{head},{ladder}", f"{row},100.6,1,100.5,2,100.7,1,100.4,2", f"{later},101,1,100,2,,,,"),
        "derivative_ticker": (
            f"{head},{ticker}",
            f"{row},{MS + 60_000}000,0.0001,,1000.5,100.5,100.53,100.51",
            f"{later},{MS + 60_000}000,-0.0002,0.0003,,,100.4,100.6",
        ),
    }
    return [Sample(f"binance-futures_{kind}_2023-11-14_BTCUSDT.csv", _lines(*text)) for kind, text in texts.items()]


def binance_dumps() -> list[Sample]:
    """Files of Binance's archive."""
    texts = {
        "BTCUSDT-trades-2023-11-14": (
            "id,price,qty,quote_qty,time,is_buyer_maker",
            f"7,100.5,1,100.5,{MS},true",
            f"8,100.4,0.5,50.2,{MS + 1},false",
        ),
        "BTCUSDT-aggTrades-2023-11-14": (f"7,100.5,1,70,71,{MS},true", f"8,100.4,0.5,72,72,{MS + 1},false"),
        "BTCUSDT-liquidationSnapshot-2023-11-14": (
            "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
            "accumulated_fill_quantity",
            f"{MS},SELL,LIMIT,IOC,1.5,100.1,100.2,FILLED,1.5,1.5",
            f"{MS + 5},BUY,LIMIT,IOC,0.5,100.1,100.2,FILLED,0.5,0.5",
        ),
        "BTCUSDT-bookTicker-2023-11-14": (
            "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
            f"5,100.5,1,100.6,2,{MS},{MS + 1}",
            f"6,100.4,1,100.6,0.001,{MS + 2},{MS + 3}",
        ),
        "BTCUSDT-bookDepth-2023-11-14": (
            "timestamp,percentage,depth,notional",
            "2023-11-14 22:13:20,-5,100.5,1000.5",
            "2023-11-14 22:13:50,5,100.5,1000.5",
        ),
        "BTCUSDT-metrics-2023-11-14": (
            "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
            "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio",
            "2023-11-14 22:15:00,BTCUSDT,1000.5,100000.5,1,1,1,1",
            "2023-11-14 22:20:00,BTCUSDT,1001.5,100000.5,1,1,1,1",
        ),
    }
    return [Sample(f"{name}.csv", _lines(*text)) for name, text in texts.items()]


def binance_flat() -> list[Sample]:
    """Flat recordings, one stream and merged."""
    trade = (
        "TimestampOfReceive,Stream,EventType,EventTime,TransactionTime,Symbol,TradeId,Price,Quantity,"
        "IsBuyerMarketMaker,XUnknownParameter",
        *(
            f"{MS + at},btcusdt@trade,trade,{MS + at},{MS + at},BTCUSDT,{at},100.5,1,{at % 2},MARKET"
            for at in (1, 2, 3)
        ),
    )
    level = "btcusdt@depth@100ms,depthUpdate"
    depth = (
        "TimestampOfReceive,Stream,EventType,EventTime,TransactionTime,Symbol,FirstUpdateId,FinalUpdateId,"
        "FinalUpdateIdInLastStream,IsAsk,Price,Quantity",
        f"{MS},{level},{MS},{MS},BTCUSDT,10,12,9,0,100.5,5",
        f"{MS},{level},{MS},{MS},BTCUSDT,10,12,9,1,100.6,5",
        f"{MS + 9},{level},{MS + 9},{MS + 9},BTCUSDT,13,14,12,1,100.6,0",
    )
    name = "stream_usd_m_futures_btcusdt_14-11-2023.csv"
    return [Sample(f"trade_{name}", _lines(*trade)), Sample(f"depth_{name}", _lines(*depth))]


def bitstamp() -> list[Sample]:
    """Orders and trades."""
    orders = (
        "id,timestamp,exchange_timestamp,price,volume,action,direction",
        f"1,{MS},{MS - 5},100,1.5,created,bid",
        f"2,{MS + 1},{MS - 4},101,1,created,ask",
        f"1,{MS + 2},{MS - 3},100,0.5,changed,bid",
        f"3,{MS + 3},{MS - 2},102,0.5,created,bid",
        f"2,{MS + 4},{MS - 1},101,0.5,deleted,ask",
    )
    trades = (
        "trade_id,timestamp,exchange_timestamp,price,amount,buy_order_id,sell_order_id,side",
        f"5,{MS + 2},{MS - 3},100,1,1,9,sell",
        f"6,{MS + 4},{MS - 1},101,0.5,3,2,buy",
    )
    return [Sample("btcusd_orders.csv", _lines(*orders)), Sample("btcusd_trades.csv", _lines(*trades))]


def lobster() -> list[Sample]:
    """Messages of NASDAQ."""
    rows = (
        "34200.004241176,1,16113575,18,5853300,1",
        "34200.025551909,1,16113584,18,5853400,1",
        "34200.1,4,16113584,10,5853400,1",
        "34200.2,5,0,7,5853700,-1",
        "34200.3,2,16113575,3,5853300,1",
        "34200.4,4,111,40,5859400,-1",
        "34200.5,3,16113584,8,5853400,1",
        "34201,7,0,0,-1,-1",
        "34300,6,-1,500,5855000,-1",
    )
    return [Sample("AAPL_2012-06-21_34200000_57600000_message_2.csv", _lines(*rows))]


# ---------------------------------------------------------------- messages


def luno() -> list[Sample]:
    """A snapshot and what follows."""
    resting = {"id": "A1", "price": "100.00", "volume": "1.0"}
    messages = _dump(
        {"sequence": "5", "asks": [{"id": "B1", "price": "101.00", "volume": "2"}], "bids": [resting], "timestamp": MS},
        {
            "sequence": "6",
            "trade_updates": [{"base": "0.5", "counter": "50.00", "maker_order_id": "A1"}],
            "create_update": {"order_id": "A2", "type": "BID", "price": "99.00", "volume": "1"},
            "delete_update": None,
            "status_update": None,
            "timestamp": MS + 1,
        },
        {
            "sequence": "7",
            "trade_updates": None,
            "create_update": None,
            "delete_update": {"order_id": "B1"},
            "status_update": {"status": "ACTIVE"},
            "timestamp": MS + 2,
        },
    )
    return [Sample("luno-XBTZAR.txt", _lines(*messages))]


def binance() -> list[Sample]:
    """Raw messages of USD-M, and a fetched snapshot."""
    depth = {"e": "depthUpdate", "E": MS + 5, "T": MS + 4, "s": "BTCUSDT", "U": 11, "u": 12, "pu": 10}
    messages = _dump(
        {"lastUpdateId": 10, "E": MS, "T": MS, "bids": [["100.5", "1"], ["100.4", "2"]], "asks": [["100.6", "1"]]},
        {"stream": "btcusdt@depth", "data": {**depth, "b": [["100.5", "0"]], "a": [["100.6", "3.5"]]}},
        {
            "e": "trade",
            "E": MS + 6,
            "T": MS + 6,
            "s": "BTCUSDT",
            "t": 7,
            "p": "100.6",
            "q": "1",
            "X": "MARKET",
            "m": True,
        },
        {
            "e": "bookTicker",
            "u": 13,
            "s": "BTCUSDT",
            "b": "100.4",
            "B": "2",
            "a": "100.6",
            "A": "3.5",
            "T": MS + 7,
            "E": MS + 7,
        },
        {
            "e": "markPriceUpdate",
            "E": MS + 8,
            "s": "BTCUSDT",
            "p": "100.55",
            "i": "100.5",
            "r": "0.0001",
            "T": MS + 9_000,
        },
        {
            "e": "forceOrder",
            "E": MS + 9,
            "o": {"s": "BTCUSDT", "S": "SELL", "p": "100.1", "z": "0.5", "q": "0.5", "T": MS + 9},
        },
    )
    stamped = [f"{NS + at * 1_000_000} {text}" for at, text in enumerate(messages)]
    return [Sample("btcusdt.dat", _lines(*stamped)), Sample("bare.jsonl", _lines(*messages[1:]))]


def bybit() -> list[Sample]:
    """The same capture as text and as a list."""
    book = {"s": "BTCUSDT", "b": [["100.0", "1"]], "a": [["100.2", "2"]], "u": 5, "seq": 9}
    messages: tuple[dict[str, Any], ...] = (
        {"topic": "orderbook.50.BTCUSDT", "type": "snapshot", "ts": MS, "data": book},
        {"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": MS, "data": {**book, "u": 6, "b": [["100.0", "0"]]}},
        {
            "topic": "publicTrade.BTCUSDT",
            "ts": MS,
            "data": [{"T": MS, "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "100.2"}],
        },
        {
            "topic": "tickers.BTCUSDT",
            "ts": MS,
            "data": {"markPrice": "100.1", "indexPrice": "100.15", "fundingRate": "0.0001", "nextFundingTime": str(MS)},
        },
        {
            "topic": "liquidation.BTCUSDT",
            "ts": MS,
            "data": {"updatedTime": MS, "symbol": "BTCUSDT", "side": "Buy", "size": "0.003", "price": "99"},
        },
    )
    address = "wss://stream.bybit.com/v5/public/linear"
    listed = json.dumps([{"ts": S + at + 0.5, "msg": json.dumps(message)} for at, message in enumerate(messages)])
    connected = {"t": "connect", "conn": "c", "ts": S, "addr": address}
    received = [
        {"t": "recv", "conn": "c", "ts": S + at + 0.5, "data": json.dumps(message)}
        for at, message in enumerate(messages)
    ]
    return [
        Sample("BYBIT.ws", _capture(address, *messages)),
        Sample("bybit.json", listed.encode()),
        Sample("BYBIT.jsonl", _lines(*_dump(connected, *received))),
    ]


def okx() -> list[Sample]:
    """A book with checksums, and the tickers."""
    arg = {"channel": "books", "instId": "BTC-USDT-SWAP"}
    book = {
        "asks": [["100.2", "2", "0", "1"]],
        "bids": [["100.0", "1", "0", "1"]],
        "ts": str(MS),
        "checksum": -1527812691,
    }
    messages = [
        {"event": "subscribe", "arg": arg},
        {"arg": arg, "action": "snapshot", "data": [{**book, "seqId": 5, "prevSeqId": -1}]},
        {"arg": arg, "action": "update", "data": [{**book, "asks": [["100.2", "0"]], "seqId": 6, "prevSeqId": 5}]},
        {
            "arg": {**arg, "channel": "trades"},
            "data": [{"instId": arg["instId"], "tradeId": "7", "px": "100.2", "sz": "1", "side": "buy", "ts": str(MS)}],
        },
        {
            "arg": {**arg, "channel": "mark-price"},
            "data": [{"instId": arg["instId"], "markPx": "100.1", "ts": str(MS)}],
        },
        {
            "arg": {**arg, "channel": "funding-rate"},
            "data": [{"instId": arg["instId"], "fundingRate": "0.0001", "fundingTime": str(MS + 9_000)}],
        },
        {
            "arg": {"channel": "index-tickers", "instId": "BTC-USDT"},
            "data": [{"instId": "BTC-USDT", "idxPx": "100.3", "ts": str(MS)}],
        },
    ]
    return [Sample("OKX.ws", _capture("wss://ws.okx.com:8443/ws/v5/public", *messages))]


def hyperliquid() -> list[Sample]:
    """A book, trades, best prices, a context and a user's fill."""
    trade = {"coin": "BTC", "side": "B", "px": "100.5", "sz": "0.5", "time": MS, "tid": 7}
    fill = {**trade, "crossed": True, "dir": "Close Long", "liquidation": {"liquidatedUser": "0x1", "method": "market"}}
    levels = [[{"px": "100.0", "sz": "1", "n": 1}], [{"px": "101.0", "sz": "2", "n": 1}]]
    messages = _dump(
        {"channel": "l2Book", "data": {"coin": "BTC", "time": MS, "levels": levels}},
        {"channel": "trades", "data": [trade]},
        {"channel": "trades", "data": [{**trade, "time": MS + 1, "tid": 8}]},
        {"channel": "bbo", "data": {"coin": "BTC", "time": MS + 2, "bbo": [{"px": "100", "sz": "1"}, None]}},
        {
            "channel": "activeAssetCtx",
            "data": {
                "coin": "BTC",
                "ctx": {"markPx": "100.2", "oraclePx": "100.1", "funding": "0.00001", "openInterest": "5"},
            },
        },
        {"channel": "userFills", "data": {"fills": [fill]}},
    )
    return [Sample("hl.gz.txt", _lines(*(f"{NS + at} {text}" for at, text in enumerate(messages))))]


def hyperliquid_node_fills() -> list[Sample]:
    """Two blocks of fills."""
    fill = {
        "coin": "BTC",
        "px": "100.5",
        "sz": "0.5",
        "side": "B",
        "time": MS,
        "tid": 7,
        "crossed": True,
        "dir": "Open",
    }
    found = {"liquidatedUser": "0xb", "method": "market"}
    other = {**fill, "side": "A", "crossed": False, "liquidation": found}
    blocks = _dump(
        *(
            {
                "local_time": f"2023-11-14T22:13:2{at}.063787823",
                "block_number": 5 + at,
                "events": [["0xa", {**fill, "tid": at}], ["0xb", {**other, "tid": at}]],
            }
            for at in (0, 1)
        )
    )
    return [Sample("fills.jsonl", _lines(*blocks))]


def lighter() -> list[Sample]:
    """A book, trades and statistics."""
    trade = {
        "trade_id": 7,
        "type": "trade",
        "size": "0.5",
        "price": "100.1",
        "ask_account_id": 1,
        "bid_account_id": 2,
        "is_maker_ask": True,
        "timestamp": MS,
        "taker_position_size_before": "0",
        "maker_position_size_before": "1",
    }
    side = {"asks": [{"price": "100.2", "size": "1"}], "bids": [{"price": "100.0", "size": "1"}]}
    stats = {
        "market_id": 1,
        "symbol": "BTC",
        "index_price": "100.1",
        "mark_price": "100.2",
        "open_interest": "5",
        "last_trade_price": "100",
        "current_funding_rate": "0.0012",
        "funding_timestamp": MS,
    }
    messages = _dump(
        {
            "channel": "order_book:1",
            "type": "subscribed/order_book",
            "timestamp": MS,
            "order_book": {**side, "offset": 1},
        },
        {
            "channel": "order_book:1",
            "type": "update/order_book",
            "timestamp": MS + 1,
            "order_book": {**side, "offset": 2},
        },
        {
            "channel": "trade:1",
            "type": "update/trade",
            "trades": [trade],
            "liquidation_trades": [{**trade, "trade_id": 8}],
        },
        {"channel": "market_stats:1", "type": "update/market_stats", "timestamp": MS + 2, "market_stats": stats},
        {"channel": "ticker:1", "timestamp": MS + 3, "ticker": {"a": {"price": "100.2", "size": "1"}, "b": {}}},
    )
    listed = [{"ts": S + at + 0.5, "msg": text} for at, text in enumerate(messages)]
    return [Sample("lighter.json", json.dumps(listed, indent=1).encode())]


# ---------------------------------------------------------------- arrays, records, columns


def build_commands() -> np.ndarray[Any, Any]:
    """Return a level, a print, a mark and funding."""
    rows = np.zeros(4, COMMAND)
    rows["kind"] = (codes.LEVEL, codes.PRINT, codes.MARK, codes.FUNDING)
    rows["ts_ns"] = NS + np.arange(4)
    rows["side"] = (1, -1, 0, 0)
    rows["price_tick"], rows["qty_lot"] = (1_000, 1_001, 1_002, 100), (5, 3, 0, 0)
    return rows


def build_trading() -> np.ndarray[Any, Any]:
    """Return two accounts who trade with each other, a fall of the mark, and the liquidation that follows."""
    told: tuple[dict[str, int], ...] = (
        {"kind": codes.DEPOSIT, "account": 1, "amount_quote": 2_000_000},
        {"kind": codes.DEPOSIT, "account": 2, "amount_quote": 500_000_000},
        {"kind": codes.FUND_DEPOSIT, "amount_quote": 100_000},
        {"kind": codes.MARK, "price_tick": 1_000},
        {"kind": codes.PLACE, "account": 2, "order_id": 1, "side": -1, "price_tick": 1_000, "qty_lot": 500},
        {"kind": codes.PLACE, "account": 1, "order_id": 2, "side": 1, "price_tick": 1_000, "qty_lot": 100},
        {"kind": codes.LEVEL, "side": 1, "price_tick": 900, "qty_lot": 10},
        {"kind": codes.MARK, "price_tick": 850},
    )
    rows = np.zeros(len(told), COMMAND)
    for at, fields in enumerate(told):
        rows[at]["ts_ns"] = NS + 100 + at
        for name, value in fields.items():
            rows[at][name] = value
    return rows


def pack_array(array: np.ndarray[Any, Any]) -> bytes:
    """Return an array as the bytes of an .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def pack_archive(**members: bytes) -> bytes:
    """Return an .npz of members that are .npy files already, stored as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)
    return stream.getvalue()


def build_meta() -> bytes:
    """Return what a tape of commands says of itself."""
    text = json.dumps({"format": 1, "markets": msgspec.to_builtins([MARKET])})
    return pack_array(np.frombuffer(text.encode(), np.uint8))


def commands() -> list[Sample]:
    """A tape of commands."""
    return [Sample("tape.npz", pack_archive(commands=pack_array(build_commands()), meta=build_meta()))]


def hftbacktest() -> list[Sample]:
    """Events: a clear, a snapshot, a trade, best prices, a change."""
    from engine.feeds.hftbacktest import BEST, BUY, CLEAR, DEPTH, EVENT, LOCAL_SIDE, SELL, SNAPSHOT, TRADE

    told = ((CLEAR, BUY, 0.0), (SNAPSHOT, BUY, 100.0), (SNAPSHOT, SELL, 100.1), (TRADE, BUY, 100.1), (BEST, BUY, 100.0))
    rows = np.zeros(7, EVENT)
    for at, (kind, side, price) in enumerate((*told, (DEPTH, SELL, 100.2), (CLEAR, SELL, 100.1))):
        rows[at] = (kind | side | LOCAL_SIDE, NS + at, NS + at + 5, price, 1.5, at, 0, 0.0)
    return [Sample("btcusdt_20231114.npz", pack_archive(data=pack_array(rows)))]


def databento() -> list[Sample]:
    """Orders; nothing where the library is not installed."""
    try:
        import databento_dbn as dbn
    except ImportError:
        return []
    metadata = dbn.Metadata(
        dataset="XEUR.EOBI",
        start=0,
        stype_out=dbn.SType.INSTRUMENT_ID,
        stype_in=dbn.SType.RAW_SYMBOL,
        schema=dbn.Schema.from_str("mbo"),
        symbols=["X"],
        partial=[],
        not_found=[],
        mappings=[],
        ts_out=False,
        version=3,
    )
    told = (("R", "N", 0, 0), ("A", "A", 1, 5), ("A", "B", 2, 5), ("F", "A", 1, 5), ("C", "A", 1, 5), ("M", "B", 2, 4))
    records = [
        dbn.MBOMsg(
            publisher_id=1,
            instrument_id=7,
            ts_event=NS + at,
            order_id=number,
            price=(101 if side == "A" else 100) * 10**9,
            size=size,
            action=dbn.Action(action),
            side=dbn.Side(side),
            ts_recv=NS + at + 5,
            flags=128,
            channel_id=0,
            ts_in_delta=0,
            sequence=at,
        )
        for at, (action, side, number, size) in enumerate(told)
    ]
    return [Sample("x.mbo.dbn", bytes(metadata.encode()) + b"".join(map(bytes, records)))]


@cache
def _convert(kind: str) -> tuple[Sample, ...]:
    from engine.feeds.convert import convert_tape

    with TemporaryDirectory() as text:
        folder = Path(text)
        for sample in tardis():
            if "book_snapshot" not in sample.name:  # one book of the two
                (folder / sample.name).write_bytes(sample.data)
        convert_tape(folder, folder / "out", kind)
        return tuple(Sample(path.name, path.read_bytes()) for path in sorted((folder / "out").iterdir()))


def parquet() -> list[Sample]:
    """The tardis samples converted; nothing where polars is not installed."""
    try:
        import polars  # noqa: F401
    except ImportError:
        return []
    return [sample for sample in _convert("parquet") if sample.name.endswith(".parquet")]


def packed() -> list[Sample]:
    """One recording in every packing there is."""
    sample = binance_dumps()[0]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(sample.name), sample.data, zipfile.ZIP_DEFLATED)
    found = [
        Sample(f"{sample.name}.gz", gzip.compress(sample.data, mtime=0)),
        Sample(sample.name.replace(".csv", ".zip"), stream.getvalue()),
    ]
    try:
        import zstandard
    except ImportError:
        return found
    one = tardis()[0]
    return [*found, Sample(f"{one.name}.zst", zstandard.compress(one.data) * 2)]


RECORDINGS = {
    "parquet": parquet,
    "commands": commands,
    "hftbacktest": hftbacktest,
    "databento": databento,
    "bitstamp": bitstamp,
    "luno": luno,
    "lobster": lobster,
    "tardis": tardis,
    "binance-vision": binance_dumps,
    "binance-flat": binance_flat,
    "hyperliquid-node-fills": hyperliquid_node_fills,
    "hyperliquid": hyperliquid,
    "lighter": lighter,
    "bybit": bybit,
    "okx": okx,
    "binance": binance,
}
