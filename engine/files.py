"""Files that appear whole or not at all, and large arrays on their way into them (CLI-002).

What is made grows under another name beside its place and is renamed when it is done.  Rows are spooled to disk as they
come and packed at the end, so that much output takes no more memory than little.
"""

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MissingExtraError

COPY_BYTES = 1 << 22


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

    def __init__(self, target: str | Path, option: str, is_ours: Callable[[str], bool], what: str) -> None:
        self.target, self._option, self._is_ours, self._what = Path(target), option, is_ours, what
        self.part = self.target.with_name(f".{self.target.name}.{os.getpid()}.part")
        self._made: list[Path] = []

    def refuse_others(self) -> None:
        """Raise ConfigError where the target is a file, or a folder that holds what is not ours."""
        if self.target.exists() and not self.target.is_dir():
            raise ConfigError(f"{self._option}: {self.target}: expected a folder, this is a file")
        if self.target.is_dir():
            others = sorted(entry.name for entry in self.target.iterdir() if not self._is_ours(entry.name))
            if others:
                raise ConfigError(
                    f"{self._option}: {self.target}: expected a new folder or one of an earlier {self._what}, "
                    f"it holds {others[0]}"
                )

    def __enter__(self) -> Self:
        """Make the folder that is written to."""
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


# ---------------------------------------------------------------- Parquet


def require_polars(what: str) -> Any:
    """Return polars; MissingExtraError, naming `what` needs it, where it is not installed."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(f"{what} needs `pip install 'perp-engine[parquet]'`") from error
    return polars


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
        frame.write_parquet(self._folder / f"{self._count:06}.parquet")
        self._count += 1

    def pack(self, target: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the file; at least one frame must have come."""
        import polars

        parts = polars.scan_parquet(self._folder / "*.parquet")
        parts.sink_parquet(target, metadata=None if metadata is None else dict(metadata))
        shutil.rmtree(self._folder)
