"""What can go wrong outside the kernels, each with the exit status the command line returns for it (CLI-002)."""

MESSAGE_MOST = 1_000  # characters: a bad file may hold a text of any length where a number belongs


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
