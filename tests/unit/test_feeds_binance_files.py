"""Binance as files: the public archive, and flat CSV with what can be wrong in it."""

import csv
import gzip
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.errors import DataError
from engine.feeds import find_first_marks, open_feed
from engine.feeds.inspect import inspect_tape
from tests.unit.test_feeds_binance import make_market

DAY_MS = 1_722_470_400_000  # 2024-08-01
MS = 1_000_000
TRADES = "id,price,qty,quote_qty,time,is_buyer_maker"
CANDLES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
FORCED = (
    "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
    "accumulated_fill_quantity"
)
METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)


def put(folder, name, *lines):
    """Write a file of the archive; a zip holds a CSV of the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    text = "\n".join(lines) + "\n"
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name.replace(".zip", ".csv"), text)
    else:
        path.write_text(text)
    return path


def read(path, **options):
    tape = open_feed(path, [make_market()], **options)
    return tape, np.concatenate(list(tape.records()))


# ---------------------------------------------------------------- the archive


@pytest.mark.parametrize("ending", ["zip", "csv"])
@pytest.mark.parametrize("header", [TRADES, "", "id,price,qty,base_qty,time,is_buyer_maker"])
def test_archived_trades(tmp_path, ending, header):
    """FEED-025: with a header or without, in zip or not."""
    rows = [f"7,100.0,0.5,50,{DAY_MS + 3},true", f"8,100.1,0.001,0,{DAY_MS + 4},false"]
    path = put(tmp_path, f"BTCUSDT-trades-2024-08-01.{ending}", *([header] if header else []), *rows)
    tape, got = read(path)
    assert tape.files[0].exchange == "binance-futures"
    assert got[["ts_ns", "id", "side", "price", "qty"]].tolist() == [
        ((DAY_MS + 3) * MS, 7, -1, 1_000, 500),
        ((DAY_MS + 4) * MS, 8, 1, 1_001, 1),
    ]
    assert tape.findings.rows == {"trades": 2}


def test_archived_spot_counts_in_microseconds_since_2025(tmp_path):
    stamp = 1_735_689_600_000_123
    path = put(tmp_path, "BTCUSDT-aggTrades-2025-01.csv", f"5,100.0,1,1,2,{stamp},True,True")
    tape, got = read(path)
    assert tape.files[0].exchange == "binance"
    assert got[["ts_ns", "id", "side"]].tolist() == [(stamp * 1000, 5, -1)]


def test_archived_names_say_the_market(tmp_path):
    path = put(tmp_path, "BTCUSD_PERP-trades-2024-08-01.zip", f"7,100.0,5,50,{DAY_MS + 3},true")
    assert open_feed(path).files[0].exchange == "binance-delivery"


@pytest.mark.parametrize(
    ("row", "field", "reason", "expected"),
    [
        (f"9,100.0,1,1,{DAY_MS - 60_001},true", "time", "stamp", "expected a stamp of 2024-08-01"),
        (f"9,100.0,1,1,{DAY_MS + 86_460_000},true", "time", "stamp", "expected a stamp of 2024-08-01"),
        ("9,100.0,1,1,17224704,true", "time", "bad time", "expected s, ms, us or ns since 1970"),
        (f"7,100.0,1,1,{DAY_MS + 4},true", "id", "duplicate id", "expected more than 7, got 7"),
        (f"6,100.0,1,1,{DAY_MS + 4},true", "id", "bad id", "expected more than 7, got 6"),
        (f"x,100.0,1,1,{DAY_MS + 4},true", "id", "bad id", "expected an id, got 'x'"),
        (f"9,-1,1,1,{DAY_MS + 4},true", "price", "bad price", "not negative, got -1"),
        (f"9,100.0,0,1,{DAY_MS + 4},true", "qty", "bad qty", "got 0"),
        (f"9,100.0,1,1,{DAY_MS + 4},maybe", "is_buyer_maker", "bad is_buyer_maker", "expected true or false"),
        ("9,100.0", None, "fields", "expected 6 fields, got 2"),
    ],
)
def test_a_bad_archived_row_is_named(tmp_path, row, field, reason, expected):
    """FEED-025."""
    good = [f"{number},100.0,1,1,{DAY_MS + number},true" for number in (7, 20)]
    path = put(tmp_path, "BTCUSDT-trades-2024-08-01.zip", TRADES, good[0], row, good[1])
    with pytest.raises(DataError) as caught:
        read(path)
    assert (caught.value.line, caught.value.field) == (3, field)
    assert expected in caught.value.expected
    tape, rows = read(path, is_strict=False)
    assert rows["id"].tolist() == [7, 20]
    assert tape.findings.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("BTCUSDT-trades-2024-08-01.csv", [TRADES], "expected at least one row"),
        ("BTCUSDT-trades-2024-08-01.csv", ["1,2,3"], "expected 6 fields of trades, got 3"),
        ("BTCUSDT-trades-2024-08-01.csv", ["a,b,c,d,e,f", f"1,2,3,4,{DAY_MS},true"], "expected the columns id,price"),
        ("BTCUSDT-trades-2024-08-01.csv", ["1,2,3,4,now,true"], "expected s, ms, us or ns"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, lines, expected):
    with pytest.raises(DataError, match=expected):
        open_feed(put(tmp_path, name, *lines))


def test_archived_liquidations_are_told_once(tmp_path):
    """FEED-026: every row stands there twice, side by side or a whole file later."""
    rows = [
        f"{DAY_MS + 9},SELL,LIMIT,IOC,2,100.0,99.5,FILLED,1,2",
        f"{DAY_MS + 3},BUY,LIMIT,IOC,1,101.0,100.5,FILLED,1,1",
        f"{DAY_MS + 9},SELL,LIMIT,IOC,2,100.0,99.5,NEW,0,0",
    ]
    path = put(tmp_path, "BTCUSDT-liquidationSnapshot-2024-08-01.zip", FORCED, rows[0], rows[0], *rows[1:], *rows[1:])
    tape, got = read(path)
    assert (got["kind"] == codes.ROW_LIQUIDATION).all()
    assert got[["ts_ns", "side", "price", "qty"]].tolist() == [
        ((DAY_MS + 3) * MS, 1, 1_010, 1_000),
        ((DAY_MS + 9) * MS, -1, 1_000, 2_000),
    ]
    assert tape.findings.dropped == {"duplicate row": 3}
    assert tape.findings.rows == {"liquidationSnapshot": 6}


def test_archived_marks_close_their_candles(tmp_path):
    """FEED-025: a candle is told when it closed; the folder says whose price it is."""
    candle = f"{DAY_MS},99.0,101.0,98.0,100.04,0,{DAY_MS + 59_999},0,60,0,0,0"
    put(tmp_path / "markPriceKlines", "BTCUSDT-1m-2024-08-01.zip", CANDLES, candle)
    put(tmp_path / "indexPriceKlines", "BTCUSDT-1m-2024-08-01.zip", candle.replace("100.04", "100.2"))
    put(tmp_path / "klines", "BTCUSDT-1m-2024-08-01.zip", CANDLES, candle)
    paths = [tmp_path / "markPriceKlines", tmp_path / "indexPriceKlines", tmp_path / "klines"]
    tape, got = read(paths)
    assert got["ts_ns"].tolist() == [(DAY_MS + 59_999) * MS] * 2
    assert sorted(got["kind"].tolist()) == [codes.ROW_MARK, codes.ROW_INDEX]
    assert [path.parent.name for path, _ in tape.skipped] == ["klines"]
    assert find_first_marks(open_feed(paths, [make_market()]), 1) == [1_000]


def test_archived_quotes_metrics_and_bands(tmp_path):
    """FEED-026: bands are counted and tell nothing; metrics may stand in any order."""
    put(
        tmp_path,
        "BTCUSDT-bookTicker-2024-08-01.zip",
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
        f"5,99.9,1,100.0,2,{DAY_MS + 1},{DAY_MS + 2}",
        f"6,99.8,1,0.0,0,{DAY_MS + 3},{DAY_MS + 4}",
    )
    late, early = (f"2024-08-01 00:{minute}:00,BTCUSDT,{minute}.5,1,1,1,1,1" for minute in ("10", "05"))
    put(tmp_path, "BTCUSDT-metrics-2024-08-01.zip", METRICS, late, early)
    bands = ["2024-08-01 00:00:06,-5.00,10.5,1000", "2024-08-01 00:00:06,5.00,11.5,1000"]
    put(tmp_path, "BTCUSDT-bookDepth-2024-08-01.zip", "timestamp,percentage,depth,notional", *bands)
    tape, got = read(tmp_path)
    quotes = got[got["kind"] == codes.ROW_QUOTE]
    assert quotes[["id", "side", "price", "qty"]].tolist() == [
        (5, 1, 999, 1_000),
        (5, -1, 1_000, 2_000),
        (6, 1, 998, 1_000),
        (6, -1, 0, 0),
    ]
    interest = got[got["kind"] == codes.ROW_INTEREST]
    assert interest["qty"].tolist() == [5_500_000, 10_500_000]
    assert interest["ts_ns"].tolist() == [(DAY_MS + at * 60_000) * MS for at in (5, 10)]
    assert len(got) == len(quotes) + len(interest)
    assert tape.findings.rows == {"bookTicker": 2, "metrics": 2, "bookDepth": 2}


def test_archived_days_follow_each_other(tmp_path):
    """A stamp that falls from one day's file to the next is a fault of the second."""
    put(tmp_path, "BTCUSDT-trades-2024-08-01.csv", f"1,100.0,1,1,{DAY_MS + 86_400_009},true")
    second = put(tmp_path, "BTCUSDT-trades-2024-08-02.csv", f"2,100.0,1,1,{DAY_MS + 86_400_001},true")
    with pytest.raises(DataError) as caught:
        read([tmp_path / "BTCUSDT-trades-2024-08-01.csv", second])
    # files are read in order of their first stamps
    assert caught.value.file == tmp_path / "BTCUSDT-trades-2024-08-01.csv"
    assert caught.value.field == "id"


