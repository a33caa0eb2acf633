"""A crash of several coins on one exchange with one fund: who is long and short, what the book bears (OCT-001).

Prices are indices: every coin begins at 100.  Interests come from a table of what was really force-closed, in dollars
and fills per coin, times multiples of the scenario's.
"""

import csv
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import ASSIGN, BUY, FUND_DEPOSIT, INDEX, LEVEL, MARKETS_MAX, PPM, SELL
from engine.contract import Market, MarketRules, value_of
from engine.errors import ConfigError, DataError, list_known
from engine.feeds.draws import FRACTION_BITS, Draws, Ints, lognormal
from engine.layout import COMMAND
from engine.scenario.population import LeverageShare, share_out
from engine.scenario.settings import check_range, count_ppm, load_settings
from engine.scenario.shock import Curve, Point, build_curve, parse_duration
from engine.units import count_units, parse_decimal
from engine.venues import merge_tables, read_venue

Rows = NDArray[np.void]

START_PRICE = Decimal(100)
TICK, LOT, UNIT = Decimal("0.01"), Decimal("0.01"), Decimal("0.000001")  # a lot is worth a dollar at first
START_TICK = int(START_PRICE / TICK)
START_NS = 1_760_130_900 * 10**9  # 2025-10-10 21:15:00 UTC
ACCOUNTS_LIMIT = 1_000_000
STEPS_LIMIT = 100_000
COIN_COLUMNS = ("coin", "forced_usd", "adl_usd", "forced_fills", "adl_fills")


class Coin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A coin of the scenario.

    Parameters
    ----------
    symbol : str
        As in the table of coins.
    fall : Decimal
        What of its price is gone when the common shock is complete, 0.15 is 15 %.
    leverage : int
        The highest it is traded with; half of that margin is maintenance.
    """

    symbol: str
    fall: Decimal
    leverage: int

    def __post_init__(self) -> None:
        """Refuse what cannot be played; msgspec adds the path."""
        check_range("fall", self.fall, 0, Decimal("0.95"))
        count_ppm("fall", self.fall)
        check_range("leverage", self.leverage, 1, 100)


class Side(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everybody who is long, or everybody who is short.

    Parameters
    ----------
    accounts : int
    coins : Decimal
        How many positions one holds on average, drawn with replacement by the coins' fills.
    multiple : Decimal
        Open interest as a multiple of what was force-closed (longs) or deleveraged (shorts) of the coin.
    sigma : Decimal
        Deviation of the logarithm of what one account holds.
    leverage : list of {leverage, weight}
        Of the whole account; in each coin at most the coin's.
    entry : Decimal
        Deviation of entry prices around the first price.
    """

    accounts: int
    coins: Decimal
    multiple: Decimal
    sigma: Decimal
    leverage: tuple[LeverageShare, ...]
    entry: Decimal = Decimal("0.02")

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn; msgspec adds the path."""
        check_range("accounts", self.accounts, 1, ACCOUNTS_LIMIT)
        check_range("coins", self.coins, 1, MARKETS_MAX)
        check_range("multiple", self.multiple, Decimal("0.001"), 1_000)
        check_range("sigma", self.sigma, 0, 4)
        check_range("entry", self.entry, 0, 1)
        count_ppm("entry", self.entry)
        for share in self.leverage:
            check_range("leverage", share.leverage, 1, 100)
            check_range("weight", share.weight, 0, Decimal("1e6"))
        if not sum(share.weight for share in self.leverage):
            raise ValueError("leverage: expected at least one weight above 0")


class Book(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What others bid and ask, anew at each step.

    Parameters
    ----------
    levels : int
        On each side, evenly spaced, each larger than the one before it.
    reach : Decimal
        Distance of the last from the index.
    share : Decimal
        What all levels of a side hold, as a part of what was force-closed of the coin.
    """

    levels: int = 6
    reach: Decimal = Decimal("0.03")
    share: Decimal = Decimal("0.01")

    def __post_init__(self) -> None:
        """Refuse what cannot be placed; msgspec adds the path."""
        check_range("levels", self.levels, 1, 100)
        check_range("reach", self.reach, Decimal("0.0001"), Decimal("0.5"))
        check_range("share", self.share, 0, 10)
        count_ppm("reach", self.reach)
        count_ppm("share", self.share)


