"""Auto-deleveraging: when it starts, who is first, what the lights say.

Scores are higher for who is taken earlier; published formulas disagree, so each has a name of its own.  Values and
quantities follow `engine.formulas.pnl`.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, ceil_to_step, exact, floor_to_step, positive, round_to_step, sign_of
from engine.formulas.pnl import position_value

# ---------------------------------------------------------------- scores


class Score(NamedTuple):
    """A score with the two factors it is made of: a return, and a leverage or what stands for it."""

    score: Fraction
    ret: Fraction
    leverage: Fraction


def rank_by_leverage(ret: Number, leverage: Number) -> Fraction:
    """Return `return x leverage` for a profit, `return / leverage` for a loss: the leveraged first on either side.

    Raises
    ------
    ValueError
        For a loss at leverage 0.

    Source: https://www.bitmex.com/app/autoDeleveraging; https://www.kucoin.com/support/26686471898009.
    """
    gained, times = exact(ret), exact(leverage)
    return gained * times if gained > 0 else gained / positive(times, "leverage")


def score_signed_values(mark_value: Number, entry_value: Number, bankrupt_value: Number) -> Score:
    """Return BitMEX's score from the signed values of a position at mark, entry and bankruptcy.

    Return `(MV - EV) / |EV|`, effective leverage `|MV| / (MV - BV)`, score as `rank_by_leverage`.  `MV - BV` is the
    equity left in the position, for both sides and for linear and inverse alike.

    Raises
    ------
    ValueError
        If no equity is left: such a position is liquidated, not ranked.

    Source: ADL-003; https://www.bitmex.com/app/autoDeleveraging.
    """
    marked, entered = exact(mark_value), exact(entry_value)
    leverage = abs(marked) / positive(marked - exact(bankrupt_value), "equity (mark value - bankrupt value)")
    if entered == 0:
        raise ValueError("entry_value: expected a value that is not 0")
    ret = (marked - entered) / abs(entered)
    return Score(rank_by_leverage(ret, leverage), ret, leverage)


def score_bitmex(
    side: Side, qty: Number, entry: Number, mark: Number, bankruptcy: Number, *, inverse: bool = False
) -> Score:
    """Return BitMEX's score of a position from its prices, see `score_signed_values`.

    Source: ADL-003; https://www.bitmex.com/app/autoDeleveraging.
    """
    at = [position_value(side, qty, price, inverse=inverse) for price in (mark, entry, bankruptcy)]
    return score_signed_values(*at)


def score_binance(
    unrealised: Number, wallet: Number, maintenance: Number | None = None, *, margin_ratio: Number | None = None
) -> Score:
    """Return Binance's score: `max(0, uPnL) / max(1, wallet) x margin ratio`, all losers 0.

    Parameters
    ----------
    unrealised, wallet : Number
        Of the margin scope, in the margin asset.
    maintenance : Number
        Its maintenance; the ratio is then `MM / (wallet + uPnL)`, 0 where that is not above 0.
    margin_ratio : Number
        Given instead of the maintenance, where it is known.

    Source: https://www.binance.com/en/support/faq/360033525471.
    """
    pnl, balance = exact(unrealised), exact(wallet)
    if (maintenance is None) == (margin_ratio is None):
        raise ValueError("expected either maintenance or margin_ratio")
    if margin_ratio is not None:
        ratio = exact(margin_ratio)
    else:
        ratio = exact(maintenance or 0) / (balance + pnl) if balance + pnl > 0 else Fraction(0)
    ret = max(Fraction(0), pnl) / max(Fraction(1), balance)
    return Score(ret * ratio, ret, ratio)


def score_upnl_leverage(qty: Number, mark: Number, entry: Number, equity: Number, side: Side = 1) -> Score:
    """Return a score of profit in money, not in percent: `uPnL x leverage` for a profit, `uPnL / leverage` for a loss.

    Leverage is the value at mark over the account's equity.  Large positions come first whatever their return (Gate,
    Cube).

    Source: https://github.com/cubexch/gitbook, perpetual-futures/liquidation.md.
    """
    size, sign = exact(qty), sign_of(side)
    pnl = sign * size * (exact(mark) - exact(entry))
    leverage = size * exact(mark) / positive(equity, "equity")
    return Score(rank_by_leverage(pnl, leverage), pnl, leverage)


def score_hyperliquid_docs(entry: Number, mark: Number, leverage: Number) -> Fraction:
    """Return the index Hyperliquid documents: `(mark / entry) x (notional / account value)`.

    Taken literally it falls with the profit of a short, which cannot be meant; `score_hyperliquid_decompiled` is what
    the program was seen to do.  The two do not order alike.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/auto-deleveraging.
    """
    return exact(mark) / positive(entry, "entry") * exact(leverage)


_HYPERLIQUID_FLOOR = Fraction(1, 10**8)


def score_hyperliquid_decompiled(
    side: Side, qty: Number, entry: Number, mark: Number, account_value: Number
) -> Fraction:
    """Return `max(|notional| / account value, 1e-8) x max(max(pnl, 0) / entry notional, 1e-8)`.

    Source: osec.io/blog/2026-06-22-hyperliquid-risk-engine, as reported in the vectors.
    """
    size, paid, at = positive(qty, "qty"), positive(entry, "entry"), positive(mark, "mark")
    leverage = size * at / positive(account_value, "account_value")
    gained = max(Fraction(0), sign_of(side) * (at - paid)) / paid
    return max(leverage, _HYPERLIQUID_FLOOR) * max(gained, _HYPERLIQUID_FLOOR)


# ---------------------------------------------------------------- the queue


class Place(NamedTuple):
    """An account's place in the queue of its side."""

    account: str
    qty: Fraction
    rank: int  # 1 is first
    part: Fraction  # of all quantity, up to and with this account, 0 to 1
    percentile: int  # the fifth it ends in, 20 is the front
    closed: Fraction  # quantity taken from it

    @property
    def remaining(self) -> Fraction:
        """What it keeps."""
        return self.qty - self.closed


