"""JSON whose every object and list remembers its line, and readers that name file, line and field when they refuse.

The standard decoder forgets where a value stood; here objects and lists are walked by hand and only their leaves are
left to it.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import DataError, explain_os, list_known
from engine.files import JSON_BYTES_MAX, read_text
from engine.units import parse_decimal

DEPTH_MOST = 40
EXPONENT_MOST = 17  # what is larger in any unit does not fit 64 bits
_BLANK = " \t\n\r"
_REQUIRED: Any = object()


class Fields(dict[str, Any]):
    """A JSON object: `line` is its own, `lines` those of its values."""

    line: int
    lines: dict[str, int]


class Items(list[Any]):
    """A JSON list, with the line of itself and of each item."""

    line: int
    lines: list[int]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected a number, got {name}")


class _Reader:
    """One pass over a text, from value to value."""

    def __init__(self, file: Path, text: str) -> None:
        self.file, self.text = file, text
        self.breaks = [at for at, sign in enumerate(text) if sign == "\n"]
        # numbers stay decimals: 0.1 means a tenth, not the double next to it
        self.leaf = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)

    def line(self, at: int) -> int:
        return bisect_right(self.breaks, at - 1) + 1

    def refuse(self, at: int, expected: str) -> NoReturn:
        raise DataError(self.file, self.line(at), None, expected)

    def skip(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in _BLANK:
            at += 1
        return at

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """Return the value that starts at `at`, and where it ends."""
        if depth > DEPTH_MOST:
            self.refuse(at, f"expected at most {DEPTH_MOST} levels")
        sign = self.text[at : at + 1]
        if sign == "{":
            return self.object(at, depth)
        if sign == "[":
            return self.list(at, depth)
        try:
            return self.leaf.raw_decode(self.text, at)
        except ValueError as error:
            found = repr(self.text[at : at + 20]) if sign else "the end of the file"
            self.refuse(getattr(error, "pos", at), f"expected a JSON value, got {found}")

    def object(self, start: int, depth: int) -> tuple[Fields, int]:
        fields = Fields()
        fields.line, fields.lines = self.line(start), {}
        for at in self.members(start, "}"):
            if self.text[at : at + 1] != '"':
                self.refuse(at, "expected a name in double quotes")
            name, end = self.value(at, depth)
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.refuse(colon, f"expected ':' after \"{name}\"")
            if name in fields:
                self.refuse(at, f'"{name}" stands twice')
            begin = self.skip(colon + 1)
            fields[name], self.end = self.value(begin, depth + 1)
            fields.lines[name] = self.line(begin)
        return fields, self.end

    def list(self, start: int, depth: int) -> tuple[Items, int]:
        items = Items()
        items.line, items.lines = self.line(start), []
        for at in self.members(start, "]"):
            value, self.end = self.value(at, depth + 1)
            items.append(value)
            items.lines.append(self.line(at))
        return items, self.end

    def members(self, at: int, closing: str) -> Iterator[int]:
        """Yield where each member starts; the caller leaves in `end` where it ends, and finds there the container's."""
        at = self.skip(at + 1)
        if self.text[at : at + 1] != closing:
            while True:
                yield at
                at = self.skip(self.end)
                if self.text[at : at + 1] == closing:
                    break
                if self.text[at : at + 1] != ",":
                    self.refuse(at, f"expected ',' or '{closing}'")
                at = self.skip(at + 1)
        self.end = at + 1