# ---------------------------------------------------------------- flat files


FOLDER = "binance_trx_2025_valid_and_corrupted"
NAMES = {
    "usdm trades": "binance_trade_stream_usd_m_futures_trxusdt_04-03-2025.csv",
    "coinm trades": "binance_trade_stream_coin_m_futures_trxusd_perp_04-03-2025.csv",
    "spot trades": "binance_trade_stream_spot_trxusdt_04-03-2025.csv",
    "usdm depth": "binance_difference_depth_stream_usd_m_futures_trxusdt_04-03-2025.csv",
    "coinm depth": "binance_difference_depth_stream_coin_m_futures_trxusd_perp_04-03-2025.csv",
    "spot depth": "binance_difference_depth_stream_spot_trxusdt_04-03-2025.csv",
    "spot snapshots": "binance_depth_snapshot_spot_btcusdt_14-04-2025.csv",
}
MERGED = "merged_depth_snapshot_difference_depth_stream_trade_stream_usd_m_futures_trxusdt_14-04-2025_{}.csv"


def real(shared, name):
    path = shared / "data" / FOLDER / f"{name}.gz"
    if not path.is_file():
        pytest.skip(f"not here: {path.name}")
    return path


@pytest.mark.parametrize(
    ("name", "exchange", "messages", "rows"),
    [
        ("usdm trades", "binance-futures", 9_999, 10_000),  # one says nothing: price and quantity 0, X blank
        ("coinm trades", "binance-delivery", 10_000, 10_000),
        ("spot trades", "binance", 10_000, 10_000),
        ("usdm depth", "binance-futures", 600, 10_000),
        ("coinm depth", "binance-delivery", 1_149, 10_000),  # the last row's stamps are hand-set, its ids are not
        ("spot depth", "binance", 2_833, 10_000),
        ("spot snapshots", "binance", 2, 20_000),
    ],
)
def test_real_valid_files_are_valid(shared, name, exchange, messages, rows):
    """FEED-027: whatever quirks they have; in strict mode too."""
    told = inspect_tape(real(shared, f"test_positive_{NAMES[name]}"), is_strict=True)
    assert (told["rows"], told["messages"], told["gaps"], told["dropped"], told["crossed"]) == (rows, messages, 0, 0, 0)
    assert told["files"][0]["exchange"] == exchange


