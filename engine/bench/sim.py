"""`perp bench sim`: simulated markets with a large crowd, beside their commands alone.

What is timed is what a run does: the market, the exchange, the tally.  Beside it the same commands, recorded, through
the exchange alone: what is more is the market's own.  The check of conservation looks at every account; a run does it
every million commands, and it is timed by itself.
"""

from collections.abc import Iterator
from decimal import Decimal
from time import perf_counter
from typing import Any, NamedTuple

import msgspec

from engine.audit import check_state
from engine.codes import ADL_FILL, LIQUIDATION_STARTED
from engine.contract import Market, Tier
from engine.replay.tally import Tally
from engine.scenario.population import LeverageSpread, Population
from engine.scenario.simulated import Jump, Makers, NoiseTakers, SimulatedMarket, Walk
from engine.sim import Simulator, open_simulation
from engine.sim.market import Rows

ROUNDS = 3
PRICE = Decimal(60_000)
FUND_QUOTE = 10**15  # a thousand million
MARKET = Market(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    price_max=Decimal(250_000),
    tiers=(Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),),
    mark_model="median3",
)
BASE = SimulatedMarket(seed=23, price=PRICE, index=Walk(volatility=Decimal("0.6")))
BUSY = NoiseTakers(accounts=1_000, rate=Decimal(500))
DEEP = Makers(accounts=16, size=Decimal(4), limit=Decimal(2_000))


class Timed(NamedTuple):
    """One round."""

    seconds: float
    events: int
    tally: Tally
    pieces: list[Rows]
    simulator: Simulator


def make_markets(accounts: int, seconds: int) -> dict[str, SimulatedMarket]:
    """Return what is timed: a calm market, a busy one, one that falls and takes part of the crowd with it.

    And one that falls with too little depth: nearly all it does is auto-deleveraging, whose queue is made anew by every
    command that needs it; it has a tenth of the time.  The positions of the crowd are as large together, however many
    accounts hold them.
    """
    crowd = Population(
        seed=23,
        accounts=accounts,
        open_interest=Decimal(9_000),
        leverage=LeverageSpread(median=Decimal(10), sigma=Decimal("0.7"), max=50),
        long_share=Decimal("0.6"),
    )
    fall = Jump(at=seconds // 10, size=Decimal("-0.05"), over=max(seconds // 2, 1))
    drop = Jump(at=0, size=Decimal("-0.05"), over=max(seconds // 20, 1))
    found: dict[str, dict[str, Any]] = {
        "calm": {},
        "busy": {"noise": BUSY},
        "fall": {"noise": BUSY, "makers": DEEP, "index": fall},
        "adl": {"noise": BUSY, "index": drop, "duration": max(seconds // 10, 1)},
    }
    base = msgspec.structs.replace(BASE, crowd=crowd, duration=seconds)
    return {name: msgspec.structs.replace(base, **fields) for name, fields in found.items()}


def time_market(config: SimulatedMarket) -> Timed:
    """Run a market once."""
    simulator, _ = open_simulation(config, MARKET, funds={"USDT": FUND_QUOTE})
    tally = Tally(simulator.exchange.setup)
    pieces, count, seconds = [], 0, 0.0
    begun = perf_counter()
    for commands, events in simulator.advance(config.steps):
        tally.fold(events)
        count += len(events)
        seconds += perf_counter() - begun
        pieces.append(commands.copy())
        begun = perf_counter()
    return Timed(seconds, count, tally, pieces, simulator)


def time_commands(config: SimulatedMarket, pieces: list[Rows]) -> tuple[float, str]:
    """Run a market's commands without the market; return the seconds taken and the digest."""
    simulator, _ = open_simulation(config, MARKET, funds={"USDT": FUND_QUOTE})
    exchange = simulator.exchange
    begun = perf_counter()
    for commands in pieces:
        exchange.apply(commands)
    return perf_counter() - begun, exchange.digest()


def bench_sim(accounts: int, seconds: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of each market, of the quickest of its rounds.

    Parameters
    ----------
    accounts : int
        The crowd.
    seconds : int
        Of market time, in steps of 100 ms.
    """
    for name, config in make_markets(accounts, seconds).items():
        best = min((time_market(config) for _ in range(ROUNDS)), key=lambda timed: timed.seconds)
        alone, digest = min(time_commands(config, best.pieces) for _ in range(ROUNDS))
        commands = sum(map(len, best.pieces))
        begun = perf_counter()
        exchange = best.simulator.exchange
        check_state(exchange.view(), exchange.setup)
        checked = perf_counter() - begun
        yield {
            "market": name,
            "steps": config.steps,
            "events": best.events,
            "commands": commands,
            "liquidations": best.tally.count(LIQUIDATION_STARTED),
            "adl_fills": best.tally.count(ADL_FILL),
            "seconds": round(best.seconds, 6),
            "events_per_s": round(best.events / best.seconds),
            "commands_per_s": round(commands / best.seconds),
            "alone_seconds": round(alone, 6),
            "ratio": round(best.seconds / alone, 3),
            "check_seconds": round(checked, 6),
            "same_digest": digest == exchange.digest(),
        }
