"""Who is in trouble: the mark, the trigger rounds, margin calls."""

from engine.codes import MARGIN_CALL, MARK_MOVED, PPM, ROUNDS_MAX, TIERS_CHANGED
from engine.errors import InvariantError
from engine.reference.closing import report_domain
from engine.reference.ledger import Position, State, Wallet, emit
from engine.reference.liquidation import liquidate_domain
from engine.reference.margin import compute_equity, compute_maintenance, compute_ratio, is_liquidatable, list_domains
from engine.reference.marks import derive_mark


def move_mark(state: State, market: int, price_tick: int) -> None:
    """Set the mark of a market; an event is emitted only when it changes.

    Source: STEP-002.
    """
    before = state.marks[market]
    if price_tick != before:
        state.previous_marks[market], state.marks[market] = before, price_tick
        emit(state, MARK_MOVED, market=market, price_tick=price_tick, mark_tick=before)


def change_table(state: State, market: int, table: int) -> None:
    """Put a tier table in force; an event is emitted only when it is another.

    Source: TIER-002.
    """
    before = state.tables[market]
    if table != before:
        state.tables[market] = table
        emit(state, TIERS_CHANGED, market=market, code=table, rank=before)


def follow_last(state: State) -> None:
    """Compare the mark with what the last trade and the book make of it where it is derived, markets in index order.

    Source: STEP-002, MARK-001.
    """
    for market in range(len(state.setup.markets)):
        price = derive_mark(state, market)
        if price:
            move_mark(state, market, price)


def settle_triggers(state: State) -> None:
    """Run trigger rounds until one lists nothing.

    Raises
    ------
    InvariantError
        After more than 10,000 rounds (STEP-004).

    Source: STEP-003, STEP-004, WAKE-001.
    """
    for _ in range(ROUNDS_MAX):
        awake = [domain for domain in list_domains(state) if domain not in state.resting]
        listed = [domain for domain in awake if is_liquidatable(state, domain)]
        call_margins(state)
        if not listed:
            return
        for domain in sorted(listed, key=lambda domain: (compute_ratio(state, domain), domain)):
            if is_liquidatable(state, domain):
                liquidate_domain(state, domain)
                follow_last(state)
    raise InvariantError(f"command {state.seq}: the trigger rounds did not settle within {ROUNDS_MAX}")


def call_margins(state: State) -> None:
    """Send a margin call to each domain below its call level, once until it is touched again; not while it rests.

    Source: STEP-005, STEP-003, WAKE-001.
    """
    for domain in list_domains(state):
        if domain in state.resting:
            continue
        call_ppm = next(rules.call_ppm for rules in state.setup.markets if rules.asset == domain.asset)
        equity, maintenance = compute_equity(state, domain), compute_maintenance(state, domain)
        holder: Position | Wallet = state.wallet(domain.account, domain.asset)
        if domain.market >= 0:
            holder = state.position(domain.account, domain.market)
        if call_ppm == 0 or holder.is_called or equity < maintenance or equity >= -(-maintenance * call_ppm // PPM):
            continue
        holder.is_called = True
        report_domain(state, MARGIN_CALL, domain)