def differing_lines(wrong, right):
    """Return the numbers of the lines of `wrong` that are not in `right`, rows alone."""
    lines = []
    with gzip.open(right, "rt") as file:
        good = set(file)
    with gzip.open(wrong, "rt") as file:
        for number, text in enumerate(file, 1):
            if text not in good and not text.startswith("#"):
                lines.append(number)
    return lines


def test_real_corrupted_trades_name_every_difference(shared):
    """FEED-027: the one line that differs, a price of -1, is the one that is dropped."""
    wrong, right = (real(shared, f"test_{kind}_{NAMES['usdm trades']}") for kind in ("negative", "positive"))
    assert differing_lines(wrong, right) == [2]
    told = inspect_tape(wrong)
    assert told["dropped_by"] == {"bad Price": 1}
    assert [fault["error"].rpartition(".gz")[2] for fault in told["faults"]] == [
        ":2: field 'Price': expected a number that is not negative, got -1"
    ]
    with pytest.raises(DataError) as caught:
        inspect_tape(wrong, is_strict=True)
    assert caught.value.line == 2


def test_real_corrupted_depth_is_its_valid_twin(shared):
    """There is no difference to be found."""
    wrong, right = (real(shared, f"test_{kind}_{NAMES['usdm depth']}") for kind in ("negative", "positive"))
    assert gzip.decompress(wrong.read_bytes()) == gzip.decompress(right.read_bytes())


