"""The command log: what an exchange was sent, framed, checksummed, and on disk when it says so (JRN-001 to JRN-009).

One file, `commands.log`: a header with the markets, then frames.  A frame is COMMAND records as they stand in memory,
or a digest; its checksum covers everything but itself.  Beside it lie snapshots.  Nothing here knows an engine.
"""

import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.contract import Market, build_setup, convert_markets
from engine.errors import ConfigError, DataError, JournalError, list_known
from engine.layout import COMMAND

Rows = NDArray[np.void]

LOG = "commands.log"
SNAPSHOT = "snapshot-{:020}.npz"
SNAPSHOTS = "snapshot-*.npz"
MAGIC = b"PERPJRNL"
FORMAT = 1
START = struct.Struct("<8sIII")  # magic, format, bytes of the JSON that follows, CRC-32 of both numbers and the JSON
# mark, kind, records, CRC-32 of the rest of the header and the payload, commands before the frame, bytes of the payload
FRAME = struct.Struct("<4sHHIQQ")
MARK = b"\xf5PJF"
COMMANDS, DIGEST = 1, 2
FRAME_COMMANDS = 4_096  # at most in one frame: what a torn tail can cost is bounded
HEADER_MOST = 1 << 26  # of the JSON: more is no journal of ours
GROUP_BYTES = 1 << 20
BUFFER_BYTES = 1 << 13
GROUP_SECONDS = 0.05
POLICIES = ("always", "group", "never")


class Frame(NamedTuple):
    """One frame as it was read."""

    offset: int
    kind: int
    first_seq: int  # commands before it
    rows: Rows  # of COMMANDS; empty for a digest
    digest: str  # of the state after `first_seq` commands; empty for commands


class Tail(NamedTuple):
    """What stands behind the last sound frame."""

    offset: int  # where sound frames end
    lost_bytes: int  # behind it
    why: str  # empty: nothing stands there


