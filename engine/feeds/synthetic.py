"""A made-up market in the Tardis CSV schema, from a seed: `python -m engine.feeds.synthetic --seed 7 --out DIR`.

Integers only, so that a seed gives the same rows on every machine.  The price is a random walk with bursts of
volatility; the book is a ladder dense at the touch and sparse far out, where orders sit at round prices; takers eat
from the touch.  Nothing in it was ever traded: files say `synthetic` where an exchange has its name.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from engine.feeds.draws import Draws, Ints, lognormal
from engine.feeds.tardis_writer import HEADERS as TARDIS_HEADERS
from engine.files import write_whole

MODULE = "engine.feeds.synthetic"
EXCHANGE = "synthetic"
TICKS_PER_UNIT = 10  # a tick is 0.1
LOTS_PER_UNIT = 1_000  # a lot is 0.001
US = 1_000_000
DEFAULT_START_US = 1_740_988_760 * US  # 2025-03-03 07:59:20 UTC: forty seconds before funding
FUNDING_US = 8 * 3_600 * US
FUNDING_RATES = ("0.00010000", "0.00007500")
RECONNECT_PPM = 600_000  # where in the tape the recorder loses its connection for a moment
FRACTION = 256  # the fair price moves in steps of 1/256 tick

HEADERS = {kind: TARDIS_HEADERS[kind] for kind in ("incremental_book_L2", "trades", "derivative_ticker", "quotes")}
# The ladder of one side: up to this distance from the touch a level at every multiple of `step`, of about this size.
ZONES = ((20, 1, 1_500), (300, 10, 2_500), (3_000, 100, 7_000), (24_000, 1_000, 30_000), (90_000, 10_000, 80_000))


class Request(NamedTuple):
    """What to make: `price_tick` is where the walk starts."""

    seed: int
    seconds: int = 90
    symbol: str = "BTCUSDT"
    start_us: int = DEFAULT_START_US
    price_tick: int = 600_000


class _Pool:
    """Draws handed out one by one, made a block at a time."""

    def __init__(self, draw: Callable[[int], Ints], block: int = 4_096) -> None:
        self._draw, self._block = draw, block
        self._ready: list[int] = []

    def take(self) -> int:
        if not self._ready:
            self._ready = self._draw(self._block).tolist()
        return self._ready.pop()


class _Ladder:
    """One side of the book: side 1 is bids, -1 asks."""

    def __init__(self, side: int, sizes: _Pool) -> None:
        self.side, self._sizes = side, sizes
        self.lots: dict[int, int] = {}  # price_tick -> quantity
        self.best = 0

    def size(self, median: int) -> int:
        """Return a size around `median` lots."""
        return max(median * self._sizes.take() >> 16, 1)

    def wanted(self, best: int) -> dict[int, int]:
        """Return {price_tick: typical size} of a ladder whose touch is at `best`."""
        levels: dict[int, int] = {}
        near = 0
        for far, step, median in ZONES:
            low, high = sorted((best - self.side * near, best - self.side * (far - 1)))
            first = max(-(-low // step) * step, step)
            levels |= dict.fromkeys(range(first, high + 1, step), median)
            near = far
        return levels

    def move(self, best: int) -> dict[int, int]:
        """Move the touch; return {price_tick: new total} of the levels that changed."""
        if best == self.best:
            return {}
        wanted = self.wanted(best)
        changes = dict.fromkeys((tick for tick in self.lots if tick not in wanted), 0)
        changes |= {tick: self.size(median) for tick, median in wanted.items() if tick not in self.lots}
        self.best = best
        self.set(changes)
        return changes

    def refresh(self, count: int, picks: _Pool) -> dict[int, int]:
        """Give some levels near the touch a new size; return them."""
        near = sorted(self.lots, key=lambda tick: -self.side * tick)[:48]
        changes = {}
        for _ in range(count):
            # The product of two draws favours the touch, where orders come and go most.
            place = len(near) * picks.take() * picks.take() >> 32
            tick = near[place]
            changes[tick] = self.size(next(median for far, _, median in ZONES if abs(tick - self.best) < far))
        self.set(changes)
        return changes

    def set(self, changes: dict[int, int]) -> None:
        """Put totals on the ladder; 0 takes a level away."""
        for tick, lots in changes.items():
            if lots:
                self.lots[tick] = lots
            else:
                self.lots.pop(tick, None)


class _Writer:
    """The rows of the four files, as text."""

    def __init__(self, symbol: str) -> None:
        self.rows: dict[str, list[str]] = {kind: [header] for kind, header in HEADERS.items()}
        self._symbol = symbol

    def add(self, kind: str, local_us: int, delay_us: int, *fields: str) -> None:
        """Add one row; the exchange's own stamp is in whole milliseconds, like most venues'."""
        exchange_us = (local_us - delay_us) // 1_000 * 1_000
        self.rows[kind].append(",".join((EXCHANGE, self._symbol, str(exchange_us), str(local_us), *fields)))

    def contents(self) -> dict[str, bytes]:
        """Return each file's text."""
        return {kind: ("\n".join(rows) + "\n").encode("ascii") for kind, rows in self.rows.items()}


