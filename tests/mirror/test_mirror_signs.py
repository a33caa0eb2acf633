"""Warning signs: worked by hand, and the kernel against the public queries of both engines."""

import numpy as np
import pytest

from engine import codes, commands
from engine.contract import value_of
from engine.exchange import Exchange
from engine.signs import SECOND_NS, Sampler, measure_signs
from tests.mirror import streams
from tests.mirror.pair import make_market

SEEDS = 16


def by_name(row):
    return dict(zip(row.dtype.names, row[0].tolist(), strict=True))


def fill_market(engine):
    """Return an exchange with a book around 1,000 and four positions, whose liquidation prices are round."""
    exchange = Exchange([make_market(default_leverage=10)], engine=engine)
    levels = [
        ("bid", 999, 7),
        ("bid", 991, 5),
        ("bid", 960, 11),
        ("bid", 940, 50),
        ("ask", 1_001, 3),
        ("ask", 1_040, 9),
    ]
    sent = [commands.Mark(price_tick=1_000), commands.FundDeposit(amount_quote=777)]
    sent += [commands.Level(side=side, price_tick=tick, qty_lot=lots) for side, tick, lots in levels]
    # maintenance is 5 %: a long of 10 with collateral c is below it once 10 (M - 1000) + c < M / 2
    for account, side, lots, amount in (
        (1, "buy", 10, 595),
        (2, "buy", 10, 1_400),
        (3, "sell", 20, 1_200),
        (4, "buy", 60, 60_000),
    ):
        sent.append(commands.Assign(account=account, side=side, qty_lot=lots, price_tick=1_000, amount_quote=amount))
    exchange.apply(sent)
    return exchange


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_signs_by_hand(engine):
    """Depth, what falls, concentration and queues of a market that fits in the head.

    Source: SIGN-002, SIGN-003, SIGN-004, SIGN-005, SIGN-006.
    """
    exchange = fill_market(engine)
    signs = by_name(measure_signs(exchange, 0, 5))
    assert (signs["ts_ns"], signs["seq"], signs["mark_tick"], signs["fund_quote"]) == (5, 12, 1_000, 777)
    # middle 1,000: 1 % is 990 to 1,010, 5 % 950 to 1,050
    assert (signs["bid_1pct_lot"], signs["bid_5pct_lot"]) == (12, 23)
    assert (signs["ask_1pct_lot"], signs["ask_5pct_lot"]) == (3, 12)
    # account 1: 10 M - 9,405 < M / 2 from 989 down; 2: 10 M - 8,600 < M / 2 from 905 down; 4: never within a tenth
    assert exchange.liquidation_price(1, 0) == 989
    assert exchange.liquidation_price(2, 0) == 905
    # account 3: 21,200 - 20 M < M from 1,010 up
    assert exchange.liquidation_price(3, 0) == 1_010
    assert [signs[f"long_{part}pct_quote"] for part in (1, 2, 5, 10)] == [0, 10_000, 10_000, 20_000]
    assert [signs[f"short_{part}pct_quote"] for part in (1, 2, 5, 10)] == [20_000] * 4
    # quantities 60, 20, 10, 10: shares .6 .2 .1 .1, squares .36 + .04 + .01 + .01
    assert (signs["positions"], signs["open_interest_lot"], signs["top10_ppm"]) == (4, 80, 1_000_000)
    assert signs["herfindahl_ppm"] in (419_999, 420_000)
    assert signs["long_queue"] == 3
    assert signs["short_queue_top1pct_ppm"] == 1_000_000


@pytest.mark.parametrize("seed", range(SEEDS))
def test_kernel_and_queries_agree(seed):
    """Both engines count alike, and as the public queries say, of every market, in the midst of random streams.

    Source: SIGN-002, SIGN-003, SIGN-004, SIGN-005, STATE-003.
    """
    setup = streams.make_setup(seed)
    fast, plain = (_open(setup, engine) for engine in ("compiled", "reference"))
    sent = streams.random_stream(seed, setup, 120)
    for start in range(0, 120, 30):
        rows = streams.pack_commands(sent[start : start + 30])
        fast.apply(rows.copy())
        plain.apply(rows.copy())
        before = fast.digest()
        for market in range(len(setup.markets)):
            mine, other = measure_signs(fast, market, 1), measure_signs(plain, market, 1)
            assert by_name(mine) == by_name(other)
            check_by_queries(fast, market, by_name(mine))
        assert fast.digest() == before


