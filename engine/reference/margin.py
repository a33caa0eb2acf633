"""What accounts need and what they have: domains, equity, maintenance, free collateral, the prices they end at."""

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from engine.codes import BUY, CROSS, EXTERNAL, ISOLATED, LINEAR, PPB, PPM, PRICE_MAX_LIMIT, REDUCE_ONLY, SATURATED
from engine.reference.book import Order
from engine.reference.ledger import (
    Position,
    State,
    compute_fee,
    compute_initial_rate,
    compute_notional,
    compute_value,
    select_tier,
)
from engine.reference.portfolio import (
    Reach,
    compute_portfolio_initial,
    compute_portfolio_maintenance,
    compute_relief,
    compute_weight,
)


class Domain(NamedTuple):
    """What stands or falls together; the tuple order is the order of domains (STEP-003).

    `market` is -1 for the cross domain of the account in the asset, else the market of an isolated position.
    """

    account: int
    asset: int
    market: int


def saturate(number: int) -> int:
    """Return a score or ratio held within +-2^62.

    Source: NUM-005.
    """
    return max(-SATURATED, min(SATURATED, number))


def domain_of(state: State, account: int, market: int) -> Domain:
    """Return the domain a position of the account in the market belongs to."""
    is_isolated = state.position(account, market).mode == ISOLATED
    return Domain(account, state.rules(market).asset, market if is_isolated else -1)


def is_portfolio(state: State, domain: Domain) -> bool:
    """Return whether a domain is the cross domain of an account in portfolio mode.

    Source: PORT-002.
    """
    return domain.market < 0 and state.wallet(domain.account, domain.asset).is_portfolio


def list_domains(state: State) -> list[Domain]:
    """Return all domains of all accounts but the outside, in order.

    Source: STEP-003, OUT-001.
    """
    domains: list[Domain] = []
    for account in state.list_accounts():
        domains += [Domain(account, asset, -1) for asset in range(len(state.assets))]
        domains += [
            domain_of(state, account, market)
            for market, position in state.list_owned(account)
            if position.mode == ISOLATED and position.qty_lot
        ]
    return sorted(domains)


def list_positions(state: State, domain: Domain) -> list[int]:
    """Return the markets in which the domain has an open position, ascending."""
    if domain.market >= 0:
        return [domain.market] if state.position(domain.account, domain.market).qty_lot else []
    return [
        market
        for market, position in state.list_owned(domain.account)
        if position.mode == CROSS and position.qty_lot and state.rules(market).asset == domain.asset
    ]


def compute_unrealised(state: State, account: int, market: int) -> int:
    """Return the unrealised PnL of a position: its value at the mark less its cost.

    Source: NUM-003.
    """
    position = state.position(account, market)
    return compute_value(state, market, state.marks[market], position.qty_lot) - position.cost_quote


def compute_equity(state: State, domain: Domain) -> int:
    """Return wallet or isolated margin plus the unrealised PnL of the domain's positions.

    Source: MARGIN-001.
    """
    if domain.market >= 0:
        own = state.position(domain.account, domain.market).margin_quote
        return own + compute_unrealised(state, domain.account, domain.market)
    own = state.wallet(domain.account, domain.asset).balance_quote
    owned = [market for market, _ in state.list_owned(domain.account)]
    # flat ones too: where the mark settles, what they gained or lost since is still to be paid
    markets = [market for market in owned if domain_of(state, domain.account, market) == domain]
    return own + sum(compute_unrealised(state, domain.account, market) for market in markets)


