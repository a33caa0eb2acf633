"""What a position is worth: values, profit and loss, fills.

One trick carries all the rest (it is BitMEX's): give every value a sign.  A linear contract of quantity `q` is worth
`side x q x P`, an inverse (coin-margined) one `-side x q / P`; profit is then `value(P) - value(entry)` for both sides
and both kinds.  `q` is in base units of a linear contract (contracts x multiplier) and in quote units of an inverse one
(contracts x contract size); prices are in quote per base; money comes out in the settlement asset.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, exact, positive, sign_of


def position_value(side: Side, qty: Number, price: Number, *, inverse: bool = False) -> Fraction:
    """Return the signed value of a position at a price.

    `side x qty x price`, or `-side x qty / price` if inverse: a long's value rises with the price either way.

    Parameters
    ----------
    qty : Number
        Size, not negative: base units (linear), quote units (inverse).
    price : Number
        Quote per base, above 0.

    Source: NUM-002; https://www.bitmex.com/app/autoDeleveraging.
    """
    size = exact(qty)
    if size < 0:
        raise ValueError(f"qty: expected a size of 0 or more (the side has the sign), got {qty}")
    sign, at = sign_of(side), positive(price, "price")
    return -sign * size / at if inverse else sign * size * at


def unrealised_pnl(side: Side, qty: Number, entry: Number, mark: Number, *, inverse: bool = False) -> Fraction:
    """Return the profit of a position at the mark: `value(mark) - value(entry)`, in the settlement asset.

    `side x qty x (mark - entry)`, or `side x qty x (1/entry - 1/mark)` if inverse.

    Source: NUM-003; Binance, Gate and BitMEX position samples.
    """
    return position_value(side, qty, mark, inverse=inverse) - position_value(side, qty, entry, inverse=inverse)


def return_on_entry(side: Side, entry: Number, mark: Number, *, inverse: bool = False) -> Fraction:
    """Return profit as a part of the entry value: `(value(mark) - value(entry)) / |value(entry)|`.

    Source: https://www.bitmex.com/app/autoDeleveraging; https://www.kucoin.com/support/35084312224281.
    """
    return unrealised_pnl(side, 1, entry, mark, inverse=inverse) / abs(position_value(side, 1, entry, inverse=inverse))


def return_on_margin(side: Side, entry: Number, mark: Number, leverage: Number, *, inverse: bool = False) -> Fraction:
    """Return profit as a part of the initial margin (ROE, 1 is 100 %): the return on entry times the leverage.

    Source: https://help.bybit.com/hc/en-us/articles/360027239453.
    """
    return return_on_entry(side, entry, mark, inverse=inverse) * positive(leverage, "leverage")


class Holding(NamedTuple):
    """A position as the engine keeps it: signed quantity and signed cost (NUM-003), and what it has realised so far."""

    qty: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)

    @property
    def entry(self) -> Fraction | None:
        """Average entry, only a display: cost / quantity; None where flat."""
        return self.cost / self.qty if self.qty else None

    def unrealised(self, mark: Number) -> Fraction:
        """Return quantity x mark - cost."""
        return self.qty * exact(mark) - self.cost


def apply_fill(holding: Holding, qty: Number, price: Number, unit: Number | None = None) -> Holding:
    """Return a linear position after a fill: it first closes, then opens.

    Closing `k` of `|qty|` realises `s x k x price - c`, `c = cost x k / |qty|`, and cost keeps the rest.

    Parameters
    ----------
    qty : Number
        Signed: bought above 0, sold below.
    unit : Number, optional
        Smallest unit of money; `c` is then rounded down to it, as the engine does.

    Source: POS-001, NUM-003.
    """
    change, at = exact(qty), exact(price)
    closed = min(abs(change), abs(holding.qty)) if change * holding.qty < 0 else Fraction(0)
    kept_qty, kept_cost, realised = holding
    if closed:
        side = 1 if holding.qty > 0 else -1
        share = holding.cost * closed / abs(holding.qty)
        if unit is not None:
            share = (share / positive(unit, "unit")).__floor__() * exact(unit)
        kept_qty, kept_cost = kept_qty - side * closed, kept_cost - share
        realised += side * closed * at - share
        change += side * closed
    return Holding(kept_qty + change, kept_cost + change * at, realised)


def settle_interval(qty: Number, before: Number, after: Number) -> Fraction:
    """Return the cash a position receives when marked to market: `qty x (after - before)`, signed quantity.

    Source: vegaprotocol/vega, mark_to_market_settlement_pdp.feature.
    """
    return exact(qty) * (exact(after) - exact(before))


def trace_network_position(events: Iterable[tuple[Number, Number, Number]]) -> list[Holding]:
    """Return the network's position after each event (trade price, signed quantity it gets, mark afterwards).

    A takeover trades at the mark, a disposal at the book's price without moving the mark.  The mark is what the caller
    needs for `Holding.unrealised`.

    Source: vegaprotocol/specs, 0012-POSR (cases 016 and 018).
    """
    held, trace = Holding(), []
    for price, qty, _ in events:
        held = apply_fill(held, qty, price)
        trace.append(held)
    return trace