def check_by_queries(exchange, market, signs):
    """Hold signs against what the exchange answers when it is asked for books, positions, maps and queues."""
    depth = exchange.depth(market, 4_096)
    best = [levels[0][0] if levels else 0 for levels in (depth["bids"], depth["asks"])]
    assert best == [signs["bid_tick"], signs["ask_tick"]]
    middle = sum(best) / 2 if all(best) else max(best)
    for name, levels in (("bid", depth["bids"]), ("ask", depth["asks"])):
        for part in (1, 5):
            near = sum(lots for tick, lots in levels if abs(tick - middle) * 100 <= middle * part)
            assert signs[f"{name}_{part}pct_lot"] == near
    rules, mark = exchange.setup.markets[market], signs["mark_tick"]
    found = exchange.liquidation_map(market)
    for part in (1, 2, 5, 10) if mark else ():
        way = mark * part // 100
        longs = int(found["long_lot"][found["price_tick"] >= mark - way].sum())
        shorts = int(found["short_lot"][found["price_tick"] <= min(mark + way, rules.price_max_tick)].sum())
        assert signs[f"long_{part}pct_quote"] == abs(int(value_of(rules, mark, longs)))
        assert signs[f"short_{part}pct_quote"] == abs(int(value_of(rules, mark, shorts)))
    open_ = exchange.positions()
    lots = np.abs(open_["qty_lot"][(open_["market"] == market) & (open_["account"] > 0)]).tolist()
    assert signs["positions"] == len(lots)
    if lots:
        assert signs["top10_ppm"] == sum(sorted(lots)[-10:]) * 10**6 // sum(lots)
        assert abs(signs["herfindahl_ppm"] - 10**6 * sum((qty / sum(lots)) ** 2 for qty in lots)) <= 2
    for name, side in (("long", 1), ("short", -1)):
        queue = np.abs(exchange.adl_queue(market, side)["qty_lot"])
        assert signs[f"{name}_queue"] == len(queue)
        if len(queue):
            assert signs[f"{name}_queue_top1pct_ppm"] == int(queue[0]) * 10**6 // int(queue.sum())


def _open(setup, engine):
    """Return an exchange of a setup that has no market files."""
    from engine.exchange import Capacity, _make_engine

    exchange = Exchange.__new__(Exchange)
    exchange.markets, exchange.setup, exchange.engine_name = (None,) * len(setup.markets), setup, engine
    exchange.engine = _make_engine(setup, engine, Capacity())
    return exchange


def test_samples_are_of_the_state_before():
    """A sample is of the state before the first command at or past an instant; instants passed together have one.

    Source: SIGN-001.
    """
    exchange = Exchange([make_market()])
    sampler = Sampler(exchange, SECOND_NS)
    stamps = np.array([0, 5, 10, 10, 45, 60], np.int64) * (SECOND_NS // 10)
    rows = np.zeros(6, streams.pack_commands([]).dtype)
    rows["kind"], rows["ts_ns"], rows["price_tick"] = codes.MARK, stamps, [100, 101, 102, 103, 104, 105]
    sampler.begin(0)
    while len(rows):
        cut = sampler.find_cut(rows["ts_ns"])
        exchange.apply(rows[:cut])
        sampler.since += len(rows[:cut])
        if cut is not None:
            sampler.take(int(rows["ts_ns"][cut]))
        rows = rows[len(rows[:cut]) :]
    sampler.end(6 * SECOND_NS)
    found = sampler.read_rows()
    assert found["ts_ns"].tolist() == [0, SECOND_NS, 4 * SECOND_NS, 6 * SECOND_NS, 6 * SECOND_NS]
    assert found["mark_tick"].tolist() == [0, 101, 103, 104, 105]


def test_samples_wait_for_commands():
    """By default the next sample waits until enough was done for its cost not to matter, whatever the clock says.

    The first instant after the opening does not.

    Source: SIGN-001.
    """
    exchange = fill_market("compiled")
    sampler = Sampler(exchange, SECOND_NS, rest_commands=10, rest_positions=5)
    sampler.begin(0)
    assert sampler.left == 0
    stamps = np.arange(1, 42, dtype=np.int64) * SECOND_NS
    assert sampler.find_cut(stamps) == 0
    sampler.take(SECOND_NS)
    assert sampler.left == 30  # and four positions
    sampler.since = 12
    assert sampler.find_cut(stamps[1:]) == 18
    assert Sampler(exchange, 0).find_cut(stamps) is None