def compute_position_maintenance(state: State, account: int, market: int) -> int:
    """Return the maintenance of one position: its tier's rate on the notional, rounded up, less the deduction.

    Source: MARGIN-002, CASH-006.
    """
    qty = state.position(account, market).qty_lot
    notional = compute_notional(state, market, state.marks[market], qty)
    _, _, rate, deduction = select_tier(state, market, notional)
    if qty < 0:
        rate += state.rules(market).short_maintenance_ppm
    return -(-notional * rate // PPM) - deduction


def compute_maintenance(state: State, domain: Domain) -> int:
    """Return the sum of the maintenance of the domain's positions, or what they require as a portfolio.

    Source: MARGIN-001, PORT-003.
    """
    markets = list_positions(state, domain)
    if is_portfolio(state, domain):
        return compute_portfolio_maintenance(state, domain.account, markets)
    return sum(compute_position_maintenance(state, domain.account, market) for market in markets)


def is_liquidatable(state: State, domain: Domain) -> bool:
    """Return whether equity is below maintenance, strictly; a flat domain's maintenance is 0.

    Source: MARGIN-004.
    """
    return compute_equity(state, domain) < compute_maintenance(state, domain)


def compute_ratio(state: State, domain: Domain) -> int:
    """Return the margin ratio by which liquidations are ordered; without maintenance it is the worst there is.

    Source: STEP-003, NUM-005.
    """
    maintenance = compute_maintenance(state, domain)
    if maintenance == 0:
        return -SATURATED
    return saturate(compute_equity(state, domain) * PPB // maintenance)


def compute_share(state: State, account: int, market: int) -> int:
    """Return a position's share of its domain's equity, in proportion to maintenance; all of it if it is the only one.

    In a portfolio it is in proportion to weight.

    Source: MARGIN-005, PORT-006.
    """
    domain = domain_of(state, account, market)
    equity = compute_equity(state, domain)
    markets = list_positions(state, domain)
    if markets == [market]:
        return equity
    if is_portfolio(state, domain):
        weights = sum(compute_weight(state, account, each) for each in markets)
        return equity * compute_weight(state, account, market) // weights
    return equity * compute_position_maintenance(state, account, market) // compute_maintenance(state, domain)


def compute_domain_weight(state: State, domain: Domain, market: int) -> int:
    """Return the weight of a position in its domain: its maintenance, in a portfolio what it would require alone.

    Source: MARGIN-005, PORT-006.
    """
    if is_portfolio(state, domain):
        return compute_weight(state, domain.account, market)
    return compute_position_maintenance(state, domain.account, market)


def choose_position(state: State, domain: Domain, markets: list[int]) -> int:
    """Return the one of some markets whose position is closed next: what lowers the maintenance most, then the lower.

    Source: LIQ-004, PORT-007.
    """
    held = list_positions(state, domain)

    def lower(market: int) -> int:
        if is_portfolio(state, domain):
            return compute_relief(state, domain.account, held, market)
        return compute_position_maintenance(state, domain.account, market)

    return min(markets, key=lambda market: (-lower(market), market))


def compute_bankruptcy_value(state: State, account: int, market: int) -> int:
    """Return what closing the whole position must bring in so that the domain's ratio does not change.

    Source: MARGIN-005.
    """
    qty = state.position(account, market).qty_lot
    return compute_value(state, market, state.marks[market], qty) - compute_share(state, account, market)


def display_bankruptcy_tick(state: State, market: int, qty_lot: int, bankruptcy_quote: int) -> int:
    """Return the bankruptcy value as a price: rounded up for longs and down for shorts, held within 0..2^31-1.

    An inverse quantity has at no price a value of its own sign, or none; that shows as the highest there is.

    Source: MARGIN-005, INV-004.
    """
    if state.rules(market).kind == LINEAR:
        price = Fraction(bankruptcy_quote, qty_lot * state.rules(market).multiplier)
    elif bankruptcy_quote * qty_lot < 0:
        price = Fraction(-qty_lot * state.rules(market).multiplier, bankruptcy_quote)
    else:
        price = Fraction(PRICE_MAX_LIMIT)
    return max(0, min(PRICE_MAX_LIMIT, ceil(price) if qty_lot > 0 else floor(price)))


def find_bankruptcy_price(state: State, account: int, market: int) -> int:
    """Return the display of a position's bankruptcy value at the domain's present equity, 0 where it is flat.

    Source: MARGIN-005.
    """
    qty = state.position(account, market).qty_lot
    if account < EXTERNAL or qty == 0:
        return 0
    return display_bankruptcy_tick(state, market, qty, compute_bankruptcy_value(state, account, market))


def has_no_edge(state: State, market: int, qty_lot: int) -> bool:
    """Return whether the position may need more for a tick than the tick is worth to it, as its value falls.

    Source: MARGIN-011, CASH-006.
    """
    rules = state.rules(market)
    rate = rules.tables[state.tables[market]][-1][2]
    if rules.kind == LINEAR:
        return qty_lot > 0 and rate > PPM
    return qty_lot < 0 and rate + rules.short_maintenance_ppm > PPM


def find_liquidation_price(state: State, account: int, market: int) -> int:
    """Return the first mark, all others unchanged, at which the position's domain is liquidatable, or 0.

    One tick moves the maintenance never more than the value while rates are at most 1: a long's domain is therefore
    liquidatable at all marks up to some tick, a short's at all marks from some tick on, and halving finds it.  An
    inverse value is rounded, and still never falls as the price rises, for a long, nor rises for a short.

    Source: MARGIN-011, MARGIN-002, INV-001.
    """
    qty = state.position(account, market).qty_lot
    if account <= EXTERNAL or qty == 0 or has_no_edge(state, market, qty):
        return 0
    domain = domain_of(state, account, market)
    kept = state.marks[market]

    def is_bad(tick: int) -> bool:
        state.marks[market] = tick
        found = is_liquidatable(state, domain)
        state.marks[market] = kept
        return found

    low, high = 1, state.rules(market).price_max_tick
    if not is_bad(low if qty > 0 else high):
        return 0
    while low < high:
        middle = (low + high + 1) // 2 if qty > 0 else (low + high) // 2
        if qty > 0:
            low, high = (middle, high) if is_bad(middle) else (low, middle - 1)
        else:
            low, high = (low, middle) if is_bad(middle) else (middle + 1, high)
    return low


def compute_collar(state: State, market: int, side: int, collar_ppm: int) -> int:
    """Return the limit an order without one of its own gets, a collar around the mark.

    Source: MATCH-005, LIQ-005.
    """
    rules, mark = state.rules(market), state.marks[market]
    if side == BUY:
        return min(mark * (PPM + collar_ppm) // PPM, rules.price_max_tick)
    return max(-(-mark * (PPM - collar_ppm) // PPM), 1)


# ---------------------------------------------------------------- before a trade


def count_resting(state: State, account: int, market: int, side: int, without: Order | None = None) -> int:
    """Return the lots the account has resting on one side, reduce-only orders not counted.

    Source: MARGIN-006.
    """
    return sum(
        order.qty_lot
        for order in state.orders.values()
        if order.account == account
        and order.market == market
        and order.side == side
        and not order.flags & REDUCE_ONLY
        and order is not without
    )


def compute_worst_side(
    state: State, account: int, market: int, without: Order | None = None, side: int = 0, qty_lot: int = 0
) -> int:
    """Return the largest position that resting orders, and `qty_lot` more on `side`, could lead to.

    Source: MARGIN-006.
    """
    held = state.position(account, market).qty_lot
    buys = count_resting(state, account, market, BUY, without) + (qty_lot if side == BUY else 0)
    sells = count_resting(state, account, market, -BUY, without) + (qty_lot if side == -BUY else 0)
    return max(held + buys, sells - held, abs(held))


def compute_initial_margin(state: State, account: int, market: int, qty_lot: int) -> int:
    """Return the initial margin of `qty_lot` lots, 0 for none, and 0 where there is no mark.

    Source: MARGIN-003, MARGIN-006.
    """
    notional = compute_notional(state, market, state.marks[market], qty_lot)
    return -(-notional * compute_initial_rate(state, account, market, notional) // PPM)


def list_known(state: State, account: int, asset: int) -> list[tuple[int, Position]]:
    """Return the account's positions in markets of an asset, flat ones with settings or orders too."""
    return [
        (market, position)
        for (owner, market), position in sorted(state.positions.items())
        if owner == account and state.rules(market).asset == asset
    ]


def list_reaches(
    state: State, account: int, asset: int, without: Order | None, at: int = -1, side: int = 0, qty_lot: int = 0
) -> list[Reach]:
    """Return what resting orders, and `qty_lot` more on `side` of market `at`, could make of the account's positions.

    Source: PORT-004.
    """
    reaches: list[Reach] = []
    for market, position in list_known(state, account, asset):
        buys, sells = (count_resting(state, account, market, each, without) for each in (BUY, -BUY))
        if market == at:
            buys, sells = (buys + qty_lot, sells) if side == BUY else (buys, sells + qty_lot)
        reaches.append(Reach(market, position.qty_lot - sells, position.qty_lot + buys))
    return reaches


def compute_isolated_reserve(state: State, account: int, asset: int, without: Order | None = None) -> int:
    """Return what the orders of isolated markets need beyond their positions.

    Source: MARGIN-006.
    """
    total = 0
    for market, position in list_known(state, account, asset):
        if position.mode == ISOLATED:
            worst = compute_worst_side(state, account, market, without)
            total += compute_initial_margin(state, account, market, worst)
            total -= compute_initial_margin(state, account, market, abs(position.qty_lot))
    return total


def compute_free(state: State, account: int, asset: int, without: Order | None = None) -> int:
    """Return the free collateral of an account in an asset.

    Source: MARGIN-006, PORT-004.
    """
    free = compute_equity(state, Domain(account, asset, -1))
    if is_portfolio(state, Domain(account, asset, -1)):
        return free - compute_portfolio_initial(state, list_reaches(state, account, asset, without))
    for market, position in list_known(state, account, asset):
        if position.mode == CROSS:
            worst = compute_worst_side(state, account, market, without)
            free -= compute_initial_margin(state, account, market, worst)
    return free - compute_isolated_reserve(state, account, asset, without)


def compute_withdrawable(state: State, account: int, asset: int, without: Order | None = None) -> int:
    """Return what an account could withdraw of an asset.

    Source: MARGIN-006.
    """
    reserve = compute_isolated_reserve(state, account, asset, without)
    free = compute_free(state, account, asset, without)
    return min(free, state.wallet(account, asset).balance_quote - reserve)


def is_covered(
    state: State, account: int, market: int, side: int, qty_lot: int, limit_tick: int, without: Order | None = None
) -> bool:
    """Return whether an order that is not reduce-only has the collateral it needs.

    Source: MARGIN-006, PORT-005, CASH-007.
    """
    if account == EXTERNAL or state.rules(market).order_margin:
        return True
    before = compute_worst_side(state, account, market, without)
    after = compute_worst_side(state, account, market, without, side, qty_lot)
    asset = state.rules(market).asset
    if is_portfolio(state, Domain(account, asset, -1)):
        more = (market, side, qty_lot)
        growth = compute_portfolio_initial(state, list_reaches(state, account, asset, without, *more))
        growth -= compute_portfolio_initial(state, list_reaches(state, account, asset, without))
        is_checked = after > before or growth > 0
    else:
        growth = compute_initial_margin(state, account, market, after)
        growth -= compute_initial_margin(state, account, market, before)
        is_checked = after > before
    if not is_checked:
        return True
    at_limit = compute_value(state, market, limit_tick, side * qty_lot)
    loss = max(0, at_limit - compute_value(state, market, state.marks[market], side * qty_lot))
    fee = max(0, compute_fee(at_limit, state.rules(market).taker_fee_ppm))
    if state.position(account, market).mode == ISOLATED:
        have = compute_withdrawable(state, account, asset, without)
    else:
        have = compute_free(state, account, asset, without)
    return have >= growth + loss + fee
