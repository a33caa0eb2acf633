"""Pops: how often a mark move makes the engine look at an account that is fine (MARGIN-010).

A position hangs at a price before which its domain cannot be liquidatable.  A mark that crosses this price pops it: the
domain is measured, and liquidated, called, or hung again.  The last is a needless pop; what follows bounds how many
there can be.  `S` is the slack of a domain (equity less maintenance, or less what a margin call asks), `k` the number
of its positions, `m_i` the maintenance of one and `M` that of all, `u_i` what a tick is worth to it, `r` its rate.

**Price of one pop.**  A position hangs where its mark alone would lose `P_i = floor((S - spare - 2k) x m_i / M)` of
value, with `spare` an eighth of `S` while `S > 2M`, else 0.  So a pop of `i` takes an adverse move of its own mark by
at least `P_i / u_i` ticks since it was last hung, however the other markets moved.  Where all rates are the same,
`m_i / u_i` is proportional to the mark, and this is a relative move by `(S - spare - 2k) / (notional of all)`: for an
account of leverage `L` at least `7/8 x (1 / L - r)`, whatever `k` is.  That is (seven eighths of) the move which would
liquidate the account if all its markets made it: the split costs nothing in the ticks between two pops, but each of
the `k` marks may be the one that makes it.

**Pops on the way down.**  Of the value lost, a falling long gets back `r` in maintenance (a short pays it on top, and
its part allows for that).  A needless pop of `i` in whose course no other market moved in the account's favour leaves
at most `S x (1 - c x m_i / M)` and a few units of money, `c = 7/8 x (1 - r)`.  With even parts: once `S` is below `k`
ticks, every adverse tick is a part, and at most `k / (1 - r)` ticks are left.  A path that only loses meets at most

    ln(S / (k x u)) / -ln(1 - c / k) + k / (1 - r) + 2,  about  (k / c) x (ln(S / (k x u)) + 1),

needless pops in all: `O(k log(slack in ticks))`.  Moving each mark in turn to where it pops comes within a quarter of
that.  If all marks move alike, each pop finds the slack of all used up at once, and `k` falls out of the first term.  A
domain of one position hangs at its exact price, give or take a tick: it is popped needlessly once for every factor of
eight by which its slack is above `2M`, and at most three times more.

**Paths that also gain.**  Gains move no trigger: they enter at the next hanging.  A gain that multiplies the slack by
`g` pays for at most `ln(g) x k / c` more pops, so the count grows with how much is lost in all, not with the number of
marks or of accounts; it has no bound in `S` alone, because a walk may lose and regain the same money again and again.
"""

import random
from decimal import Decimal
from typing import Any

import numpy as np

from engine.codes import ASSIGN, BUY, LIQUIDATION_STARTED, MARGIN_CALL, MARK, PPM, SELL
from engine.compiled import Capacity, CompiledEngine, Rows
from engine.contract import Market, Tier, build_setup
from engine.layout import COMMAND

MARK_TICK = 600_000
LEVERAGES = (2, 45)


def make_engine(markets: int, margin_call: Decimal = Decimal(0)) -> CompiledEngine:
    """Return an exchange of markets whose marks stand at 600,000 ticks; maintenance is 1 %."""
    tier = Tier(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01"))
    listed = [
        Market(
            symbol=f"M{index}",
            tick_size=Decimal("0.1"),
            lot_size=Decimal("0.001"),
            quote_unit=Decimal("0.0001"),
            price_max=Decimal(250_000),
            tiers=(tier,),
            margin_call=margin_call,
            initial_mark=Decimal(MARK_TICK) / 10,
        )
        for index in range(markets)
    ]
    return CompiledEngine(build_setup(listed), Capacity())


def make_crowd(rng: random.Random, accounts: int, markets: int) -> Rows:
    """Return the commands that give every account a cross position in every market, and collateral.

    Sides and sizes are drawn for each position, the leverage (2 to 45) for each account.
    """
    rows = np.zeros(accounts * markets, COMMAND)
    rows["kind"], rows["price_tick"] = ASSIGN, MARK_TICK
    rows["account"] = np.repeat(np.arange(1, accounts + 1), markets)
    rows["market"] = np.tile(np.arange(markets), accounts)
    leverage = 1
    for row in rows:
        if row["market"] == 0:
            leverage = rng.randint(*LEVERAGES)
        row["side"], row["qty_lot"] = rng.choice((BUY, SELL)), rng.randint(10, 100)
        row["amount_quote"] = int(row["qty_lot"]) * MARK_TICK // leverage
    return rows


def make_walk(rng: random.Random, marks: int, markets: int, step_ppm: int) -> Rows:
    """Return mark updates, each of a drawn market, each by `step_ppm` of its price up or down."""
    rows = np.zeros(marks, COMMAND)
    ticks = [MARK_TICK] * markets
    rows["kind"] = MARK
    for row in rows:
        market = rng.randrange(markets)
        ticks[market] += rng.choice((1, -1)) * max(ticks[market] * step_ppm // PPM, 1)
        row["market"], row["price_tick"] = market, ticks[market]
    return rows


def count_pops(engine: CompiledEngine, row: Rows) -> tuple[int, int]:
    """Apply one mark command, an array of one row; return (pops, needless pops).

    Popped is what hangs at or behind the new mark; needless is a pop without a liquidation or margin call of the
    account.  The state is read, the kernels know nothing of this.
    """
    tick = int(row["price_tick"][0])
    found = engine.state.positions[: int(engine.state.head[0]["position_used"])]
    ahead = (found["price_tick"] - tick) * found["hung"]
    popped = found["account"][(found["hung"] != 0) & (found["market"] == row["market"][0]) & (ahead >= 0)]
    events = engine.apply(row)
    owned = events["account"][np.isin(events["kind"], (LIQUIDATION_STARTED, MARGIN_CALL))]
    return len(popped), int(np.isin(popped, owned, invert=True).sum())


def measure_pops(
    accounts: int = 1_000, markets: int = 4, marks: int = 2_000, step_ppm: int = 200, seed: int = 1
) -> dict[str, Any]:
    """Return how many pops a random walk of the marks makes, and how many of them are needless.

    Parameters
    ----------
    accounts : int
        Cross accounts with a position in every market.
    marks : int
        Mark updates.
    step_ppm : int
        What one of them moves its market by.

    Source: MARGIN-010.
    """
    rng = random.Random(seed)
    engine = make_engine(markets)
    engine.apply(make_crowd(rng, accounts, markets))
    walk = make_walk(rng, marks, markets, step_ppm)
    found = [count_pops(engine, walk[at : at + 1]) for at in range(marks)]
    needless = sum(part for _, part in found)
    return {
        "accounts": accounts,
        "markets": markets,
        "marks": marks,
        "step_ppm": step_ppm,
        "seed": seed,
        "pops": sum(whole for whole, _ in found),
        "needless_pops": needless,
        "needless_pops_per_mark": needless / marks,
        "needless_pops_per_account": needless / accounts,
    }
