"""Our own tapes: commands as they are, with the markets they were made for (FEED-053).

An .npz with `commands`, an array of COMMAND, and `meta`, JSON; what `perp convert` writes, and what a run leaves behind
where an invariant broke.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    COMMAND_NAMES,
    FUNDING,
    INDEX,
    LEVEL,
    MARK,
    OFF_BOOK,
    OFF_MARKET,
    PPB,
    PRINT,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_LEVEL,
    ROW_MARK,
    ROW_TRADE,
)
from engine.contract import Market, build_setup
from engine.errors import ConfigError, DataError
from engine.feeds.arrays import MAGIC, read_rows, read_text
from engine.feeds.instruments import RATE_PER_ONE, Findings, Instruments
from engine.feeds.merge import cut_chunks
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, TapeFile, Teller
from engine.files import read_header
from engine.layout import COMMAND, RECORD

Commands = NDArray[np.void]

MEMBER, META = "commands.npy", "meta.npy"
FORMAT_NUMBER = 1
EXCHANGE = "commands"  # a tape of commands has forgotten whose they were
ROW_OF = np.zeros(1 << 16, np.int16)  # kind of command -> kind of row, 0: none
for _kind, _row in (
    (LEVEL, ROW_LEVEL),
    (PRINT, ROW_TRADE),
    (MARK, ROW_MARK),
    (INDEX, ROW_INDEX),
    (FUNDING, ROW_FUNDING),
):
    ROW_OF[_kind] = _row


class Meta(msgspec.Struct):
    """What a tape says of itself."""

    format: int
    markets: list[Market]


def sniff(head: Head) -> TapeFile | None:
    """Return what an array file is by the type of its rows.

    Raises
    ------
    DataError
        If it has the member of a tape, and not its rows.
    """
    if not head.data.startswith(MAGIC) or head.member != MEMBER:
        return None
    dtype, _ = read_header(head.path, io.BytesIO(head.data))
    if dtype != COMMAND:
        raise DataError(head.path, None, MEMBER, f"expected the commands of format {FORMAT_NUMBER}, got {dtype}")
    first = next(read_rows(head.path, COMMAND, MEMBER, 1), None)
    first_ns = 0 if first is None else int(first["ts_ns"][0])
    return TapeFile(head.path, FORMAT, "commands", "", "", first_ns, 0)


def read_meta(path: Path) -> Meta:
    """Return what a tape says of itself.

    Raises
    ------
    DataError
        If it says nothing, or is of another format.
    """
    try:
        meta = msgspec.json.decode(read_text(path, META), type=Meta)
    except DECODE_ERRORS as error:
        raise DataError(path, None, "meta", f"expected format and markets: {error}") from error
    if meta.format != FORMAT_NUMBER:
        raise DataError(path, None, "meta", f"expected format {FORMAT_NUMBER}, got {meta.format}")
    try:
        build_setup(meta.markets)
    except ConfigError as error:
        raise DataError(path, None, "markets", f"expected markets an exchange can have: {error}") from error
    return meta


def refuse(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> NoReturn:
    """Refuse to merge a tape of commands with anything: what it would do to the other's books is told already."""
    raise DataError(files[0].path, None, None, "expected a tape of commands alone, not beside other recordings")


FORMAT = Format("commands", sniff, refuse)


