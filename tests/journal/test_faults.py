"""A disk that is full, read-only, writes short or does not sync: an error, nothing acknowledged lost.

A layer lets every single call into the system fail in its turn; small and read-only disks are mounted for real where
that is allowed, and the reason is printed where it is not.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from engine import Exchange
from engine.cli import find_demo, main
from engine.errors import ConfigError, JournalError
from engine.journal import LOG, list_snapshots
from tests.journal.faults import Faults, fill, mount
from tests.journal.test_journal import MARKETS, digest_after, make_rows, reopen

ROOT = Path(__file__).resolve().parents[2]
DEMO = find_demo()
REPLAY_DATA = ROOT / "replay_data"


def live(folder, fsync, safe):
    """Write sixty commands with two snapshots; `safe` gets how many were called durable."""
    exchange = Exchange.open(folder, MARKETS, "reference", fsync=fsync)
    for start in range(0, 60, 10):
        exchange.apply(make_rows(10, start))
        if start % 20:
            with suppress(JournalError):  # the log may go on without one
                exchange.snapshot()
        safe.append(exchange.journal.durable_seq)
    exchange.close()
    safe.append(exchange.journal.durable_seq)


def check_rest(folder, safe):
    """Hold what is found against what was acknowledged; return how many commands that is."""
    for seq, path in list_snapshots(folder):
        assert Exchange.load(path).digest() == digest_after(seq)
    opened = reopen(folder, engine="reference")
    assert max(safe, default=0) <= opened.recovery.commands <= 60
    assert opened.digest() == digest_after(opened.recovery.commands)
    return opened.recovery.commands


@pytest.mark.parametrize(
    ("fsync", "how"), [("always", "ENOSPC"), ("always", "short"), ("group", "EIO"), ("group", "EROFS")]
)
def test_every_call_into_the_system_fails_once(tmp_path, fsync, how):
    """JRN-002 JRN-007 JRN-008: whichever it is, what was acknowledged is found, also when the power goes then."""
    with Faults() as whole:
        live(tmp_path / "whole", fsync, [])
    assert whole.count > 20
    failed = set()
    for at in range(whole.count):
        folder, safe = tmp_path / str(at), []
        number = errno.ENOSPC if how == "short" else getattr(errno, how)
        errors = []
        with Faults(at, number, how == "short") as faults:
            try:
                live(folder, fsync, safe)
            except (ConfigError, JournalError) as error:
                errors.append(error)
        assert not [error for error in errors if os.strerror(number) not in str(error)]
        failed.add(faults.failed)
        parts = [path.name for path in folder.glob("*.part")]
        assert faults.failed == "unlink" or not parts, (faults.failed, parts)
        if (folder / LOG).exists():
            check_rest(folder, safe)
            if faults.failed in ("write", "fsync"):
                faults.lose_power(folder / LOG)
                check_rest(folder, safe)
        else:
            assert not safe
        shutil.rmtree(folder, ignore_errors=True)
    assert failed >= {"write", "fsync", "open", "link", "replace", "unlink"}


def test_after_a_failed_sync_nothing_goes_on(tmp_path):
    """JRN-007: the system may have dropped what it could not write and call the next sync a success."""
    exchange = Exchange.open(tmp_path, MARKETS, "reference", fsync="always")
    exchange.apply(make_rows(30))
    with Faults(at=1, number=errno.EIO) as faults, pytest.raises(JournalError, match="30 commands are safe"):
        exchange.apply(make_rows(5, 30))
    assert faults.failed == "fsync"
    size = (tmp_path / LOG).stat().st_size
    for again in (lambda: exchange.apply(make_rows(5, 35)), exchange.journal.commit, exchange.snapshot):
        with pytest.raises(JournalError, match="closed by an earlier error: Input/output error"):
            again()
    assert exchange.engine.count_commands() == 35
    exchange.close()
    exchange.journal.close()
    assert (tmp_path / LOG).stat().st_size == size
    assert not list_snapshots(tmp_path)
    assert reopen(tmp_path, engine="reference").recovery.commands in (30, 35)  # not acknowledged: there or not


def test_a_write_that_is_taken_in_parts_is_finished(tmp_path, monkeypatch):
    """JRN-007: a short write without an error is no error."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, bytes(data)[:7]))
    exchange = Exchange.open(tmp_path, MARKETS, "reference")
    exchange.apply(make_rows(20))
    exchange.close()
    monkeypatch.undo()
    assert reopen(tmp_path, engine="reference").digest() == digest_after(20)


# ---------------------------------------------------------------- real disks


def apply_singly(exchange, start, with_snapshots=False):
    """Apply commands one by one, up to four hundred."""
    for at in range(start, 400):
        exchange.apply(make_rows(1, at))
        if with_snapshots:
            exchange.snapshot()


def test_a_small_disk(tmp_path):
    """JRN-002 JRN-008: full in the middle of a frame or of a snapshot; with room again it goes on where it was."""
    with mount(tmp_path / "disk", "size=256k") as disk:
        log = disk / "log"
        exchange = Exchange.open(log, MARKETS, "reference", fsync="always")
        exchange.apply(make_rows(50))
        older = exchange.snapshot()
        filler = fill(disk)
        exchange.apply(make_rows(1, 50))  # in the log's own last block there may still be room
        with pytest.raises(JournalError, match="No space left on device"):
            apply_singly(exchange, 51)
        safe = exchange.journal.durable_seq
        assert 51 <= safe < 400
        exchange.close()
        filler.unlink()
        opened = Exchange.open(log, engine="reference", fsync="always")
        found = opened.recovery.commands
        assert found >= safe
        assert opened.recovery.snapshot_seq == 50
        assert opened.digest() == digest_after(found)
        fill(disk, left=8192)  # room for a digest in the log, not for a snapshot
        with pytest.raises(JournalError, match="No space left on device; the commands are safe, older snapshots"):
            apply_singly(opened, found, with_snapshots=True)
        total = opened.engine.count_commands()
        assert opened.journal.is_open
        assert older.exists()
        assert not list(log.glob("*.part"))
        (disk / "filler").unlink()
        opened.snapshot()
        opened.close()
        opened = reopen(log, engine="reference")
        assert (opened.recovery.commands, opened.recovery.snapshot_seq) == (total, total)
        assert opened.digest() == digest_after(total)


