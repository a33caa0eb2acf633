"""Who is deleveraged first: the scores venues publish, in integers floored step by step (ADL-003, ADL-010..ADL-016).

Notional and cost count as magnitudes and gains as value less cost, so that the sign of a value does not matter.
"""

import numpy as np

from engine._jit import helper, hot
from engine.codes import (
    ISOLATED,
    PPB,
    PPM,
    SCORE_BINANCE,
    SCORE_BITMEX,
    SCORE_HYPERLIQUID_DOCS,
    SCORE_KUCOIN,
    SCORE_LEVERAGE_YIELD,
    SCORE_NONE,
    SCORE_UPNL_LEVERAGE,
)
from engine.kernels.fixed import mul_div_ceil, mul_div_floor, saturate
from engine.kernels.margin import domain_of, measure_domain, value_at_mark

LEAST = 10  # 1e-8, below which the decompiled score lets no factor fall


@hot
def score_bitmex(gain_quote, cost_quote, value_quote, share_quote):
    """Return the score in units of 1e-9: PnL% x effective leverage in profit, PnL% / leverage in loss.

    Source: ADL-003 (BitMEX, auto-deleveraging), ADL-011.
    """
    rate = saturate(mul_div_floor(gain_quote, PPB, max(abs(cost_quote), 1)))
    leverage = saturate(mul_div_floor(abs(value_quote), PPB, share_quote))
    if gain_quote > 0:
        return saturate(mul_div_floor(rate, leverage, PPB))
    return saturate(mul_div_floor(rate, PPB, max(leverage, 1)))


@helper
def score_binance(st, slot, gain_quote, equity_quote, maintenance_quote):
    """Return unrealised profit over wallet balance, times the margin ratio of the domain.

    Source: ADL-010.
    """
    position = st.positions[slot]
    rules = st.markets[position["market"]]
    own = position["margin_quote"]
    if position["mode"] != ISOLATED:
        own = st.wallets[np.int64(position["account"]) * st.head[0]["asset_count"] + rules["asset"]]["balance_quote"]
    rate = mul_div_floor(max(gain_quote, 0), PPB, max(own, rules["whole_quote"]))
    return mul_div_floor(rate, mul_div_floor(maintenance_quote, PPB, equity_quote), PPB)


@helper
def score_yield(st, slot, gain_quote, cost_quote, equity_quote, maintenance_quote):
    """Return the return on the entry's initial margin, over the domain's margin ratio; in loss times it.

    Source: ADL-013.
    """
    initial = mul_div_ceil(abs(cost_quote), np.int64(st.positions[slot]["leverage_ppm"]), PPM)
    rate = mul_div_floor(gain_quote, PPB, max(initial, 1))
    ratio = mul_div_floor(equity_quote, PPB, max(maintenance_quote, 1))
    if gain_quote > 0:
        return mul_div_floor(rate, PPB, max(ratio, 1))
    return mul_div_floor(rate, ratio, PPB)


@helper
def score_other(st, slot, policy, gain_quote, cost_quote, value_quote):
    """Return a candidate's score under any policy but `bitmex`.

    Source: ADL-010..ADL-016.
    """
    if policy == SCORE_NONE:
        return np.int64(0)
    if policy == SCORE_UPNL_LEVERAGE:
        return mul_div_floor(gain_quote, PPM, np.int64(st.positions[slot]["leverage_ppm"]))
    equity, maintenance, _ = measure_domain(st, domain_of(st, slot))
    if policy == SCORE_BINANCE:
        return score_binance(st, slot, gain_quote, equity, maintenance)
    if policy == SCORE_KUCOIN:
        return score_bitmex(gain_quote, cost_quote, value_quote, equity)
    if policy == SCORE_LEVERAGE_YIELD:
        return score_yield(st, slot, gain_quote, cost_quote, equity, maintenance)
    size = max(abs(cost_quote), 1)
    leverage = mul_div_floor(abs(value_quote), PPB, equity)
    if policy == SCORE_HYPERLIQUID_DOCS:
        if gain_quote <= 0:
            return np.int64(0)
        return max(mul_div_floor(mul_div_floor(abs(value_quote), PPB, size), leverage, PPB), 1)
    rate = mul_div_floor(max(gain_quote, 0), PPB, size)
    return mul_div_floor(max(leverage, LEAST), max(rate, LEAST), PPB)


@hot
def score_position(st, slot, share_quote):
    """Return the score of a candidate whose share of its domain's equity is `share_quote` > 0.

    Source: ADL-003, NUM-005.
    """
    position = st.positions[slot]
    policy = np.int64(st.markets[position["market"]]["adl_score"])
    value = value_at_mark(st, slot)
    cost = position["cost_quote"]
    if policy == SCORE_BITMEX:
        return score_bitmex(value - cost, cost, value, share_quote)
    return score_other(st, slot, policy, value - cost, cost, value)
