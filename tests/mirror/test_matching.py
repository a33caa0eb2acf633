"""The challenge's report stream: published hashes, corners, and the compiled book against the reference's."""

import os

import numpy as np
import pytest

from engine._jit import JIT_DISABLED
from engine.bench import challenge
from engine.bench.matching import bench_workload, judge, make_engine, run_workload
from engine.errors import DataError
from engine.layout import MESSAGE, REPORT
from engine.reference.book import Book, Order, is_inside

BOUNDS_CHECKED = os.environ.get("NUMBA_BOUNDSCHECK") == "1"  # slower: one scenario stands for the five

SHORT = 400 if JIT_DISABLED else 20_000


def play(messages):
    """Return the canonical text of the compiled book's reports."""
    reports = np.zeros(3 * len(messages) + 16, REPORT)
    count = run_workload(make_engine(), messages, reports)
    return challenge.format_reports(reports[:count])


class PlainMatching:
    """The challenge's rules on the reference book."""

    def __init__(self):
        self.book, self.live, self.lines, self.priority = Book(), {}, [], 0

    def enter(self, seq, side, order_id, price, qty, is_ioc):
        sign = 1 - 2 * side
        while qty:
            maker = self.book.find_crossed(sign, price)
            if maker is None:
                break
            part = min(qty, maker.qty_lot)
            assert is_inside(sign, price, maker.price_tick)
            self.lines.append((seq, 1, f"1,{seq},{maker.price_tick},{part},{maker.order_id},{order_id}"))
            maker.qty_lot -= part
            qty -= part
            if maker.qty_lot == 0:
                self.book.remove(self.live.pop(maker.order_id))
        if qty and is_ioc:
            self.lines.append((seq, 2, f"2,{seq},{side},{order_id},{price}"))
        elif qty:
            self.priority += 1
            self.live[order_id] = Order(order_id, 1, 0, sign, price, qty, 0, self.priority)
            self.book.append(self.live[order_id])

    def apply(self, kind, side, is_ioc, qty, seq, order_id, price):
        if kind == challenge.NEW:
            self.lines.append((seq, 0, f"0,{seq},{side},{order_id},{price},{qty}"))
            self.enter(seq, side, order_id, price, qty, is_ioc)
        elif order_id not in self.live:
            code = 4 if kind == challenge.CANCEL else 5
            self.lines.append((seq, code, f"{code},{seq},{order_id}"))
        else:
            order = self.live.pop(order_id)
            self.book.remove(order)
            if kind == challenge.CANCEL:
                shown = (1 - order.side) // 2
                self.lines.append((seq, 2, f"2,{seq},{shown},{order_id},{order.price_tick}"))
            else:
                self.lines.append((seq, 3, f"3,{seq},{side},{order_id},{price},{qty}"))
                self.enter(seq, side, order_id, price, qty, False)

    def text(self):
        return "\n".join(line for *_, line in sorted(self.lines, key=lambda line: line[:2]))


def play_plain(messages):
    plain = PlainMatching()
    for kind, side, ioc, _, qty, seq, order_id, price, _ in messages.tolist():
        plain.apply(kind, side, bool(ioc), qty, seq, order_id, price)
    return plain.text()


@pytest.mark.parametrize("name", challenge.SCENARIOS)
def test_both_books_report_alike(name):
    """A short workload gives the same canonical text in both books.

    Source: MATCH-001, MATCH-002, MATCH-003, STATE-003.
    """
    messages = challenge.make_workload(name, seed=5, count=SHORT)
    assert play(messages) == play_plain(messages)


@pytest.mark.skipif(JIT_DISABLED, reason="two million messages take the compiled book")
@pytest.mark.parametrize("name", [name for name in challenge.SCENARIOS if not BOUNDS_CHECKED or name == "normal"])
def test_published_hashes(name):
    """The book reproduces the published hash of all five scenarios, byte by byte.

    Source: MATCH-001, MATCH-002, MATCH-003.
    """
    messages = challenge.make_workload(name)
    assert len(messages) == 1_996_097
    assert np.bincount(messages["kind"]).tolist() == [1_000_000, 823_422, 172_675]
    assert int(messages["ioc"].sum()) == 150_234
    figures, reports = bench_workload(messages, 1)
    row = judge(figures, reports, name, challenge.SEED, challenge.COUNT)
    assert row["published"] is True
    assert row["sha256"] == challenge.SCENARIOS[name].sha256


