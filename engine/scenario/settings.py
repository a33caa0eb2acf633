"""TOML files into msgspec structs, numbers as exact decimals, errors naming the file and the path inside it."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.codes import PPM
from engine.errors import ConfigError, explain_os, shorten
from engine.files import explain_misfit, read_text
from engine.units import check_tree, count_units

Settings = TypeVar("Settings")


def load_settings(path: str | Path, form: type[Settings]) -> Settings:
    """Return the TOML file at `path` as a `form`.

    Raises
    ------
    ConfigError
        Unreadable file, malformed TOML, unknown field, wrong type, or a value the struct refuses.
    """
    file = Path(path)
    try:
        # Floats stay text until they are decimals: 0.1 means a tenth, not the double next to it.
        raw = tomllib.loads(read_text(file), parse_float=str)
        check_tree(raw)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {explain_os(error, file)}") from error
    except (ValueError, RecursionError) as error:  # of the file, of its text, of a number in it
        raise ConfigError(f"{file}: not valid TOML: {shorten(str(error))}") from error
    try:
        return msgspec.convert(raw, form, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {explain_misfit(error, form)}") from error


def check_range(field: str, value: Decimal | int, least: Decimal | int, most: Decimal | int) -> None:
    """Raise ValueError naming the field unless least <= value <= most; NaN is never in range."""
    number = Decimal(value)
    if number.is_nan() or not least <= number <= most:
        raise ValueError(f"{field}: expected {least} to {most}, got {value}")


def count_ppm(field: str, rate: Decimal) -> int:
    """Return a rate in parts per million; ValueError naming the field when it has more than six decimals."""
    try:
        return count_units(rate, Decimal(1) / PPM, "value")
    except ValueError as error:
        raise ValueError(f"{field}: expected at most six decimals, got {rate}") from error