def read_json(path: str | Path) -> Any:
    """Return the value of a JSON file, its objects `Fields` and its lists `Items`.

    Raises
    ------
    DataError
        Naming file and line: not readable, not UTF-8, not JSON, a name twice, a number that is none.
    """
    file = Path(path)
    try:
        text = read_text(file, JSON_BYTES_MAX)
    except OSError as error:
        raise DataError(file, None, None, f"cannot be read: {explain_os(error, file)}") from error
    except UnicodeDecodeError as error:
        raise DataError(file, None, None, f"expected UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise DataError(file, None, None, str(error)) from error
    reader = _Reader(file, text)
    found, end = reader.value(reader.skip(0), 0)
    end = reader.skip(end)
    if end != len(text):
        reader.refuse(end, "expected the end of the file")
    return found


class Form:
    """One object being read: each field is taken once, and what nobody took is refused by `end`.

    Parameters
    ----------
    file : path
        Named in errors.
    fields : Fields
        The object.

    Source: CLI-002.
    """

    def __init__(self, file: Path, fields: Any, line: int | None = None, what: str = "an object") -> None:
        if not isinstance(fields, Fields):
            raise DataError(file, line, None, f"expected {what}, got {describe(fields)}")
        self.file, self.fields, self.line = file, fields, fields.line
        self.asked: set[str] = set()

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raise the error that names this field and its line."""
        raise DataError(self.file, self.fields.lines.get(name, self.line), name, expected)

    def has(self, name: str) -> bool:
        """Return whether the field is there; null counts as not."""
        self.asked.add(name)
        return self.fields.get(name) is not None

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a field's value as it stands."""
        self.asked.add(name)
        if self.has(name):
            return self.fields[name]
        if default is _REQUIRED:
            self.refuse(name, "expected it, it is missing")
        return default

    def text(self, name: str, default: Any = _REQUIRED, known: Any = None) -> Any:
        """Return a text, one of `known` if given."""
        value = self.take(name, default)
        if value is default:
            return value
        if not isinstance(value, str):
            self.refuse(name, f"expected text, got {describe(value)}")
        if known is not None and value not in known:
            self.refuse(name, f"unknown '{value}', {list_known(value, known)}")
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a decimal number, from a number or from text."""
        value = self.take(name, default)
        return value if value is default else self.to_number(name, value)

    def to_number(self, name: str, value: Any) -> Decimal:
        """Return a value of this field as a decimal number."""
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            self.refuse(name, f"expected a number, got {describe(value)}")
        try:
            number = parse_decimal(value)
        except ValueError as error:
            self.refuse(name, str(error))
        if number.adjusted() > EXPONENT_MOST:
            self.refuse(name, f"expected a number below 1e{EXPONENT_MOST + 1}, got {value}")
        return number

    def whole(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a whole number."""
        value = self.number(name, default)
        if value is default:
            return value
        if value != int(value):
            self.refuse(name, f"expected a whole number, got {value}")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            self.refuse(name, f"expected true or false, got {describe(value)}")
        return value

    def form(self, name: str) -> "Form":
        """Return an object in this field."""
        value = self.take(name)
        return Form(self.file, value, self.fields.lines[name], f"'{name}' to be an object")

    def items(self, name: str, default: Any = _REQUIRED) -> Items:
        """Return a list in this field, an empty one where it is optional and missing."""
        value = self.take(name, default)
        if value is default:
            value = Items()
            value.line, value.lines = self.line, []
        if not isinstance(value, Items):
            self.refuse(name, f"expected a list, got {describe(value)}")
        return value

    def forms(self, name: str, default: Any = _REQUIRED) -> "list[Form]":
        """Return the objects of a list."""
        items = self.items(name, default)
        return [
            Form(self.file, item, line, f"'{name}' to hold objects")
            for item, line in zip(items, items.lines, strict=True)
        ]

    def spread(self, name: str, keys: Sequence[str], what: str) -> "list[tuple[Form, str, int]]":
        """Return (form, field, index) for each value of a field that is one value, or an object of one per key.

        One value alone is enough where there is one key.
        """
        value = self.take(name)
        if not isinstance(value, Fields):
            if len(keys) != 1:
                self.refuse(name, f"expected an object with a value per {what} ({', '.join(keys)})")
            return [(self, name, 0)]
        form = self.form(name)
        for key in value:
            if key not in keys:
                form.refuse(key, f"unknown {what}, {list_known(key, keys)}")
        return [(form, key, keys.index(key)) for key in value]

    def end(self, *ignored: str) -> None:
        """Refuse the first field that nobody took."""
        known = self.asked.union(ignored)
        for name in self.fields:
            if name not in known:
                self.refuse(name, f"unknown field, {list_known(name, sorted(known))}")


def describe(value: Any) -> str:
    """Return what a JSON value is, in a word or two."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", str: "text", Fields: "an object", Items: "a list", int: "a number"}
    return names.get(type(value), "a number")


def show(number: Decimal) -> str:
    """Return a decimal without exponent and without needless zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
