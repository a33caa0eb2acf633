"""Kill a writer of a journal again and again, at random moments, and hold what is recovered against an undisturbed run.

    python -m tests.journal.crash --kills 300 --seed 1

Children are forked, so that each begins with warm kernels.  A child applies the demo's commands in small batches,
takes a snapshot now and then, and says after each commit how many commands are durable.  The parent kills it with
SIGKILL, sometimes tears or flips what lay behind the last durable byte as a loss of power might, and opens the
journal: it must hold a prefix of the stream, no shorter than what was called durable, with the digest of an undisturbed
run after as many commands.  Each child goes on where the one before was cut; the last state has the undisturbed digest.
"""

import argparse
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from engine import Exchange
from engine.audit import check_state
from engine.cli import DEMO_FUND, find_demo
from engine.codes import ADL_FILL, DEFICIT, LIQUIDATION_FILL
from engine.contract import load_market
from engine.feeds import open_feed
from engine.journal import LOG, SNAPSHOT
from engine.replay import Plan, count_fund
from engine.replay.runner import Runner
from engine.scenario import load_population, load_shock

BATCHES = (1, 7, 64, 500)
SNAPSHOT_EVERY = 20_000


def build_commands():
    """Return the demo's market and its commands: opening, tape, crash."""
    folder = find_demo()
    markets = [load_market(folder / "market.toml")]
    plan = Plan(
        markets=markets,
        feed=open_feed([folder], markets),
        populations=[load_population(folder / "population.toml")],
        shock=load_shock(folder / "shock.toml"),
        funds=count_fund(DEMO_FUND, markets),
    )
    return markets, np.concatenate(list(Runner(plan).iter_commands()))


def write_on(folder, markets, rows, out, seed):
    """Apply what is left in small batches, telling the parent what is durable; never returns."""
    rng = random.Random(seed)
    exchange = Exchange.open(folder, markets, fsync=rng.choice(["always", "group", "group"]))
    seq = exchange.engine.count_commands()
    told = snapshot_at = seq
    while seq < len(rows):
        batch = rng.choice(BATCHES)
        exchange.apply(rows[seq : seq + batch])
        seq = min(seq + batch, len(rows))
        if seq - snapshot_at >= SNAPSHOT_EVERY:
            exchange.snapshot()
            snapshot_at = seq
        if exchange.journal.durable_seq != told:
            told = exchange.journal.durable_seq
            os.write(out, told.to_bytes(8, "little"))
    exchange.close()
    os.write(out, len(rows).to_bytes(8, "little"))
    os._exit(0)


def damage(folder, durable_bytes, rng):
    """Tear or flip something behind what is durable, as a loss of power might; return what was done."""
    log = folder / LOG
    size = log.stat().st_size
    if size <= durable_bytes:
        return ""
    how = rng.choice(["", "tear", "flip", "garbage"])
    at = rng.randrange(durable_bytes, size)
    if how == "tear":
        os.truncate(log, at)
    elif how == "flip":
        # of the last frame only: damage with sound frames behind it is refused, and tested elsewhere
        with log.open("r+b") as file:
            file.seek(size - 1)
            last = file.read(1)
            file.seek(size - 1)
            file.write(bytes([last[0] ^ 0x10]))
    elif how == "garbage":
        with log.open("ab") as file:
            file.write(rng.randbytes(rng.randrange(1, 200)))
    return how


def run(kills, seed):
    """Return what happened."""
    logging.disable(logging.WARNING)
    rng = random.Random(seed)
    markets, rows = build_commands()
    straight = Exchange(markets)
    straight.apply(rows[:1_000])
    whole = Exchange(markets)
    kinds = np.bincount(whole.apply(rows)["kind"], minlength=32)
    final = whole.digest()
    counts = {"kills": 0, "runs": 0, "finished": 0, "cut": 0, "snapshots": 0, "damaged": 0}
    base = straight.copy()
    with tempfile.TemporaryDirectory() as name:
        while counts["kills"] < kills:
            folder = Path(name) / str(counts["runs"])
            counts["runs"] += 1
            done, base_seq = 0, 1_000
            base = straight.copy()
            while done < len(rows):
                reader, writer = os.pipe()
                child = os.fork()
                if not child:
                    os.close(reader)
                    write_on(folder, markets, rows, writer, rng.random())
                os.close(writer)
                time.sleep(rng.random() ** 2 * 0.25)
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                counts["kills"] += os.WIFSIGNALED(status)
                counts["finished"] += os.WIFEXITED(status)
                said = b""
                while block := os.read(reader, 1 << 16):
                    said += block
                os.close(reader)
                durable = int.from_bytes(said[-8:], "little") if said else done
                if not (folder / LOG).exists():
                    continue
                done, cut, used = recover(folder, markets, rows, durable, rng, counts)
                counts["cut"] += cut
                counts["snapshots"] += used
                while base_seq < done:
                    step = min(done, base_seq + 50_000)
                    base.apply(rows[base_seq:step])
                    base_seq = step
                opened = Exchange.open(folder)
                if done >= base_seq and opened.digest() != base.digest():
                    raise SystemExit(f"after command {done}: {opened.digest()}, an undisturbed run has {base.digest()}")
                check_state(opened.view(), opened.setup)
                opened.journal.close()
                if counts["kills"] >= kills and rng.random() < 0.5:
                    break
            if done == len(rows) and opened.digest() != final:
                raise SystemExit(f"at the end: {opened.digest()}, an undisturbed run has {final}")
    events = {"liquidation_fills": LIQUIDATION_FILL, "deficits": DEFICIT, "adl_fills": ADL_FILL}
    return counts | {"commands": len(rows)} | {name: int(kinds[kind]) for name, kind in events.items()}


def recover(folder, markets, rows, durable, rng, counts):
    """Damage what may be damaged, open, and return (commands, whether a tail was cut, whether a snapshot was used)."""
    size = bytes_of(folder, durable)
    counts["damaged"] += bool(damage(folder, size, rng))
    try:
        exchange = Exchange.open(folder)
    except Exception as error:
        raise SystemExit(f"{folder}: {error}") from error
    found = exchange.recovery
    if found.commands < durable:
        raise SystemExit(f"{found.commands} commands recovered, {durable} were durable")
    exchange.journal.close()
    if rng.random() < 0.1:
        newest = folder / SNAPSHOT.format(found.snapshot_seq)
        if newest.exists():
            newest.write_bytes(newest.read_bytes()[: rng.randrange(100, 2_000)])
    return found.commands, found.tail.lost_bytes > 0, found.snapshot_seq > 0


def bytes_of(folder, durable):
    """Return where in the log the frame ends that holds the last durable command."""
    from engine.journal import FRAME, Log

    log = Log(folder)
    end = log._start
    for frame in log.frames():
        end = frame.offset + FRAME.size + (len(frame.rows) * 64 or len(frame.digest))
        if frame.first_seq + len(frame.rows) >= durable:
            break
    return end


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    counts = run(options.kills, options.seed)
    print(json.dumps(counts | {"seed": options.seed, "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    sys.exit(main())