def test_real_merged_file_is_one_book(shared):
    """FEED-020, FEED-021, FEED-027: yesterday's last book, updates, trades and a fetched snapshot fit each other."""
    told = inspect_tape(real(shared, MERGED.format("positive")), is_strict=True)
    assert told["streams"] == {
        "depth_snapshot": 2_000,
        "difference_depth_stream": 2_136,
        "final_depth_snapshot": 5_521,
        "trade_stream": 199,
    }
    assert (told["rows"], told["gaps"], told["resets"], told["dropped"], told["crossed"]) == (9_856, 0, 1, 0, 0)


def test_real_corrupted_merged_file_names_every_difference(shared):
    """FEED-027: lines 146 and 147, and the update whose FinalUpdateId was raised in lines 5667 to 5691."""
    wrong, right = (real(shared, MERGED.format(kind)) for kind in ("negative", "positive"))
    assert differing_lines(wrong, right) == [146, 147, *range(5_667, 5_692)]
    told = inspect_tape(wrong)
    assert (told["gaps"], told["dropped_by"], told["early_ends"]) == (1, {"stamp": 1}, 1)
    stamp, end, gap = (fault["error"].rpartition(".gz")[2] for fault in told["faults"])
    assert stamp.startswith(":146: field 'TimestampOfReceiveUS': expected 1744588799938000000 ns or later, got 174458")
    assert end == ":147: field 'IsLast': expected 0, rows of the same message follow"
    assert gap == (
        ":7697: field 'FinalUpdateIdInLastStream': expected what follows id 7267631291191 of the update in "
        "lines 5667 to 5691, got the update after 7267631291190 (lines 7697 to 7729)"
    )
    with pytest.raises(DataError) as caught:
        inspect_tape(wrong, is_strict=True)
    assert caught.value.line == 146


TRADE = {
    "TimestampOfReceive": "1741046404352",
    "Stream": "trxusdt@trade",
    "EventType": "trade",
    "EventTime": "1741046404349",
    "TransactionTime": "1741046404349",
    "Symbol": "TRXUSDT",
    "TradeId": "10",
    "Price": "0.23",
    "Quantity": "5.0",
    "IsBuyerMarketMaker": "0",
    "XUnknownParameter": "MARKET",
}
LEVEL = {
    **{name: TRADE[name] for name in ("TimestampOfReceive", "EventTime", "TransactionTime", "Symbol")},
    "Stream": "trxusdt@depth@100ms",
    "EventType": "depthUpdate",
    "FirstUpdateId": "10",
    "FinalUpdateId": "12",
    "FinalUpdateIdInLastStream": "9",
    "IsAsk": "0",
    "Price": "0.23",
    "Quantity": "5.0",
}


def put_flat(folder, rows, name=NAMES["usdm trades"]):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / name
    path.write_text(text.getvalue())
    return path