def format_price(tick: int) -> str:
    """Return a price in ticks as text."""
    return f"{tick // TICKS_PER_UNIT}.{tick % TICKS_PER_UNIT}"


def format_lots(lots: int) -> str:
    """Return a quantity in lots as text."""
    return f"{lots // LOTS_PER_UNIT}.{lots % LOTS_PER_UNIT:03}"


class _Tape:
    """The market being made up."""

    def __init__(self, request: Request) -> None:
        draws = Draws(request.seed)
        self.request, self.writer = request, _Writer(request.symbol)
        self.normal = _Pool(draws.normal)
        self.picks = _Pool(lambda count: draws.uniform(count) >> 16)  # 0 .. 65535
        self.sizes = _Pool(lambda count: lognormal(draws, Decimal(1), count) >> 16)  # median 65536
        self.fair = request.price_tick * FRACTION
        self.basis = 0  # of the mark, in 1/256 tick
        self.bids, self.asks = _Ladder(1, self.sizes), _Ladder(-1, self.sizes)
        self.burst_messages = 0
        self.trade_id = 1
        self.last_tick = request.price_tick
        self.now_us = request.start_us + 250_000
        self.next_ticker_us = request.start_us + US

    def chance(self, ppm: int) -> bool:
        """Return True with a probability in parts per million."""
        return self.picks.take() * US < ppm * 65_536

    def between(self, least: int, most: int) -> int:
        """Return an integer in least <= n < most, for ranges below 65536."""
        return least + ((most - least) * self.picks.take() >> 16)

    def run(self) -> dict[str, bytes]:
        """Make the whole tape; return the files' texts."""
        end_us = self.request.start_us + self.request.seconds * US
        reconnect_us = self.request.start_us + self.request.seconds * RECONNECT_PPM
        self.show_snapshot()
        while True:
            before_us = self.now_us
            self.now_us += self.between(4_000, 60_000)
            is_lost = before_us < reconnect_us <= self.now_us
            if is_lost:
                self.now_us += 900_000
            if self.now_us >= end_us:
                return self.writer.contents()
            self.show_tickers()
            self.walk()
            if is_lost:
                self.show_snapshot()
            else:
                self.show_message(before_us)

    def walk(self) -> None:
        """Move the fair price: most of the time not at all, sometimes in a burst."""
        if self.burst_messages:
            self.burst_messages -= 1
        elif self.chance(4_000):
            self.burst_messages = self.between(30, 120)
        if self.burst_messages or self.chance(350_000):
            deviation = 10 if self.burst_messages else 4
            self.fair = max(self.fair + (self.normal.take() * deviation * FRACTION >> 32), FRACTION * 1_000)
        self.basis += (self.normal.take() * 40 >> 32) - self.basis // 64

    def touch(self) -> tuple[int, int]:
        """Return the best bid and ask that the fair price asks for."""
        bid = (self.fair - FRACTION // 2) // FRACTION
        spread = 1 if self.chance(900_000) else self.between(2, 12 if self.burst_messages else 4)
        return bid, bid + spread

    def show_snapshot(self) -> None:
        """Write the whole book, as a recorder does after it connected."""
        best_bid, best_ask = self.touch()
        self.bids.move(best_bid)
        self.asks.move(best_ask)
        for ladder in (self.bids, self.asks):
            self.show_levels("true", ladder, dict(sorted(ladder.lots.items(), reverse=ladder.side > 0)))
        self.show_quote()

    def show_message(self, before_us: int) -> None:
        """Write takers' trades, then the book message that holds their effect and everything else."""
        best_bid, best_ask = self.touch()
        eaten: dict[int, dict[int, int]] = {1: {}, -1: {}}
        if self.chance(400_000):
            eaten = self.show_trades(before_us, 1 if best_bid > self.bids.best else -1)
        changes = {}
        for ladder, best in ((self.bids, best_bid), (self.asks, best_ask)):
            moved = ladder.move(best)
            changes[ladder.side] = eaten[ladder.side] | moved | ladder.refresh(self.between(1, 9), self.picks)
        for ladder in (self.bids, self.asks):
            self.show_levels("false", ladder, changes[ladder.side])
        self.show_quote()

    def show_trades(self, before_us: int, side: int) -> dict[int, dict[int, int]]:
        """Write one taker's trades at the touch; return what they left there, by side of the book."""
        if self.chance(200_000):
            side = -side
        ladder = self.asks if side > 0 else self.bids
        left = ladder.lots[ladder.best]
        stamp = before_us + 500
        for _ in range(self.between(1, 5)):
            lots = min(max(40 * self.sizes.take() >> 16, 1), left - 1)
            if not lots:
                break
            left -= lots
            stamp += self.between(1, 400)
            word = "buy" if side > 0 else "sell"
            self.writer.add(
                "trades", stamp, 3_000, str(self.trade_id), word, format_price(ladder.best), format_lots(lots)
            )
            self.trade_id += 1
        self.last_tick = ladder.best
        changes = {ladder.best: left}
        ladder.set(changes)
        return {ladder.side: changes, -ladder.side: {}}

    def show_levels(self, is_snapshot: str, ladder: _Ladder, changes: dict[int, int]) -> None:
        """Write rows of one book message."""
        word = "bid" if ladder.side > 0 else "ask"
        for tick, lots in changes.items():
            self.writer.add(
                "incremental_book_L2", self.now_us, 5_000, is_snapshot, word, format_price(tick), format_lots(lots)
            )

    def show_quote(self) -> None:
        """Write the touch, which the venue sends a moment before the book."""
        fields = (
            format_lots(self.asks.lots[self.asks.best]),
            format_price(self.asks.best),
            format_price(self.bids.best),
            format_lots(self.bids.lots[self.bids.best]),
        )
        self.writer.add("quotes", self.now_us - 40, 5_000, *fields)

    def show_tickers(self) -> None:
        """Write the mark, index and funding of every whole second that has passed."""
        while self.next_ticker_us <= self.now_us:
            local_us = self.next_ticker_us + self.between(20_000, 60_000)
            if local_us > self.now_us:
                return
            due_us = (self.next_ticker_us // FUNDING_US + 1) * FUNDING_US
            first_due_us = (self.request.start_us // FUNDING_US + 1) * FUNDING_US
            index = self.fair + self.fair // 4_096  # the index stands about 2.4 bp above
            fields = (
                str(due_us),
                FUNDING_RATES[due_us != first_due_us],
                "",
                "84215.310",
                format_price(self.last_tick),
                format_fine(index),
                format_fine(self.fair + self.basis),
            )
            self.writer.add("derivative_ticker", local_us, local_us - self.next_ticker_us, *fields)
            self.next_ticker_us += US


def format_fine(price: int) -> str:
    """Return a price in 1/256 tick as text with the eight decimals venues compute marks to."""
    digits = price * 10**8 // (FRACTION * TICKS_PER_UNIT)
    return f"{digits // 10**8}.{digits % 10**8:08}"


def generate(request: Request) -> dict[str, bytes]:
    """Return {data type: CSV text} of a synthetic tape; the same request gives the same bytes everywhere."""
    return _Tape(request).run()


def compress(content: bytes) -> bytes:
    """Return `content` as gzip without a time in it."""
    return gzip.compress(content, compresslevel=9, mtime=0)


def _describe(name: str, content: bytes, packed: bytes) -> dict[str, str | int]:
    return {
        "file": name,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "size_bytes": len(packed),
        # Compressors differ between versions; what is inside does not.
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "rows": content.count(b"\n") - 1,
    }


def write_tape(request: Request, folder: Path) -> Path:
    """Write the four files and `metadata.json` into `folder`; return the path of the latter."""
    date = _date_of(request.start_us)
    files: dict[str, tuple[bytes, bytes]] = {}
    for kind, content in generate(request).items():
        files[f"{EXCHANGE}_{kind}_{date}_{request.symbol}.csv.gz"] = (content, compress(content))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, packed) in files.items():
        write_whole(folder / name, packed)
    options = " ".join(f"--{field.replace('_', '-')} {value}" for field, value in request._asdict().items())
    metadata = {
        "label": "synthetic: made up by a program, never traded",
        "command": f"python -m {MODULE} {options} --out DIR",
        "seed": request.seed,
        "files": [_describe(name, *texts) for name, texts in sorted(files.items())],
    }
    path = folder / "metadata.json"
    write_whole(path, (json.dumps(metadata, indent=2) + "\n").encode())
    return path


def _date_of(start_us: int) -> str:
    return datetime.fromtimestamp(start_us // US, tz=UTC).date().isoformat()


def main(arguments: list[str] | None = None) -> int:
    """Write a tape as the command line asks; return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Write a synthetic tape (Tardis CSV).")
    defaults = Request(seed=0)
    parser.add_argument("--seed", type=int, required=True, help="the same seed gives the same rows")
    parser.add_argument("--seconds", type=int, default=defaults.seconds, help="length (default %(default)s)")
    parser.add_argument("--symbol", default=defaults.symbol, help="name of the market (default %(default)s)")
    parser.add_argument("--start-us", type=int, default=defaults.start_us, help="first stamp, us since 1970")
    parser.add_argument("--price-tick", type=int, default=defaults.price_tick, help="where the walk starts, in 0.1")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    given = vars(parser.parse_args(arguments))
    folder = given.pop("out")
    print(write_tape(Request(**given), folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
