"""Settlement in cash: at each mark every position's variation is paid, from the losers to the winners."""

from engine.codes import DEFICIT, EXTERNAL, HOUSE, SATURATED, VARIATION
from engine.errors import InvariantError
from engine.reference.deficit import take_deficit_id
from engine.reference.ledger import State, credit_fund, debit_fund, emit
from engine.reference.margin import compute_unrealised


def settle_marked(state: State) -> None:
    """Settle the markets whose mark was given, in index order; who holds their asset is then looked at.

    Source: CASH-001, CASH-005.
    """
    for market in sorted(state.owed):
        settle_market(state, market)
        state.settled.add(state.rules(market).asset)
    state.owed.clear()


def settle_market(state: State, market: int) -> None:
    """Pay every position's variation at the mark: losers first, then the winners what was collected.

    Source: CASH-002, CASH-004.
    """
    settle_outside(state, market)
    members = [*state.entries[market], HOUSE]
    changes = {a: compute_unrealised(state, a, market) for a in members if (a, market) in state.positions}
    lacking: list[tuple[int, int, int, int]] = []  # account, deficit id, shortfall, what the fund paid of it
    for account, change in changes.items():
        if change < 0:
            lacking += collect(state, account, market, -change)
    gains = {account: change for account, change in changes.items() if change > 0}
    total = sum(gains.values())
    lack = sum(short - by_fund for _, _, short, by_fund in lacking)
    if max(total, lack) > SATURATED:
        raise InvariantError(f"command {state.seq}: what a settlement pays is beyond 2**62")
    left = collected = max(0, total - lack)
    for number, (account, change) in enumerate(gains.items(), start=1):
        booked = change
        if lack:
            booked = left if number == len(gains) else change * collected // total
        left -= booked
        distribute(state, account, market, change, booked)
    report_shortfalls(state, market, lacking, total)


def report_variation(state: State, account: int, market: int, change: int, booked: int, deficit_id: int = 0) -> None:
    """Emit a position's variation and what was booked of it; its cost is now its value at the mark.

    Source: EVT-001, CASH-004.
    """
    position = state.position(account, market)
    position.cost_quote += change
    emit(
        state,
        VARIATION,
        account=account,
        market=market,
        qty_lot=position.qty_lot,
        mark_tick=state.marks[market],
        amount_quote=change,
        other_amount_quote=booked,
        order_id=deficit_id,
    )


def settle_outside(state: State, market: int) -> None:
    """Let the outside pay or be paid in full.

    Source: CASH-004, OUT-001.
    """
    if (EXTERNAL, market) in state.positions:
        change = compute_unrealised(state, EXTERNAL, market)
        if change:
            state.wallet(EXTERNAL, state.rules(market).asset).balance_quote += change
            report_variation(state, EXTERNAL, market, change, change)


def collect(state: State, account: int, market: int, loss: int) -> list[tuple[int, int, int, int]]:
    """Have a loser pay from its wallet, the house from the fund; return its shortfall, if any, and the fund's part.

    Source: CASH-004, HOUSE-003.
    """
    rules = state.rules(market)
    if account == HOUSE:
        paid = min(loss, state.funds[rules.fund].balance_quote)
    else:
        wallet = state.wallet(account, rules.asset)
        paid = min(loss, max(0, wallet.balance_quote))
        wallet.balance_quote -= paid
    short = loss - paid
    deficit_id = take_deficit_id(state) if short else 0
    report_variation(state, account, market, -loss, -paid, deficit_id)
    if account == HOUSE:
        debit_fund(state, HOUSE, market, paid, 0)
        by_fund = 0
    else:
        by_fund = debit_fund(state, account, market, short, deficit_id)
    return [(account, deficit_id, short, by_fund)] if short else []


def distribute(state: State, account: int, market: int, change: int, booked: int) -> None:
    """Pay a winner what was collected for it.

    Source: CASH-004, HOUSE-003.
    """
    report_variation(state, account, market, change, booked)
    if account == HOUSE:
        credit_fund(state, HOUSE, market, booked, 0)
    else:
        state.wallet(account, state.rules(market).asset).balance_quote += booked


def report_shortfalls(state: State, market: int, lacking: list[tuple[int, int, int, int]], gains: int) -> None:
    """Emit the deficit of each loser that could not pay; the winners pay for the first ones first.

    Source: CASH-004, EVT-002, DEF-003.
    """
    for account, deficit_id, short, by_fund in lacking:
        by_haircut = min(short - by_fund, gains)
        gains -= by_haircut
        unpaid = short - by_fund - by_haircut
        state.assets[state.rules(market).asset].insolvency_quote -= unpaid
        emit(
            state,
            DEFICIT,
            order_id=deficit_id,
            account=account,
            market=market,
            price_tick=state.marks[market],
            amount_quote=short,
            other_amount_quote=by_fund,
            margin_quote=by_haircut,
            other_margin_quote=unpaid,
        )