WRONG = [
    (TRADE, {"Price": "-1"}, "Price", "bad Price"),
    (TRADE, {"Price": "0"}, "Price", "bad Price"),
    (TRADE, {"Price": "0.53"}, "Price", "far price"),
    (TRADE, {"Price": "11.23"}, "Price", "far price"),
    (TRADE, {"Price": "0.1"}, "Price", "far price"),
    (TRADE, {"Quantity": "0"}, "Quantity", "bad Quantity"),
    (TRADE, {"IsBuyerMarketMaker": "2"}, "IsBuyerMarketMaker", "bad side"),
    (TRADE, {"Symbol": "BTCUSDT"}, "Symbol", "symbol"),
    (TRADE, {"Stream": "btcusdt@trade"}, "Stream", "symbol"),
    (TRADE, {"EventType": "aggTrade"}, "EventType", "event"),
    (TRADE, {"EventTime": "1583280004349"}, "EventTime", "stamp"),  # 2020
    (TRADE, {"EventTime": "0"}, "EventTime", "stamp"),
    (TRADE, {"TransactionTime": "1741219200000"}, "TransactionTime", "stamp"),  # two days on
    (TRADE, {"TimestampOfReceive": "1741219200000"}, "TimestampOfReceive", "stamp"),
    (TRADE, {"TradeId": "10"}, "TradeId", "duplicate id"),
    (TRADE, {"TradeId": "9"}, "TradeId", "bad id"),
    (TRADE, {"TradeId": "-9"}, "TradeId", "bad id"),
    *((TRADE, {name: ""}, name, "empty field") for name in TRADE),
    (LEVEL, {"FinalUpdateId": "13"}, "FinalUpdateId", "bad id"),
    (LEVEL, {"IsAsk": "2"}, "IsAsk", "bad side"),
    (LEVEL, {"Price": "-1"}, "Price", "bad Price"),
    (LEVEL, {"Quantity": "-1"}, "Quantity", "bad Quantity"),
    (LEVEL, {"Symbol": "BTCUSDT"}, "Symbol", "symbol"),
    (LEVEL, {"EventTime": "0"}, "EventTime", "stamp"),
    *((LEVEL, {name: ""}, name, "empty field") for name in LEVEL),
]


@pytest.mark.parametrize(("row", "change", "field", "reason"), WRONG)
def test_a_row_that_breaks_a_rule_is_named(tmp_path, row, change, field, reason):
    """FEED-027: whatever was falsified in such files, wherever it stands."""
    if row is TRADE:
        rows = [row, {**row, "TradeId": "11", **change}, {**row, "TradeId": "12"}]
    else:
        ids = [(10, 12, 9), (14, 16, 12), (17, 18, 16)]
        names = ("FirstUpdateId", "FinalUpdateId", "FinalUpdateIdInLastStream")
        rows = [{**row, **dict(zip(names, map(str, three), strict=True))} for three in ids]
        rows.insert(2, {**rows[1], "Price": "0.22", **change})  # inside a message of two
    path = put_flat(tmp_path, rows, NAMES["usdm trades" if row is TRADE else "usdm depth"])
    line = 3 if row is TRADE else 4
    with pytest.raises(DataError) as caught:
        inspect_tape(path, is_strict=True)
    assert (caught.value.line, caught.value.field) == (line, field)
    told = inspect_tape(path)
    assert (told["dropped_by"], told["gaps"], told["rows"]) == ({reason: 1}, 0, len(rows))
    if row is TRADE:
        assert told["messages"] == 2
    else:
        assert told["instruments"][0]["messages"] == 3


def test_a_price_that_stays_is_where_the_market_went(tmp_path):
    """FEED-027: one trade far off is a wrong number, two that agree are not."""
    prices = ["0.23", "0.05", "0.23", "0.05", "0.051", "0.05"]
    rows = [{**TRADE, "TradeId": str(10 + at), "Price": price} for at, price in enumerate(prices)]
    told = inspect_tape(put_flat(tmp_path, rows))
    assert told["dropped_by"] == {"far price": 2}
    assert [fault["error"].split(":")[1] for fault in told["faults"]] == ["3", "5"]


def test_a_blank_venue_is_fine_where_the_trade_says_nothing(tmp_path):
    rows = [TRADE, {**TRADE, "TradeId": "11", "Price": "0", "Quantity": "0", "XUnknownParameter": ""}]
    told = inspect_tape(put_flat(tmp_path, rows), is_strict=True)
    assert (told["messages"], told["dropped"]) == (1, 0)


