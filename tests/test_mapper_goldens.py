"""Messages of four venues against what Tardis makes of them: its mappers' own tests, read as data."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from engine import codes
from engine.feeds import open_feed

FOLDER = "data/tardis_mapper_goldens"
TITLES = {
    "bybit": "map bybit messages",
    "bybit-spot": "map bybit spot messages",
    "okex": "map okex messages",
    "okex-futures": "map okex-futures messages",
    "okex-futures X-Perp": "map okex-futures X-Perp messages",
    "okex-swap": "map okex-swap messages",
    "okex-swap USDC": "map okex USDC contracts before and after index migration",
    "hyperliquid": "map hyperliquid messages",
    "lighter trade": "map lighter trade messages",
    "lighter order book": "map lighter order book messages",
    "lighter market stats": "map lighter market stats messages",
    "lighter ticker": "map lighter ticker messages",
}
ADDRESSES = {"bybit": "wss://stream.bybit.com/v5/public/linear", "bybit-spot": "wss://stream.bybit.com/v5/public/spot"}
T0 = 1_700_000_000
LISTS = re.compile(r"(?:const|let) (\w*[mM]essages\w*) = (?=\[)")


# ---------------------------------------------------------------- TypeScript as data


def read_literal(text, at):
    """Return the list that begins at `at` of TypeScript, comments, bare keys and single quotes included."""
    told, depth, end = [], 0, at
    token = re.compile(
        r"//[^\n]*|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|new Date\(('[^']*')\)|[\[\]{}]|[^\[\]{}'\"/n]+|.", re.S
    )
    while True:
        found = token.match(text, end)
        word, end = found[0], found.end()
        depth += (word in "[{" and len(word) == 1) - (word in "]}" and len(word) == 1)
        if not word.startswith("//"):
            quoted = found[1] or (word if word[0] == "'" else "")
            told.append(json.dumps(quoted[1:-1]) if quoted else word)
        if not depth:
            break
    plain = "".join(told)
    plain = re.sub(r"([{,\s])([A-Za-z_]\w*)\s*:(?=\s)", r'\1"\2":', plain)
    plain = re.sub(r",(\s*[\]}])", r"\1", plain)
    return json.loads(re.sub(r":\s*undefined", ": null", plain))


def read_messages(folder, title):
    """Return the messages of a test, in the order in which it maps them."""
    text = (folder / "mappers.test.ts").read_text()
    start = text.index(f"test('{title}'")
    body = text[start : text.index("\ntest(", start + 1) if text.find("\ntest(", start + 1) > 0 else None]
    body = body[: body.find("\n  test(", 1) if body.find("\n  test(", 1) > 0 else None]
    told = [message for found in LISTS.finditer(body) for message in read_literal(body, found.end())]
    return [message["message"] if "localTimestamp" in message else message for message in told]


def read_expected(folder, title):
    """Return what Tardis makes of each message of a test; whatever else the test looks at is left out."""
    text = (folder / "mappers.test.snapshot").read_text()
    found = re.findall(rf"^exports\[`(?:mappers > )?{re.escape(title)} (\d+)`\] = `\n(.*?)\n`;", text, re.S | re.M)
    told = [
        json.loads(body.replace(": undefined", ": null"), parse_float=Decimal) for _, body in sorted(found, key=number)
    ]
    return [each for each in told if isinstance(each, list)]


def number(found):
    return int(found[0])


# ---------------------------------------------------------------- both sides in one form


def describe(rows, instruments):
    """Return our rows of one message as {kind: list} in the words of Tardis; prices are exact."""
    told = {"trade": [], "liquidation": [], "book_change": [], "book_ticker": [], "derivative_ticker": []}
    for row in rows:
        here = instruments.rows[row["market"]]
        name = {"symbol": here.symbol, "exchange": here.exchange}
        price, qty = int(row["price"]), int(row["qty"])
        level = (price * here.tick, qty * here.lot)
        kind, side = int(row["kind"]), int(row["side"])
        if kind in (codes.ROW_TRADE, codes.ROW_LIQUIDATION):
            word = {1: "buy", -1: "sell"}[side]
            both = told["trade" if kind == codes.ROW_TRADE else "liquidation"]
            both.append((*name.values(), word, *level, int(row["exchange_ns"])))
        elif kind == codes.ROW_CLEAR:
            told["book_change"].append((*name.values(), True, [], [], int(row["exchange_ns"])))
        elif kind == codes.ROW_LEVEL:
            if not told["book_change"]:
                told["book_change"].append((*name.values(), False, [], [], int(row["exchange_ns"])))
            told["book_change"][-1][3 if side > 0 else 4].append(level)
        elif kind == codes.ROW_QUOTE:
            told["book_ticker"].append((*name.values(), side, *level))
        else:
            told["derivative_ticker"].append((*name.values(), *name_state(kind, price, qty, here)))
    return told


def name_state(kind, price, qty, instrument):
    if kind == codes.ROW_FUNDING:
        return "fundingRate", Decimal(price).scaleb(-12), qty
    if kind == codes.ROW_PREDICTED:
        return "predictedFundingRate", Decimal(price).scaleb(-12), 0
    if kind == codes.ROW_INTEREST:
        return "openInterest", Decimal(qty).scaleb(-6), 0
    names = {codes.ROW_MARK: "markPrice", codes.ROW_INDEX: "indexPrice", codes.ROW_LAST: "lastPrice"}
    return names[kind], price * instrument.fine_unit, 0


def stamp(text):
    """Return an ISO stamp in ns."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


