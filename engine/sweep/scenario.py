"""A stress scenario as its owner writes it: markets, a crowd, what moves prices, a fund, policies (STRESS-001)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.contract import Market, build_setup, load_market, read_market
from engine.errors import ConfigError, list_known
from engine.feeds import open_feed
from engine.files import explain_misfit
from engine.replay import count_fund
from engine.replay.runner import hash_file
from engine.scenario import Population, Shock, SimulatedMarket, load_population, load_shock, load_simulated
from engine.scenario.settings import check_range, load_settings
from engine.scenario.shock import parse_duration
from engine.scenario.simulated import Recorded, check_duration
from engine.venues import list_venues

Form = TypeVar("Form")
Table = dict[str, Any]

SEEDS_MOST = 1_000_000
SEED_BITS = 63


class StressFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: where it names other files, they are relative to it.

    Parameters
    ----------
    markets : list
        Market files, names of venue presets, or tables as in a market file.
    simulated : file or table, optional
        A simulated market; the scenario has one market then.
    tape : list of files or folders, optional
        A recorded one instead.
    population : file or table, or a list of them, optional
        The n-th crowd belongs to the n-th market; on a tape it may be a file of real positions.
    shock : file or table, optional
        Prices and depth over time.
    fund : amount, or list of NAME=AMOUNT
        What the insurance funds start with, in their assets.
    policies : table
        Dotted path -> value, laid over everything above.
    seeds : int
        How many runs.
    calm : duration
        Without forced closings for longer than this the market has recovered (STRESS-006).

    Source: STRESS-001.
    """

    markets: tuple[str | Table, ...]
    simulated: str | Table | None = None
    tape: tuple[str, ...] = ()
    population: str | Table | tuple[str | Table, ...] = ()
    shock: str | Table | None = None
    fund: str | int | tuple[str, ...] = ()
    policies: Table = {}
    seeds: int = 100
    calm: str | int = "10s"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scenario with everything it names read: nothing but tapes and positions is left in files.

    Source: STRESS-001.
    """

    markets: tuple[Market, ...]
    simulated: SimulatedMarket | None
    tape: tuple[str, ...]
    population: tuple[Population | str, ...]
    shock: Shock | None
    fund: tuple[str, ...]
    seeds: int
    calm: str | int

    def __post_init__(self) -> None:
        """Refuse what cannot be run; msgspec adds the path."""
        check_range("seeds", self.seeds, 1, SEEDS_MOST)
        check_duration("calm", self.calm)
        if (self.simulated is None) == (not self.tape):
            raise ValueError("expected either a simulated market or a tape")
        if self.simulated and len(self.markets) != 1:
            raise ValueError(f"markets: expected one, as in every simulated market, got {len(self.markets)}")
        if len(self.population) > len(self.markets):
            raise ValueError(f"population: {len(self.population)} crowds for {len(self.markets)} markets")
        if self.simulated and any(isinstance(crowd, str) for crowd in self.population):
            raise ValueError("population: expected a drawn crowd, real positions need a tape")

    @property
    def calm_ns(self) -> int:
        """Return how long nothing is forced before the market has recovered."""
        return parse_duration(self.calm)

    @property
    def is_drawn(self) -> bool:
        """Return whether anything in it depends on the seed."""
        return self.simulated is not None or any(isinstance(crowd, Population) for crowd in self.population)

    def count_funds(self) -> dict[str, int]:
        """Return fund -> what it starts with, in units of its asset."""
        funds: dict[str, int] = {}
        for text in self.fund:
            funds.update(count_fund(text, self.markets))
        return funds


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario from a TOML file, and every file it names but tapes and positions.

    Raises
    ------
    ConfigError
        Naming the file and the path inside it.

    Source: STRESS-001.
    """
    file, where = Path(path), str(path)
    raw = load_settings(file, StressFile)
    folder = file.parent
    simulated = _read_part(raw.simulated, folder, SimulatedMarket, load_simulated, f"{where}: simulated")
    if simulated and isinstance(raw.simulated, dict) and isinstance(simulated.index, Recorded):
        simulated = msgspec.structs.replace(simulated, index=Recorded(file=str(folder / simulated.index.file)))
    shock = _read_part(raw.shock, folder, Shock, load_shock, f"{where}: shock")
    crowds = raw.population if isinstance(raw.population, tuple) else (raw.population,)
    population = tuple(_read_crowd(crowd, folder, f"{where}: population") for crowd in crowds)
    if simulated:
        # A crowd and a shock of its own are the scenario's: one path for each.
        for name, own, given in (("crowd", simulated.crowd, population), ("shock", simulated.shock, shock)):
            if given and own and own != Shock():
                raise ConfigError(f"{where}: simulated.{name}: expected none beside the scenario's own")
        population = population or ((simulated.crowd,) if simulated.crowd else ())
        shock = shock or (simulated.shock if simulated.shock != Shock() else None)
        simulated = msgspec.structs.replace(simulated, crowd=None, shock=Shock())
    tree = {
        "markets": [_load_market(entry, folder, f"{where}: markets[{at}]") for at, entry in enumerate(raw.markets)],
        "simulated": simulated,
        "tape": [str(folder / name) for name in raw.tape],
        "population": population,
        "shock": shock,
        "fund": [str(text) for text in (raw.fund if isinstance(raw.fund, tuple) else (raw.fund,))],
        "seeds": raw.seeds,
        "calm": raw.calm,
    }
    return _build(_unfold(tree), raw.policies, where)


def _unfold(value: Any) -> Table:
    """Return plain tables and lists, decimals as text."""
    tree: Table = msgspec.json.decode(msgspec.json.encode(value))
    return tree


