"""Stages 1 to 3 of the waterfall by policy: whose orders go, how much is closed, at what limit, who gets a surplus.

Each function goes by the policy of the market whose position is being closed.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from engine.codes import (
    AFTER_FULL,
    BY_LIQUIDATION,
    GATE_ALWAYS,
    LIMIT_BANKRUPTCY,
    LIMIT_FILLABLE,
    PPB,
    PPM,
    PRICE_MAX_LIMIT,
    SCOPE_ACCOUNT,
    SCOPE_MARKET,
    SIZE_FULL,
    SIZE_TIERED,
    SURPLUS_CAPPED,
    SURPLUS_FUND,
)
from engine.reference.closing import Closing
from engine.reference.ledger import State, compute_fee, compute_notional, compute_value, select_tier
from engine.reference.margin import (
    Domain,
    choose_position,
    compute_collar,
    compute_domain_weight,
    compute_equity,
    compute_maintenance,
    display_bankruptcy_tick,
    list_positions,
)
from engine.reference.matching import cancel_account


@dataclass(slots=True)
class Attempt:
    """The liquidation of one domain, from its start to its end."""

    domain: Domain
    closed_lot: int = 0
    waived_quote: int = 0
    lost_quote: int = 0  # what its fills cost the fund
    left_open: set[int] = field(default_factory=set)  # markets
    reason: int = 0  # why it ended while the domain was still liquidatable
    due_ns: int = 0  # when the domain is looked at again
    is_whole: bool = False  # a vault takes it over (HOUSE-005)


def choose_market(state: State, attempt: Attempt) -> int | None:
    """Return the market of the position to close next: largest maintenance first, then the lower market.

    Source: LIQ-004, STAGE-009.
    """
    markets = [market for market in list_positions(state, attempt.domain) if market not in attempt.left_open]
    if not markets:
        return None
    return choose_position(state, attempt.domain, markets)


def cancel_scope(state: State, account: int, policy_market: int) -> None:
    """Cancel the orders that stand in the way, by the policy of the market whose position is next.

    Source: LIQ-003, STAGE-001.
    """
    scope = state.rules(policy_market).cancel
    for market in range(len(state.setup.markets)):
        if scope == SCOPE_ACCOUNT or (scope == SCOPE_MARKET and market == policy_market):
            cancel_account(state, account, market, BY_LIQUIDATION)


def count_below(state: State, market: int, qty_lot: int, bound_quote: int) -> int:
    """Return how many of 1, 2, ... `qty_lot` lots are worth less than a bound at the mark."""
    lots = range(1, qty_lot + 1)
    return bisect_left(lots, bound_quote, key=lambda lot: compute_notional(state, market, state.marks[market], lot))


def compute_step(state: State, domain: Domain, market: int) -> int:
    """Return how many lots of a position the next step closes, at least 1.

    Source: LIQ-004, STAGE-002, STAGE-003, WAKE-002.
    """
    rules = state.rules(market)
    qty = abs(state.position(domain.account, market).qty_lot)
    notional = compute_notional(state, market, state.marks[market], qty)
    if rules.size == SIZE_FULL:
        return qty
    if rules.size == SIZE_TIERED:
        floor = select_tier(state, market, notional)[0]
        return qty - count_below(state, market, qty, floor)
    is_cooling = rules.after_share == AFTER_FULL and domain in state.cooling
    if is_cooling or notional <= rules.full_below_quote:
        return qty
    step = -(-qty * rules.share_ppm // PPM)
    if rules.share_min_quote:
        step = max(step, count_below(state, market, qty, rules.share_min_quote) + 1)
    if rules.step_max_quote:
        step = min(step, count_below(state, market, qty, rules.step_max_quote + 1))
    return max(1, min(step, qty))


def compute_fillable_value(state: State, domain: Domain, market: int) -> int:
    """Return the value at which limit `fillable` would close a whole position, signed as the position.

    Source: STAGE-006, PORT-006.
    """
    rules = state.rules(market)
    equity, maintenance = compute_equity(state, domain), compute_maintenance(state, domain)
    part_ppb = rules.adjustment_ppm * 1000 * (maintenance - equity) // maintenance
    part_ppb = max(0, min(PPB, part_ppb))
    spread = compute_domain_weight(state, domain, market) * rules.spread_ppm // PPM * part_ppb // PPB
    return compute_value(state, market, state.marks[market], state.position(domain.account, market).qty_lot) - spread


def compute_limit(state: State, closing: Closing) -> int:
    """Return the limit of the order that closes a position, fixed when its step starts.

    Source: LIQ-005, STAGE-005, STAGE-006.
    """
    market, rules = closing.market, state.rules(closing.market)
    if rules.limit == LIMIT_BANKRUPTCY:
        is_held = closing.sign > 0 and closing.bankruptcy_tick == PRICE_MAX_LIMIT
        return closing.bankruptcy_tick + 1 if is_held else closing.bankruptcy_tick
    if rules.limit == LIMIT_FILLABLE:
        qty = state.position(closing.domain.account, market).qty_lot
        return display_bankruptcy_tick(state, market, qty, compute_fillable_value(state, closing.domain, market))
    return compute_collar(state, market, closing.side, rules.liquidation_collar_ppm)


def compute_fund_part(state: State, market: int, value_quote: int, surplus_quote: int) -> int:
    """Return what the fund gets of a fill's surplus after the taker fee; the rest is the account's.

    Source: LIQ-006, STAGE-007.
    """
    rules = state.rules(market)
    if rules.surplus == SURPLUS_FUND:
        return surplus_quote
    rate_ppm = rules.surplus_fee_ppm if rules.surplus == SURPLUS_CAPPED else rules.liquidation_fee_ppm
    return min(surplus_quote, compute_fee(value_quote, rate_ppm))


def passes_gate(state: State, attempt: Attempt, market: int) -> bool:
    """Return whether the backstop may close what the walk left.

    Source: STAGE-009.
    """
    if state.rules(market).adl_gate == GATE_ALWAYS:
        return True
    return attempt.closed_lot == 0 and compute_equity(state, attempt.domain) < 0
