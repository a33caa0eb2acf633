"""`perp bench risk`: what the chain behind a fill costs with a million accounts, each figure beside what it is held to.

Every figure comes with its raw rows.  Time is the least of a few rounds, each on a fresh copy of the same exchange, the
copy untimed; of marks that trigger nothing, the least of batches that follow one another on one exchange.  Memory is
what the arrays set aside, doubling included.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.bench.challenge import SEED, make_workload
from engine.bench.flow import START_MID, make_rows, map_messages
from engine.bench.matching import MARKET, REPORTS_PER_MESSAGE, make_engine, run_workload
from engine.bench.pops import measure_pops
from engine.codes import (
    ADL_FILL,
    ASSIGN,
    DEPOSIT,
    FUND_DEPOSIT,
    FUNDING,
    FUNDING_PAYMENT,
    LEVEL,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    MARGIN_CALL,
    MARK,
    MARK_MOVED,
    REJECTED,
    SET_LEVERAGE,
    SET_TIERS,
)
from engine.compiled import CHUNK, Capacity, CompiledEngine, Rows
from engine.contract import Market, Tier, build_setup
from engine.errors import ConfigError, InvariantError, list_known
from engine.layout import EVENT, REPORT

ROUNDS = 3
ADL_ROUNDS = 5
BATCHES, BATCH_MARKS = 8, 100_000  # of marks
START_TICK = 1_000_000
MODES = ("isolated", "cross")
TIERS = (
    Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),
    Tier(floor=Decimal(10**9), initial=Decimal("0.02"), maintenance=Decimal("0.01")),
)
FIGURES = ("marks", "pops", "loop", "crash", "adl", "funding", "threads", "tiers")
# What a change makes of the rates of TIERS.
TIER_CHANGES = {"half": "0.5", "a quarter more": "1.25", "twice": "2", "four times": "4"}


def make_market(index: int, mode: str) -> Market:
    """Return a market that starts at 1,000,000 ticks and lets liquidations walk half of that."""
    return replace(
        MARKET,
        symbol=f"M{index}",
        settle="USD",
        price_max=Decimal(1 << 22),
        initial_mark=Decimal(START_TICK),
        margin_mode=mode,
        default_leverage=50,
        liquidation_collar=Decimal("0.5"),
        tiers=TIERS,
    )


def scale_tiers(factor: str) -> tuple[Tier, ...]:
    """Return TIERS with all rates times a factor."""
    by = Decimal(factor)
    return tuple(replace(tier, initial=tier.initial * by, maintenance=tier.maintenance * by) for tier in TIERS)


def make_crowd(
    accounts: int,
    markets: int,
    mode: str,
    leverage: tuple[float, float] | NDArray[np.float64],
    side: int = 0,
    tables: tuple[tuple[Tier, ...], ...] = (),
) -> CompiledEngine:
    """Return an exchange on which every account has a position in every market.

    Parameters
    ----------
    accounts, markets
        How many of each.
    mode : {"isolated", "cross"}
    leverage : (low, high) or float64 (accounts,)
        Of the positions: evenly drawn, or each account's own.
    side
        1 or -1, 0 for a coin's throw.
    tables
        Further tier tables of every market.
    """
    listed = [replace(make_market(index, mode), tier_tables=tables) for index in range(markets)]
    engine = CompiledEngine(build_setup(listed), Capacity())
    random = np.random.RandomState(SEED)
    for market in range(markets):
        drawn = random.uniform(*leverage, accounts) if isinstance(leverage, tuple) else leverage
        lots = random.randint(1, 100, accounts)
        sides = side or random.randint(0, 2, accounts) * 2 - 1
        apply_all(
            engine,
            make_rows(
                accounts,
                ASSIGN,
                market=market,
                account=np.arange(1, accounts + 1),
                side=sides,
                qty_lot=lots,
                price_tick=START_TICK,
                amount_quote=(lots * START_TICK / drawn).astype(np.int64),
            ),
        )
    return engine


def apply_all(engine: CompiledEngine, rows: Rows) -> None:
    """Apply rows of which none may be rejected."""
    for start in range(0, len(rows), CHUNK):
        events = engine.apply(rows[start : start + CHUNK])
        if (events["kind"] == REJECTED).any():
            raise InvariantError("the benchmark's own setup was rejected")


def time_turns(engines: Sequence[CompiledEngine], rows: Rows, rounds: int = ROUNDS) -> list[tuple[float, Rows]]:
    """Return of each exchange the least seconds a batch takes on fresh copies, and its events; they take turns.

    Every copy gets the event buffer of its exchange's one before, so that no round but the first finds new memory.
    """
    found = [(float("inf"), np.zeros(0, EVENT)) for _ in engines]
    for _ in range(rounds):
        for place, engine in enumerate(engines):
            best, events = found[place]
            twin = engine.copy()
            room = events.base  # of the buffer itself; of a copy of a part of it the base has another type
            if isinstance(room, np.ndarray) and room.dtype == EVENT:  # which the kernel made
                twin.events = room
            elif isinstance(room, np.ndarray) and room.dtype == np.uint8:  # which the shell made
                start = events.ctypes.data - room.ctypes.data
                size = (room.nbytes - start) // EVENT.itemsize * EVENT.itemsize
                twin.events = room[start : start + size].view(EVENT)
            began = perf_counter()
            events = twin.apply(rows)
            found[place] = (min(best, perf_counter() - began), events)
    return found


def time_rounds(engine: CompiledEngine, rows: Rows, rounds: int = ROUNDS) -> tuple[float, Rows]:
    """Do the same with one exchange."""
    return time_turns([engine], rows, rounds)[0]


def count_kind(events: Rows, kind: int) -> int:
    """Return how many events are of a kind."""
    return int((events["kind"] == kind).sum())


# ---------------------------------------------------------------- the figures


def make_marks(markets: int) -> list[Rows]:
    """Return batches of marks, market after market, within 0.02 % of the start; none repeats its market's last one."""
    steps = np.random.RandomState(SEED).randint(1, 401, (BATCHES * BATCH_MARKS // markets, markets))
    ticks = (START_TICK - 200 + (200 + steps.cumsum(axis=0)) % 401).ravel()
    rows = make_rows(len(ticks), MARK, price_tick=ticks, market=np.arange(len(ticks)) % markets)
    return [rows[start : start + BATCH_MARKS] for start in range(0, len(rows), BATCH_MARKS)]


def time_batches(engine: CompiledEngine, batches: Sequence[Rows]) -> float:
    """Return the least seconds a batch of marks takes on an exchange that has just applied the one before."""
    best = float("inf")
    for place, batch in enumerate(batches):
        began = perf_counter()
        events = engine.apply(batch)
        seconds = perf_counter() - began
        if not len(events) == count_kind(events, MARK_MOVED) == len(batch):
            raise InvariantError("a mark of the benchmark moved nothing, or triggered something")
        del events  # whoever holds them holds their buffer
        best = min(best, seconds) if place > 0 else best
    return best


def bench_marks(accounts: int) -> dict[str, Any]:
    """Measure marks that trigger nothing, with 1,000 accounts and ten times as many until `accounts`.

    `ns_per_mark` is what a mark costs an exchange that is applying marks: of batches of 100,000 that follow one another
    the least but for the first, every mark moving its market's.  `mark_flat_ratio` is the worst of a size beside the
    smallest of its kind.  `first_batch_ms` is one such batch right after all arrays were copied, gigabytes that have
    swept every cache and table of pages: the same marks, and once per batch, whatever its length, what it takes to
    find code and state again.
    """
    rows: list[dict[str, Any]] = []
    sizes = [1_000]
    while sizes[-1] * 10 <= accounts:
        sizes.append(sizes[-1] * 10)
    ratio = 1.0
    for mode in MODES:
        for markets in (1, 8):
            batches = make_marks(markets)
            first = 0.0
            for size in sizes:
                engine = make_crowd(size, markets, mode, (2, 45))
                cold, _ = time_rounds(engine, batches[0])
                ns = time_batches(engine, batches) * 1e9 / BATCH_MARKS
                first = first or ns
                ratio = max(ratio, ns / first)
                row = {"mode": mode, "markets": markets, "accounts": size, "ns_per_mark": round(ns, 1)}
                row |= {"beside_smallest": round(ns / first, 2), "first_batch_ms": round(cold * 1e3, 2)}
                rows.append(row)
    return {"mark_flat_ratio": round(ratio, 2), "rows": rows}


def bench_pops() -> dict[str, Any]:
    """Count how often a mark makes the engine look at a cross account that is fine; `bench/pops.py` has the bound.

    20,000 steps of 0.02 %, counted, not timed: the same on every machine.
    """
    rows = [measure_pops(markets=markets, marks=20_000) for markets in (1, 2, 4, 8)]
    return {"needless_pops_per_mark": max(row["needless_pops_per_mark"] for row in rows), "rows": rows}


def make_traders(accounts: int) -> CompiledEngine:
    """Return an exchange whose accounts have money and a place in the one market, but no position."""
    market = replace(make_market(0, "cross"), initial_mark=Decimal(START_MID))
    engine = CompiledEngine(build_setup([market]), Capacity())
    everyone = np.arange(1, accounts + 1)
    apply_all(engine, make_rows(accounts, DEPOSIT, account=everyone, amount_quote=10**10))
    apply_all(engine, make_rows(accounts, SET_LEVERAGE, account=everyone, amount_quote=20))
    return engine


def play_all(engine: CompiledEngine, rows: Rows) -> int:
    """Apply rows in chunks, as a replay does; return how many events came of them."""
    return sum(len(engine.apply(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK))


def bench_loop(accounts: int, orders: int) -> dict[str, Any]:
    """Measure order flow through the whole chain beside the same messages through the book alone, taking turns.

    `loop_over_matching` is the better of the chain's rounds beside the better of the book's.  Both begin each round
    with a new exchange, and write their reports or events to memory that the first round has written to.
    """
    messages = make_workload("normal", SEED, orders)
    reports = np.zeros(REPORTS_PER_MESSAGE * len(messages) + 16, REPORT)
    rows: list[dict[str, Any]] = []
    for size in (1_000, max(accounts // 10, 1_000)):
        commands, traders = map_messages(messages, size), make_traders(size)
        twin = traders.copy()
        book, chain = [], []
        for _ in range(ROUNDS + 1):
            engine = make_engine()
            began = perf_counter()
            run_workload(engine, messages, reports)
            book.append(len(messages) / (perf_counter() - began))
            twin.state = traders.copy().state  # and the event buffers it has
            began = perf_counter()
            events = play_all(twin, commands)
            chain.append(len(messages) / (perf_counter() - began))
        row = {"accounts": size, "messages": len(messages), "events": events}
        row |= {"matching_messages_per_s": round(max(book)), "loop_messages_per_s": round(max(chain))}
        rows.append(row | {"ratio": round(max(chain) / max(book), 3)})
    return {"loop_over_matching": rows[-1]["ratio"], "rows": rows}


def bench_crash(accounts: int) -> dict[str, Any]:
    """Measure a mark that makes a tenth of the accounts liquidatable at once, the fund paying for all of them.

    `us_per_liquidation` has the fills on the book in it.
    """
    rows: list[dict[str, Any]] = []
    for mode in MODES:
        leverage = np.full(accounts, 2.0)
        fallen = np.random.RandomState(SEED).permutation(accounts)[: accounts // 10]
        leverage[fallen] = np.random.RandomState(SEED + 1).uniform(25, 45, len(fallen))
        engine = make_crowd(accounts, 1, mode, leverage, side=1)
        low = START_TICK * 95 // 100
        lots = int(engine.state.positions["qty_lot"][1:].sum()) // 10
        apply_all(engine, make_rows(1, FUND_DEPOSIT, amount_quote=10**15))
        depth = np.arange(2_000)
        apply_all(engine, make_rows(2_000, LEVEL, side=1, price_tick=low - depth, qty_lot=1 + lots // 1_500))
        seconds, events = time_rounds(engine, make_rows(1, MARK, price_tick=low))
        count = count_kind(events, LIQUIDATION_STARTED)
        used = sum(array.nbytes for array in engine.state)
        row = {"mode": mode, "accounts": accounts, "liquidations": count, "ms": round(seconds * 1e3, 2)}
        row |= {"fills": count_kind(events, LIQUIDATION_FILL), "us_each": round(seconds * 1e6 / max(count, 1), 2)}
        rows.append(row | {"bytes_per_account": round(used / accounts, 1)})
    return {
        "us_per_liquidation": max(row["us_each"] for row in rows),
        "bytes_per_account": max(row["bytes_per_account"] for row in rows),
        "rows": rows,
    }


def bench_adl(accounts: int) -> dict[str, Any]:
    """Measure the first queue over all accounts, what each victim costs after it, and a burst that reuses the queue.

    One bankrupt with one lot's victim pays for the queue alone; one whose position takes 20,000 victims, less that, for
    the victims; then a hundredth of the accounts go bankrupt at one mark.  The three take turns, because a difference
    of two of them is told.
    """
    rows: list[dict[str, Any]] = []
    for mode in MODES:
        engines: dict[str, CompiledEngine] = {}
        for name, bankrupts, lots in (("queue", 1, 1), ("victims", 1, accounts), ("burst", accounts // 100, 1)):
            leverage = np.random.RandomState(SEED).uniform(2, 45, accounts)
            leverage[:bankrupts] = 60
            engines[name] = make_crowd(accounts, 1, mode, leverage, side=-1)
            owners = np.arange(accounts + 1, accounts + 1 + bankrupts)
            cash = lots * START_TICK // 60
            position = {"account": owners, "side": 1, "qty_lot": lots, "price_tick": START_TICK, "amount_quote": cash}
            apply_all(engines[name], make_rows(bankrupts, ASSIGN, **position))
        found: dict[str, float] = {}
        timed = time_turns(list(engines.values()), make_rows(1, MARK, price_tick=START_TICK * 95 // 100), ADL_ROUNDS)
        for name, (seconds, events) in zip(engines, timed, strict=True):
            found |= {f"{name}_ms": round(seconds * 1e3, 2), f"{name}_victims": count_kind(events, ADL_FILL)}
        after = (found["victims_ms"] - found["queue_ms"]) * 1e3 / max(found["victims_victims"] - 1, 1)
        rows.append({"mode": mode, "accounts": accounts, **found, "us_per_victim": round(after, 2)})
    return {
        "adl_heap_ms": max(row["queue_ms"] for row in rows),
        "adl_victim_us": max(row["us_per_victim"] for row in rows),
        "rows": rows,
    }


def bench_funding(accounts: int) -> dict[str, Any]:
    """Measure one funding stamp that every account pays or receives."""
    rows: list[dict[str, Any]] = []
    for mode in MODES:
        engine = make_crowd(accounts, 1, mode, (2, 45))
        seconds, events = time_rounds(engine, make_rows(1, FUNDING, amount_quote=100_000))
        payments = count_kind(events, FUNDING_PAYMENT)
        rows.append({"mode": mode, "accounts": accounts, "payments": payments, "ms": round(seconds * 1e3, 2)})
    return {"funding_ms": max(row["ms"] for row in rows), "rows": rows}


def bench_tiers(accounts: int) -> dict[str, Any]:
    """Measure a change of the tier table of a market in which every account has a position.

    `tiers_ms` is the worst of the changes.  Four times the rates brings near, and calls, a good part of this crowd of
    leverage 2 to 45: that row says what looking at so many costs.
    """
    rows: list[dict[str, Any]] = []
    tables = tuple(scale_tiers(factor) for factor in TIER_CHANGES.values())
    for mode in MODES:
        engine = make_crowd(accounts, 1, mode, (2, 45), tables=tables)
        for number, name in enumerate(TIER_CHANGES, 1):
            change = make_rows(1, SET_TIERS, amount_quote=number)
            seconds, _ = time_rounds(engine, change)
            twin = engine.copy()
            events = twin.apply(change)
            looked_at = int((twin.state.positions["table"] != 0).sum())  # those well by the new table
            row = {"mode": mode, "accounts": accounts, "rates": name, "ms": round(seconds * 1e3, 3)}
            rows.append(row | {"looked_at": looked_at, "calls": count_kind(events, MARGIN_CALL)})
    return {"tiers_ms": max(row["ms"] for row in rows), "rows": rows}


def bench_threads(orders: int) -> dict[str, Any]:
    """Measure two independent exchanges in two threads beside one alone: 2 where nothing is shared."""
    commands = map_messages(make_workload("normal", SEED, orders), 1_000)
    traders = make_traders(1_000)
    rows: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        times = []
        for count in (1, 2):
            twins = [traders.copy() for _ in range(count)]
            threads = [Thread(target=play_all, args=(twin, commands)) for twin in twins]
            began = perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            times.append(perf_counter() - began)
        one, two = times
        rows.append({"one_ms": round(one * 1e3, 1), "two_ms": round(two * 1e3, 1), "scaling": round(2 * one / two, 2)})
    return {"thread_scaling": max(row["scaling"] for row in rows), "rows": rows}


def bench_risk(figures: Sequence[str] | None, accounts: int, orders: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each figure and what was found: the keys that stand for it, and `rows`.

    Parameters
    ----------
    figures : sequence of str, optional
        Which; all by default.
    accounts : int
        The largest crowd.
    orders : int
        New orders of the challenge's workload, for `loop` and `threads`.

    Raises
    ------
    ConfigError
        If a figure is not known.
    """
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "marks": lambda: bench_marks(accounts),
        "pops": bench_pops,
        "loop": lambda: bench_loop(accounts, orders),
        "crash": lambda: bench_crash(accounts),
        "adl": lambda: bench_adl(accounts),
        "funding": lambda: bench_funding(accounts),
        "threads": lambda: bench_threads(orders),
        "tiers": lambda: bench_tiers(accounts),
    }
    for name in figures or FIGURES:
        if name not in known:
            raise ConfigError(f"--only: unknown '{name}', {list_known(name, FIGURES)}")
    for name in figures or FIGURES:
        yield name, known[name]()


def format_figure(name: str, found: dict[str, Any]) -> str:
    """Return a figure as a small table for people."""
    rows = found["rows"]
    keys = "  ".join(f"{key} {value}" for key, value in found.items() if key != "rows")
    titles = list(rows[0])
    cells = [[f"{row[title]:,}" if not isinstance(row[title], str) else row[title] for title in titles] for row in rows]
    widths = [max(len(title), *(len(line[at]) for line in cells)) for at, title in enumerate(titles)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    head = "  ".join(title.rjust(width) for title, width in zip(titles, widths, strict=True))
    return "\n".join([f"{name}: {keys}", head, *lines, ""])
