"""The public matching-engine challenge: five workloads, one report stream that every correct book reproduces.

The workload is a function of scenario, seed and count (facts published by its authors); the canonical text of the
reports has a published SHA-256 per scenario at seed 23 and a million orders.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import PRICE_MAX_LIMIT
from engine.errors import DataError, explain_os
from engine.files import write_whole
from engine.layout import MESSAGE

TICK = 0.005
START = 167.52
LEVELS = 800
SEED = 23
COUNT = 1_000_000
DUMP_MAGIC = 0x4D4542575F303031
DUMP_VERSION = 1

NEW, CANCEL, MODIFY = 0, 1, 2

Messages = NDArray[np.void]
Reports = NDArray[np.void]


class Scenario(NamedTuple):
    """A mid-price path and the hash its reports must have."""

    sigma: float
    swing: float
    sha256: str


SCENARIOS = {
    "static": Scenario(0, 0, "9803843ee404fc29c9a0aa5614f8f0d5a58b5c44fcac9ef89067886fcaaa30d1"),
    "normal": Scenario(0.15, 0.02, "e9b2e3926854410b01a035aeb25dd05f1e597c233be8263de9eb49b6713d367e"),
    "swing-25": Scenario(0.5, 0.25, "61a84be9469661bd039e00dbc9a7c011e70b6ace37aadfe60045ea083b05f4df"),
    "swing-40": Scenario(0.5, 0.40, "3cb0175e7982ff09ea220d1feaee3844cf9116a5ce455757879dea1d880b9b9f"),
    "flash-crash": Scenario(0.5, 0.60, "cff8d3f94b709fc64a8b2058a6ca4fb6920364904796e46906895e362d2bb16b"),
}


class Day(NamedTuple):
    """What the scenarios of a seed have in common: all but the mid."""

    steps: NDArray[np.float64]  # (count, 2): what moves the mid before each new order
    away_tick: NDArray[np.int64]  # (count,): where each is placed, from the mid
    messages: Messages  # their lives, in order of time; `price` is relative to the new order's


# The five scenarios are asked for one after the other, and this is most of the work.
@lru_cache(maxsize=1)
def draw_day(seed: int, count: int) -> Day:
    """Draw the new orders, four uniforms each for the mid's step (two), the level, the quantity; and their lives."""
    random = np.random.RandomState(seed)
    draws = random.random_sample((count, 4))
    place = np.arange(LEVELS, dtype=np.float64)
    weights = np.cumsum(1 / (place + 1) ** 2.23 + 5 * np.exp(-0.5 * (place - 8) ** 2))
    level = np.minimum(np.searchsorted(weights, draws[:, 2] * weights[-1], side="left"), LEVELS - 1)
    side = (np.arange(count) >= count // 2).astype(np.int64)  # 0 buy, 1 sell
    qty = 1 + np.floor(draws[:, 3] * 100).astype(np.int64)
    order = shuffle(count, random)
    rows = schedule(level.tolist(), side.tolist(), qty.tolist(), order, draw_stream(random).__next__)
    table = np.array(rows, np.int64).reshape(-1, 7)
    table = table[np.argsort(table[:, 0], kind="stable")]
    messages = np.zeros(len(table), MESSAGE)
    for at, field in enumerate(("kind", "side", "ioc", "qty", "order_id", "price"), 1):
        messages[field] = table[:, at]
    messages["seq"] = np.arange(len(table))
    return Day(draws[:, :2].copy(), np.where(side == 0, -1, 1) * (level + 1), messages)


def walk_mid(first: list[float], second: list[float], step: float) -> list[int]:
    """Return the mid in ticks before each order: Box-Muller on pairs of uniforms, rounded half away from zero.

    One at a time through the C library's functions: vectorised ones differ in the last bit, and so in a tick.
    """
    mid, drift, found = START, -step * step / 2, []
    for one, two in zip(first, second, strict=True):
        normal = math.sqrt(-2 * math.log(max(one, 1e-300))) * math.cos(2 * math.pi * two)
        mid *= math.exp(drift + step * normal)
        found.append(int(mid / TICK + 0.5))
    return found


def shuffle(count: int, random: np.random.RandomState) -> list[int]:
    """Return 0..count-1 shuffled from the end."""
    order = list(range(count))
    draws = random.random_sample(max(count - 1, 0)).tolist()
    for at, draw in zip(range(count - 1, 0, -1), draws, strict=True):
        other = int(draw * (at + 1))
        order[at], order[other] = order[other], order[at]
    return order


def draw_stream(random: np.random.RandomState) -> Iterator[float]:
    """Yield uniforms for ever."""
    while True:
        yield from random.random_sample(65_536).tolist()


def make_workload(name: str, seed: int = SEED, count: int = COUNT) -> Messages:
    """Return the MESSAGE rows of a scenario, in order of time."""
    scenario, day = SCENARIOS[name], draw_day(seed, count)
    # as published: swing / sqrt(count) is the same number but for its last bit, and a bit moves a tick now and then
    span = (scenario.swing / scenario.sigma) ** 2 / count if scenario.sigma and count else 0.0
    step = scenario.sigma * math.sqrt(span)
    mid_tick = np.array(walk_mid(day.steps[:, 0].tolist(), day.steps[:, 1].tolist(), step), np.int64)
    price = np.maximum(mid_tick + day.away_tick, 1)
    messages = day.messages.copy()
    enters = messages["kind"] != CANCEL
    messages["price"][enters] += price[messages["order_id"][enters] - 1]
    return messages


def schedule(
    level: list[int], side: list[int], qty: list[int], order: list[int], draw: Callable[[], float]
) -> list[tuple[int, ...]]:
    """Return rows (time, kind, side, ioc, qty, id, ticks from the new order's price): one order's life after the other.

    The clock is common: an order arrives when the one before has had its last message.
    """
    rows: list[tuple[int, ...]] = []
    clock = 0
    for at in order:
        side_at, qty_at, order_id = side[at], qty[at], at + 1
        is_ioc = draw() < 0.15
        rows.append((clock, NEW, side_at, int(is_ioc), qty_at, order_id, 0))
        if is_ioc:
            clock += 1
            continue
        changed: tuple[int, ...] = ()
        if draw() < 0.20:
            clock += 30 + int(draw() * 70)
            nearer = (1 - 2 * side_at) if draw() < 0.80 else 0
            changed = (MODIFY, side_at, 0, qty_at + 1, order_id, nearer)
            rows.append((clock, *changed))
        if draw() < 0.95:
            clock += int(-math.log(draw()) / (math.log(2) / 431 / math.sqrt(1 + level[at])))
            rows.append((clock, CANCEL, side_at, 0, 0, order_id, 0))
            if draw() < 0.02:
                clock += 1 + int(draw() * 20)
                rows.append((clock, CANCEL, side_at, 0, 0, order_id, 0))
            if changed and draw() < 0.02:
                clock += 1 + int(draw() * 20)
                rows.append((clock, *changed))
        clock += 1
    return rows


def write_dump(messages: Messages, path: str | Path) -> None:
    """Write the challenge's dump: a header of magic, version and count, then the records."""
    header = np.array([DUMP_MAGIC], "<u8").tobytes() + np.array([DUMP_VERSION, len(messages)], "<u4").tobytes()
    write_whole(path, header + messages.tobytes())


def read_dump(path: str | Path) -> Messages:
    """Read the challenge's dump.

    Raises
    ------
    DataError
        If it cannot be read, is not a dump of version 1, is cut short, or holds a value outside its range.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(path, None, None, f"cannot be read: {explain_os(error, path)}") from error
    if len(data) < 16 or int.from_bytes(data[:8], "little") != DUMP_MAGIC:
        raise DataError(path, None, "magic", "expected a matching-challenge dump")
    version, count = (int(number) for number in np.frombuffer(data[8:16], "<u4"))
    if version != DUMP_VERSION:
        raise DataError(path, None, "version", f"expected {DUMP_VERSION}, got {version}")
    if len(data) != 16 + count * MESSAGE.itemsize:
        raise DataError(path, None, "count", f"expected {count} records of 40 bytes, got {len(data) - 16} bytes")
    messages = np.frombuffer(data, MESSAGE, offset=16).copy()
    enters = messages["kind"] != CANCEL
    checks = (
        ("type", messages["kind"] > MODIFY, "0, 1 or 2"),
        ("side", messages["side"] > 1, "0 or 1"),
        ("id", messages["order_id"] < 1, "a positive id below 2**63"),
        ("qty", enters & (messages["qty"] < 1), "1 to 2**31 - 1"),
        ("price", enters & ((messages["price"] < 1) | (messages["price"] > PRICE_MAX_LIMIT)), "1 to 2**31 - 1 ticks"),
    )
    for field, wrong, expected in checks:
        if wrong.any():
            raise DataError(path, int(np.argmax(wrong)) + 1, field, f"expected {expected}")
    return messages


def format_reports(reports: Reports) -> str:
    """Return the canonical text: reports stably sorted by (seq, type), one line each, no newline at the end."""
    ordered = reports[np.lexsort((reports["kind"], reports["seq"]))]
    lines = []
    for seq, order_id, other_id, price, qty, kind, side, _ in ordered.tolist():
        if kind in (0, 3):
            lines.append(f"{kind},{seq},{side},{order_id},{price},{qty}")
        elif kind == 1:
            lines.append(f"1,{seq},{price},{qty},{order_id},{other_id}")
        elif kind == 2:
            lines.append(f"2,{seq},{side},{order_id},{price}")
        else:
            lines.append(f"{kind},{seq},{order_id}")
    return "\n".join(lines)


def hash_reports(reports: Reports) -> str:
    """Return the SHA-256 of the canonical text."""
    return hashlib.sha256(format_reports(reports).encode()).hexdigest()