class Crash(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A crash as its owner writes it.

    Parameters
    ----------
    seed : int
    coins_file, published_file : str
        Tables of what happened, relative to the file that names them.
    venue : str
        The preset whose rules the markets have.
    liquidation, adl : table
        What differs from the preset, as in a market file.
    fund : Decimal
        What the fund, the vault's capital, starts with.
    shock : list of {t, factor}
        How much of each coin's fall has come, over time: 0 none, 1 all of it.
    depth : list of {t, factor}
        How much of the book there is.
    noise : Decimal
        Deviation of each coin's own price around its path, 0.001 is ten basis points.
    fitted : list of str
        The figures to which the numbers of this file were fitted; all others are found out.

    Source: OCT-001.
    """

    seed: int
    coins_file: str
    published_file: str
    coins: tuple[Coin, ...]
    longs: Side
    shorts: Side
    fund: Decimal
    shock: tuple[Point, ...]
    depth: tuple[Point, ...] = ()
    book: Book = Book()
    duration: str | int = "12m"
    step: str | int = "3s"
    noise: Decimal = Decimal("0.001")
    venue: str = "hyperliquid"
    liquidation: dict[str, Any] = {}
    adl: dict[str, Any] = {}
    fitted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be played; msgspec adds the path."""
        check_range("seed", self.seed, 0, (1 << 63) - 1)
        check_range("fund", self.fund, 0, Decimal("1e11"))
        check_range("noise", self.noise, 0, Decimal("0.1"))
        count_ppm("noise", self.noise)
        if not 1 <= len({coin.symbol for coin in self.coins}) == len(self.coins) <= MARKETS_MAX:
            raise ValueError(f"coins: expected 1 to {MARKETS_MAX} of different symbols")
        for field in ("duration", "step"):
            try:
                parse_duration(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
        check_range("step (in ns)", parse_duration(self.step), 10**6, 1 << 40)
        check_range("duration (in steps)", self.steps, 1, STEPS_LIMIT)
        if not self.shock:
            raise ValueError("shock: expected at least one point")
        for point in self.shock:
            check_range("shock: factor", point.factor, 0, 1)
        self.curves()

    @property
    def steps(self) -> int:
        """Return how many whole steps it takes."""
        return parse_duration(self.duration) // parse_duration(self.step)

    def curves(self) -> tuple[Curve, Curve]:
        """Return shock and depth over time."""
        return build_curve("shock", self.shock, Decimal(0)), build_curve("depth", self.depth, Decimal(0))


class CoinFacts(NamedTuple):
    """What was published of a coin: dollars and fills force-closed, the part of them that was ADL."""

    forced_usd: int
    adl_usd: int
    forced_fills: int
    adl_fills: int


def load_crash(path: str | Path) -> Crash:
    """Read a crash from a TOML file; its tables' names are taken from the folder of the file.

    Raises
    ------
    ConfigError
        Naming the file and the path inside it.
    """
    config = load_settings(path, Crash)
    names = {}
    for field in ("coins_file", "published_file"):
        file = Path(path).parent / getattr(config, field)
        if not file.is_file():
            raise ConfigError(f"{path}: {field}: expected a file, found none at {file}")
        names[field] = str(file)
    return msgspec.structs.replace(config, **names)


def read_coins(path: str | Path) -> dict[str, CoinFacts]:
    """Return the table of coins.

    Raises
    ------
    DataError
        Naming line and column, if one is missing or holds no whole number of 0 or more, or a coin stands twice.

    Source: OCT-001.
    """
    found: dict[str, CoinFacts] = {}
    for line, row in _read_rows(path, COIN_COLUMNS):
        values = []
        for name in COIN_COLUMNS[1:]:
            if not (row[name] or "").isdigit():
                raise DataError(path, line, name, f"expected a whole number, got {row[name]!r}")
            values.append(int(row[name]))
        if row["coin"] in found:
            raise DataError(path, line, "coin", f"'{row['coin']}' stands twice")
        found[row["coin"]] = CoinFacts(*values)
    return found


def read_published(path: str | Path) -> dict[str, Decimal]:
    """Return published figures by name.

    Raises
    ------
    DataError
        Naming line and column, if a figure holds no number or stands twice.

    Source: OCT-002.
    """
    found: dict[str, Decimal] = {}
    for line, row in _read_rows(path, ("figure", "value", "unit", "source")):
        try:
            number = parse_decimal(row["value"] or "")
        except ValueError as error:
            raise DataError(path, line, "value", str(error)) from error
        if row["figure"] in found:
            raise DataError(path, line, "figure", f"'{row['figure']}' stands twice")
        found[row["figure"]] = number
    return found


def _read_rows(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and fields of each row of a CSV file with these columns."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(path, 1, missing[0], "expected this column")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, None, None, f"expected a CSV file: {error}") from error


def find_coins(config: Crash) -> list[CoinFacts]:
    """Return the facts of the scenario's coins, in its order; ConfigError where the table has none."""
    table = read_coins(config.coins_file)
    for coin in config.coins:
        if coin.symbol not in table:
            raise ConfigError(f"coins: unknown '{coin.symbol}', {list_known(coin.symbol, table)} ({config.coins_file})")
    return [table[coin.symbol] for coin in config.coins]


def build_crash_markets(config: Crash) -> list[Market]:
    """Return the coins' markets: the preset's rules, one fund for all, each coin its own leverage.

    Raises
    ------
    ConfigError
        Naming the field, if the changes do not fit the preset.

    Source: OCT-001.
    """
    preset = read_venue(config.venue).fill()
    found = []
    for coin in config.coins:
        initial = Decimal(-(-PPM // coin.leverage)) / PPM
        own = {
            "symbol": coin.symbol,
            "tick_size": str(TICK),
            "lot_size": str(LOT),
            "quote_unit": str(UNIT),
            "price_max": str(2 * START_PRICE),
            "default_leverage": coin.leverage,
            "margin_call": "0",
            "tiers": [{"floor": "0", "initial": str(initial), "maintenance": str(initial / 2)}],
            "liquidation": config.liquidation,
            "adl": config.adl,
        }
        try:
            found.append(msgspec.convert(merge_tables(preset, own), Market, strict=False))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{coin.symbol}: {error}") from error
    return found


def build_crash_opening(config: Crash, rules: list[MarketRules]) -> Rows:
    """Return the first index prices, the fund, and everybody's positions with their collateral.

    Source: OCT-001, POS-006.
    """
    facts = find_coins(config)
    draws = Draws(config.seed)
    first = np.zeros(len(rules), COMMAND)
    first["kind"], first["price_tick"], first["market"] = INDEX, START_TICK, np.arange(len(rules))
    fund = np.zeros(int(config.fund > 0), COMMAND)
    fund["kind"], fund["amount_quote"] = FUND_DEPOSIT, count_units(config.fund, UNIT, "fund")
    longs = _build_side(config, rules, config.longs, BUY, [fact.forced_usd for fact in facts], facts, draws, 1)
    shorts = _build_side(
        config, rules, config.shorts, SELL, [fact.adl_usd for fact in facts], facts, draws, 1 + config.longs.accounts
    )
    rows = np.concatenate([first, fund, longs, shorts])
    rows["ts_ns"] = START_NS
    return rows


def _build_side(
    config: Crash,
    rules: list[MarketRules],
    side: Side,
    sign: int,
    dollars: list[int],
    facts: list[CoinFacts],
    draws: Draws,
    first_account: int,
) -> Rows:
    """Return the positions of one side: who holds which coins, how much, from where and with what money."""
    fills = [fact.forced_fills if sign == BUY else fact.adl_fills for fact in facts]
    holders, coins = _draw_holdings(side, fills, draws)
    sizes = lognormal(draws, side.sigma, side.accounts)
    lots = np.zeros(len(holders), np.int64)
    for coin, usd in enumerate(dollars):
        here = np.flatnonzero(coins == coin)
        if len(here):
            total = int(usd * side.multiple * START_TICK * TICK * LOT / START_PRICE / LOT)
            lots[here] = share_out(total, (sizes[holders[here]] + 1).tolist())
    levels = np.array([share.leverage for share in side.leverage], np.int64)
    weights = np.cumsum([int(share.weight * PPM) for share in side.leverage])
    wanted = levels[np.searchsorted(weights, draws.below(PPM, side.accounts) * int(weights[-1]) // PPM, side="right")]
    leverage = np.minimum(wanted[holders], np.array([coin.leverage for coin in config.coins], np.int64)[coins])
    deviation = (START_TICK * count_ppm("entry", side.entry) << 16) // PPM
    offset = ((draws.normal(len(holders)) >> (FRACTION_BITS - 12)) * deviation) >> 28
    # nobody starts with more than a fourth of the collateral lost
    offset = np.minimum(sign * offset, START_TICK // (4 * leverage)) * sign
    rows = np.zeros(len(holders), COMMAND)
    rows["kind"], rows["account"], rows["market"], rows["side"] = ASSIGN, first_account + holders, coins, sign
    rows["qty_lot"], rows["price_tick"] = lots, np.clip(START_TICK + offset, 1, rules[0].price_max_tick)
    rows["amount_quote"] = -(-value_of(rules[0], rows["price_tick"], lots) // leverage)
    return rows


def _draw_holdings(side: Side, fills: list[int], draws: Draws) -> tuple[Ints, Ints]:
    """Return (holder, coin) of each position, in order of the holders: one coin at least, likelier the more fills."""
    more = int((side.coins - 1) * Decimal(2).ln() * (1 << 16))
    counts = 1 + (draws.doublings(side.accounts) * more >> (16 + FRACTION_BITS))
    holders = np.repeat(np.arange(side.accounts, dtype=np.int64), np.minimum(counts, 4 * len(fills)))
    edges = np.cumsum(fills)
    coins = np.searchsorted(edges, draws.below(int(edges[-1]), len(holders)), side="right")
    pairs = np.unique(holders * len(fills) + coins)
    return pairs // len(fills), pairs % len(fills)


def build_crash_tape(config: Crash, rules: list[MarketRules]) -> Iterator[Rows]:
    """Yield the commands of each step: every book anew, then every index.

    Source: OCT-001, OUT-002.
    """
    facts = find_coins(config)
    shock, depth = config.curves()
    draws = Draws(config.seed + (1 << 64))
    step_ns, book = parse_duration(config.step), config.book
    near = np.arange(1, book.levels + 1, dtype=np.int64)
    part_ppm = near * PPM // int(near.sum())
    falls = np.array([count_ppm("fall", coin.fall) for coin in config.coins], np.int64)
    noise = count_ppm("noise", config.noise)
    sums = np.array([fact.forced_usd * count_ppm("share", book.share) // PPM for fact in facts], np.int64)
    before: Rows = np.zeros(0, COMMAND)
    for step in range(1, config.steps + 1):
        at_ns = step * step_ns
        moved = PPM - falls * shock.at(at_ns) // PPM + ((draws.normal(len(rules)) * noise) >> FRACTION_BITS)
        index = np.maximum(START_TICK * moved // PPM, 2)
        gaps = np.maximum(index[:, None] * near * count_ppm("reach", book.reach) // book.levels // PPM, near)
        lots = sums[:, None] * part_ppm // PPM * depth.at(at_ns) // PPM
        levels = np.zeros((2, len(rules), book.levels), COMMAND)
        levels["kind"], levels["market"], levels["qty_lot"] = LEVEL, np.arange(len(rules))[:, None], lots
        for place, sign in enumerate((BUY, SELL)):
            levels["side"][place] = sign
            levels["price_tick"][place] = np.clip(index[:, None] - sign * gaps, 1, rules[0].price_max_tick)
        after = levels.reshape(-1)
        marks = np.zeros(len(rules), COMMAND)
        marks["kind"], marks["market"], marks["price_tick"] = INDEX, np.arange(len(rules)), index
        rows = np.concatenate([before, after, marks])
        rows["ts_ns"] = START_NS + at_ns
        yield rows
        before = after.copy()
        before["qty_lot"] = 0