class Journal:
    """A command log that is written to.

    Parameters
    ----------
    folder : path
        Made if need be; a log in it is an error (`recover` first, then `resume`).
    markets : sequence of Market
        Kept in the header.
    fsync : {"group", "always", "never"}
        When commands are on disk: after a mebibyte or 50 ms and at `commit`; after every `append`; when the operating
        system likes.

    Attributes
    ----------
    durable_seq : int
        So many commands survive a loss of power (with `never`: a crash of the process).

    Source: JRN-001, JRN-002, JRN-007.
    """

    def __init__(self, folder: str | Path, markets: Sequence[Market], fsync: str = "group") -> None:
        target = Path(folder)
        check_policy(fsync)
        header = json.dumps({"markets": msgspec.to_builtins(list(markets)), "command_bytes": COMMAND.itemsize}).encode()
        numbers = struct.pack("<II", FORMAT, len(header))
        crc = zlib.crc32(header, zlib.crc32(numbers))
        is_new = not target.exists()
        try:
            target.mkdir(parents=True, exist_ok=True)
            # Under another name first: a log whose header is torn would be no log, and nobody could say why.
            part = target / f"{LOG}.{os.getpid()}.part"
            try:
                write_durably(part, START.pack(MAGIC, FORMAT, len(header), crc) + header)
                os.link(part, target / LOG)
            finally:
                part.unlink(missing_ok=True)
            try:
                sync_folder(target)
            except OSError:
                (target / LOG).unlink()  # a name that may be gone after a loss of power is no promise
                raise
            self._begin(target, 0, fsync)
        except FileExistsError as error:
            raise ConfigError(
                f"journal: {target}: expected no journal here; recover it, or name another folder"
            ) from error
        except OSError as error:
            if is_new:
                with suppress(OSError):
                    target.rmdir()
            raise ConfigError(f"journal: {target}: cannot be written: {error.strerror}") from error

    @classmethod
    def resume(cls, folder: str | Path, seq: int, fsync: str = "group") -> "Journal":
        """Return the journal of a folder whose log is sound and holds `seq` commands, to be written on (`cut_tail`)."""
        target = Path(folder)
        check_policy(fsync)
        journal = cls.__new__(cls)
        try:
            journal._begin(target, seq, fsync)
        except OSError as error:
            raise ConfigError(f"journal: {target}: cannot be written: {error.strerror}") from error
        return journal

    def _begin(self, folder: Path, seq: int, fsync: str) -> None:
        self.folder, self.fsync, self.seq, self.durable_seq = folder, fsync, seq, seq
        self._handle = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND)
        self._buffer, self._waiting, self._since = bytearray(), 0, monotonic()
        self._error: OSError | None = None
        self._is_closed = False

    def append(self, rows: Rows) -> None:
        """Write commands that were applied; they are durable when `durable_seq` says so.

        Raises
        ------
        JournalError
            If the disk refuses, now or before: what is durable stays so, and nothing more can be written.
        """
        for start in range(0, len(rows), FRAME_COMMANDS):
            part = rows[start : start + FRAME_COMMANDS]
            self._write(build_frame(COMMANDS, self.seq, part.tobytes(), len(part)))
            self.seq += len(part)
        is_due = self._waiting >= GROUP_BYTES or monotonic() - self._since >= GROUP_SECONDS
        if self.fsync == "always" or (is_due and self._waiting):
            self.commit()

    def append_digest(self, digest: str) -> None:
        """Write the digest of the state after the commands so far: `perp verify` holds a replay against it."""
        self._write(build_frame(DIGEST, self.seq, digest.encode(), 0))

    def commit(self) -> None:
        """Bring everything written to disk.

        Raises
        ------
        JournalError
            If the disk refuses.
        """
        self.check()
        try:
            self._drain()
            if self.fsync != "never":
                os.fsync(self._handle)
        except OSError as error:
            raise self._fail(error) from error
        self.durable_seq, self._waiting, self._since = self.seq, 0, monotonic()

    def close(self) -> None:
        """Commit and close; closing again does nothing."""
        if self._is_closed:
            return
        try:
            if self._error is None:
                self.commit()
        finally:
            self._is_closed = True
            with suppress(OSError):  # what counts was said by commit
                os.close(self._handle)

    def _write(self, data: bytes) -> None:
        self.check()
        self._buffer += data
        self._waiting += len(data)
        if len(self._buffer) >= BUFFER_BYTES:
            try:
                self._drain()
            except OSError as error:
                raise self._fail(error) from error

    def _drain(self) -> None:
        """Hand what is buffered to the operating system, which may take it in parts."""
        left, self._buffer = memoryview(self._buffer), bytearray()
        while len(left):
            count = os.write(self._handle, left)
            if count < 1:
                raise OSError(errno.EIO, "nothing was written")
            left = left[count:]

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self._error is None and not self._is_closed

    def check(self) -> None:
        """Raise JournalError if the disk refused something before."""
        # A disk that failed once may have dropped what it was given before: nothing is tried again.
        if self._error is not None:
            raise JournalError(f"journal: {self.folder}: closed by an earlier error: {self._error.strerror}")

    def _fail(self, error: OSError) -> JournalError:
        """Note the first refusal; what had not reached the system by then never will (JRN-007)."""
        self._error, self._buffer = error, bytearray()
        return JournalError(
            f"journal: {self.folder}: {error.strerror or error}; {self.durable_seq} commands are safe, open it again"
        )


def check_policy(fsync: str) -> None:
    """Refuse an unknown policy of bringing commands to disk."""
    if fsync not in POLICIES:
        raise ConfigError(f"journal: fsync: unknown '{fsync}', {list_known(fsync, POLICIES)}")


def build_frame(kind: int, seq: int, payload: bytes, count: int) -> bytes:
    """Return a frame as bytes."""
    header = struct.pack("<HHQQ", kind, count, seq, len(payload))
    return FRAME.pack(MARK, kind, count, zlib.crc32(payload, zlib.crc32(header)), seq, len(payload)) + payload


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and bring its content to disk; its name is its folder's business (`sync_folder`)."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- reading


