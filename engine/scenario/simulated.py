"""A simulated market as its owner writes it: makers, takers, an index, a crowd and a seed (SIM-001)."""

from decimal import Decimal
from pathlib import Path

import msgspec

from engine.codes import PPB
from engine.errors import ConfigError
from engine.scenario.population import Population
from engine.scenario.settings import check_range, count_ppm, load_settings
from engine.scenario.shock import Shock, parse_duration
from engine.units import count_units

AGENTS_LIMIT = 100_000
LEVELS_LIMIT = 1_000
STEPS_LIMIT = 10_000_000
QUOTES_LIMIT = 1_000_000  # makers x levels
AMOUNT_LEAST, AMOUNT_MOST = Decimal("1e-18"), Decimal("1e18")


def count_ppb(field: str, rate: Decimal) -> int:
    """Return a rate in parts per 10^9; ValueError naming the field when it has more than nine decimals."""
    try:
        return count_units(rate, Decimal(1) / PPB, "value")
    except ValueError as error:
        raise ValueError(f"{field}: expected at most nine decimals, got {rate}") from error


def _count_duration(field: str, text: str | int) -> int:
    """Return a duration in ns; ValueError naming the field."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def check_duration(field: str, text: str | int) -> None:
    """Raise ValueError naming the field unless it is a duration above 0."""
    if not _count_duration(field, text):
        raise ValueError(f"{field}: expected a duration above 0, got {text}")


def _check_walk(drift: Decimal, volatility: Decimal) -> None:
    check_range("drift", drift, -1_000, 1_000)
    check_range("volatility", volatility, 0, 100)


class Agents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makers and takers have in common.

    Parameters
    ----------
    accounts : int
        How many there are; 0: none.
    limit : Decimal
        The largest position of one, in the market's units of quantity.
    capital : Decimal
        What one begins with, as a multiple of what `limit` is worth at the first index price.
    """

    accounts: int
    limit: Decimal
    capital: Decimal = Decimal(2)

    def check(self) -> None:
        """Refuse what cannot be simulated; the caller adds the path."""
        check_range("accounts", self.accounts, 0, AGENTS_LIMIT)
        check_range("limit", self.limit, AMOUNT_LEAST, AMOUNT_MOST)
        check_range("capital", self.capital, Decimal("0.01"), 1_000)
        count_ppm("capital", self.capital)