def exact(value):
    return Decimal(0) if value is None else Decimal(str(value))


def list_expected(messages, kind):
    """Return Tardis's messages of one kind in the same form."""
    told = []
    for each in messages:
        if each["type"] != kind:
            continue
        name = (each["symbol"], each["exchange"])
        if kind in ("trade", "liquidation"):
            told.append((*name, each["side"], exact(each["price"]), exact(each["amount"]), stamp(each["timestamp"])))
        elif kind == "book_change":
            sides = [
                [(exact(level["price"]), exact(level["amount"])) for level in each[side]] for side in ("bids", "asks")
            ]
            told.append((*name, each["isSnapshot"], *sides, stamp(each["timestamp"])))
        elif kind == "book_ticker":
            told += [(*name, 1, exact(each["bidPrice"]), exact(each["bidAmount"]))]
            told += [(*name, -1, exact(each["askPrice"]), exact(each["askAmount"]))]
    return told


def play(folder, tmp_path, case):
    """Yield (message, what Tardis makes of it, what we do) of a test, for the messages we read."""
    title = TITLES[case]
    messages, expected = read_messages(folder, title), read_expected(folder, title)
    assert len(messages) == len(expected), "the test's messages and snapshots are not of one length"
    is_ours = is_v5_bybit if case.startswith("bybit") else lambda message: "table" not in message
    pairs = [(message, wanted) for message, wanted in zip(messages, expected, strict=True) if is_ours(message)]
    address = ADDRESSES.get(case, "wss://venue")
    lines = [
        f"{address} <-> {T0}",
        *(f"{T0 + at + 1}.5: {json.dumps(message)}" for at, (message, _) in enumerate(pairs)),
    ]
    file = tmp_path / "capture.ws"
    file.write_text("\n".join(lines) + "\n")
    feed = open_feed(file, is_strict=False)
    rows = np.concatenate(list(feed.records()))
    assert not feed.findings.dropped
    for at, (message, wanted) in enumerate(pairs):
        mine = rows[rows["ts_ns"] == (T0 + at + 1) * 10**9 + 500_000_000]
        yield message, wanted, describe(mine, feed.instruments)


def is_v5_bybit(message):
    topic = message.get("topic", "")
    return re.match(r"(orderbook|publicTrade|tickers|allLiquidation)\.", topic) is not None or (
        topic.startswith("liquidation.") and "ts" in message
    )


