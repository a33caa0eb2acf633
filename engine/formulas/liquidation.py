"""Where a position ends: liquidation price, bankruptcy price, and the quote a part of it must bring.

There is one equation, *equity = maintenance*, `AV(P) = MM(P)`, and every venue's liquidation price is its solution;
they differ in whether maintenance is counted at the mark or at entry, and whether the fee of closing belongs to it.
With signed values (`engine.formulas.pnl`) both sides are straight lines in `x = P` (linear) or `x = 1/P` (inverse), so
one line solver serves all of them; `RULES` holds the differences.  The bankruptcy price is the same with maintenance 0.

>>> liquidation_price("long", 1, 20000, 400, maintenance_rate="0.005", rule="bybit-linear")
Fraction(19700, 1)
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, ceil_to_step, exact, floor_to_step, positive, sign_of
from engine.formulas.margin import Bracket, collateral_account


class Rule(NamedTuple):
    """How a venue counts its liquidation price.

    Parameters
    ----------
    inverse : bool
        Coin-margined: value goes with 1/P.
    maintenance_at : str
        "mark": maintenance is of the value at the price sought; "entry": of the value at entry, a constant.
    fee_at : str
        Where the closing fee is added to maintenance: "none"; "mark"; "bankruptcy", on the value at that price.
    rounding : str
        Of the price, when a tick is given: "entry", to the tick nearer entry (long up, short down); "earlier", one tick
        before the exact price; "first", to the first tick at which equity is strictly below maintenance; "none".
    """

    inverse: bool = False
    maintenance_at: str = "mark"
    fee_at: str = "none"
    rounding: str = "none"


# Sources: see engine.formulas.liquidation_price.
RULES: dict[str, Rule] = {
    "engine": Rule(rounding="first"),
    "binance-usdm": Rule(),
    "binance-coinm": Rule(inverse=True),
    "bybit-linear": Rule(maintenance_at="entry", rounding="entry"),
    "bybit-inverse": Rule(inverse=True, maintenance_at="entry", rounding="entry"),
    "bybit-inverse-cross": Rule(inverse=True, maintenance_at="entry", fee_at="bankruptcy", rounding="entry"),
    "okx": Rule(fee_at="mark"),
    "okx-inverse": Rule(inverse=True, fee_at="mark", rounding="earlier"),
    "gate": Rule(fee_at="mark"),
    "gate-inverse": Rule(inverse=True, fee_at="mark"),
    "hyperliquid": Rule(),
    "lighter": Rule(),
    "dydx": Rule(),
    "kucoin": Rule(maintenance_at="entry", rounding="entry"),
    "kucoin-inverse": Rule(inverse=True, maintenance_at="entry", rounding="entry"),
}


class Leg(NamedTuple):
    """One position of the market whose price is sought: a hedge-mode account has a long and a short one."""

    side: Side
    qty: Number
    entry: Number
    maintenance_rate: Number = 0
    deduction: Number = 0


def solve_margin_line(
    legs: Sequence[Leg], collateral: Number, requirement: Number = 0, *, inverse: bool = False
) -> Fraction | None:
    """Return the price at which equity equals requirement, or None where the two lines never meet above 0.

    Solves `collateral + sum(value(P) - value(entry)) = requirement + sum(|value(P)| x rate - deduction)` for P.

    Parameters
    ----------
    collateral, requirement : Number
        What does not move with this price: equity from elsewhere, maintenance from elsewhere.

    Raises
    ------
    ValueError
        If the requirement is missed at every price (a debt larger than the position could ever earn).

    Source: FORM-002.
    """
    slope, constant = Fraction(0), exact(requirement) - exact(collateral)
    for leg in legs:
        qty, entry = positive(leg.qty, "qty"), positive(leg.entry, "entry")
        signed = (-1 if inverse else 1) * sign_of(leg.side) * qty
        slope += signed - qty * exact(leg.maintenance_rate)
        constant += signed * (1 / entry if inverse else entry) - exact(leg.deduction)
    # equity less requirement is now slope x P - constant (1/P if inverse)
    if slope * constant <= 0:
        if constant > 0 or (constant == 0 and slope < 0):
            raise ValueError("equity is below the requirement at every price: check collateral and entry")
        return None
    x = constant / slope
    return 1 / x if inverse else x


def solve_price(
    legs: Sequence[Leg],
    collateral: Number,
    requirement: Number = 0,
    brackets: Sequence[Bracket] | None = None,
    *,
    inverse: bool = False,
    extra_rate: Number = 0,
) -> Fraction | None:
    """Return the price at which equity equals requirement, under one rate per leg or under a tier table.

    Maintenance in tiers is the highest of its tiers' lines, since rates rise and deductions make it continuous: the
    sought price is therefore the first that any of the lines reaches, the highest for a long, the lowest for a short.

    Parameters
    ----------
    brackets : sequence of Bracket, optional
        Then `legs` is one position, its own rate and deduction are ignored.
    extra_rate : Number
        Added to every rate: a closing fee on the value at the price sought.

    Source: FORM-002, MARGIN-002.
    """
    fee = exact(extra_rate)
    if brackets is None:
        with_fee = [leg._replace(maintenance_rate=exact(leg.maintenance_rate) + fee) for leg in legs]
        return solve_margin_line(with_fee, collateral, requirement, inverse=inverse)
    if len(legs) != 1:
        raise ValueError(f"a tier table needs exactly one position, got {len(legs)}; give hedged legs their rates")
    if max(tier.rate for tier in brackets) + fee > 1:
        raise ValueError("brackets: expected maintenance rates, with the closing fee, of at most 1")
    (leg,) = legs
    lines = [leg._replace(maintenance_rate=tier.rate + fee, deduction=tier.deduction) for tier in brackets]
    found = [solve_margin_line([line], collateral, requirement, inverse=inverse) for line in lines]
    prices = [price for price in found if price is not None]
    if not prices:
        return None
    return max(prices) if sign_of(leg.side) > 0 else min(prices)


def round_trigger(price: Number, tick: Number, side: Side, rounding: str) -> Fraction:
    """Return a liquidation price on the venue's grid, see `Rule.rounding`.

    Raises
    ------
    ValueError
        For an unknown rounding.

    Source: FORM-002, FORM-005.
    """
    exact_price, step, sign = exact(price), positive(tick, "tick"), sign_of(side)
    nearer = ceil_to_step(exact_price, step) if sign > 0 else floor_to_step(exact_price, step)
    if rounding == "entry":
        return nearer
    if rounding == "first":
        return nearer - sign * step
    if rounding == "earlier":
        return exact_price + sign * step
    if rounding == "none":
        return exact_price
    raise ValueError(f"rounding: expected entry, first, earlier or none, got {rounding!r}")


def find_rule(rule: str | Rule) -> Rule:
    """Return a rule by the name of its venue.

    Raises
    ------
    ValueError
        Listing the known names.
    """
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise ValueError(f"rule: unknown venue {rule!r}, known: {', '.join(RULES)}")
    return RULES[rule]


def liquidation_price(
    side: Side,
    qty: Number,
    entry: Number,
    collateral: Number,
    *,
    maintenance_rate: Number = 0,
    deduction: Number = 0,
    brackets: Sequence[Bracket] | None = None,
    closing_fee: Number = 0,
    other_maintenance: Number = 0,
    hedge: Sequence[Leg] = (),
    rule: str | Rule = "engine",
    tick: Number | None = None,
) -> Fraction | None:
    """Return the price at which a position is liquidated, or None where no price does it.

    Solves `collateral + value(P) - value(entry) = maintenance(P) + other_maintenance`, maintenance by `rule`.

    Parameters
    ----------
    side, qty, entry
        The position; quantity in base units (linear) or quote units (inverse), always above 0.
    collateral : Number
        Isolated: the position's margin, without its unrealised PnL.  Cross: wallet balance plus the unrealised PnL of
        all other positions.  A venue that tells equity at the mark instead (Hyperliquid, Lighter, dYdX): give the mark
        as `entry` and that equity here, the line is the same.
    maintenance_rate, deduction : Number
        Of the tier the position is in; or `brackets`, the whole table, and the tier at the liquidation price is found.
    closing_fee : Number
        Taker fee rate, for rules that add it to maintenance; others ignore it.
    other_maintenance : Number
        Cross: maintenance of all other positions.
    hedge : sequence of Leg
        Hedge mode: further positions in the same market.
    rule : str or Rule
        A venue of `RULES`, or "engine": the rule of this exchange.
    tick : Number, optional
        Round to the venue's grid; without it the exact solution is returned.

    Raises
    ------
    TypeError, ValueError
        For floats, sizes or prices not above 0, an unknown venue, or equity below maintenance at every price.

    Source: FORM-002; Binance https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93; Bybit
    https://help.bybit.com/hc/en-us/articles/360039261334 and .../Liquidation-Price-USDT-Contract; OKX and Gate as in
    freqtrade's tests and their position samples; https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations;
    https://docs.dydx.xyz/concepts/trading/liquidations; https://apidocs.lighter.xyz; Kucoin/kucoin-futures-api-docs.
    """
    counts = find_rule(rule)
    need, fee = exact(other_maintenance), exact(closing_fee)
    legs = [Leg(side, qty, entry, maintenance_rate, deduction), *hedge]
    if counts.fee_at == "bankruptcy":
        ends_at = bankruptcy_price(side, qty, entry, collateral, closing_fee=fee, inverse=counts.inverse)
        need += 0 if ends_at is None else _value(qty, ends_at, counts.inverse) * fee
    elif counts.fee_at not in ("none", "mark"):
        raise ValueError(f"rule.fee_at: expected none, mark or bankruptcy, got {counts.fee_at!r}")
    if counts.maintenance_at == "entry":
        at_entry = _value(qty, entry, counts.inverse)
        need += _maintenance_at(at_entry, maintenance_rate, deduction, brackets)
        for leg in hedge:
            need += _maintenance_at(
                _value(leg.qty, leg.entry, counts.inverse), leg.maintenance_rate, leg.deduction, None
            )
        legs, brackets = [leg._replace(maintenance_rate=0, deduction=0) for leg in legs], None
    elif counts.maintenance_at != "mark":
        raise ValueError(f"rule.maintenance_at: expected mark or entry, got {counts.maintenance_at!r}")
    extra = fee if counts.fee_at == "mark" else 0
    price = solve_price(legs, collateral, need, brackets, inverse=counts.inverse, extra_rate=extra)
    return price if price is None or tick is None else round_trigger(price, tick, side, counts.rounding)


def _value(qty: Number, price: Number, inverse: bool) -> Fraction:
    size, at = positive(qty, "qty"), positive(price, "price")
    return size / at if inverse else size * at


def _maintenance_at(value: Fraction, rate: Number, deduction: Number, brackets: Sequence[Bracket] | None) -> Fraction:
    if brackets is None:
        return value * exact(rate) - exact(deduction)
    tier = next(tier for tier in reversed(brackets) if tier.floor <= value)
    return value * tier.rate - tier.deduction


def bankruptcy_price(
    side: Side,
    qty: Number,
    entry: Number,
    collateral: Number,
    *,
    closing_fee: Number = 0,
    inverse: bool = False,
    tick: Number | None = None,
    rounding: str = "entry",
) -> Fraction | None:
    """Return the price at which closing leaves nothing, or None where no price does it.

    Solves `collateral + value(P) - value(entry) = |value(P)| x closing_fee`: linear `entry - side x collateral / qty`,
    at initial margin `entry x (1 - side / leverage)`; inverse long `entry x L / (L + 1)`.

    Parameters
    ----------
    collateral : Number
        As in `liquidation_price`.
    tick : Number, optional
        Round to it: "entry" towards entry (Bybit), "down" or "up" (KuCoin shows a long's down).

    Source: MARGIN-005; https://help.bybit.com/hc/en-us/articles/900000031623; KuCoin Futures help.
    """
    leg = Leg(side, qty, entry, closing_fee)
    price = solve_margin_line([leg], collateral, inverse=inverse)
    if price is None or tick is None:
        return price
    if rounding not in ("entry", "down", "up"):
        raise ValueError(f"rounding: expected entry, down or up, got {rounding!r}")
    upwards = rounding == "up" or (rounding == "entry" and sign_of(side) > 0)
    return ceil_to_step(price, tick) if upwards else floor_to_step(price, tick)


class BankruptcyOrMark(NamedTuple):
    """A closing price with the deviation that chose it."""

    price: Fraction
    deviation: Fraction


def price_within(bankruptcy: Number, mark: Number, most: Number) -> BankruptcyOrMark:
    """Return the bankruptcy price, or the mark if the two are further apart than `most` of the mark (0.05 is 5 %).

    Bybit's ADL price; whether the percentage is of the mark is not said, both readings agree on the known example.

    Source: https://www.bybit.com/en/help-center/article/Auto-Deleveraging-ADL.
    """
    at = positive(mark, "mark")
    deviation = abs(exact(bankruptcy) - at) / at
    return BankruptcyOrMark(at if deviation > exact(most) else exact(bankruptcy), deviation)


def zero_price(side: Side, mark: Number, maintenance_rate: Number, equity: Number, maintenance: Number) -> Fraction:
    """Return the price per unit at which closing any part of a position leaves the account's margin ratio unchanged.

    `mark x (1 - side x maintenance_rate x equity / maintenance)`, equity and maintenance of the whole account: its
    shortfall is shared among its positions in proportion to maintenance.  Lighter's zero price and dYdX's bankruptcy
    price; for a single position, the bankruptcy price.

    Parameters
    ----------
    maintenance_rate : Number
        Maintenance of this position over its value at mark (under tiers the effective rate).

    Source: MARGIN-005; https://docs.lighter.xyz.
    """
    share = exact(maintenance_rate) * exact(equity) / positive(maintenance, "maintenance")
    return positive(mark, "mark") * (1 - sign_of(side) * share)


def bankruptcy_quote(
    quote: Number,
    positions: Mapping[str, Number],
    prices: Mapping[str, Number],
    rates: Mapping[str, Number],
    market: str,
    delta: Number,
    unit: Number | None = None,
) -> Fraction:
    """Return the quote a change `delta` of one position must bring for the account's margin ratio to stay (dYdX).

    `-delta x price - equity x |maintenance change| / maintenance`; what is paid is negative.

    Parameters
    ----------
    positions, prices, rates : mapping of market to number
        Signed sizes, oracle prices, maintenance rates.
    delta : Number
        Signed change, towards 0.
    unit : Number, optional
        Smallest quote amount; the result is then rounded up to it, in favour of the other side's payer.

    Raises
    ------
    ValueError
        If the account has no maintenance, or `delta` does not shrink the position.

    Source: MARGIN-005; dydxprotocol/v4-chain, TestGetBankruptcyPriceInQuoteQuantums.
    """
    account = collateral_account(quote, positions, prices, rates)
    held, change = exact(positions[market]), exact(delta)
    if held * change >= 0 or abs(change) > abs(held):
        raise ValueError(f"delta: expected a change that shrinks the position {held}, got {change}")
    price = exact(prices[market])
    released = abs(change) * price * exact(rates[market])
    amount = -change * price - account.equity * released / positive(account.maintenance, "maintenance")
    return amount if unit is None else ceil_to_step(amount, unit)
