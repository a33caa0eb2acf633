"""The scores by which venues rank whom they deleverage first; plain functions of what a candidate has and owes."""

from collections.abc import Callable
from typing import NamedTuple

from engine.codes import POLICIES, PPB, PPM, SATURATED


class Standing(NamedTuple):
    """What a score may look at: a candidate's position, and the domain it belongs to."""

    gain: int  # unrealised PnL
    cost: int  # magnitude, at least 1
    value: int  # magnitude, at the mark
    share: int  # of the domain's equity, above 0
    leverage_ppm: int
    equity: int  # of the domain, above 0
    maintenance: int  # of the domain
    own: int  # wallet or isolated margin
    whole: int  # money that is one whole unit of the asset


def hold(number: int) -> int:
    """Return a score or ratio held within +-2^62.

    Source: NUM-005.
    """
    return max(-SATURATED, min(SATURATED, number))


def take_ratio(number: int, divisor: int) -> int:
    """Return a ratio in units of 1e-9, floored.

    Source: NUM-005.
    """
    return hold(number * PPB // divisor)


def multiply(left: int, right: int) -> int:
    """Return the product of two ratios, floored.

    Source: NUM-005.
    """
    return hold(left * right // PPB)


def score_bitmex(s: Standing) -> int:
    """Return PnL rate times effective leverage in profit, over it in loss.

    Source: ADL-003.
    """
    rate, leverage = take_ratio(s.gain, s.cost), take_ratio(s.value, s.share)
    return multiply(rate, leverage) if s.gain > 0 else take_ratio(rate, max(leverage, 1))


def score_binance(s: Standing) -> int:
    """Return unrealised profit over wallet balance, times the margin ratio.

    Source: ADL-010.
    """
    return multiply(take_ratio(max(s.gain, 0), max(s.own, s.whole)), take_ratio(s.maintenance, s.equity))


def score_kucoin(s: Standing) -> int:
    """Return as BitMEX does, with leverage against the domain's whole equity.

    Source: ADL-011.
    """
    return score_bitmex(s._replace(share=s.equity))


def score_upnl_leverage(s: Standing) -> int:
    """Return unrealised PnL times the chosen leverage, in money.

    Source: ADL-012.
    """
    return hold(s.gain * PPM // s.leverage_ppm)


def score_leverage_yield(s: Standing) -> int:
    """Return the return on initial margin, over the margin ratio in profit and times it in loss.

    Source: ADL-013.
    """
    rate = take_ratio(s.gain, -(-s.cost * s.leverage_ppm // PPM))
    ratio = take_ratio(s.equity, max(s.maintenance, 1))
    return take_ratio(rate, max(ratio, 1)) if s.gain > 0 else multiply(rate, ratio)


def score_hyperliquid_docs(s: Standing) -> int:
    """Return price ratio times account leverage of those in profit, read literally.

    Source: ADL-014.
    """
    index = multiply(take_ratio(s.value, s.cost), take_ratio(s.value, s.equity))
    return max(index, 1) if s.gain > 0 else 0


def score_hyperliquid_decompiled(s: Standing) -> int:
    """Return account leverage times rate of profit, neither below 1e-8.

    Source: ADL-015.
    """
    least = PPB // 10**8
    leverage = max(take_ratio(s.value, s.equity), least)
    return multiply(leverage, max(take_ratio(max(s.gain, 0), s.cost), least))


def score_none(s: Standing) -> int:
    """Return the same for everybody.

    Source: ADL-016.
    """
    return 0


SCORES: dict[str, Callable[[Standing], int]] = {
    "bitmex": score_bitmex,
    "binance": score_binance,
    "kucoin": score_kucoin,
    "upnl_leverage": score_upnl_leverage,
    "leverage_yield": score_leverage_yield,
    "hyperliquid_docs": score_hyperliquid_docs,
    "hyperliquid_decompiled": score_hyperliquid_decompiled,
    "none": score_none,
}


def compute_score(policy: int, standing: Standing) -> int:
    """Return a candidate's score under a policy, by its code.

    Source: ADL-003, ADL-010..ADL-016.
    """
    return SCORES[POLICIES["adl_score"][policy]](standing)