class CommandTape:
    """A tape of commands as a feed.

    Parameters
    ----------
    file : TapeFile
        The tape.
    markets : sequence of Market
        In index order, as many and of the same symbols, tick and lot sizes as the tape's; empty: the tape's.
    skipped : sequence of (Path, str)
        What was found beside it.
    is_strict : bool
        Whether a stamp that falls is raised, or counted and held at the one before it.

    Attributes
    ----------
    symbols : tuple of str
        The markets, in index order.
    counts : dict of str to int
        Commands by name, of the last `chunks` call, growing while it runs.
    findings : Findings
        Of the last call.

    Raises
    ------
    DataError
        If the markets are others than the tape's.
    """

    def __init__(
        self,
        file: TapeFile,
        markets: Sequence[Market] = (),
        skipped: Sequence[tuple[Path, str]] = (),
        *,
        is_strict: bool = True,
    ) -> None:
        self.files, self.skipped, self._is_strict = (file,), tuple(skipped), is_strict
        own = self._markets = read_meta(file.path).markets
        self.symbols = tuple(market.symbol for market in own)
        if markets:
            told = [f"{market.symbol} in {market.tick_size} by {market.lot_size}" for market in own]
            wanted = [(market.symbol, market.tick_size, market.lot_size) for market in markets]
            if wanted != [(market.symbol, market.tick_size, market.lot_size) for market in own]:
                got = ", ".join(f"{symbol} in {tick} by {lot}" for symbol, tick, lot in wanted)
                raise DataError(file.path, None, "markets", f"expected the tape's ({', '.join(told)}), got {got}")
        self._reset()

    def _reset(self) -> None:
        self.findings = Findings(self._is_strict)
        self.instruments = Instruments(self._markets, dict.fromkeys(self.symbols, EXCHANGE))
        for symbol in self.symbols:
            self.instruments.find(EXCHANGE, symbol)
        self.teller = Teller(self.instruments)
        self.counts: dict[str, int] = {"commands": 0, "gaps": 0, "resets": 0, "dropped": 0}

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield COMMAND arrays of `rows` records; every call reads the file anew."""
        self._reset()
        return cut_chunks(self._read(), rows)

    def _read(self) -> Iterator[Commands]:
        path, last_ns, done = self.files[0].path, 0, 0
        for piece in read_rows(path, COMMAND, MEMBER):
            rows = piece
            stamps = rows["ts_ns"]
            before = np.maximum.accumulate(np.concatenate([[last_ns], stamps]))[:-1]
            falls = np.flatnonzero(stamps < before)
            for at in falls.tolist():
                wanted, got = int(before[at]), int(stamps[at])
                error = DataError(path, done + at, "ts_ns", f"expected {wanted} or later, got {got}")
                self.findings.report("reversed_local", error)
            if len(falls):
                rows = rows.copy()
                rows["ts_ns"] = np.maximum(stamps, before)
            last_ns, done = int(rows["ts_ns"][-1]), done + len(rows)
            self.counts["commands"] = done
            for kind, count in Counter(rows["kind"].tolist()).items():
                name = COMMAND_NAMES.get(kind, "unknown")
                self.counts[name] = self.counts.get(name, 0) + count
                self.findings.rows[name] += count
            yield rows

    def records(self) -> Iterator[Records]:
        """Yield what the recorded market's commands tell as rows; what accounts sent has none and is counted.

        A command has forgotten ids and the venue's stamps, and a funding is due when it is told.
        """
        self._reset()
        return self._tell_rows()

    def _tell_rows(self) -> Iterator[Records]:
        fine = np.array([instrument.fine_per_tick for instrument in self.instruments], np.int64)
        for commands in self._read():
            places = commands["market"]
            told = commands[(ROW_OF[commands["kind"]] != 0) & (places >= 0) & (places < len(fine))]
            self.findings.counts["other_commands"] += len(commands) - len(told)
            rows = np.zeros(len(told), RECORD)
            for name in ("ts_ns", "market", "side"):
                rows[name] = told[name]
            rows["kind"] = kinds = ROW_OF[told["kind"]]
            is_fine, is_funding = (kinds == ROW_MARK) | (kinds == ROW_INDEX), kinds == ROW_FUNDING
            rows["price"] = told["price_tick"] * np.where(is_fine, fine[told["market"]], 1)
            rows["price"][is_funding] = told["amount_quote"][is_funding] * (RATE_PER_ONE // PPB)
            rows["qty"] = np.where(is_funding, told["ts_ns"], told["qty_lot"])
            rows["flags"] = np.where((kinds == ROW_TRADE) & (told["flags"] & OFF_BOOK != 0), OFF_MARKET, 0)
            yield rows
