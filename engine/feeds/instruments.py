"""What a recording's texts are counted in: every instrument of a tape with its units, and what was found wrong."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import blake2b
from typing import Annotated, NamedTuple

import msgspec

from engine.contract import DEFAULT_PRICE_MAX_TICK, Market
from engine.errors import DataError, list_known
from engine.units import count_units, parse_decimal

CACHE_MAX = 1 << 18  # texts remembered per instrument and column; more would only cost memory
QTY_MAX_LOT = 1 << 40  # what a level or a print may hold (OUT-002, OUT-004)
COUNT_MAX = 1 << 62
FINE_DECIMALS = 9  # of mark, index and last prices, which are finer than a tick (FEED-005)
RATE_PER_ONE = 10**12  # funding rates
INTEREST_PER_ONE = 10**6  # open interest
GUESSED_DECIMALS = 9  # of instruments nobody gave a market for
GUESS = ("", "")  # under which name the guess stands, where it is another than that
# (exchange, symbol) -> decimals of price and quantity; None: nothing is known of one of them
Decimals = dict[tuple[str, str], Sequence[int | None]]
INSTRUMENTS_MAX = (1 << 15) - 1  # of a tape: a row has two bytes for its instrument
DECIMALS_MAX = 18  # of their units: 64 bits hold no count of finer ones
PLAIN_DIGITS = 30  # a text of so many is counted as a whole number, several times faster than as a decimal
# A number of a message that becomes part of a row: what is longer is no id of any venue, and no row holds it.
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
SAMPLES_MAX = 20  # faults that are kept with their place


def count_text(text: str, unit: Decimal) -> int:
    """Return how many `unit` the decimal `text` is, exactly.

    Raises
    ------
    ValueError
        If it is not a decimal number, negative, or not a multiple.
    """
    whole, _, fraction = text.partition(".")
    _, step, exponent = unit.as_tuple()
    if (whole + fraction).isdigit() and len(step) == 1 and isinstance(exponent, int) and exponent <= 0:
        fraction = fraction.rstrip("0")
        if len(fraction) <= -exponent:
            scaled: int = int(whole + fraction or "0") * 10 ** (-exponent - len(fraction))
            if scaled % step[0] == 0:
                return scaled // step[0]
    number = parse_decimal(text)
    if number < 0:
        raise ValueError(f"expected a number that is not negative, got {text}")
    try:
        return count_units(number, unit, "value")
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"expected a multiple of {unit}, got {text}") from error


class UnitCache(dict[str, int]):
    """Decimal texts of one column with their counts; prices and sizes repeat, so most rows cost one look-up.

    Attributes
    ----------
    step, places : int
        The unit is `step / 10**places`.
    """

    def __init__(self, unit: Decimal, least: int, most: int) -> None:
        super().__init__()
        self.unit, self.least, self.most = unit, least, most
        exponent = unit.as_tuple().exponent
        self.places = max(-exponent, 0) if isinstance(exponent, int) else 0
        self.step = int(unit.scaleb(self.places))

    def __missing__(self, text: str) -> int:
        """Count a text met for the first time.

        Raises
        ------
        ValueError
            If it is no exact count of units, or out of range.
        """
        count = count_text(text, self.unit)
        if not self.least <= count <= self.most:
            raise ValueError(f"expected {self.least * self.unit} to {self.most * self.unit}, got {text}")
        if len(self) >= CACHE_MAX:
            self.clear()
        self[text] = count
        return count


class RescaleError(Exception):
    """An instrument without a market needs other units than were guessed: the tape has to be read anew."""

    def __init__(self, name: tuple[str, str], place: int, decimals: int) -> None:
        super().__init__(f"{':'.join(name)}: {decimals} decimals")
        self.name, self.place, self.decimals = name, place, decimals


class GuessCache(UnitCache):
    """The same where the unit is a guess: a text it does not fit asks for another.

    Only the guess itself is given up for a larger number; a unit that some text needs becomes finer and never coarser
    again, so that the asking ends, and what it cannot hold is refused.  Source: FEED-071.
    """

    def __init__(self, name: tuple[str, str], place: int, decimals: int, least: int, is_guess: bool) -> None:
        super().__init__(Decimal(1).scaleb(-decimals), least, COUNT_MAX)
        self.name, self.place, self.decimals, self.is_guess = name, place, decimals, is_guess

    def __missing__(self, text: str) -> int:
        """Count a text, or ask for a finer or coarser unit."""
        number = parse_decimal(text)
        exponent = number.normalize().as_tuple().exponent
        used = max(-exponent, 0) if isinstance(exponent, int) else 0
        if used > DECIMALS_MAX:
            raise ValueError(f"expected at most {DECIMALS_MAX} decimals, got {text}")
        if used > self.decimals and 0 <= number * 10**used < COUNT_MAX:
            raise RescaleError(self.name, self.place, used)
        if self.is_guess and used < self.decimals and number * 10**self.decimals >= COUNT_MAX > number * 10**used:
            raise RescaleError(self.name, self.place, used)
        return super().__missing__(text)


class Instrument:
    """One market as one venue records it.

    Attributes
    ----------
    index : int
        Its number in RECORD and COMMAND rows.
    exchange, symbol : str
        As Tardis names them.
    tick, lot : Decimal
        What prices and quantities are counted in.
    prices, levels, totals, trades : UnitCache
        Decimal text -> count: of prices at which somebody traded or quoted, of book levels (who reads those drops what
        is beyond `price_max_tick`), of quantities that may be 0, of quantities that may not.
    fine_unit : Decimal
        What mark, index and last prices are counted in; a whole number of them is a tick.
    """

    def __init__(self, index: int, exchange: str, symbol: str, market: Market | None, decimals: Decimals) -> None:
        self.index, self.exchange, self.symbol = index, exchange, symbol
        self.price_max_tick = COUNT_MAX
        if market is None:
            name = (exchange, symbol)
            known, guess = decimals.get(name, (None, None)), decimals.get(GUESS, (GUESSED_DECIMALS, GUESSED_DECIMALS))
            price, amount = (two if one is None else one for one, two in zip(known, guess, strict=True))
            assert price is not None
            assert amount is not None
            self.tick, self.lot = Decimal(1).scaleb(-price), Decimal(1).scaleb(-amount)
            self.prices: UnitCache = GuessCache(name, 0, price, 1, known[0] is None)
            self.levels: UnitCache = self.prices
            self.totals: UnitCache = GuessCache(name, 1, amount, 0, known[1] is None)
            self.trades: UnitCache = GuessCache(name, 1, amount, 1, known[1] is None)
        else:
            self.tick, self.lot = market.tick_size, market.lot_size
            if market.price_max is None:
                self.price_max_tick = DEFAULT_PRICE_MAX_TICK
            else:
                self.price_max_tick = int(market.price_max / market.tick_size)
            self.prices = UnitCache(self.tick, 1, self.price_max_tick)
            self.levels = UnitCache(self.tick, 1, COUNT_MAX)
            self.totals = UnitCache(self.lot, 0, QTY_MAX_LOT)
            self.trades = UnitCache(self.lot, 1, QTY_MAX_LOT)
        exponent = self.tick.as_tuple().exponent
        places = max(FINE_DECIMALS, -exponent if isinstance(exponent, int) else 0)
        self.fine_unit, self._fine_places = Decimal(1).scaleb(-places), places
        self.fine_per_tick = int(self.tick / self.fine_unit)

    def round_price(self, text: str) -> int:
        """Return a price in ticks, half-even; ValueError where there is none such."""
        count = int((parse_decimal(text) / self.tick).to_integral_value(ROUND_HALF_EVEN))
        if not 1 <= count <= self.price_max_tick:
            raise ValueError(f"expected {self.tick} to {self.price_max_tick * self.tick}, got {text}")
        return count

    def count_fine(self, text: str) -> int:
        """Return a mark, index or last price in fine units, half-even; 0 where the text is empty (FEED-005)."""
        if not text:
            return 0
        whole, _, fraction = text.partition(".")
        digits = whole + fraction
        if len(digits) <= PLAIN_DIGITS and len(fraction) <= self._fine_places and digits.isdecimal():
            count: int = int(digits) * 10 ** (self._fine_places - len(fraction))
        else:
            count = int((parse_decimal(text) / self.fine_unit).to_integral_value(ROUND_HALF_EVEN))
        most = min(self.price_max_tick * self.fine_per_tick, COUNT_MAX)
        if not self.fine_per_tick // 2 <= count <= most:
            raise ValueError(f"expected {self.tick} to {self.price_max_tick * self.tick}, got {text}")
        return count


def count_rate(text: str) -> int:
    """Return a funding rate in parts per 10**12, half-even; an empty text is 0."""
    if not text:
        return 0
    rate = (parse_decimal(text) * RATE_PER_ONE).to_integral_value(ROUND_HALF_EVEN)
    if abs(rate) > RATE_PER_ONE:
        raise ValueError(f"expected a rate within -1 to 1, got {text}")
    return int(rate)


def count_interest(text: str) -> int:
    """Return an open interest in parts per 10**6, half-even; an empty text is 0."""
    if not text:
        return 0
    count = (parse_decimal(text) * INTEREST_PER_ONE).to_integral_value(ROUND_HALF_EVEN)
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"expected an open interest of 0 or more, got {text}")
    return int(count)


def number_id(text: str) -> int:
    """Return an id as a number: itself where it is one below 2**63, 0 for none, else 63 bits of its BLAKE2b."""
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) >> 63 == 0:
        return int(text)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Instruments:
    """The instruments of one tape, found as rows name them.

    With markets, these are the instruments, in their order, and a row of any other is not asked for.  Without, every
    name met is one, and its units are guessed until a text says otherwise (`RescaleError`).

    Parameters
    ----------
    markets : sequence of Market
        Empty: none are given.
    homes : mapping
        Market's symbol -> the exchange whose rows are its own; others' rows of that symbol are not asked for.
    extras : sequence of (exchange, symbol)
        Read beside the markets; their indexes come after them.
    decimals : mapping
        (exchange, symbol) -> decimals of price and quantity, of instruments without a market.
    """

    def __init__(
        self,
        markets: Sequence[Market] = (),
        homes: Mapping[str, str] | None = None,
        extras: Sequence[tuple[str, str]] = (),
        decimals: Mapping[tuple[str, str], Sequence[int | None]] | None = None,
    ) -> None:
        self.markets = tuple(markets)
        self.homes = dict(homes or {})
        self._decimals = dict(decimals or {})
        self._found: dict[tuple[str, str], Instrument | None] = {}
        self.rows = [Instrument(at, "", market.symbol, market, {}) for at, market in enumerate(markets)]
        for name in extras:
            self._found[name] = self._add(*name)

    def __len__(self) -> int:
        """Return how many there are so far."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Instrument]:
        """Yield them by index."""
        return iter(self.rows)

    @property
    def names(self) -> list[tuple[str, str]]:
        """(exchange, symbol) of all that rows named so far, those nobody asked for too."""
        return list(self._found)

    def _add(self, exchange: str, symbol: str) -> Instrument:
        if len(self.rows) == INSTRUMENTS_MAX:
            raise DataError(f"{exchange}:{symbol}", None, None, f"expected at most {INSTRUMENTS_MAX} instruments")
        self.rows.append(Instrument(len(self.rows), exchange, symbol, None, self._decimals))
        return self.rows[-1]

    def find(self, exchange: str, symbol: str) -> Instrument | None:
        """Return the instrument of a row, or None where nobody asked for it."""
        name = (exchange, symbol)
        if name not in self._found:
            self._found[name] = self._match(exchange, symbol)
        return self._found[name]

    def _match(self, exchange: str, symbol: str) -> Instrument | None:
        if not self.markets:
            return self._add(exchange, symbol)
        for instrument, market in zip(self.rows, self.markets, strict=False):
            if market.symbol == symbol and self.homes.setdefault(symbol, exchange) == exchange:
                instrument.exchange = exchange
                return instrument
        return None


