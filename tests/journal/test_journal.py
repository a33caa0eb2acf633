"""The command log: what it holds, what it refuses, what a failing disk costs (JRN-001 to JRN-006)."""

import json
import logging
import os
import resource
import subprocess
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine import Exchange, Market, commands
from engine.cli import main
from engine.codes import DEPOSIT, MARK, REJECTED
from engine.contract import Tier
from engine.errors import CapacityError, ConfigError, DataError
from engine.exchange import Capacity, verify_journal
from engine.journal import COMMANDS, FRAME, FRAME_COMMANDS, LOG, Journal, Log, build_frame
from engine.layout import COMMAND

ROOT = Path(__file__).resolve().parents[2]
TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
MARKETS = [Market(symbol="BTCUSDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=TIERS)]


def make_rows(count, start=0):
    """Return deposits and marks, every one of which changes the state."""
    rows = np.zeros(count, COMMAND)
    at = np.arange(start, start + count)
    rows["ts_ns"] = at + 1
    rows["kind"] = np.where(at % 2, MARK, DEPOSIT)
    rows["account"], rows["amount_quote"], rows["price_tick"] = np.where(at % 2, 0, 1 + at % 5), 10 + at % 7, 1000 + at
    return rows


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("engine.journal").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("engine.journal").setLevel(logging.NOTSET)


def write(folder, count, batch=10, **options):
    exchange = Exchange.open(folder, MARKETS, **options)
    for start in range(0, count, batch):
        exchange.apply(make_rows(min(batch, count - start), start))
    exchange.journal.commit()
    return exchange


def reopen(folder, **options):
    """Return the exchange a journal tells of, the journal closed again."""
    exchange = Exchange.open(folder, **options)
    exchange.journal.close()
    return exchange


@cache
def digest_after(count):
    exchange = Exchange(MARKETS)
    exchange.apply(make_rows(count))
    return exchange.digest()


def test_what_was_applied_comes_back(tmp_path):
    """JRN-001 JRN-003: same state, and what is applied next is written behind it."""
    exchange = write(tmp_path / "log", 95)
    assert exchange.journal.durable_seq == exchange.journal.seq == 95
    exchange.close()
    exchange.close()
    for total in (95, 95 + 5):
        again = Exchange.open(tmp_path / "log")
        assert again.digest() == digest_after(total)
        assert (again.recovery.commands, again.recovery.tail.lost_bytes) == (total, 0)
        again.apply(make_rows(5, total))
        again.close()
    assert reopen(tmp_path / "log").recovery.digests == 3


def test_rejections_are_commands_too(tmp_path):
    exchange = Exchange.open(tmp_path, MARKETS)
    events = exchange.apply([commands.Withdraw(account=1, amount_quote=5), commands.Deposit(account=1, amount_quote=5)])
    assert events["kind"][0] == REJECTED
    exchange.close()
    assert reopen(tmp_path).engine.count_commands() == 2


def test_large_batches_become_several_frames(tmp_path):
    count = 2 * FRAME_COMMANDS + 1
    exchange = Exchange.open(tmp_path, MARKETS)
    exchange.apply(make_rows(count))
    exchange.journal.close()
    assert [len(frame.rows) for frame in Log(tmp_path).frames()] == [FRAME_COMMANDS, FRAME_COMMANDS, 1]
    assert reopen(tmp_path).digest() == digest_after(count)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_snapshot_spares_the_replay(tmp_path, engine):
    """JRN-005: the newest sound one is taken, a damaged one left aside, two are kept."""
    exchange = Exchange.open(tmp_path, MARKETS, engine)
    for start in range(0, 40, 10):
        exchange.apply(make_rows(10, start))
        newest = exchange.snapshot()
    exchange.apply(make_rows(3, 40))
    exchange.close()
    kept = sorted(path.name for path in tmp_path.glob("snapshot-*"))
    assert kept == ["snapshot-00000000000000000030.npz", "snapshot-00000000000000000040.npz"]
    opened = reopen(tmp_path, engine=engine)
    assert (opened.recovery.snapshot_seq, opened.digest()) == (40, digest_after(43))
    newest.write_bytes(newest.read_bytes()[:-50])
    opened = reopen(tmp_path, engine=engine)
    assert (opened.recovery.snapshot_seq, opened.digest()) == (30, digest_after(43))


def test_a_torn_tail_is_cut_wherever_it_is_torn(tmp_path):
    """JRN-003 JRN-004: at every length the log is a prefix of whole frames, and says what was cut."""
    write(tmp_path / "log", 6, batch=2).journal.close()
    whole = (tmp_path / "log" / LOG).read_bytes()
    ends = [frame.offset for frame in Log(tmp_path / "log").frames()] + [len(whole)]
    for length in range(ends[0], len(whole) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / LOG).write_bytes(whole[:length])
        exchange = Exchange.open(folder, engine="reference")
        sound = max(end for end in ends if end <= length)
        assert exchange.recovery.commands == 2 * ends.index(sound)
        assert exchange.recovery.tail.lost_bytes == length - sound
        assert (exchange.recovery.tail.why == "it ends early") == (length != sound)
        exchange.journal.close()
        assert (folder / LOG).stat().st_size == sound
    assert "cut" not in reopen(tmp_path / "log", engine="reference").recovery.describe()


def test_every_flipped_bit_is_seen(tmp_path):
    """JRN-004: in the last frame it is cut, in an earlier one refused with its place, in the header refused."""
    write(tmp_path / "log", 6, batch=2).journal.close()
    whole = (tmp_path / "log" / LOG).read_bytes()
    offsets = [frame.offset for frame in Log(tmp_path / "log").frames()]
    folder = tmp_path / "flipped"
    folder.mkdir()
    for at in [*range(0, offsets[0], 11), *range(offsets[0], len(whole))]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        (folder / LOG).write_bytes(bytes(damaged))
        if at >= offsets[-1]:
            exchange = Exchange.open(folder, engine="reference")
            assert exchange.recovery.commands == 4
            assert exchange.recovery.tail.lost_bytes == len(whole) - offsets[-1]
            exchange.journal.close()
            continue
        place = max((offset for offset in offsets if offset <= at), default=None)
        expected = rf"at byte {place} .*damage in the middle is not repaired" if place else "header|format|journal"
        with pytest.raises(DataError, match=expected):
            Exchange.open(folder, engine="reference")
        assert (folder / LOG).read_bytes() == bytes(damaged)


def test_a_frame_that_is_missing_or_twice_is_refused(tmp_path):
    write(tmp_path, 40).journal.close()
    whole = (tmp_path / LOG).read_bytes()
    size = FRAME.size + 10 * COMMAND.itemsize
    (tmp_path / LOG).write_bytes(whole[: -3 * size] + whole[-2 * size :])
    with pytest.raises(DataError, match=r"after command 10.*begins after command 20"):
        Exchange.open(tmp_path)
    (tmp_path / LOG).write_bytes(whole[:-size] + whole[-2 * size :])
    with pytest.raises(DataError, match=r"after command 30.*begins after command 20"):
        Exchange.open(tmp_path)


def test_a_batch_that_breaks_off_is_kept_as_far_as_it_went(tmp_path):
    """JRN-002: the log holds exactly what was applied."""
    exchange = Exchange.open(tmp_path, MARKETS, capacity=Capacity(accounts_max=4))
    with pytest.raises(CapacityError):
        exchange.apply(make_rows(9))
    exchange.close()
    opened = reopen(tmp_path)
    assert 0 < opened.engine.count_commands() < 9
    assert opened.digest() == digest_after(opened.engine.count_commands())


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(ConfigError, match="expected a journal here, or markets"):
        Exchange.open(tmp_path)
    write(tmp_path / "log", 5).close()
    other = [Market(symbol="ETHUSDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=TIERS)]
    with pytest.raises(ConfigError, match="expected the markets it was begun with"):
        Exchange.open(tmp_path / "log", other)
    with pytest.raises(ConfigError, match="expected no journal here"):
        Journal(tmp_path / "log", MARKETS)
    with pytest.raises(ConfigError, match="fsync: unknown 'often', known: always, group, never"):
        Exchange.open(tmp_path / "new", MARKETS, fsync="often")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be written"):
        Exchange.open(tmp_path / "file" / "log", MARKETS)
    with pytest.raises(ConfigError, match="expected an exchange with a journal"):
        Exchange(MARKETS).snapshot()
    for content, expected in ((b"hello", "something else"), (b"PERPJRNL" + b"\x02" + b"\0" * 11, "format 1, got 2")):
        (tmp_path / "log" / LOG).write_bytes(content)
        with pytest.raises(DataError, match=expected):
            Exchange.open(tmp_path / "log")


def test_a_wrong_digest_is_no_prefix(tmp_path):
    """JRN-003: a log whose digest is not that of its commands tells of another exchange."""
    exchange = write(tmp_path, 10)
    exchange.journal.append_digest("0" * 32)
    exchange.journal.close()
    with pytest.raises(DataError, match=r"field 'digest': expected 0{32} after command 10"):
        Exchange.open(tmp_path)
    found = verify_journal(tmp_path, ["compiled"])
    assert [row["seq"] for row in found["differences"]] == [10]


# ---------------------------------------------------------------- a disk that refuses


def test_a_full_disk_for_real(tmp_path):
    """JRN-002: a limit of the operating system on the size of a file, in a process of its own."""
    text = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from engine.errors import JournalError
from tests.journal.test_journal import MARKETS, Exchange, make_rows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
exchange = Exchange.open({str(tmp_path)!r}, MARKETS, "reference", fsync="always")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    for start in range(0, 1000, 10):
        exchange.apply(make_rows(10, start))
except JournalError as error:
    print(exchange.journal.durable_seq)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=True)
    safe = int(done.stdout)
    assert 100 < safe < 1000
    opened = reopen(tmp_path)
    assert opened.recovery.commands >= safe
    assert opened.recovery.tail.lost_bytes
    assert opened.digest() == digest_after(opened.recovery.commands)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_kills(tmp_path):
    """JRN-002 JRN-003: twenty writers killed at random moments, each time a prefix with an undisturbed run's digest."""
    command = [sys.executable, "-m", "tests.journal.crash", "--kills", "20", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["kills"] >= 20
    assert counts["adl_fills"] > 100


# ---------------------------------------------------------------- from outside


def test_perp_verify(tmp_path, capsys):
    """JRN-006: digests of log and snapshots in both engines; a tail is told and left; differences exit with 1."""
    folder = tmp_path / "log"
    exchange = write(folder, 50)
    exchange.snapshot()
    exchange.apply(make_rows(10, 50))
    exchange.close()
    assert main(["verify", str(folder), "--engine", "both", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["commands"], found["digests"], found["digest"]) == (60, 3, digest_after(60))
    assert main(["verify", str(folder), "--until-seq", "33", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["commands"], found["digest"]) == (33, digest_after(33))
    log = folder / LOG
    log.write_bytes(log.read_bytes() + b"rest")
    assert main(["verify", str(folder)]) == 0
    assert "stand 4 bytes more" in capsys.readouterr().out
    assert log.read_bytes().endswith(b"rest")
    frame = build_frame(COMMANDS, 60, make_rows(1, 60).tobytes(), 1)
    log.write_bytes(log.read_bytes()[:-4] + frame)
    with log.open("r+b") as file:
        file.seek(-len(frame) - 20, os.SEEK_END)  # inside the last digest
        file.write(b"?")
    assert main(["verify", str(folder)]) == 4
    assert "damage in the middle" in capsys.readouterr().err


def test_a_replay_writes_one(tmp_path, capsys):
    """JRN-001: `perp replay --journal`; verified, it has the run's digest."""
    from engine.cli import find_demo

    demo = find_demo()
    arguments = ["replay", str(demo), "--market", str(demo / "market.toml"), "--journal", str(tmp_path / "log")]
    assert main([*arguments, "--until-seq", "20000", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert main(["verify", str(tmp_path / "log"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["commands"], found["digest"]) == (20_000, summary["digest"])
    assert main([*arguments, "--json"]) == 5
    assert "expected a new folder" in capsys.readouterr().err
