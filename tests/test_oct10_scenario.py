"""10 October 2025 as a scenario: a reduced run has the day's shape, and the published column is what the files say."""

import csv
import gzip
import json
import math
import os
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.cli import main
from engine.codes import (
    ADL_FILL,
    ASSIGN,
    BUY,
    HOUSE,
    INDEX,
    LEVEL,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    PRICE_BANKRUPTCY,
    PRICE_PREVIOUS,
    TAKEOVER,
)
from engine.contract import build_setup
from engine.errors import ConfigError, DataError
from engine.exchange import Exchange
from engine.lab.crash import FIGURES, Played, compose_crash, describe_crash, play_crash
from engine.scenario.crash import (
    Crash,
    build_crash_markets,
    build_crash_opening,
    build_crash_tape,
    find_coins,
    load_crash,
    read_coins,
    read_published,
)
from engine.scenario.shock import Point

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = ROOT / "replay_data" / "oct10.toml"
WHOLE = load_crash(SCENARIO)
replace = msgspec.structs.replace


def reduce(accounts: int, step: str, duration: str, symbols: tuple[str, ...]) -> Crash:
    """Return the day with fewer accounts, coins and steps."""
    return replace(
        WHOLE,
        coins=tuple(coin for coin in WHOLE.coins if coin.symbol in symbols),
        longs=replace(WHOLE.longs, accounts=accounts),
        shorts=replace(WHOLE.shorts, accounts=accounts),
        step=step,
        duration=duration,
    )


SMALL = reduce(3_000, "3s", "5m", ("BTC", "ETH", "SOL", "HYPE", "PUMP", "OTHERS"))
TINY = reduce(40, "15s", "3m", ("BTC", "XPL"))


@pytest.fixture(scope="module", params=[10, 1])
def played(request):
    return play_crash(replace(SMALL, seed=request.param))


# ---------------------------------------------------------------- the run


def test_the_reduced_day_has_the_shape_of_the_day(played):
    """Ranges, not digits: what the whole scenario is fitted to must not hang on its size.  Source: OCT-001, OCT-002."""
    figures = played.figures
    forced = sum(fact.forced_usd for fact in find_coins(SMALL))
    assert 48 <= figures["first_adl_s"] <= 96  # a minute of liquidations before the first ADL
    assert 0.2 < figures["adl_share"] < 0.6
    assert 0.6 < figures["forced_usd"] / forced < 1.4
    assert 0.1 < figures["burst_fills_share"] < 0.7  # one instant has a large part of all closes
    assert figures["burst_usd_share"] < figures["burst_fills_share"]  # and they are the smaller ones
    assert 0.3 < figures["top_10"] < 1
    assert figures["adl_coins"] == len(SMALL.coins)  # queues are the contracts' own, and every contract has its ADL
    assert figures["adl_instants"] >= 8
    assert figures["adl_users"] <= figures["adl_positions"] <= figures["adl_fills"]
    assert figures["vault_usd"] > 10_000_000
    assert figures["fund_low_usd"] < figures["fund_start_usd"] == 40_000_000


def test_the_parts_sum_to_the_whole(played):
    """Source: OCT-002, EVT-002."""
    figures = played.figures
    assert set(figures) == set(FIGURES)
    assert figures["book_usd"] + figures["vault_usd"] == pytest.approx(figures["other_usd"], abs=0.01)
    assert figures["other_usd"] + figures["adl_usd"] == pytest.approx(figures["forced_usd"], abs=0.01)
    assert figures["adl_usd"] / figures["forced_usd"] == pytest.approx(figures["adl_share"])
    payers = ("by_adl_usd", "by_fund_usd", "by_haircut_usd", "unpaid_usd")
    assert sum(figures[name] for name in payers) == pytest.approx(figures["deficit_usd"], abs=0.01)


