"""How a position is closed: the limit of the liquidation order, how much of it at a time, and the walk through a book.

Prices are quote per base, sizes base, money quote; `side` is the liquidated position's.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, ceil_to_step, clamp, exact, floor_to_step, positive, sign_of
from engine.formulas.fund import fund_delta
from engine.formulas.margin import collateral_account

# ---------------------------------------------------------------- the limit of the order


def fillable_price(
    side: Side, mark: Number, maintenance_rate: Number, margin_ratio: Number, spread: Number, adjustment: Number = 1
) -> Fraction:
    """Return the worst price dYdX's liquidation order may trade at.

    `mark x (1 - side x spread x maintenance_rate x clamp(adjustment x (1 - margin_ratio), 0, 1))`.  dYdX's page gives
    one formula "for short or long", which is wrong for shorts; its code has the sign.

    Parameters
    ----------
    margin_ratio : Number
        Equity over maintenance of the account (`TNC / TMMR`), below 1 when it is liquidated.
    spread, adjustment : Number
        dYdX's SMMR (1.5 on its main network) and BA (1).

    Source: dydxprotocol/v4-chain, x/clob/keeper/liquidations.go and TestGetFillablePrice.
    """
    part = clamp(exact(adjustment) * (1 - exact(margin_ratio)), 0, 1)
    return positive(mark, "mark") * (1 - sign_of(side) * exact(spread) * exact(maintenance_rate) * part)


def fillable_price_of(
    quote: Number,
    positions: Mapping[str, Number],
    prices: Mapping[str, Number],
    rates: Mapping[str, Number],
    market: str,
    *,
    spread: Number,
    adjustment: Number = 1,
) -> Fraction:
    """Return `fillable_price` of one position of an account kept as quote balance and signed base sizes.

    Source: dydxprotocol/v4-chain, TestGetFillablePrice.
    """
    account = collateral_account(quote, positions, prices, rates)
    ratio = account.equity / positive(account.maintenance, "maintenance")
    side = 1 if exact(positions[market]) > 0 else -1
    return fillable_price(side, prices[market], rates[market], ratio, spread, adjustment)


class KeepingPrice(NamedTuple):
    """A limit and the margin that is left when the position closes at it."""

    price: Fraction
    left: Fraction


def price_keeping_margin(side: Side, qty: Number, mark: Number, maintenance: Number, keep: Number) -> KeepingPrice:
    """Return the limit that leaves `keep` of the maintenance: `mark - side x (1 - keep) x maintenance / qty` (Cube).

    Source: https://github.com/cubexch/gitbook, perpetual-futures/liquidation.md.
    """
    need, part = exact(maintenance), exact(keep)
    price = exact(mark) - sign_of(side) * (1 - part) * need / positive(qty, "qty")
    return KeepingPrice(price, part * need)


# ---------------------------------------------------------------- how much at a time


def size_to_cover(
    shortage: Number,
    price: Number,
    margin_ratio: Number,
    liquidator_fee: Number = 0,
    fund_fee: Number = 0,
    *,
    quote_price: Number = 1,
    step: Number | None = None,
) -> Fraction:
    """Return the base whose transfer restores a margin shortage (Drift).

    `shortage / (price x quote_price x (margin_ratio - liquidator_fee - fund_fee))`, rounded down to `step` if given.

    Raises
    ------
    ValueError
        If the fees eat all that the transfer releases.

    Source: drift-labs/protocol-v2, programs/drift/src/math/liquidation.
    """
    released = positive(exact(margin_ratio) - exact(liquidator_fee) - exact(fund_fee), "margin ratio less fees")
    base = exact(shortage) / (positive(price, "price") * positive(quote_price, "quote_price") * released)
    return base if step is None else floor_to_step(base, step)


def share_after_slots(
    shortage: Number, slots: Number, initial: Number, duration: Number, at_once: Number = 50
) -> Fraction:
    """Return the part of a position that may be closed `slots` after it became liquidatable (Drift).

    All of it below a shortage of `at_once` (50 USD); else `initial + slots / duration`, at most 1.

    Source: drift-labs/protocol-v2, calculate_max_pct_to_liquidate.
    """
    if exact(shortage) < exact(at_once):
        return Fraction(1)
    return min(Fraction(1), exact(initial) + exact(slots) / positive(duration, "duration"))


def first_notional(notional: Number, *, full_below: Number = 100_000, share: Number = Fraction(1, 5)) -> Fraction:
    """Return the notional of Hyperliquid's first order: 20 % of a position above 100,000 USD, else all of it.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations.
    """
    size = exact(notional)
    return size * exact(share) if size > exact(full_below) else size


class Backstop(NamedTuple):
    """A backstop's level and whether the account is below it."""

    level: Fraction
    reached: bool


def vault_level(equity: Number, maintenance: Number, part: Number = Fraction(2, 3)) -> Backstop:
    """Return the equity below which Hyperliquid's vault takes an account over: 2/3 of its maintenance, strictly.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations.
    """
    level = exact(maintenance) * exact(part)
    return Backstop(level, exact(equity) < level)


def size_to_tier(position: Number, tier_limit: Number) -> Fraction:
    """Return what has to go for a position to fit into a tier: `max(0, position - limit)`.

    Source: OKX help, forced partial liquidation (older text: straight to tier 1).
    """
    return max(Fraction(0), exact(position) - exact(tier_limit))


class ShareRow(NamedTuple):
    """What closing a share of every position would leave (Paradex)."""

    share: Fraction
    maintenance: Fraction
    penalty: Fraction
    equity: Fraction
    ratio: Fraction | None  # maintenance / equity; None without equity


