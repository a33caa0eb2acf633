"""Arrays in .npy and .npz files, in pieces: memory grows neither with the file nor with what it claims (FEED-052)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError
from engine.feeds.tape import ZIP, open_bytes
from engine.files import ARCHIVE_ERRORS, open_archive, read_header

MAGIC = b"\x93NUMPY"
PIECE_ROWS = 1 << 15
TEXT_BYTES_MAX = 1 << 20


def find_size(path: Path, member: str) -> int | None:
    """Return how many bytes the file or the member of the archive holds; None where only reading it tells."""
    with path.open("rb") as raw:
        magic = raw.read(len(MAGIC))
    if magic[:4] == ZIP:
        with open_archive(path) as archive:
            return archive.getinfo(member).file_size
    return path.stat().st_size if magic == MAGIC else None


def read_rows(path: Path, dtype: np.dtype[Any], member: str, rows: int = PIECE_ROWS) -> Iterator[NDArray[Any]]:
    """Yield the rows of a one-dimensional array in pieces.

    Parameters
    ----------
    dtype : dtype
        Of the rows; any other is refused.
    member : str
        Of an .npz, with its ending; not looked at in an .npy.

    Raises
    ------
    DataError
        If it is another array, or holds not as many rows as it says.
    """
    done = 0
    try:
        with open_bytes(path, member) as stream:
            found, shape = read_header(path, stream)
            if found != dtype or len(shape) != 1:
                names = ",".join(dtype.names or (str(dtype),))
                expected = f"expected rows of {names} ({dtype.itemsize} bytes), got {found} in shape {shape}"
                raise DataError(path, None, "header", expected)
            count, size = shape[0], find_size(path, member)
            if size is not None and size != stream.tell() + count * dtype.itemsize:
                expected = f"expected {count} rows of {dtype.itemsize} bytes, there are {size - stream.tell()} bytes"
                raise DataError(path, None, member or None, expected)
            while done < count:
                data = stream.read(min(rows, count - done) * dtype.itemsize)
                whole = len(data) // dtype.itemsize
                if not whole:
                    raise DataError(path, done, None, f"expected {count} rows, the file ends after this one")
                yield np.frombuffer(data[: whole * dtype.itemsize], dtype)
                done += whole
    except ARCHIVE_ERRORS as error:
        raise DataError(path, done, None, f"expected a sound file, after this row: {error}") from error


def read_text(path: Path, member: str) -> str:
    """Return a short text that was stored as an array: bytes of UTF-8, or a single string.

    Raises
    ------
    DataError
        If it is missing, longer than TEXT_BYTES_MAX, or no text.
    """
    try:
        with open_bytes(path, member) as stream:
            dtype, _ = read_header(path, stream)
            data = stream.read(TEXT_BYTES_MAX + 1)
        if len(data) > TEXT_BYTES_MAX or dtype.kind not in "uSU" or (dtype.kind == "u" and dtype.itemsize > 1):
            raise DataError(path, None, member, f"expected a text of at most {TEXT_BYTES_MAX} bytes")
        return data.decode("utf-32-le" if dtype.kind == "U" else "utf-8").rstrip("\0")
    except UnicodeDecodeError as error:
        raise DataError(path, None, member, f"expected text: {error}") from error
    except ARCHIVE_ERRORS as error:
        raise DataError(path, None, member, f"expected a sound file: {error}") from error
