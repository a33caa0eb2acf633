"""A position being liquidated: its bankruptcy value, and what its domain books as it closes."""

from dataclasses import dataclass

from engine.codes import ISOLATED
from engine.reference.ledger import State, emit, settle_flat, sign, split_cost, touch_position
from engine.reference.margin import (
    Domain,
    compute_bankruptcy_value,
    compute_equity,
    compute_maintenance,
    display_bankruptcy_tick,
)


@dataclass(slots=True)
class Closing:
    """One position being liquidated; `bankruptcy_quote` is the value of what is left, signed as the position."""

    domain: Domain
    market: int
    sign: int  # of the position: 1 long, -1 short
    left_lot: int
    bankruptcy_quote: int
    bankruptcy_tick: int
    waived_quote: int = 0

    @property
    def side(self) -> int:
        """Return the side of the orders that close it."""
        return -self.sign

    def share(self, qty_lot: int) -> int:
        """Return the part of the bankruptcy value that belongs to closing `qty_lot` of the lots left.

        Source: LIQ-005.
        """
        return self.bankruptcy_quote * qty_lot // self.left_lot


def start_closing(state: State, domain: Domain, market: int, step_lot: int) -> Closing:
    """Fix the bankruptcy value of `step_lot` lots of a position: their part of the whole position's, floored.

    Source: LIQ-005, MARGIN-005, STAGE-004.
    """
    qty = state.position(domain.account, market).qty_lot
    bankruptcy = compute_bankruptcy_value(state, domain.account, market)
    tick = display_bankruptcy_tick(state, market, qty, bankruptcy)
    return Closing(domain, market, sign(qty), step_lot, bankruptcy * step_lot // abs(qty), tick)


def close_share(state: State, closing: Closing, qty_lot: int, received_quote: int) -> int:
    """Close part of the bankrupt's position: its domain changes by what it receives less the cost of the part.

    Returns
    -------
    int
        The change of the isolated margin.

    Source: LIQ-005, ADL-005, LIQ-009.
    """
    account, market = closing.domain.account, closing.market
    position = state.position(account, market)
    wallet = state.wallet(account, closing.domain.asset)
    margin_before = position.margin_quote
    closing.bankruptcy_quote -= closing.share(qty_lot)
    closing.left_lot -= qty_lot
    cost = split_cost(position, qty_lot)
    if position.mode == ISOLATED:
        position.margin_quote += received_quote - cost
    else:
        wallet.balance_quote += received_quote - cost
    position.cost_quote -= cost
    position.qty_lot -= closing.sign * qty_lot
    settle_flat(state, account, market)
    touch_position(state, account, market)
    wallet.last_market = market
    return position.margin_quote - margin_before


def report_domain(state: State, kind: int, domain: Domain, **fields: int) -> None:
    """Emit an event about a domain with its equity and maintenance; `market` is -1 for a cross domain.

    Source: EVT-001.
    """
    emit(
        state,
        kind,
        account=domain.account,
        market=domain.market,
        amount_quote=compute_equity(state, domain),
        other_amount_quote=compute_maintenance(state, domain),
        other=domain.asset,
        **fields,
    )