class Log:
    """A command log that is read; `tail` is known when `frames` has ended.

    Parameters
    ----------
    folder : path

    Attributes
    ----------
    markets : list of Market
    tail : Tail

    Raises
    ------
    DataError
        If there is no log, or its header is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / LOG
        self.tail = Tail(0, 0, "")
        try:
            self.size = self.path.stat().st_size
            with self.path.open("rb") as file:
                self._start, meta = self._read_header(file)
        except OSError as error:
            step = "perp replay --journal DIR writes one"
            raise DataError(self.path, None, None, f"expected a journal: {error.strerror}; {step}") from error
        try:
            self.markets = convert_markets(meta["markets"])
            build_setup(self.markets, str(self.path))
            if meta["command_bytes"] != COMMAND.itemsize:
                raise ValueError(f"commands of {COMMAND.itemsize} bytes, these have {meta['command_bytes']}")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(self.path, None, "header", f"expected {error}") from error

    def _read_header(self, file: BinaryIO) -> tuple[int, dict[str, Any]]:
        raw = file.read(START.size)
        magic, number, length, crc = START.unpack(raw) if len(raw) == START.size else (b"", 0, 0, 0)
        if magic != MAGIC:
            raise DataError(self.path, None, "header", "expected a journal, at byte 0 stands something else")
        if number != FORMAT:
            raise DataError(self.path, None, "format", f"expected journal format {FORMAT}, got {number}")
        text = file.read(length) if length <= HEADER_MOST else b""
        if len(text) != length or zlib.crc32(text, zlib.crc32(struct.pack("<II", number, length))) != crc:
            raise DataError(self.path, None, "header", "expected a sound header, its checksum differs")
        try:
            meta: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(self.path, None, "header", f"expected JSON: {error}") from error
        return START.size + length, meta

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order.

        Raises
        ------
        DataError
            If a damaged frame is followed by a sound one: commands are missing in the middle (JRN-004).
        """
        with self.path.open("rb") as file:
            offset, seq = self._start, 0
            file.seek(offset)
            while offset < self.size:
                frame, why, length = self._read_frame(file, offset, seq)
                if frame is None:
                    later = self._find_frame(file, offset + 1)
                    if later:
                        raise DataError(
                            self.path,
                            None,
                            None,
                            f"expected a sound frame at byte {offset} (after command {seq}), {why}; sound ones follow "
                            f"from byte {later}: damage in the middle is not repaired",
                        )
                    self.tail = Tail(offset, self.size - offset, why)
                    return
                yield frame
                seq += len(frame.rows)
                offset += length
            self.tail = Tail(offset, 0, "")

    def _read_frame(self, file: BinaryIO, offset: int, seq: int | None) -> tuple[Frame | None, str, int]:
        file.seek(offset)
        raw = file.read(FRAME.size)
        if len(raw) < FRAME.size:
            return None, "it ends early", 0
        mark, kind, count, crc, first_seq, length = FRAME.unpack(raw)
        if mark != MARK or kind not in (COMMANDS, DIGEST) or length > FRAME_COMMANDS * COMMAND.itemsize:
            return None, "there is none", 0
        payload = file.read(length)
        if len(payload) < length:
            return None, "it ends early", 0
        header = struct.pack("<HHQQ", kind, count, first_seq, length)
        if zlib.crc32(payload, zlib.crc32(header)) != crc:
            return None, "its checksum differs", 0
        if (kind == COMMANDS and length != count * COMMAND.itemsize) or (seq is not None and first_seq != seq):
            return None, f"it begins after command {first_seq}", 0
        rows = np.frombuffer(payload, COMMAND) if kind == COMMANDS else np.zeros(0, COMMAND)
        digest = payload.decode("ascii", "replace") if kind == DIGEST else ""
        return Frame(offset, kind, first_seq, rows, digest), "", FRAME.size + length

    def _find_frame(self, file: BinaryIO, offset: int) -> int:
        """Return where the next sound frame begins, or 0."""
        file.seek(offset)
        rest = b""
        while block := file.read(GROUP_BYTES):
            text = rest + block
            base = file.tell() - len(text)
            at = text.find(MARK)
            while at >= 0:
                here = file.tell()
                if self._read_frame(file, base + at, None)[0] is not None:
                    return base + at
                file.seek(here)
                at = text.find(MARK, at + 1)
            rest = text[-len(MARK) + 1 :]
        return 0


def cut_tail(folder: str | Path, tail: Tail) -> None:
    """Cut what stands behind the last sound frame, on disk.

    Source: JRN-004, JRN-007.
    """
    try:
        with (Path(folder) / LOG).open("r+b") as file:
            file.truncate(tail.offset)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"journal: {folder}: cannot be cut: {error.strerror}") from error


def list_snapshots(folder: str | Path) -> list[tuple[int, Path]]:
    """Return (commands before it, file) of the snapshots of a folder, newest first."""
    found = []
    for path in Path(folder).glob(SNAPSHOTS):
        digits = path.stem.removeprefix("snapshot-")
        if digits.isdigit():
            found.append((int(digits), path))
    return sorted(found, reverse=True)
