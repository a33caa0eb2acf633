"""Hostile streams through both engines until one differs; what differs is shrunk to a file that shows it again."""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from engine import codes
from engine.contract import Market, build_setup, convert_markets
from engine.errors import DataError
from engine.files import JSON_BYTES_MAX, read_text, write_whole
from engine.fuzz.setups import make_markets
from engine.fuzz.storm import Command, random_stream
from engine.fuzz.twins import Twins

FORMAT = 1
STREAM_STEPS = (60, 200, 200, 600)  # commands of one stream
ACCOUNTS = (3, 8, 8, 20)
SEEDS_PER_RUN = 10**9  # a run's streams have seeds of their own
SHRINK_SECONDS = 60.0
FLOOD = 60  # commands
Progress = Callable[[int, int], None]
Stop = Callable[[], bool]


def build_stream(seed: int) -> tuple[list[Market], list[Command]]:
    """Return the markets and commands of one stream: a function of its seed alone.

    Source: FUZZ-001.
    """
    dice = random.Random(f"fuzz {seed}")
    markets = make_markets(seed)
    commands = random_stream(seed, build_setup(markets), dice.choice(STREAM_STEPS), dice.choice(ACCOUNTS))
    for _ in range(dice.choice((0, 0, 1, 3))):
        at = dice.randrange(len(commands))
        commands[at:at] = _make_flood(dice, commands[at], commands[:at])
    return markets, commands


def _make_flood(dice: random.Random, here: Command, before: Sequence[Command]) -> list[Command]:
    """Return many commands at one time: cancels and amends of orders that are there, gone or never were."""
    placed = [command for command in before if command.kind == codes.PLACE][-40:]
    flood = []
    for _ in range(dice.randint(1, FLOOD)):
        old = dice.choice(placed) if placed else here
        kind = dice.choice((codes.CANCEL, codes.CANCEL, codes.AMEND, codes.PLACE))
        fields = asdict(old) | {"kind": kind, "ts_ns": here.ts_ns}
        if kind == codes.AMEND:
            fields["qty_lot"] = dice.choice((1, old.qty_lot, old.qty_lot + 1))
        flood.append(Command(**fields))
    return flood


def play(
    markets: Sequence[Market],
    commands: Sequence[Command],
    forks: random.Random | None = None,
    should_stop: Stop | None = None,
) -> Counter[str]:
    """Play commands through both engines and return the kinds of events they made.

    Raises
    ------
    Exception
        Whatever goes wrong: a difference (InvariantError), or an error of either engine.
    KeyboardInterrupt
        If `should_stop`, asked after every command, says so.

    Source: FUZZ-002.
    """
    twins = Twins(build_setup(list(markets)))
    for command in commands:
        twins.apply(command)
        if forks is not None and forks.random() < 0.005:
            twins.fork()
        if should_stop and should_stop():
            raise KeyboardInterrupt
    return twins.kinds


def shrink(
    markets: Sequence[Market],
    commands: Sequence[Command],
    seconds: float = SHRINK_SECONDS,
    should_stop: Stop | None = None,
) -> list[Command]:
    """Return fewer commands that fail in the same way: parts are left out as long as what is left still fails.

    Who stops it gets as few as were found until then.

    Source: FUZZ-003.
    """
    wanted = _fail(markets, commands)
    kept, size, ends = list(commands), max(len(commands) // 2, 1), monotonic() + seconds

    def is_over() -> bool:
        return monotonic() >= ends or bool(should_stop and should_stop())

    while not is_over():
        start, is_smaller = 0, False
        while start < len(kept) and not is_over():
            rest = kept[:start] + kept[start + size :]
            if rest and _fail(markets, rest) == wanted:
                kept, is_smaller = rest, True
            else:
                start += size
        if size == 1 and not is_smaller:
            break
        size = max(size // 2, 1)
    return kept


def _fail(markets: Sequence[Market], commands: Sequence[Command]) -> type[Exception] | None:
    try:
        play(markets, commands)
    except Exception as error:
        return type(error)
    return None


def fuzz(
    seed: int,
    steps: int,
    *,
    first: int = 0,
    folder: str | Path = ".",
    on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> dict[str, Any]:
    """Play streams until so many commands are done or one fails.

    Parameters
    ----------
    seed : int
        Of the run: the same seed plays the same streams.
    steps : int
        Commands at least.
    first : int
        Number of the stream to begin with: where a run was interrupted, `first` plus its `streams`.
    folder : path
        Where a failing stream is written.
    on_progress : callable, optional
        Called with the commands done and the number of the stream.
    should_stop : callable, optional
        Asked after every command; the stream under way then does not count.

    Returns
    -------
    dict
        The keys of `perp fuzz --json` (formats.md).

    Source: FUZZ-002, FUZZ-003.
    """
    done = streams = 0
    kinds: Counter[str] = Counter()
    failure = None
    interrupted = False
    while done < steps:
        number = seed * SEEDS_PER_RUN + first + streams
        markets, commands = build_stream(number)
        commands = commands[: steps - done]
        try:
            kinds.update(play(markets, commands, random.Random(number), should_stop))
        except KeyboardInterrupt:
            interrupted = True
            break
        except Exception as error:
            failure = _keep(Path(folder), number, markets, commands, error, should_stop)
            break
        done += len(commands)
        streams += 1
        if on_progress:
            on_progress(done, streams)
    return {
        "seed": seed,
        "first": first,
        "steps": done,
        "streams": streams,
        "interrupted": interrupted,
        "event_kinds": dict(sorted(kinds.items())),
        "failure": failure,
    }


def _keep(
    folder: Path,
    number: int,
    markets: Sequence[Market],
    commands: Sequence[Command],
    error: Exception,
    should_stop: Stop | None,
) -> dict[str, Any]:
    """Write a failing stream, shrink it, write it again, and return what to say of it."""
    path = folder / f"fuzz-{number}.json"
    what = f"{type(error).__name__}: {error}"

    def write(kept: Sequence[Command]) -> None:
        text = {
            "format": FORMAT,
            "stream": number,
            "error": what,
            "markets": msgspec.to_builtins(list(markets)),
            "commands": [{name: value for name, value in asdict(command).items() if value} for command in kept],
        }
        write_whole(path, (json.dumps(text, indent=1) + "\n").encode())

    folder.mkdir(parents=True, exist_ok=True)
    few = list(commands)
    write(few)  # shrinking takes a minute, and may be interrupted twice
    if _fail(markets, commands) is not None:  # else it fails only after a fork
        few = shrink(markets, commands, should_stop=should_stop)
        write(few)
    return {"file": str(path), "stream": number, "commands": len(few), "of": len(commands), "error": what}


def replay_failure(path: str | Path) -> str:
    """Play a kept stream again and return what goes wrong, or an empty text.

    Raises
    ------
    DataError
        If the file is none of `perp fuzz`.

    Source: FUZZ-003.
    """
    try:
        found = json.loads(read_text(path, JSON_BYTES_MAX))
        markets = convert_markets(found["markets"])
        commands = [Command(**fields) for fields in found["commands"]]
        if found["format"] != FORMAT:
            raise ValueError(f"format {FORMAT}, got {found['format']}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(path, None, None, f"expected a stream kept by perp fuzz: {error}") from error
    try:
        play(markets, commands)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