def explain_absent(source: tuple[str, str], found: Collection[tuple[str, str]]) -> DataError:
    """Return the error of an index from an instrument (exchange, symbol) whose trades the tape has not.

    Source: FEED-077.
    """
    text, names = ":".join(source), sorted(":".join(name) for name in found if all(name) and name != source)
    expected = f"expected trades of {text} on the tape, it has none; {list_known(text, names)}"
    return DataError("feed", None, "index", expected)


class Fault(NamedTuple):
    """One thing that was wrong with a recording."""

    kind: str
    error: DataError


class Findings:
    """What readers found on the way: counted, or in strict mode raised at the first.

    Attributes
    ----------
    counts : Counter
        `gaps` (updates that were lost), `resets` (a stream began anew), and whatever else a format can tell.
    rows : Counter
        Rows (lines, messages, records) of the files, by kind of stream.
    dropped : Counter
        Rows that were left out, by reason.
    faults : list of Fault
        The first of them, with their places.
    """

    def __init__(self, is_strict: bool = True) -> None:
        self.is_strict = is_strict
        self.counts: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.faults: list[Fault] = []

    def drop(self, reason: str, error: DataError, rows: int = 1) -> None:
        """Leave rows out, for a reason of one or two words."""
        self._fault("dropped", error)
        self.dropped[reason] += rows

    def report(self, kind: str, error: DataError) -> None:
        """Report a fault that loses no row we have, such as a gap."""
        self._fault(kind, error)
        self.counts[kind] += 1

    def _fault(self, kind: str, error: DataError) -> None:
        if self.is_strict:
            raise error
        if len(self.faults) < SAMPLES_MAX:
            self.faults.append(Fault(kind, error))
