"""Files that appear whole or not at all, and large arrays on their way into them (CLI-002).

What is made grows under another name beside its place and is renamed when it is done.  Rows are spooled to disk as they
come and packed at the end, so that much output takes no more memory than little.
"""

import io
import os
import re
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, DataError, MissingExtraError, shorten, suggest

COPY_BYTES = 1 << 22
SETTINGS_BYTES_MAX = 1 << 24  # of a file somebody wrote by hand
JSON_BYTES_MAX = 1 << 28  # of one that a program wrote: scenarios, a summary, a kept stream
ARRAY_BYTES_MAX = 1 << 42  # what an array may say it holds
ARCHIVE_BYTES_MAX = 1 << 32  # what the arrays of a file may hold that is read whole
HEADER_BYTES_MAX = 10_000
MEMBERS_MAX = 1 << 16  # of an archive
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What reading a damaged archive can raise; a compression's own errors are all among these with PACKINGS.
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, RuntimeError)


class PanicError(ValueError):
    """A library written in Rust met what it did not expect."""


@contextmanager
def catch_panic() -> Iterator[None]:
    """Turn such a library's panic, which Python holds for no `Exception`, into a PanicError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise PanicError(str(error).partition("\n")[0]) from error


def read_text(path: str | Path, most: int = SETTINGS_BYTES_MAX) -> str:
    """Return the text of a small file, a mark of UTF-8 at its beginning left out.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it has more than `most` bytes, or is not UTF-8.

    Source: FEED-072.
    """
    with Path(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"expected at most {most} bytes, there are more")
    return data.decode("utf-8-sig")


def explain_misfit(error: msgspec.ValidationError, form: type, *more: str) -> str:
    """Return why a table is no `form`; for a field nobody knows with the one it is nearest to, or all there are.

    Parameters
    ----------
    more : str
        Fields that are read before the form is made.

    Source: CLI-033.
    """
    text = shorten(str(error))
    match = re.match(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", text)
    if match:
        known = [*_list_fields(form, match[2] or ""), *more]
        return text + (suggest(match[1], known) or f"; known: {', '.join(known)} (perp docs formats)")
    return f"{text} (perp docs formats)" if "missing required field" in text else text


def _list_fields(form: type, path: str) -> list[str]:
    """Return the fields of what stands at a path like `$.tiers[0]` of a form."""
    from msgspec import inspect

    def spread(kind: Any) -> Iterator[Any]:
        yield from getattr(kind, "types", [getattr(kind, "type", kind)])

    nodes = [inspect.type_info(form)]
    for name in re.findall(r"\.(\w+)|\[", path):
        found = []
        for node in nodes:
            inner = [row.type for row in getattr(node, "fields", ()) if row.encode_name == name] if name else []
            inner += [] if name else [getattr(node, "item_type", getattr(node, "value_type", node))]
            found += [part for kind in inner for part in spread(kind)]
        nodes = found
    return [row.encode_name for node in nodes for row in getattr(node, "fields", ())]


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; what stood there before stays until then.

    Source: CLI-002.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


class Workplace:
    """A folder beside the target in which it is made; `put` renames what was made, leaving the block removes the rest.

    Parameters
    ----------
    target : path
        What shall appear: a file or a folder.
    option : str
        What named it, for messages.
    is_ours : function of str
        Whether a name in an existing folder is one that this kind of output has; a folder that holds others is refused.
    what : str
        What the output is, in one word, for messages.

    Raises
    ------
    ConfigError
        If the target cannot be written.
    """

    under_way: ClassVar[set["Workplace"]] = set()  # what a process that has to end at once removes first

    def __init__(self, target: str | Path, option: str, is_ours: Callable[[str], bool], what: str) -> None:
        self.target, self._option, self._is_ours, self._what = Path(target), option, is_ours, what
        self.part = self.target.with_name(f".{self.target.name}.{os.getpid()}.part")
        self._made: list[Path] = []

    def refuse_others(self) -> None:
        """Raise ConfigError where the target is a file, or a folder that holds what is not ours."""
        if self.target.exists() and not self.target.is_dir():
            raise ConfigError(f"{self._option}: {self.target}: expected a folder, this is a file; name another")
        if self.target.is_dir():
            others = sorted(entry.name for entry in self.target.iterdir() if not self._is_ours(entry.name))
            if others:
                raise ConfigError(
                    f"{self._option}: {self.target}: expected a new folder or one of an earlier {self._what}, "
                    f"it holds {others[0]}; name another"
                )

    def __enter__(self) -> Self:
        """Make the folder that is written to."""
        Workplace.under_way.add(self)
        try:
            for parent in reversed(self.part.parents):
                if not parent.exists():
                    parent.mkdir()
                    self._made.append(parent)
            shutil.rmtree(self.part, ignore_errors=True)
            self.part.mkdir()
        except OSError as error:
            self.remove()
            raise ConfigError(f"{self._option}: {self.target}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not put in its place."""
        self.remove()

    def remove(self) -> None:
        """Remove the folder, and the parents made for it as far as they are empty."""
        Workplace.under_way.discard(self)
        shutil.rmtree(self.part, ignore_errors=True)
        for parent in reversed(self._made):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

    def put(self, made: Path | None = None) -> Path:
        """Put a file of the folder, or the folder itself, in the target's place."""
        if made is not None:
            os.replace(made, self.target)
            return self.target
        before = self.part.with_suffix(".before")
        if self.target.is_dir():
            self.refuse_others()
            os.replace(self.target, before)
        os.replace(self.part, self.target)
        shutil.rmtree(before, ignore_errors=True)
        return self.target