@pytest.fixture(scope="module")
def folder(shared):
    found = shared / FOLDER
    if not found.is_dir():
        pytest.skip("the mapper tests of Tardis are not among the recordings")
    return found


KINDS = ("trade", "liquidation", "book_change", "book_ticker")
# How many messages of each kind, and fields of tickers, are held against the goldens.
COMPARED = {
    "bybit": (2, 3, 2, 3, 22),
    "bybit-spot": (2, 0, 2, 2, 0),
    "okex": (2, 0, 2, 0, 0),
    "okex-futures": (1, 3, 2, 0, 10),
    "okex-futures X-Perp": (0, 0, 0, 0, 3),
    "okex-swap": (1, 0, 1, 1, 23),
    "okex-swap USDC": (0, 0, 0, 0, 6),
    "hyperliquid": (2, 0, 2, 2, 4),
    "lighter trade": (1, 1, 0, 0, 0),
    "lighter order book": (0, 0, 2, 0, 0),
    "lighter market stats": (0, 0, 0, 0, 10),
    "lighter ticker": (0, 0, 0, 2, 0),
}


def is_excused(kind, message, expected):
    """Return whether Tardis means something else by a message, for a reason of its own."""
    channel = message.get("arg", {}).get("channel", "") or message.get("topic", "") or message.get("channel", "")
    if kind == "book_ticker" and channel in ("tickers", "ticker:1") and "ticker" not in message:
        return True  # quotes of tickers, which lag the book; no quote at all
    # Its mappers know a channel from a date on, and drop what a subscription begins with; Lighter's live liquidations
    # were trades to its book as well.
    later = ("bbo-tbt", "liquidation-orders", "allLiquidation")
    return not expected and (
        channel.startswith(later) or str(message.get("type")).startswith(("subscribed", "update/tr"))
    )


@pytest.mark.parametrize("case", TITLES)
def test_messages_mean_what_they_mean_to_tardis(folder, tmp_path, case):
    """Trades, liquidations, books and quotes are equal; of tickers every field that Tardis knows is.

    Source: FEED-031, FEED-033, FEED-035, FEED-036, FEED-039, FEED-040, FEED-041.
    """
    counts = dict.fromkeys((*KINDS, "fields"), 0)
    quotes, state = {}, {}
    for message, wanted, told in play(folder, tmp_path, case):
        for kind in KINDS:
            expected = list_expected(wanted, kind)
            if is_excused(kind, message, expected):
                continue
            if kind == "book_ticker" and (expected or told[kind]):
                quotes |= {row[:3]: row for row in told[kind]}
                told[kind] = [quotes[row[:3]] for row in expected]  # a side that did not change is the one before
            assert told[kind] == expected, message
            counts[kind] += bool(expected)
        for symbol, exchange, field, value, due_ns in told["derivative_ticker"]:
            state[exchange, symbol, field] = value
            if due_ns:
                state[exchange, symbol, "fundingTimestamp"] = due_ns
        counts["fields"] += compare_tickers([each for each in wanted if each["type"] == "derivative_ticker"], state)
    assert tuple(counts.values()) == COMPARED[case]


def compare_tickers(wanted, state):
    """Compare what Tardis knows of its tickers with what we were told so far; return how many fields."""
    compared = 0
    for each in wanted:
        exchange, symbol = each["exchange"], each["symbol"]
        if exchange == "lighter":
            symbol = {"0": "ETH", "1": "BTC"}[symbol]  # we call markets by their names
        for field in ("lastPrice", "openInterest", "fundingRate", "predictedFundingRate", "indexPrice", "markPrice"):
            if each[field] is not None:
                percent = 100 if (exchange, field) == ("lighter", "fundingRate") else 1
                rounded = exact(each[field]).quantize(Decimal("1e-12")) if "Rate" in field else exact(each[field])
                assert state[exchange, symbol, field] * percent == rounded, (each, field)
                compared += 1
        if each["fundingTimestamp"] is not None:
            assert state[exchange, symbol, "fundingTimestamp"] == stamp(each["fundingTimestamp"])
            compared += 1
    return compared