def _load_market(entry: str | Table, folder: Path, where: str) -> Market:
    if isinstance(entry, dict):
        return read_market(entry, where, folder)
    file = folder / entry
    if not file.exists() and entry in list_venues():
        return read_market({"venue": entry}, f"{where}: {entry}", folder)
    if not file.exists():
        known = ", ".join(list_venues())
        raise ConfigError(f"{where}: expected a market file or a venue preset, found no {file}; presets: {known}")
    return load_market(file)


def _read_part(part: str | Table | None, folder: Path, form: type[Form], load: Any, where: str) -> Form | None:
    """Return a part of a scenario from the file it names or its own table."""
    if part is None:
        return None
    if isinstance(part, str):
        found: Form = load(folder / part)
        return found
    try:
        return msgspec.convert(part, form, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain_misfit(error, form)}") from error


def _read_crowd(crowd: str | Table, folder: Path, where: str) -> Population | str:
    if isinstance(crowd, str) and not crowd.endswith(".toml"):
        if not (folder / crowd).is_file():
            raise ConfigError(f"{where}: expected a population (.toml) or a file of positions at {folder / crowd}")
        return str(folder / crowd)
    found = _read_part(crowd, folder, Population, load_population, where)
    assert found is not None
    return found


# ---------------------------------------------------------------- changes by path


def change_scenario(scenario: Scenario, changes: Mapping[str, Any], where: str) -> Scenario:
    """Return a scenario with other values at some dotted paths.

    Parameters
    ----------
    changes : mapping
        Path -> value, text where it came from a command line.  `fund`, `calm`, `simulated...`, `population...` and
        `shock...` are the scenario's parts, `population` without a number all crowds; `SYMBOL.adl.score` is one
        market's, `adl.score` every market's.

    Raises
    ------
    ConfigError
        Naming the path, with what is known there.

    Source: STRESS-002.
    """
    return _build(_unfold(scenario), changes, where) if changes else scenario


def _build(tree: Table, changes: Mapping[str, Any], where: str) -> Scenario:
    for path, value in changes.items():
        for place in _find_places(tree, path, where):
            _put(place[0], place[1], value, f"{where}: {path}")
    try:
        scenario = msgspec.convert(tree, Scenario, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error
    build_setup(scenario.markets, where)
    try:
        scenario.count_funds()
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('--')}") from error
    return scenario


def _find_places(tree: Table, path: str, where: str) -> Iterator[tuple[Any, list[str]]]:
    """Yield (table, rest of the path) for every part of the scenario a path means."""
    first, *rest = path.split(".")
    symbols = [market["symbol"] for market in tree["markets"]]
    # a symbol may have dots of its own
    symbol = next((name for name in symbols if path.startswith(f"{name}.")), None)
    if first in ("fund", "calm"):
        yield tree, [first, *rest]
    elif first == "population" and rest and not rest[0].isdigit():
        for crowd in tree["population"]:
            yield crowd, rest
    elif first in ("simulated", "population", "shock"):
        yield tree, [first, *rest]
    elif symbol is not None:
        yield tree["markets"][symbols.index(symbol)], path.removeprefix(f"{symbol}.").split(".")
    elif first in Market.__struct_fields__:
        for market in tree["markets"]:
            yield market, [first, *rest]
    else:
        known = ["fund", "calm", "simulated", "population", "shock", *symbols, *Market.__struct_fields__]
        raise ConfigError(f"{where}: {path}: unknown '{first}', {list_known(first, known)}")


def _put(table: Any, names: Sequence[str], value: Any, where: str) -> None:
    """Set the value at a path that is there already."""
    *way, last = names
    for name in way:
        table = table[_find_key(table, name, where)]
    key = _find_key(table, last, where)
    if last == "fund" and "seeds" in table:
        value = [str(text) for text in (value if isinstance(value, list) else [value])]
    elif isinstance(table[key], dict | list) and not isinstance(value, dict | list):
        known = ", ".join(map(str, table[key] if isinstance(table[key], dict) else range(len(table[key]))))
        raise ConfigError(f"{where}: expected a value, this is a table of {known or 'nothing'}")
    table[key] = value


def _find_key(table: Any, name: str, where: str) -> Any:
    if isinstance(table, dict) and name in table:
        return name
    if isinstance(table, list) and name.isdigit() and int(name) < len(table):
        return int(name)
    known = list(map(str, table if isinstance(table, dict) else range(len(table)))) if table else ["nothing"]
    raise ConfigError(f"{where}: unknown '{name}', {list_known(name, known)}")


# ---------------------------------------------------------------- seeds and identity


def derive_seed(base: int, role: str, number: int) -> int:
    """Return the seed of one part of run `number`: parts and runs share no draws, whatever the files' seeds are.

    Source: STRESS-003.
    """
    digest = hashlib.blake2b(f"{role}/{base}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def hash_scenario(scenario: Scenario, version: str) -> str:
    """Return what identifies a scenario.

    That is every value in it but the number of runs; of files the contents, not the places; and the program's version.

    Source: STRESS-004.
    """
    tree = _unfold(scenario)
    del tree["seeds"]
    tree["version"] = version
    if scenario.tape:
        files = open_feed(list(scenario.tape), scenario.markets).files
        tree["tape"] = [(file.path.name, hash_file(file.path)) for file in files]
    tree["population"] = [hash_file(Path(crowd)) if isinstance(crowd, str) else crowd for crowd in tree["population"]]
    if scenario.simulated and isinstance(scenario.simulated.index, Recorded):
        tree["simulated"]["index"]["file"] = hash_file(Path(scenario.simulated.index.file))
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