def test_a_read_only_disk(tmp_path, capsys):
    """JRN-007: nothing is begun or gone on with there; what lies there can be verified."""
    with mount(tmp_path / "disk", "size=1m") as disk:
        exchange = Exchange.open(disk / "log", MARKETS)
        exchange.apply(make_rows(20))
        exchange.close()
        before = (disk / "log" / LOG).read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for name in ("log", "new"):
            with pytest.raises(ConfigError, match="cannot be written: Read-only file system"):
                Exchange.open(disk / name, MARKETS)
        assert main(["verify", str(disk / "log"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["commands"] == 20
        assert main(["convert", str(DEMO), str(disk / "out")]) == 5
        assert "Read-only file system" in capsys.readouterr().err
        assert [path.name for path in disk.rglob("*")] == ["log", LOG]
        assert (disk / "log" / LOG).read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes where nobody may")
def test_a_folder_without_permission(tmp_path):
    """JRN-007."""
    exchange = Exchange.open(tmp_path / "log", MARKETS, "reference")
    exchange.apply(make_rows(20))
    (tmp_path / "log").chmod(0o500)
    try:
        with pytest.raises(JournalError, match="Permission denied; the commands are safe"):
            exchange.snapshot()
        exchange.apply(make_rows(5, 20))
        exchange.close()
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            Exchange.open(tmp_path / "log" / "inner", MARKETS)
    finally:
        (tmp_path / "log").chmod(0o700)
    assert reopen(tmp_path / "log", engine="reference").digest() == digest_after(25)


def list_writers(policy):
    """Return every verb that writes, with what it is given."""
    market, crowd = DEMO / "market.toml", DEMO / "population.toml"
    tape = ("replay", DEMO, "--market", market, "--population", crowd, "--fund", "1000000")
    sim = REPLAY_DATA / "simulated_btc"
    stress = (REPLAY_DATA / "stress" / "flash_crash.toml", "--seeds", "2", "--workers", "1")
    return {
        "replay": (*tape, "--out", "run"),
        "replay-parquet": (*tape, "--events", "parquet", "--out", "run"),
        "replay-journal": (*tape, "--journal", "run"),
        "demo": ("demo", "--out", "run"),
        "sim": ("sim", sim / "simulated.toml", "--market", sim / "market.toml", "--out", "run"),
        "compare": ("compare", *tape[1:], "--policy", policy, "--until-seq", "5000", "--out", "run"),
        "convert-tardis": ("convert", DEMO, "run"),
        "convert-parquet": ("convert", DEMO, "run.parquet"),
        "convert-npz": ("convert", DEMO, "run.npz", "--market", market),
        "stress": ("stress", *stress, "--out", "run"),
        "bench": ("bench", "matching", "--scenario", "normal", "--count", "9", "--repeat", "1", "--canonical", "run"),
    }


@pytest.mark.parametrize("room", [0, 24_576])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, capsys, monkeypatch, room):
    """CLI-002: for every verb that writes; an earlier result stays as it was."""
    pytest.importorskip("polars")
    (tmp_path / "gentle.toml").write_text('[adl]\nscore = "binance"\n')
    with mount(tmp_path / "disk", "size=1m") as disk:
        monkeypatch.chdir(disk)
        for name, given in list_writers(tmp_path / "gentle.toml").items():
            (disk / "filler").unlink(missing_ok=True)
            fill(disk, room)
            status = main([str(word) for word in given])
            err = capsys.readouterr().err
            if status == 0:
                assert room, name
                assert name in ("bench", "stress", "compare"), f"{name} found room"
            else:
                assert status in (5, 74), (name, status, err)
                assert "No space left on device" in err, (name, err)
                assert len(err.strip().splitlines()) == 1, (name, err)
            for path in disk.glob("run*"):
                if name == "replay-journal":
                    assert Exchange.open(path).recovery is not None
                elif name != "stress" and status:
                    raise AssertionError(f"{name} left {path}")
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            assert [path.name for path in disk.iterdir()] == ["filler"], name


def test_a_report_that_finds_no_room_leaves_the_one_before(tmp_path, capsys):
    """CLI-002 REP-001."""
    run = tmp_path / "run"
    given = ["replay", str(DEMO), "--market", str(DEMO / "market.toml"), "--until-seq", "3000", "--out", str(run)]
    assert main(given) == 0
    with mount(tmp_path / "disk", "size=1m") as disk:
        page = disk / "page.html"
        assert main(["report", str(run), "--out", str(page)]) == 0
        before = page.read_bytes()
        fill(disk)
        assert main(["report", str(run), "--out", str(page)]) == 5
        assert "No space left on device" in capsys.readouterr().err
        assert page.read_bytes() == before
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "page.html"]


def test_output_that_finds_no_room():
    """CLI-002: one line and a status, however little could be printed."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "engine", "docs", "spec"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == "perp: error: [Errno 28] No space left on device\n"
