"""Real positions from a CSV or Parquet file (POP-002)."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import CROSS, ISOLATED, PORTFOLIO, PPM
from engine.contract import Market, MarketRules, build_setup, value_of
from engine.errors import DataError, MissingExtraError
from engine.feeds.columns import named, read_blocks, unknown_symbol
from engine.feeds.instruments import Instrument, UnitCache
from engine.files import check_parquet_rows, refuse_parquet
from engine.scenario.population import build_assignments, check_capacity
from engine.units import parse_decimal

NEEDED = ("account", "symbol", "side", "amount", "entry_price", "leverage", "margin_mode")
SIDES = {"long": 1, "short": -1, "buy": 1, "sell": -1}
MODES = {"cross": CROSS, "isolated": ISOLATED, "portfolio": PORTFOLIO}
ROWS_MAX = 1 << 24  # of a Parquet file: an exchange has no more accounts unless told so
MONEY_MOST = 1 << 60  # the most an asset's deposits may come to (NUM-006)


class _Position(NamedTuple):
    account: int
    market: int
    leverage: int
    mode: int
    side: int
    qty_lot: int
    entry_tick: int
    collateral_quote: int


class _Reader:
    """How the fields of one market's positions become integers."""

    def __init__(self, index: int, market: Market, rules: MarketRules) -> None:
        self.index, self.rules = index, rules
        self.units = Instrument(index, "", market.symbol, market, {})
        self.amounts = UnitCache(market.lot_size, 1, rules.order_max_lot)
        self.money = UnitCache(market.quote_unit, 0, MONEY_MOST)

    def read(self, row: Mapping[str, str], account: int) -> _Position:
        """Return one row; ValueError with the field's name in front where it cannot be read."""
        field = ""
        try:
            field = "side"
            side = named(SIDES)(row[field].lower())
            field = "amount"
            qty_lot = self.amounts[row[field]]
            field = "entry_price"
            if not row[field]:
                raise ValueError("expected a price, got nothing")
            entry_tick = self.units.round_price(row[field])
            field = "leverage"
            leverage = self._read_leverage(row[field])
            field = "margin_mode"
            mode = named(MODES)(row[field].lower())
            field = "collateral"
            text = row.get(field, "")
            value = abs(value_of(self.rules, entry_tick, qty_lot))
            collateral = self.money[text] if text else -(-value // leverage)
        except (ValueError, ArithmeticError) as error:
            raise ValueError(field, str(error)) from error
        return _Position(account, self.index, leverage, mode, side, qty_lot, entry_tick, collateral)

    def _read_leverage(self, text: str) -> int:
        number = parse_decimal(text)
        most = PPM // self.rules.tiers[0][1]
        if number != int(number) or not 1 <= number <= most:
            raise ValueError(f"expected a whole number from 1 to {most}, got {text}")
        return int(number)


def read_positions(
    path: str | Path,
    markets: Sequence[Market],
    *,
    ts_ns: int = 0,
    first_account: int = 1,
    accounts_max: int | None = None,
) -> tuple[NDArray[np.void], dict[str, int]]:
    """Return the commands that bring real positions in, and which number each account got (POP-002).

    Columns: `account, symbol, side, amount, entry_price, leverage, margin_mode` and, optionally, `collateral`; an empty
    or missing collateral is entry value / leverage, rounded up.  Amounts and collaterals are exact or refused.  An
    average entry price is finer than a tick and rounded half-even to it.  Accounts are numbered in order of appearance.
    Unlike a drawn population, real positions may be liquidatable from the start.

    Parameters
    ----------
    path : path
        CSV (plain or gzip) or, with the extra `parquet`, a Parquet file.
    markets : sequence of Market
        In market-index order.
    accounts_max : int, optional
        Room of the exchange, account 0 (the outside) included.

    Raises
    ------
    DataError
        Naming file, line (row of a Parquet file) and field.
    CapacityError
        Naming the argument to raise.
    MissingExtraError
        If a Parquet file is given and polars is not installed.
    """
    file = Path(path)
    rules = build_setup(markets).markets
    readers = {m.symbol: _Reader(index, m, rules[index]) for index, m in enumerate(markets)}
    names: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    is_portfolio: dict[tuple[int, int], bool] = {}
    found: list[_Position] = []
    for line, row in _read_parquet(file) if file.suffix == ".parquet" else read_csv(file, _check_columns):
        if row["symbol"] not in readers:
            raise unknown_symbol(file, line, row["symbol"], readers)
        if not row["account"]:
            raise DataError(file, line, "account", "expected a name, got nothing")
        account = names.setdefault(row["account"], first_account + len(names))
        try:
            position = readers[row["symbol"]].read(row, account)
        except ValueError as error:
            field, expected = error.args
            raise DataError(file, line, field, expected) from error
        if (account, position.market) in seen:
            raise DataError(file, line, "account", f"expected one position of {row['account']} in {row['symbol']}")
        seen.add((account, position.market))
        expected = _check_mode(position, rules, is_portfolio)
        if expected:
            raise DataError(file, line, "margin_mode", expected)
        found.append(position)
    if not found:
        raise DataError(file, 2, None, "expected at least one row below the header")
    check_capacity(len(names), first_account, accounts_max)
    return _build_commands(found, rules, ts_ns), names


def _check_mode(position: _Position, rules: Sequence[MarketRules], known: dict[tuple[int, int], bool]) -> str:
    """Return what is wrong with a margin mode beside those of the account's earlier positions (PORT-002)."""
    asset = rules[position.market].asset
    mode = position.mode == PORTFOLIO
    if mode and not all(rule.moves_ppm for rule in rules if rule.asset == asset):
        return "expected cross or isolated: not all markets of the asset declare a portfolio"
    if known.setdefault((position.account, asset), mode) != mode:
        return "expected portfolio in all markets of the asset, or in none"
    return ""


def _build_commands(found: list[_Position], rules: Sequence[MarketRules], ts_ns: int) -> NDArray[np.void]:
    table = np.array(found, dtype=np.int64)
    parts, places = [], []
    for index, rule in enumerate(rules):
        place = np.flatnonzero(table[:, 1] == index)
        account, _, leverage, mode, side, qty, entry, collateral = table[place].T
        commands = build_assignments(rule, index, ts_ns, account, leverage, mode, (side, qty, entry, collateral))
        # Back into the order of the file: the commands of a row end with its `assign`.
        ends = commands["qty_lot"] > 0
        places.append(place[np.cumsum(ends) - ends])
        parts.append(commands)
    return np.concatenate(parts)[np.argsort(np.concatenate(places), kind="stable")]


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    for name in NEEDED:
        if name not in columns:
            raise DataError(file, 1, name, f"expected the columns {','.join(NEEDED)} and optionally collateral")


def read_csv(file: Path, check: Callable[[Path, Sequence[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, fields by column) of a CSV file, plain or gzip.

    Parameters
    ----------
    check : callable
        Called with the file and its columns; raises where they will not do.

    Raises
    ------
    DataError
        An empty or unreadable file, or a row of another length.
    """
    columns: list[str] = []
    for line, fields in _split_lines(file):
        if not columns:
            columns = fields
            check(file, columns)
        elif len(fields) != len(columns):
            raise DataError(file, line, None, f"expected {len(columns)} fields, got {len(fields)}")
        else:
            yield line, dict(zip(columns, fields, strict=True))
    if not columns:
        raise DataError(file, 1, None, "expected a header line, the file is empty")


def _split_lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    for first, block in read_blocks(file):
        line = first
        try:
            for line, fields in enumerate(csv.reader(block.decode("ascii").split("\n")), first):
                yield line, fields
        except csv.Error as error:
            expected = f"expected a line of fields, the one after this is none: {error}"
            raise DataError(file, line, None, expected) from error


def _read_parquet(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(f"{file}: reading Parquet needs `pip install 'perp-engine[parquet]'`") from error
    check_parquet_rows(file, ROWS_MAX)
    with refuse_parquet(file):
        frame = polars.read_parquet(file)
    _check_columns(file, frame.columns)
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        # str of a double is the shortest decimal that means it: 0.1 is read as a tenth.
        yield number, {name: "" if value is None else str(value) for name, value in row.items()}