# ---------------------------------------------------------------- npz


def write_rows(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], count: int, spool: Path) -> None:
    """Add raw records on disk to an npz archive as one array, without reading them into memory."""
    header = io.BytesIO()
    descr = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(header, descr)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member, spool.open("rb") as raw:
        member.write(header.getvalue())
        shutil.copyfileobj(raw, member, COPY_BYTES)


def write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Add an array in memory to an npz archive."""
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def open_archive(source: Any) -> zipfile.ZipFile:
    """Open a zip archive whose members are stored or deflated; one that is none raises one of ARCHIVE_ERRORS.

    Source: FEED-073.
    """
    archive = zipfile.ZipFile(source)
    members = archive.infolist()
    if len(members) > MEMBERS_MAX:
        archive.close()
        raise ValueError(f"expected at most {MEMBERS_MAX} members, there are {len(members)}")
    packed = next((member for member in members if member.compress_type not in PACKINGS), None)
    if packed is not None:
        archive.close()
        raise ValueError(f"expected members stored or deflated, {packed.filename!r} is packed otherwise")
    return archive


def read_header(path: Path, stream: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return type and shape of the array that begins here; the stream stands at its first element then.

    Raises
    ------
    DataError
        If this is no such array, in Fortran order, or larger than may be.

    Source: FEED-052.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"unknown version {version[0]}.{version[1]}")
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
            shape, is_fortran, dtype = parse(stream, max_header_size=HEADER_BYTES_MAX)
        # numpy takes whatever Python holds for an int
        if any(type(count) is not int or count < 0 for count in shape):
            raise ValueError(f"got {shape} of {dtype}")
    except Exception as error:  # numpy evaluates the text, and whatever that raises comes out
        reason = str(error).partition("\n")[0]
        raise DataError(path, None, "header", f"expected the header of a numpy array: {reason}") from error
    size = dtype.itemsize
    for count in shape:
        size *= count
    if is_fortran or not 0 <= size <= ARRAY_BYTES_MAX:
        expected = f"expected an array in C order of at most {ARRAY_BYTES_MAX} bytes, got {shape} of {dtype.itemsize}"
        raise DataError(path, None, "header", expected)
    return dtype, shape


def read_arrays(path: str | Path, *names: str, most: int = ARCHIVE_BYTES_MAX) -> dict[str, NDArray[Any]]:
    """Return arrays of an .npz by name, all where none is named; nothing is made room for before it is there.

    Parameters
    ----------
    most : int
        Bytes of all of them.

    Raises
    ------
    DataError
        If it is no such archive, damaged, misses a name, or holds more.

    Source: FEED-052, FEED-073.
    """
    file, found, left = Path(path), dict[str, NDArray[Any]](), most
    try:
        with open_archive(file) as archive:
            for name in names or [name.removesuffix(".npy") for name in archive.namelist()]:
                with archive.open(f"{name}.npy") as stream:
                    member: Any = stream
                    dtype, shape = read_header(file, member)
                    if dtype.hasobject:
                        raise DataError(file, None, name, f"expected numbers, got {dtype}")
                    size = dtype.itemsize * int(np.prod(shape, dtype=object))
                    if size > left:
                        raise DataError(file, None, name, f"expected arrays of at most {most} bytes")
                    data = stream.read(size + 1)
                if len(data) != size:
                    raise DataError(file, None, name, f"expected {size} bytes as its header says, got {len(data)}")
                found[name], left = np.frombuffer(data, dtype).reshape(shape), left - size
    except ARCHIVE_ERRORS as error:
        raise DataError(file, None, None, f"expected a sound archive of arrays: {error}") from error
    return found


# ---------------------------------------------------------------- Parquet


def require_polars(what: str) -> Any:
    """Return polars; MissingExtraError, naming `what` needs it, where it is not installed."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(f"{what} needs `pip install 'perp-engine[parquet]'`") from error
    return polars


@contextmanager
def refuse_parquet(path: Path) -> Iterator[None]:
    """Raise DataError where polars finds no whole Parquet file in what is done here, or panics over it."""
    import polars

    try:
        with catch_panic():
            yield
    except (OSError, PanicError, polars.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(path, None, None, f"expected a whole Parquet file: {reason}") from error


@contextmanager
def tell_disk() -> Iterator[None]:
    """Raise OSError where polars cannot write: it holds a full disk for a mistake in the format, or panics over it.

    Source: CLI-002.
    """
    import polars

    try:
        with catch_panic():
            yield
    except (PanicError, polars.exceptions.PolarsError) as error:
        raise OSError(str(error).partition("\n")[0]) from error


def check_parquet_rows(path: Path, most: int) -> None:
    """Raise DataError where a Parquet file says it has more rows than that.

    Source: FEED-074.
    """
    import polars

    with refuse_parquet(path):
        rows = polars.scan_parquet(path).select(polars.len()).collect().item()
    if rows > most:
        raise DataError(path, None, None, f"expected at most {most} rows, there are {rows}")


class ParquetParts:
    """A Parquet file in the making: frames become parts on disk, then one file.

    Parameters
    ----------
    folder : path
        Made for the parts, and removed with them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        folder.mkdir()

    def add(self, frame: Any) -> None:
        """Append a polars frame; all have the same columns."""
        with tell_disk():
            frame.write_parquet(self._folder / f"{self._count:06}.parquet")
        self._count += 1

    def pack(self, target: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the file; at least one frame must have come."""
        import polars

        parts = polars.scan_parquet(self._folder / "*.parquet")
        with tell_disk():
            parts.sink_parquet(target, metadata=None if metadata is None else dict(metadata))
        shutil.rmtree(self._folder)