def test_a_flat_file_without_a_telling_name_is_what_its_rows_say(tmp_path):
    for row, exchange in (
        (TRADE, "binance-futures"),
        ({**TRADE, "Symbol": "TRXUSD_PERP", "Stream": "trxusd_perp@trade"}, "binance-delivery"),
        ({("M" + name[1:] if name[0] == "X" else name): text for name, text in TRADE.items()}, "binance"),
    ):
        path = put_flat(tmp_path, [row], "some.csv")
        assert [file.exchange for file in open_feed(path).files] == [exchange]
        assert inspect_tape(path, is_strict=True)["messages"] == 1
    columns = ("TimestampOfReceive", "TimestampOfRequest", "LastUpdateId", "IsAsk", "Price", "Quantity")
    path = put_flat(tmp_path, [dict.fromkeys(columns, "1")], "some.csv")
    with pytest.raises(DataError, match="expected the market and symbol in the file's name"):
        open_feed(path)


def test_flat_snapshots_and_updates_of_two_files_fit(tmp_path):
    """FEED-021: updates in one file, snapshots in another."""
    ids = [(10, 12, 9), (13, 16, 12), (17, 18, 16)]
    names = ("FirstUpdateId", "FinalUpdateId", "FinalUpdateIdInLastStream")
    rows = [{**LEVEL, **dict(zip(names, map(str, three), strict=True))} for three in ids]
    for at, row in enumerate(rows):
        row["TimestampOfReceive"] = str(1_741_046_404_352 + 2 * at)
    put_flat(tmp_path, rows, NAMES["usdm depth"])
    fetched = {
        "TimestampOfReceive": "1741046404353",
        "TimestampOfRequest": "1741046404300",
        "LastUpdateId": "12",
        "IsAsk": "1",
        "Price": "0.24",
        "Quantity": "1",
    }
    put_flat(tmp_path, [fetched], "binance_depth_snapshot_usd_m_futures_trxusdt_04-03-2025.csv")
    told = inspect_tape(tmp_path, is_strict=True)
    assert (told["gaps"], told["before_snapshot"], told["resets"]) == (0, 1, 0)
    (tmp_path / NAMES["usdm depth"]).unlink()
    put_flat(tmp_path, rows[::2], NAMES["usdm depth"])
    told = inspect_tape(tmp_path)
    assert told["gaps"] == 1
    assert "follows id 12 of the snapshot in line 2" in told["faults"][0]["error"]


@given(data=st.data())
def test_damage_is_counted_and_never_crashes(tmp_path_factory, data):
    """Whatever happens to a few letters of a row, in lenient mode the others are read and it is accounted for."""
    folder = tmp_path_factory.mktemp("damage")
    archived = f"BTCUSDT-trades-2024-08-01.csv\n{TRADES}\n" + "".join(
        f"{number},100.0,1,1,{DAY_MS + number},true\n" for number in (7, 8, 9)
    )
    flat = NAMES["usdm trades"].replace("trxusdt", "btcusdt") + "\n" + ",".join(TRADE) + "\n"
    for number in ("10", "11", "12"):
        row = {**TRADE, "TradeId": number, "Symbol": "BTCUSDT", "Stream": "btcusdt@trade", "Price": "100.0"}
        flat += ",".join(row.values()) + "\n"
    name, *lines = data.draw(st.sampled_from([archived, flat])).splitlines()
    place = data.draw(st.integers(0, len(lines[2]) - 1))
    new = data.draw(st.sampled_from(["", "0", "9" * 30, "-", ".", "e9", '"', ",", " ", "a", "NaN", "true"]))
    lines[2] = lines[2][:place] + new + lines[2][place + data.draw(st.integers(0, 3)) :]
    (folder / name).write_text("\n".join(lines) + "\n")
    told = inspect_tape(folder, [make_market()])
    dropped = told["dropped_by"].get("fields", 0)
    assert told["rows"] + dropped == 3 or (name.startswith("BTCUSDT") and told["rows"] + told["dropped"] == 3)
    assert told["messages"] + told["dropped"] >= 2