class Makers(Agents, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts that quote a ladder on both sides of what they think fair (SIM-004..SIM-006).

    Parameters
    ----------
    levels : int
        Quotes of one maker on each side.
    half_spread : Decimal
        Distance of the first from its fair value, 0.0001 is one basis point of the price.
    spacing, growth : Decimal
        Distance between the first and the second, likewise, and how much wider each next gap is than the one before.
    size, size_growth : Decimal
        What a maker's first level holds, in units of quantity, and how much larger each next one is.
    variety : Decimal
        Deviation of the logarithm by which makers differ in their distances, and levels in their sizes.
    refill : duration
        Half-life of what is missing in the ladder.
    requote : Decimal
        A quote moves when it is further from its place than this part of its distance from the centre.
    memory : duration
        Half-life of the volatility they know: the mean absolute move of their common fair value, scaled to a second.
    calm : Decimal
        The volatility up to which the ladder stands as described, 0.0002 is two basis points a second.
    widen, thin : Decimal
        At twice the calm volatility distances are `1 + widen` times as wide and sizes `1 / (1 + thin)` as large, and so
        on.
    skew : Decimal
        How far, of the price, a maker at its limit moves its fair value away from what it holds.
    """

    accounts: int = 8
    limit: Decimal = Decimal(200)
    levels: int = 20
    half_spread: Decimal = Decimal("0.0001")
    spacing: Decimal = Decimal("0.0001")
    growth: Decimal = Decimal("1.25")
    size: Decimal = Decimal("0.5")
    size_growth: Decimal = Decimal("1.1")
    variety: Decimal = Decimal("0.25")
    refill: str | int = "2s"
    requote: Decimal = Decimal("0.25")
    memory: str | int = "10s"
    calm: Decimal = Decimal("0.0002")
    widen: Decimal = Decimal(1)
    thin: Decimal = Decimal(1)
    skew: Decimal = Decimal("0.01")

    def __post_init__(self) -> None:
        """Refuse what cannot be quoted; msgspec adds the path."""
        self.check()
        check_range("levels", self.levels, 1, LEVELS_LIMIT)
        check_range("accounts", self.accounts, 0, QUOTES_LIMIT // self.levels)
        for field in ("half_spread", "spacing", "calm"):
            check_range(field, getattr(self, field), Decimal(1) / PPB, Decimal("0.1"))
            count_ppb(field, getattr(self, field))
        for field in ("growth", "size_growth"):
            check_range(field, getattr(self, field), Decimal("0.1"), 10)
        check_range("size", self.size, AMOUNT_LEAST, AMOUNT_MOST)
        check_range("variety", self.variety, 0, 2)
        for field in ("requote", "widen", "thin"):
            check_range(field, getattr(self, field), 0, 1_000)
            count_ppm(field, getattr(self, field))
        check_range("skew", self.skew, 0, Decimal("0.5"))
        count_ppb("skew", self.skew)
        for field in ("refill", "memory"):
            check_duration(field, getattr(self, field))


class Takers(Agents, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What takers have in common.

    Parameters
    ----------
    rate : Decimal
        Orders a second of all of them together; each account sends one a step at most.
    size, sigma : Decimal
        Median size of an order, in units of quantity, and the deviation of its logarithm.
    """

    rate: Decimal
    size: Decimal
    sigma: Decimal = Decimal(1)

    def check(self) -> None:
        """Refuse what cannot be simulated; the caller adds the path."""
        super().check()
        check_range("rate", self.rate, 0, Decimal("1e9"))
        check_range("size", self.size, AMOUNT_LEAST, AMOUNT_MOST)
        check_range("sigma", self.sigma, 0, 3)


class NoiseTakers(Takers, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts that buy and sell at random, a little more often towards the index (SIM-007).

    Parameters
    ----------
    lean : Decimal
        How much likelier than one half the side towards the index is, per part that the price is away from it.
    """

    accounts: int = 200
    limit: Decimal = Decimal(20)
    rate: Decimal = Decimal(20)
    size: Decimal = Decimal("0.1")
    lean: Decimal = Decimal(20)

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated; msgspec adds the path."""
        self.check()
        check_range("lean", self.lean, 0, 1_000)
        count_ppm("lean", self.lean)


class MomentumTakers(Takers, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts that follow a move, and close their positions when there is none (SIM-008).

    Parameters
    ----------
    lookback : duration
        How far back the price is that the present one is compared with.
    threshold : Decimal
        The least move that is followed, 0.005 is half a percent.
    """

    accounts: int = 20
    limit: Decimal = Decimal(20)
    rate: Decimal = Decimal(4)
    size: Decimal = Decimal("0.2")
    lookback: str | int = "10s"
    threshold: Decimal = Decimal("0.005")

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated; msgspec adds the path."""
        self.check()
        check_duration("lookback", self.lookback)
        check_range("threshold", self.threshold, 0, 1)
        count_ppb("threshold", self.threshold)


class Walk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="gbm"):
    """A geometric Brownian motion; without drift and volatility the index stands still.

    Parameters
    ----------
    drift, volatility : Decimal
        Of the logarithm's mean and deviation, per year of 365 days; 0.6 is 60 %.
    """

    drift: Decimal = Decimal(0)
    volatility: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn; msgspec adds the path."""
        _check_walk(self.drift, self.volatility)


class Jump(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="jump"):
    """An index that stands still but for one move.

    Parameters
    ----------
    at, over : duration
        When it begins after the start, and how long it takes; the price moves linearly.
    size : Decimal
        -0.1 is a fall by ten percent.
    """

    at: str | int
    size: Decimal
    over: str | int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be followed; msgspec adds the path."""
        _count_duration("at", self.at)
        _count_duration("over", self.over)
        check_range("size", self.size, Decimal("-0.999999"), 99)
        count_ppm("size", self.size)


class JumpDiffusion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="jump_diffusion"
):
    """A geometric Brownian motion with jumps (Merton).

    Parameters
    ----------
    drift, volatility : Decimal
        As of `gbm`.
    jumps_per_day : Decimal
        How many are expected; one a step at most.
    jump_mean, jump_deviation : Decimal
        Of the jump of the logarithm.
    """

    drift: Decimal = Decimal(0)
    volatility: Decimal = Decimal(0)
    jumps_per_day: Decimal
    jump_mean: Decimal = Decimal(0)
    jump_deviation: Decimal = Decimal("0.01")

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn; msgspec adds the path."""
        _check_walk(self.drift, self.volatility)
        check_range("jumps_per_day", self.jumps_per_day, 0, Decimal("1e9"))
        check_range("jump_mean", self.jump_mean, -2, 2)
        check_range("jump_deviation", self.jump_deviation, 0, 2)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="recorded"):
    """An index read from a file; each price stands until the next.

    Parameters
    ----------
    file : str
        CSV with the columns `t` (duration after the start) and `price`, or a Tardis `derivative_ticker`; relative to
        the file that names it.
    """

    file: str


class SimulatedMarket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A market in which nothing is recorded: who quotes, who trades, and what the index does.

    Parameters
    ----------
    seed : int
        Of all draws but the crowd's, which has its own.
    duration, step : duration
        How long it runs, and how long those who trade take to look again.
    price : Decimal
        Where the index starts.
    index : table
        `kind` gbm, jump, jump_diffusion or recorded.
    shock : Shock
        Multiplies the index (`price`) and the makers' sizes (`depth`) over time.
    crowd : Population, optional
        Leveraged accounts with positions from the start.

    Source: SIM-001.
    """

    seed: int
    price: Decimal
    duration: str | int = "1m"
    step: str | int = "100ms"
    index: Walk | Jump | JumpDiffusion | Recorded = Walk()
    makers: Makers = Makers()
    noise: NoiseTakers = NoiseTakers()
    momentum: MomentumTakers = MomentumTakers()
    shock: Shock = Shock()
    crowd: Population | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated; msgspec adds the path."""
        check_range("seed", self.seed, 0, (1 << 63) - 1)
        check_range("price", self.price, AMOUNT_LEAST, AMOUNT_MOST)
        check_duration("step", self.step)
        check_duration("duration", self.duration)
        check_range("duration (in steps)", self.steps, 1, STEPS_LIMIT)
        for name in ("noise", "momentum"):
            takers, seconds = getattr(self, name), Decimal(self.step_ns) / PPB
            if takers.accounts and takers.rate * seconds > takers.accounts:
                most = takers.accounts / seconds
                raise ValueError(f"{name}.rate: expected at most one order an account and step, {most:f}")
        if isinstance(self.index, JumpDiffusion) and self.index.jumps_per_day * self.step_ns > 86_400 * PPB:
            raise ValueError("index.jumps_per_day: expected at most one a step")

    @property
    def step_ns(self) -> int:
        """Return how long a step is."""
        return parse_duration(self.step)

    @property
    def steps(self) -> int:
        """Return how many whole steps it runs."""
        return parse_duration(self.duration) // self.step_ns

    def count_lookback(self) -> int:
        """Return the momentum takers' lookback in steps, at least 1."""
        return max(parse_duration(self.momentum.lookback) // self.step_ns, 1)


def load_simulated(path: str | Path) -> SimulatedMarket:
    """Read a simulated market from a TOML file; ConfigError names the file and the path inside it.

    The name of a recorded index is taken from the folder of the file.
    """
    config = load_settings(path, SimulatedMarket)
    if not isinstance(config.index, Recorded):
        return config
    file = Path(path).parent / config.index.file
    if not file.is_file():
        raise ConfigError(f"{path}: index.file: expected a file, found none at {file}")
    return msgspec.structs.replace(config, index=Recorded(file=str(file)))
