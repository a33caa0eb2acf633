"""What can go wrong outside the kernels, each with the exit status the command line returns for it (CLI-002)."""

from collections.abc import Iterable
from pathlib import Path

MESSAGE_MOST = 1_000  # characters: a bad file may hold a text of any length where a number belongs
NEAR = 0.7  # of 1: how alike two names are that may be meant for each other
LISTED = 5  # names of a folder in a message


class EngineError(Exception):
    """Base of every error the engine raises on purpose; one line, ready to print."""

    exit_status = 1


class MissingExtraError(EngineError):
    """A command needs an optional package: the message names the extra to install."""

    exit_status = 3


class DataError(EngineError):
    """Bad input data: the message names file, line, field and what was expected."""

    exit_status = 4

    def __init__(self, file: object, line: int | None, field: str | None, expected: str) -> None:
        self.file, self.line, self.field, self.expected = file, line, field, expected
        where = str(file) + (f":{line}" if line is not None else "") + (f": field '{field}'" if field else "")
        super().__init__(f"{where}: {shorten(expected)}")


class ConfigError(EngineError):
    """Bad configuration: the message names the file and the path inside it."""

    exit_status = 5


class CapacityError(EngineError):
    """A declared capacity is used up: the message names which one to raise."""

    exit_status = 6
    events: object = None  # EVENT rows of what was applied before


class InvariantError(EngineError):
    """Money or quantity is not conserved, or a kernel reports a state that cannot be."""

    exit_status = 70
    events: object = None  # EVENT rows of what was applied before, where an engine stopped


class JournalError(EngineError):
    """The disk refused what had to be kept: the message says how many commands are safe."""

    exit_status = 74


def shorten(text: str) -> str:
    """Return a message of at most MESSAGE_MOST characters: the middle of a longer one is left out."""
    half = MESSAGE_MOST // 2 - 3
    return text if len(text) <= MESSAGE_MOST else f"{text[:half]} ... {text[-half:]}"


def suggest(word: object, known: Iterable[str]) -> str:
    """Return what ends a message about a name nobody knows: the known one it is nearest to, if one is near.

    Source: CLI-033.
    """
    import difflib

    names = {name.lower().lstrip("-"): name for name in known}
    said = str(word).lower().lstrip("-")
    longer = [name for name in names if said and name.startswith(said)]
    near = longer or difflib.get_close_matches(said, list(names), 1, NEAR)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def list_known(word: object, known: Iterable[str]) -> str:
    """Return what ends a message about a name nobody knows: all that are known, and the nearest.

    Source: CLI-033.
    """
    names = list(known)
    return f"known: {', '.join(names)}{suggest(word, names)}"


def explain_os(error: OSError, path: str | Path) -> str:
    """Return why a file cannot be read, and where it is not there what is: a name like it, or what its folder holds.

    Source: CLI-033.
    """
    reason, file = error.strerror or str(error), Path(path)
    try:
        if isinstance(error, IsADirectoryError):
            return f"{reason}; name a file in it{_list_folder(file)}"
        if isinstance(error, FileNotFoundError):
            home = next(parent for parent in file.parents if parent.is_dir())
            if home != file.parent:
                return f"{reason}; the folder {file.parent} is not there, {home} is{_list_folder(home)}"
            near = [name for name in _list_names(home) if suggest(file.stem, [Path(name).stem])]
            return f"{reason}; did you mean '{near[0]}'?" if near else f"{reason}{_list_folder(home)}"
        if isinstance(error, PermissionError):
            return f"{reason}; make it readable for you"
    except OSError:
        pass
    return reason


def _list_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def _list_folder(folder: Path) -> str:
    names = _list_names(folder)
    more = ", ..." if len(names) > LISTED else ""
    return f"; {folder if folder != Path('.') else 'this folder'} holds {', '.join(names[:LISTED]) or 'nothing'}{more}"
