"""A real recording through the compiled engine: four minutes of BTCUSDT against the venue's own quotes and ticker."""

import csv
import gzip
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from engine import Exchange, Market, commands
from engine.audit import check_state
from engine.codes import LEVEL, MARK_MOVED, PRINT
from engine.contract import Tier
from engine.feeds import iter_bbo_checks, open_feed, read_quotes

NAME = "binance-futures_{}_2023-04-05_BTCUSDT.csv.gz"
TICK = Decimal("0.1")


def make_market(**changes):
    """Return the recording's contract: ticks of 0.1, lots of 0.001 BTC."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.008"), maintenance=Decimal("0.004")),)
    fields = {"price_max": Decimal(250_000), "tick_size": TICK, "lot_size": Decimal("0.001"), "tiers": tiers}
    return Market(symbol="BTCUSDT", **(fields | changes))


@pytest.fixture(scope="module")
def tape(shared):
    """Return the folder of the recording."""
    return shared / "data/btcusdt_4min"


def best(exchange):
    """Return (best bid, best ask) of the only market, in ticks."""
    depth = exchange.depth(0, 1)
    return depth["bids"][0][0], depth["asks"][0][0]


def test_best_prices_equal_the_quotes(tape):
    """At all 8,207 book messages the engine's best bid and ask are the venue's, and the book never crosses.

    Source: OUT-002, OUT-003, FEED-002.
    """
    market = make_market()
    exchange = Exchange([market])
    feed = open_feed([tape / NAME.format("incremental_book_L2")], [market])
    checks = 0
    for rows, quote in iter_bbo_checks(feed.chunks(), read_quotes(tape / NAME.format("quotes"), market)):
        exchange.apply(rows)
        assert best(exchange) == (quote["bid_price_tick"], quote["ask_price_tick"]), f"at {quote['ts_ns']} ns"
        checks += 1
    assert checks == 8_207
    check_state(exchange.view(), exchange.setup)


def test_marks_and_index_equal_the_ticker(tape):
    """Every change of the ticker's mark is a mark of ours, to the tick; the index is followed as well.

    Source: STEP-002, FEED-005.
    """
    market = make_market()
    exchange = Exchange([market])
    feed = open_feed([tape / NAME.format("derivative_ticker")], [market])
    events = np.concatenate([exchange.apply(rows) for rows in feed.chunks()])
    with gzip.open(tape / NAME.format("derivative_ticker"), "rt") as file:
        rows = list(csv.DictReader(file))
    wanted = [(Decimal(row["mark_price"]) / TICK).to_integral_value(ROUND_HALF_EVEN) for row in rows]
    changes = [int(tick) for tick, before in zip(wanted, [None, *wanted], strict=False) if tick != before]
    assert events[events["kind"] == MARK_MOVED]["price_tick"].tolist() == changes
    index = (Decimal(rows[-1]["index_price"]) / TICK).to_integral_value(ROUND_HALF_EVEN)
    assert np.asarray(exchange.view().markets)[0, 1] == index
    assert len(rows) == 240


def test_an_off_book_print_moves_nothing(tape):
    """The insurance fund's close at 28,722.50, two percent off the market, fills nobody and moves no price.

    Source: OUT-004, FEED-004.
    """
    market = make_market(mark_model="last")
    exchange = Exchange([market])
    told = list(open_feed(tape / "binance_usdm_btcusdt_raw_20230405_000109_000119.dat.gz", [market]).chunks())
    prints = np.concatenate(told)
    prints = prints[prints["kind"] == PRINT]
    odd = prints[prints["price_tick"] == 287_225]
    assert len(odd) == 1
    at = int(np.flatnonzero(prints["price_tick"] == 287_225)[0])
    exchange.apply(prints[:at])
    exchange.apply(
        [
            commands.Deposit(ts_ns=int(odd["ts_ns"][0]), account=1, amount_quote=10**12),
            commands.Place(
                ts_ns=int(odd["ts_ns"][0]), account=1, order_id=1, side="sell", qty_lot=5, price_tick=285_000
            ),
        ]
    )
    before = exchange.view()
    assert len(exchange.apply(odd)) == 0
    after = exchange.view()
    for name in ("markets", "orders", "positions", "wallets"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_both_engines_replay_the_recording_alike(tape):
    """The first seconds of the tape with a small crowd: same events and digest in both engines.

    Source: STATE-003, FEED-001.
    """
    market = make_market()
    feed = open_feed(
        [tape / NAME.format(kind) for kind in ("incremental_book_L2", "trades", "derivative_ticker")], [market]
    )
    rows = next(iter(feed.chunks(6_000)))
    assert (rows["kind"] == LEVEL).any()
    crowd = [commands.Mark(ts_ns=0, price_tick=281_470)]
    for account in range(1, 40):
        side = "buy" if account % 2 else "sell"
        crowd.append(
            commands.Assign(
                account=account, side=side, qty_lot=account * 50, price_tick=281_470, amount_quote=account * 8_000_000
            )
        )
    engines = [Exchange([market], engine=name) for name in ("compiled", "reference")]
    told = [engine.apply(crowd).tobytes() + engine.apply(rows).tobytes() for engine in engines]
    assert told[0] == told[1]
    assert engines[0].digest() == engines[1].digest()
