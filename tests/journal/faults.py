"""Disks that refuse: a layer in which one call into the system fails, and small disks where one may mount."""

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest

CALLS = ("write", "fsync", "open", "link", "replace", "unlink", "mkdir")


class Faults:
    """Counts the calls into the system that a block makes through `os`, and lets one of them fail.

    Parameters
    ----------
    at : int
        Which one, from 0; -1: none.
    number : int
        The errno.
    is_short : bool
        Whether a `write` that fails has written half of what it was given.
    """

    def __init__(self, at=-1, number=errno.ENOSPC, is_short=False):
        self.at, self.number, self.is_short = at, number, is_short
        self.count, self.failed, self.synced = 0, "", {}

    def __enter__(self):
        self._patch = pytest.MonkeyPatch()
        for name in CALLS:
            self._patch.setattr(os, name, self._wrap(name, getattr(os, name)))
        return self

    def __exit__(self, *_):
        self._patch.undo()

    def _wrap(self, name, call):
        def counted(*given, **named):
            self.count += 1
            if self.count - 1 == self.at:
                self.failed = name
                if name == "write" and self.is_short:
                    call(given[0], bytes(given[1])[: len(given[1]) // 2])
                raise OSError(self.number, os.strerror(self.number))
            done = call(*given, **named)
            if name == "fsync":
                self.synced[os.fstat(given[0]).st_ino] = os.fstat(given[0]).st_size
            return done

        return counted

    def lose_power(self, path):
        """Make zeros of what of a file was never brought to disk, as a system may that failed to write it once."""
        size, kept = path.stat().st_size, self.synced.get(path.stat().st_ino, 0)
        with path.open("r+b") as file:
            file.seek(kept)
            file.write(bytes(size - kept))


@contextmanager
def mount(folder, options):
    """Mount a file system in memory; skip the test, saying why, where that is not allowed."""
    if shutil.which("mount") is None:
        pytest.skip("no `mount` here")
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, left=0):
    """Fill a disk up to so many bytes, and return the file that does."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert not shutil.disk_usage(folder).free
    os.truncate(path, max(path.stat().st_size - left, 0))
    return path