def build_queue(accounts: Sequence[tuple[str, Number, Number]], need: Number = 0) -> list[Place]:
    """Return the queue of one side, best score first, and what closing `need` takes from each.

    Front to back, each to zero, the last in part; equal scores keep the order they came in.  The percentile is
    `ceil(5 x cumulative quantity / total) x 20`, which reproduces BitMEX's published example.

    Parameters
    ----------
    accounts : sequence of (account, quantity, score)
        Quantities above 0.
    need : Number
        Quantity to close; what the side does not hold is not closed.

    Source: ADL-002, ADL-004; https://www.bitmex.com/app/autoDeleveragingExamples.
    """
    ordered = sorted(accounts, key=lambda account: -exact(account[2]))
    total = sum((positive(qty, f"quantity of {name}") for name, qty, _ in ordered), Fraction(0))
    left, passed, queue = exact(need), Fraction(0), []
    for rank, (name, given, _) in enumerate(ordered, 1):
        qty = exact(given)
        passed += qty
        closed = min(qty, left)
        left -= closed
        queue.append(Place(name, qty, rank, passed / total, int(ceil_to_step(5 * passed / total)) * 20, closed))
    return queue


# ---------------------------------------------------------------- the lights


def lights_of_place(part_from_front: Number) -> int:
    """Return the indicator 5 (front fifth) to 1 (back) of a place, 0 being the very front and 1 the very back.

    `5 - floor(5 x part)`, at least 1; which fifth an edge belongs to is not documented anywhere.

    Source: ADL-009; https://www.bitmex.com/app/autoDeleveraging.
    """
    part = exact(part_from_front)
    if not 0 <= part <= 1:
        raise ValueError(f"part_from_front: expected 0 to 1, got {part_from_front}")
    return max(1, 5 - int(floor_to_step(5 * part)))


def show_lights(lights: int) -> dict[str, int]:
    """Return the same indicator on each venue's scale; `lights` 0 is an account without position.

    BitMEX and Bybit count 5 = front, Binance and WhiteBIT 4 = front, Gate 1 = front with 6 for none.

    Source: Bybit v5 enum adlRankIndicator; Binance adlQuantile; Gate v4 adl_ranking; WhiteBIT ADL grade.
    """
    if not 0 <= lights <= 5:
        raise ValueError(f"lights: expected 0 to 5, got {lights}")
    scales = {"bitmex": lights, "bybit": lights, "okx": lights, "gate": 6 - lights}
    return scales if lights == 0 else {**scales, "binance": lights - 1, "whitebit": lights - 1}


def lights_of_rank(rank: int, count: int) -> int:
    """Return the lights of a rank (1 is first) among `count`: `6 - round_half_up(5 x rank / count)`.

    This reproduces a table in an older text of Bybit's help; the rule itself is nowhere stated.

    Source: rewrite of Bybit's ADL help page, as quoted in the vectors.
    """
    if not 1 <= rank <= count:
        raise ValueError(f"rank: expected 1 to {count}, got {rank}")
    return 6 - max(1, int(round_to_step(Fraction(5 * rank, count))))


# ---------------------------------------------------------------- the trigger


class FundDrawdown(NamedTuple):
    """The state of a fund's drawdown trigger."""

    ratio: Fraction  # Bybit: below 0; other: part of the peak that is gone
    triggered: bool
    excess: Fraction  # money beyond the threshold: what ADL puts on the winners