def test_the_figures_are_those_of_the_events():
    """Counted again, event by event, in plain Python.  Source: OCT-002."""
    config = replace(SMALL, longs=replace(SMALL.longs, accounts=400), shorts=replace(SMALL.shorts, accounts=400))
    exchange = Exchange(build_crash_markets(config))
    rules = list(exchange.setup.markets)
    book = vault = fills = first = profit = 0
    closes = []  # time, victim, coin, units
    for rows in (build_crash_opening(config, rules), *build_crash_tape(config, rules)):
        events = exchange.apply(rows)
        for event in events[np.isin(events["kind"], (LIQUIDATION_STARTED, LIQUIDATION_FILL, TAKEOVER, ADL_FILL))]:
            kind, worth = int(event["kind"]), int(event["qty_lot"]) * rules[0].multiplier
            if kind == LIQUIDATION_STARTED:
                first = first or int(event["ts_ns"])
            elif kind == LIQUIDATION_FILL:
                book, fills = book + worth * int(event["price_tick"]), fills + 1
            elif kind == TAKEOVER and event["other"] == HOUSE:
                vault, fills = vault + worth * int(event["mark_tick"]), fills + 1
            elif kind == ADL_FILL:
                symbol, value = rules[int(event["market"])].symbol, abs(int(event["amount_quote"]))
                closes.append((int(event["ts_ns"]), int(event["other"]), symbol, value))
                profit += int(event["other_amount_quote"])
    total = sum(value for *_, value in closes)
    sums = [Counter() for _ in range(4)]
    for ts_ns, victim, symbol, value in closes:
        for counted, key, amount in zip(
            sums, (victim, ts_ns // 10**9, symbol, ts_ns), (value,) * 3 + (1,), strict=True
        ):
            counted[key] += amount
    victims, seconds, coins, instants = sums
    done = accumulate(value for *_, value in closes)
    half = next(close[0] for close, so_far in zip(closes, done, strict=True) if so_far >= total // 2)
    top = [value for _, value in victims.most_common()]
    expected = {
        "first_adl_s": (closes[0][0] - first) / 1e9,
        "half_s": (half - first) / 1e9,
        "last_s": (closes[-1][0] - first) / 1e9,
        "book_usd": book / 1e6,
        "vault_usd": vault / 1e6,
        "adl_usd": total / 1e6,
        "adl_share": total / (book + vault + total),
        "other_fills": fills,
        "adl_fills": len(closes),
        "adl_positions": len({close[1:3] for close in closes}),
        "adl_users": len(victims),
        "adl_instants": len(instants),
        "burst_fills_share": max(instants.values()) / len(closes),
        "burst_usd_share": max(seconds.values()) / total,
        "top_1": top[0] / total,
        "top_10": sum(top[:10]) / total,
        "top_percent": sum(top[: math.ceil(len(top) / 100)]) / total,
        "btc_share": coins["BTC"] / total,
        "top_3_coins_share": sum(coins[symbol] for symbol in ("BTC", "ETH", "SOL")) / total,
        "adl_pnl_share": profit / total,
    }
    assert len(closes) > 100
    assert vault
    figures = play_crash(config).figures
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_a_day_on_which_nothing_happens_has_its_page():
    """Source: OCT-002, OCT-003."""
    calm = replace(TINY, shock=(Point(t=0, factor=Decimal(0)),), noise=Decimal(0))
    played = play_crash(calm)
    assert (played.figures["adl_fills"], played.figures["first_adl_s"], played.figures["adl_share"]) == (0, None, None)
    page = compose_crash(describe_crash(calm, played))
    assert page.splitlines()[1].split()[-3:] == ["-", "61.7", "fitted"]


def test_the_seed_makes_it_and_both_engines_agree():
    """Source: OCT-001, STATE-003."""
    first = play_crash(TINY)
    assert play_crash(TINY)[:3] == first[:3]
    reference = play_crash(TINY, "reference")
    assert reference[:3] == first[:3]
    assert play_crash(replace(TINY, seed=11)).digest != first.digest


def test_who_holds_what_is_as_the_scenario_says():
    """Source: OCT-001, POS-006."""
    rules = list(build_setup(build_crash_markets(SMALL)).markets)
    rows = build_crash_opening(SMALL, rules)
    assert [rules_of.fund for rules_of in rules] == [0] * len(rules)
    changed = replace(SMALL, adl={"price": "bankruptcy"}, liquidation={"carry": "7"})
    for before, after in zip(rules, build_setup(build_crash_markets(changed)).markets, strict=True):
        assert before._replace(adl_price=PRICE_BANKRUPTCY, carry_ppm=7_000_000) == after
        assert before.adl_price == PRICE_PREVIOUS  # the preset's, as all that is not named
    assigned = rows[rows["kind"] == ASSIGN]
    for market, fact in enumerate(find_coins(SMALL)):
        for side, dollars, wanted in ((1, fact.forced_usd, SMALL.longs), (-1, fact.adl_usd, SMALL.shorts)):
            here = assigned[(assigned["market"] == market) & (assigned["side"] == side)]
            assert int(here["qty_lot"].sum()) == int(dollars * wanted.multiple)  # a lot is a dollar at first
    longs = assigned[assigned["side"] == BUY]
    held = np.bincount(longs["account"])[1:]
    assert held.min() >= 1
    assert 1.3 < held.mean() < 2  # two draws, now and then of the same coin
    worth = assigned["qty_lot"] * assigned["price_tick"] * rules[0].multiplier
    most = np.array([coin.leverage for coin in SMALL.coins])[assigned["market"]]
    assert np.all(assigned["amount_quote"] * most >= worth)


def test_the_book_is_as_deep_and_the_index_as_low_as_said():
    """Source: OCT-001, OUT-002."""
    rules = list(build_setup(build_crash_markets(SMALL)).markets)
    steps = list(build_crash_tape(replace(SMALL, noise=Decimal(0)), rules))
    assert len(steps) == SMALL.steps == 100
    first, again, other = (next(build_crash_tape(config, rules)) for config in (SMALL, SMALL, replace(SMALL, seed=11)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    last = steps[-1]
    shock, depth = SMALL.curves()
    at_ns = 300 * 10**9
    for market, (coin, fact) in enumerate(zip(SMALL.coins, find_coins(SMALL), strict=True)):
        here = last[last["market"] == market]
        (index,) = here[here["kind"] == INDEX]["price_tick"].tolist()
        assert index == pytest.approx(10_000 * (1 - float(coin.fall) * shock.at(at_ns) / 1e6), abs=1.5)
        bids = here[(here["kind"] == LEVEL) & (here["side"] == BUY) & (here["qty_lot"] > 0)]
        wanted = fact.forced_usd * 0.02 * depth.at(at_ns) / 1e6
        assert int(bids["qty_lot"].sum()) == pytest.approx(wanted, abs=50)  # dollars, floored level by level
        assert 0.96 * index < bids["price_tick"].min() < bids["price_tick"].max() < index


def test_the_page_sets_simulated_beside_published(tmp_path, capsys):
    """Source: OCT-003, CLI-002."""
    text = SCENARIO.read_text(encoding="utf-8")
    for old, new in (('"12m"', '"2m"'), ('"3s" #', '"15s" #'), ("22000", "150"), ("20000", "150")):
        assert old in text
        text = text.replace(old, new, 1)
    for name in ("oct10_coins.csv", "oct10_published.csv"):
        text = text.replace(name, (SCENARIO.parent / name).as_posix())
    file = tmp_path / "day.toml"
    file.write_text(text, encoding="utf-8")
    assert main(["lab", "oct10", "--scenario", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = {row["figure"]: row for row in facts["figures"]}
    assert rows["adl_share"]["fitted"]
    assert not rows["deficit_usd"]["fitted"]
    assert rows["fund_low_usd"]["published"] is None
    assert rows["adl_fills"]["published"] == 34_983
    assert facts["forced_usd_of_coins"] == pytest.approx(5_511_042_925, abs=16)  # each coin rounded to a dollar
    assert main(["lab", "oct10", "--scenario", str(file), "--seed", "11"]) == 0
    page = capsys.readouterr().out
    assert "seed 11" in page
    (line,) = [line for line in page.splitlines() if line.startswith("first liquidation to first ADL")]
    assert line.endswith("61.7  fitted")
    with pytest.raises(SystemExit):
        main(["lab", "oct10", "--scenario", str(file), "--from", "waves.csv"])
    assert main(["lab", "oct10", "--from", "waves.csv", "--seed", "1"]) == 5


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('fall = "0.16"', 'fall = "1.6"', "fall"),
        ('symbol = "ETH"', 'symbol = "BTC"', "different symbols"),
        ("seed = 10", "sead = 10", "sead"),
        ('"oct10_coins.csv"', '"nowhere.csv"', "coins_file"),
        ('{ t = "60s", factor = "0.12" }', '{ t = "60s", factor = "1.2" }', "shock"),
        ('sigma = "2"', 'sigma = "5"', "sigma"),
        ('step = "3s"', 'step = "never"', "step"),
    ],
)
def test_a_scenario_that_is_wrong_is_refused(tmp_path, old, new, words):
    """Source: OCT-001."""
    for name in ("oct10_coins.csv", "oct10_published.csv"):
        (tmp_path / name).write_bytes((SCENARIO.parent / name).read_bytes())
    text = SCENARIO.read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "day.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_crash(file)


def test_tables_that_are_wrong_are_refused(tmp_path):
    """Source: OCT-001, OCT-002, OCT-003."""
    file = tmp_path / "table.csv"
    for text, read in (
        ("coin,forced_usd\nBTC,1\n", read_coins),
        ("coin,forced_usd,adl_usd,forced_fills,adl_fills\nBTC,1,2,3,x\n", read_coins),
        ("coin,forced_usd,adl_usd,forced_fills,adl_fills\nBTC,1,1,1,1\nBTC,1,1,1,1\n", read_coins),
        ("figure,value,unit,source\nadl_fills,many,fills,me\n", read_published),
        ("figure,value,unit,source\nadl_fills,1,fills,me\nadl_fills,1,fills,me\n", read_published),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError) as caught:
            read(file)
        assert caught.value.line
    with pytest.raises(ConfigError, match="unknown 'DOGGO'"):
        find_coins(replace(WHOLE, coins=(replace(WHOLE.coins[0], symbol="DOGGO"),)))
    file.write_text("figure,value,unit,source\nadl_moons,1,moons,me\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="adl_moons"):
        describe_crash(replace(WHOLE, published_file=str(file)), play_crash(TINY))
    with pytest.raises(ConfigError, match="preset"):
        play_crash(replace(TINY, venue="bitmex"))
    with pytest.raises(ConfigError, match="cary"):
        play_crash(replace(TINY, liquidation={"cary": "5"}))


# ---------------------------------------------------------------- the published column


@pytest.fixture(scope="module")
def day(shared):
    return shared / "data" / "hyperliquid_adl_20251010"


def read_rows(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def total(rows, column):
    return sum((Fraction(Decimal(row[column])) for row in rows), Fraction(0))


def test_the_table_of_coins_is_the_published_one(day):
    """Whole dollars of the fifteen largest and of all others together.  Source: OCT-001."""
    rows = sorted(read_rows(day / "combined_impact_by_ticker.csv"), key=lambda row: -Decimal(row["liq_notional"]))
    groups = [(row["ticker"], [row]) for row in rows[:15]] + [("OTHERS", rows[15:])]
    columns = ("liq_notional", "adl_notional", "liq_events", "adl_events")
    expected = {name: tuple(round(total(group, column)) for column in columns) for name, group in groups}
    assert {name: tuple(facts) for name, facts in read_coins(WHOLE.coins_file).items()} == expected
    assert [coin.symbol for coin in WHOLE.coins][:4] == ["BTC", "ETH", "SOL", "HYPE"]
    assert {coin.symbol for coin in WHOLE.coins} == set(expected)


def test_the_published_column_is_what_the_files_say(day):
    """All but what needs the file per user, which was not kept.  Source: OCT-003."""
    published = read_published(WHOLE.published_file)
    coins = read_rows(day / "combined_impact_by_ticker.csv")
    timing = json.loads((day / "cascade_timing_results.json").read_text(encoding="utf-8"))
    batches = json.loads((day / "batch_processing_results.json").read_text(encoding="utf-8"))
    with gzip.open(day / "adl_flow_data.json.gz", "rt", encoding="utf-8") as file:
        flow = json.load(file)
    by_coin = read_rows(day / "adl_by_coin__HyperReplay.csv")
    forced, adl = total(coins, "liq_notional"), total(coins, "adl_notional")
    fills, adl_fills = total(coins, "liq_events"), total(coins, "adl_events")
    bursts = [second["adls"] for second in timing["timeline"]]
    assert sum(bursts) == adl_fills
    assert sum(second["liquidations"] for second in timing["timeline"]) == fills
    # the trap: each ADL's other side is among the liquidations, in every burst and in every coin
    assert all(int(row["liq_events"]) >= int(row["adl_events"]) for row in coins)
    buckets = flow["timeBuckets"]
    first_s = buckets[0]["time"] // 1000 + Fraction("0.831874") - Fraction(str(timing["delay_seconds"]))
    sums = [Fraction(bucket["cumulativeNotional"]) for bucket in buckets]
    half = next(bucket["time"] for bucket, done in zip(buckets, sums, strict=True) if done >= adl / 2)
    largest = sorted((Fraction(one["totalNotional"]) for one in flow["topAccounts"]["counterparties"]), reverse=True)
    share_of = {row["ticker"]: Fraction(row["adl_notional"]) / adl for row in coins}
    found = {
        "first_adl_s": Fraction(str(timing["delay_seconds"])),
        "forced_usd": forced,
        "adl_usd": adl,
        "adl_share": adl / forced,
        "other_usd": forced - adl,
        "other_fills": fills - adl_fills,
        "adl_fills": adl_fills,
        "adl_positions": total(by_coin, "num_users"),
        "adl_coins": Fraction(sum(int(row["adl_events"]) > 0 for row in coins)),
        "adl_coins_share": Fraction(sum(int(row["adl_events"]) > 0 for row in coins), len(coins)),
        "adl_instants": Fraction(batches["timestamps_with_both"]),
        "burst_fills_share": Fraction(max(bursts)) / adl_fills,
        "burst_usd_share": max(Fraction(bucket["notionalInBucket"]) for bucket in buckets) / adl,
        "half_s": half // 1000 - first_s,
        "last_s": buckets[-1]["time"] // 1000 - first_s,
        "top_1": largest[0] / adl,
        "top_10": sum(largest[:10]) / adl,
        "btc_share": share_of["BTC"],
        "top_3_coins_share": share_of["BTC"] + share_of["ETH"] + share_of["SOL"],
        "adl_pnl_share": total(by_coin, "closed_pnl") / adl,
    }
    for name, value in found.items():
        shown = published[name]
        assert abs(value - Fraction(shown)) <= Fraction(Decimal(1).scaleb(shown.as_tuple().exponent)) / 2, name
    stated = {"adl_users", "top_percent", "deficit_usd", "by_adl_usd"}
    assert set(published) == set(found) | stated


def test_what_the_waves_say_is_the_papers(shared):
    """Deficits with a repeated loss counted once, and what was needed.  Source: LAB-011, OCT-003."""
    from engine.lab.oct10 import count_once, read_waves

    waves = read_waves(shared / "data" / "adl_papers" / "oct10_policy_waves.csv")
    published = read_published(WHOLE.published_file)
    assert round(sum(wave.deficit for wave in count_once(waves))) == published["deficit_usd"]
    assert round(sum(wave.needed for wave in waves)) == published["by_adl_usd"]


# ---------------------------------------------------------------- the page in the documentation


def read_quoted():
    """Return the page as engine/docs/oct10.md quotes it."""
    text = (ROOT / "engine" / "docs" / "oct10.md").read_text(encoding="utf-8")
    return text.split("```text\n")[1].split("```")[0]


def test_the_documentation_quotes_the_published_figures():
    """Source: OCT-003."""
    published = read_published(WHOLE.published_file)
    figures = dict.fromkeys(FIGURES)
    facts = describe_crash(WHOLE, Played("", figures, 0, 0.0))
    for line, row in zip(compose_crash(facts).splitlines()[1:], facts["figures"], strict=False):
        name = row["what"]
        (quoted,) = [found for found in read_quoted().splitlines() if found[:44].rstrip() == name]
        assert quoted[60:] == line[60:], name
    assert len(published) == sum(row["published"] is not None for row in facts["figures"])


@pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "night", reason="half a minute: HYPOTHESIS_PROFILE=night")
def test_the_whole_day_is_as_the_documentation_quotes_it():
    """Source: OCT-001, OCT-003, STATE-003."""
    played = play_crash(WHOLE)
    assert compose_crash(describe_crash(WHOLE, played)) == read_quoted()