def script(*rows):
    """Return MESSAGE rows from (kind, side, ioc, qty, id, price)."""
    messages = np.zeros(len(rows), MESSAGE)
    for at, field in enumerate(("kind", "side", "ioc", "qty", "order_id", "price")):
        messages[field] = [row[at] for row in rows]
    messages["seq"] = np.arange(len(rows))
    return messages


N, C, M = challenge.NEW, challenge.CANCEL, challenge.MODIFY
CORNERS = {
    "an id is used again after its death": [
        (N, 0, 0, 5, 1, 10), (C, 0, 0, 0, 1, 0), (N, 1, 0, 5, 1, 12), (N, 0, 0, 5, 2, 12), (C, 0, 0, 0, 1, 0),
    ],
    "cancel and modify of the unknown and of the just filled": [
        (C, 0, 0, 0, 7, 0), (M, 0, 0, 3, 7, 10), (N, 0, 0, 5, 1, 10), (N, 1, 0, 5, 2, 10), (C, 0, 0, 0, 1, 0),
        (M, 0, 0, 4, 1, 10), (C, 0, 0, 0, 2, 0),
    ],
    "an IOC meets nothing, and many levels": [
        (N, 0, 1, 9, 1, 10), (N, 1, 0, 1, 2, 11), (N, 1, 0, 2, 3, 12), (N, 1, 0, 3, 4, 4000), (N, 0, 1, 9, 5, 100_000),
        (N, 0, 1, 9, 6, 10),
    ],
    "a modify to the same price loses its place": [
        (N, 0, 0, 5, 1, 10), (N, 0, 0, 5, 2, 10), (M, 0, 0, 5, 1, 10), (N, 1, 0, 6, 3, 10),
    ],
    "a modify trades in full": [
        (N, 0, 0, 5, 1, 10), (N, 1, 0, 5, 2, 12), (M, 0, 0, 5, 1, 12), (C, 0, 0, 0, 1, 0), (C, 0, 0, 0, 2, 0),
    ],
    "a level is emptied and filled again": [
        (N, 0, 0, 5, 1, 10), (N, 1, 0, 5, 2, 10), (N, 1, 0, 4, 3, 10), (N, 0, 0, 4, 4, 10), (N, 0, 0, 1, 5, 10),
        (C, 0, 0, 0, 5, 0),
    ],
    "the last order of a side goes": [
        (N, 0, 0, 5, 1, 10), (N, 1, 0, 5, 2, 4097), (C, 0, 0, 0, 2, 0), (C, 0, 0, 0, 1, 0), (N, 1, 0, 3, 3, 9),
        (N, 0, 0, 4, 4, 9), (C, 0, 0, 0, 4, 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
def test_corners(name):
    """The corners that catch other books.

    Source: MATCH-001, MATCH-002, MATCH-003, CMD-003.
    """
    messages = script(*CORNERS[name])
    assert play(messages) == play_plain(messages)


def test_a_corner_by_hand():
    """An IOC of 9 eats 1 @ 11 and 2 @ 12 and 3 @ 4,000, and its last 3 are canceled.

    Source: MATCH-001, MATCH-002.
    """
    text = play(script(*CORNERS["an IOC meets nothing, and many levels"]))
    assert text.split("\n") == [
        "0,0,0,1,10,9", "2,0,0,1,10", "0,1,1,2,11,1", "0,2,1,3,12,2", "0,3,1,4,4000,3", "0,4,0,5,100000,9",
        "1,4,11,1,2,5", "1,4,12,2,3,5", "1,4,4000,3,4,5", "2,4,0,5,100000", "0,5,0,6,10,9", "2,5,0,6,10",
    ]  # fmt: skip


def test_dumps(tmp_path):
    """A dump is read back as written; a foreign, cut or wrong one is refused naming the field.

    Source: CLI-002.
    """
    messages = challenge.make_workload("normal", count=50)
    challenge.write_dump(messages, tmp_path / "w.bin")
    assert challenge.read_dump(tmp_path / "w.bin").tobytes() == messages.tobytes()
    data = (tmp_path / "w.bin").read_bytes()
    wrong = messages.copy()
    wrong["side"][3] = 2
    challenge.write_dump(wrong, tmp_path / "side.bin")
    for name, bad in (("short.bin", data[:-1]), ("magic.bin", b"x" + data[1:]), ("empty.bin", b"")):
        (tmp_path / name).write_bytes(bad)
    for name, field in (("short.bin", "count"), ("magic.bin", "magic"), ("empty.bin", "magic"), ("side.bin", "side")):
        with pytest.raises(DataError, match=f"{name}.*{field}"):
            challenge.read_dump(tmp_path / name)
    with pytest.raises(DataError, match="gone"):
        challenge.read_dump(tmp_path / "gone.bin")