def pool_pnl_ratio(pnl: Number, pnl_peak: Number, balance_peak: Number) -> Fraction:
    """Return Bybit's `pnlRatio`: `(symbol PnL - its 8 h maximum) / the pool's 8 h maximum balance`.

    Source: https://bybit-exchange.github.io/docs/v5/market/adl-alert.
    """
    return (exact(pnl) - exact(pnl_peak)) / positive(balance_peak, "balance_peak")


def check_pool_drawdown(
    balance: Number, ratio: Number, trigger: Number, threshold: Number = 0, balance_peak: Number = 0
) -> FundDrawdown:
    """Return whether Bybit's drawdown ADL runs: `balance > threshold and ratio < trigger`, strictly.

    Parameters
    ----------
    ratio, trigger : Number
        Both negative, e.g. -0.35 and -0.3.
    balance_peak : Number
        Of 8 hours; with it the excess is `(trigger - ratio) x balance_peak`, 0 if not beyond.

    Source: https://bybit-exchange.github.io/docs/v5/market/adl-alert.
    """
    at, limit = exact(ratio), exact(trigger)
    triggered = exact(balance) > exact(threshold) and at < limit
    return FundDrawdown(at, triggered, max(Fraction(0), limit - at) * exact(balance_peak))


def releases_pool_drawdown(ratio: Number, stop: Number) -> bool:
    """Return whether Bybit's drawdown ADL stops: `ratio > adlStopRatio`, strictly.

    Source: https://bybit-exchange.github.io/docs/v5/market/adl-alert.
    """
    return exact(ratio) > exact(stop)


def is_fund_empty(balance: Number) -> bool:
    """Return whether nothing is left: `balance <= 0`.

    Source: ADL-001; https://bybit-exchange.github.io/docs/v5/market/adl-alert.
    """
    return exact(balance) <= 0


def is_fund_overrun(balance: Number, position_margin: Number, unrealised: Number) -> bool:
    """Return whether a fund cannot carry what it took over: `fund + position margin + uPnL <= 0`.

    Source: rewrite of Bybit's older ADL help page, as quoted in the vectors.
    """
    return exact(balance) + exact(position_margin) + exact(unrealised) <= 0


def check_peak_drawdown(peak: Number, lost: Number, limit: Number, position_margin: Number = 0) -> FundDrawdown:
    """Return whether a fund has lost `limit` of its peak: `(lost - position_margin) / peak >= limit`.

    Parameters
    ----------
    lost : Number
        What is gone from the peak, above 0; OKX: peak - balance.

    Source: https://www.bybit.com/en/help-center/article/Auto-Deleveraging-ADL (Nov 2025); OKX help (30 % of the
    8 h peak).
    """
    top, most = positive(peak, "peak"), exact(limit)
    drawdown = (exact(lost) - exact(position_margin)) / top
    return FundDrawdown(drawdown, drawdown >= most, max(Fraction(0), drawdown - most) * top)


def okx_fund_threshold(average: Number, part: Number, at_least: Number) -> Fraction:
    """Return the balance below which OKX's ADL starts: `average - max(part x average, at_least)`.

    Source: rewrites of OKX's help page of 2025, as quoted in the vectors (unverified).
    """
    mean = exact(average)
    return mean - max(exact(part) * mean, exact(at_least))


def is_pool_pnl_above(
    pool_tokens: Number, pool_price: Number, size_tokens: Number, entry: Number, price: Number, limit: Number
) -> FundDrawdown:
    """Return whether traders' profit exceeds `limit` of the pool that pays it (GMX).

    `size x (price - entry) / (pool tokens x pool price) > limit`.

    Source: gmx-io/gmx-synthetics, as restated in the peer scenarios.
    """
    worth = positive(exact(pool_tokens) * exact(pool_price), "pool value")
    ratio = exact(size_tokens) * (exact(price) - exact(entry)) / worth
    return FundDrawdown(ratio, ratio > exact(limit), max(Fraction(0), ratio - exact(limit)) * worth)


def spent_in_window(now: Number, window: Number, past: Sequence[tuple[Number, Number]]) -> Fraction:
    """Return the sum of the amounts whose time is later than `now - window`, for limits per window.

    Source: dydxprotocol/v4-chain and others, as restated in the peer scenarios.
    """
    start = exact(now) - exact(window)
    return sum((exact(amount) for time, amount in past if exact(time) > start), Fraction(0))


def may_deleverage(quote: Number, base: Number, oracle: Number) -> bool:
    """Return whether dYdX may deleverage an account: only when its equity is below 0, strictly.

    Source: dydxprotocol/v4-chain, TestCanDeleverageSubaccount.
    """
    return exact(quote) + exact(base) * exact(oracle) < 0