class ShareChoice(NamedTuple):
    """The share chosen, or None where none suffices, and all that were looked at."""

    share: Fraction | None
    rows: tuple[ShareRow, ...]


def least_share(
    equity: Number, maintenance: Number, fee_rate: Number, target: Number, step: Number = Fraction(1, 5)
) -> ShareChoice:
    """Return the least share of every position whose closing brings maintenance / equity below `target` (Paradex).

    Closing share `s` leaves maintenance `(1 - s) x MM` and costs `s x fee_rate x MM`.  Shares go in `step`s; 1 is not
    looked at, it closes everything.

    Source: https://docs.paradex.trade/risk.
    """
    have, need, stride = exact(equity), exact(maintenance), positive(step, "step")
    rows, share = [], stride
    while share < 1:
        penalty = share * exact(fee_rate) * need
        left, kept = have - penalty, need * (1 - share)
        rows.append(ShareRow(share, kept, penalty, left, kept / left if left > 0 else None))
        share += stride
    fits = (row.share for row in rows if row.ratio is not None and row.ratio < exact(target))
    return ShareChoice(next(fits, None), tuple(rows))


def disposal_sizes(
    position: Number, fraction: Number, full_size: Number, depth: Number, max_consume: Number, unit: Number = 1
) -> list[Fraction]:
    """Return the order sizes by which Vega's network disposes of a position, one per time step, at constant depth.

    `min(ceil(depth x max_consume), position <= full_size ? position : ceil(position x fraction))`, in whole `unit`s.

    Raises
    ------
    ValueError
        If a step would close nothing.

    Source: vegaprotocol/specs, 0012-POSR (cases 013, 022 to 024).
    """
    left, sizes = exact(position), []
    most = ceil_to_step(exact(depth) * exact(max_consume), unit)
    positive(fraction, "fraction")
    while left > 0:
        size = left if left <= exact(full_size) else ceil_to_step(left * exact(fraction), unit)
        size = min(size, left, positive(most, "depth x max_consume"))
        sizes.append(size)
        left -= size
    return sizes


# ---------------------------------------------------------------- through the book, and against the winners


class Walk(NamedTuple):
    """What a liquidation order did."""

    filled: Fraction
    quote: Fraction  # the liquidated account's quote balance afterwards
    size: Fraction  # and its signed position
    fund: Fraction
    requires_deleveraging: bool


def walk_book(
    quote: Number,
    size: Number,
    book: Sequence[tuple[Number, Number]],
    limit: Number,
    oracle: Number,
    *,
    fund: Number,
    fee_cap: Number,
) -> Walk:
    """Return what dYdX's liquidation order does to a single-market account, fill by fill.

    A fill better than the bankruptcy price pays `min(surplus, fee_cap x value)` to the fund, the trader keeps the rest;
    a worse one is paid by the fund, and refused as a whole, ending the walk, where the fund cannot.  The bankruptcy
    price is `-quote / size` before each fill.  What is left then needs deleveraging if equity at the oracle is below 0.

    Parameters
    ----------
    size : Number
        Signed position; its closing order buys from asks or sells to bids.
    book : sequence of (price, size)
        The other side, best first.

    Source: dydxprotocol/v4-chain, TestPlacePerpetualLiquidation_Deleveraging.
    """
    balance, held, pool, filled = exact(quote), exact(size), exact(fund), Fraction(0)
    side = 1 if held > 0 else -1
    for level, depth in book:
        price = exact(level)
        if held == 0 or (price - exact(limit)) * side < 0:
            break
        amount = min(abs(held), exact(depth))
        bankrupt = -balance / held * amount
        delta = fund_delta(side, price * amount, bankrupt, fee_cap)
        if delta < 0 and pool + delta < 0:
            break
        balance += side * price * amount - delta
        held -= side * amount
        pool += delta
        filled += amount
    needs = held != 0 and balance + held * exact(oracle) < 0
    return Walk(filled, balance, held, pool, needs)


class Counterparty(NamedTuple):
    """An account of the other side: quote balance and signed base."""

    account: str
    quote: Fraction
    size: Fraction


class Offset(NamedTuple):
    """What deleveraging did: its price, all counterparties afterwards, and what nobody could take."""

    price: Fraction
    victims: tuple[Counterparty, ...]
    left: Fraction


def offset_position(
    quote: Number,
    size: Number,
    others: Sequence[tuple[str, Number, Number]],
    oracle: Number,
    price: Number | None = None,
) -> Offset:
    """Return dYdX's deleveraging: the bankrupt closes against others at its bankruptcy price, in the order given.

    Whoever would end with negative equity at the oracle is skipped; so is whoever is on the same side.

    Parameters
    ----------
    others : sequence of (account, quote, signed size)
    price : Number, optional
        Instead of the bankruptcy price `-quote / size`: the oracle, in final settlement.

    Source: dydxprotocol/v4-chain, TestOffsetSubaccountPerpetualPosition.
    """
    held = exact(size)
    if held == 0:
        raise ValueError("size: expected a position")
    at, mark = exact(price) if price is not None else -exact(quote) / held, exact(oracle)
    after = []
    for account, has, owns in others:
        balance, base = exact(has), exact(owns)
        amount = min(abs(held), abs(base)) if held * base < 0 else Fraction(0)
        sign = 1 if base > 0 else -1
        if amount and balance + sign * amount * at + (base - sign * amount) * mark >= 0:
            balance, base, held = balance + sign * amount * at, base - sign * amount, held + sign * amount
        after.append(Counterparty(account, balance, base))
    return Offset(at, tuple(after), abs(held))
