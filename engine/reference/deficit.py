"""Who pays for what a bankrupt left: the fund, the winners, in the end the exchange."""

from engine.codes import DEFICIT, HAIRCUT, ISOLATED
from engine.reference.closing import Closing
from engine.reference.ledger import State, debit_fund, emit
from engine.reference.margin import Domain, compute_equity, compute_unrealised, domain_of


def take_deficit_id(state: State) -> int:
    """Return the id of a new deficit; they count from 1.

    Source: EVT-002, DEF-001.
    """
    state.deficit_id += 1
    return state.deficit_id


def report_deficit(
    state: State, closing: Closing, deficit_id: int, price_tick: int, qty_lot: int, amount_quote: int, **paid: int
) -> None:
    """Emit the deficit of a close, with who paid it.

    Source: EVT-002, DEF-001.
    """
    emit(
        state,
        DEFICIT,
        order_id=deficit_id,
        account=closing.domain.account,
        market=closing.market,
        side=closing.side,
        price_tick=price_tick,
        qty_lot=qty_lot,
        amount_quote=amount_quote,
        **paid,
    )


def pay_deficit(
    state: State,
    domain: Domain,
    market: int,
    deficit_id: int,
    amount_quote: int,
    side: int = 0,
    price_tick: int = 0,
    qty_lot: int = 0,
    by_victim: int = 0,
) -> None:
    """Let the fund pay a deficit as far as it goes, then the winners; what nobody paid is the exchange's insolvency.

    A deleveraged victim has paid its part, `by_victim`, by the price of its close.

    Source: LIQ-009, LIQ-011, ADL-022, DEF-001, DEF-003, EVT-002.
    """
    by_fund = debit_fund(state, domain.account, market, amount_quote - by_victim, deficit_id)
    short = amount_quote - by_victim - by_fund
    cut = cut_winners(state, domain, market, deficit_id, short) if short else 0
    by_haircut = min(short, cut)
    unpaid = short - by_haircut
    asset = state.assets[domain.asset]
    asset.rounding_quote += cut - by_haircut
    asset.insolvency_quote -= unpaid
    emit(
        state,
        DEFICIT,
        order_id=deficit_id,
        account=domain.account,
        market=market,
        side=side,
        price_tick=price_tick,
        qty_lot=qty_lot,
        amount_quote=amount_quote,
        other_amount_quote=by_fund,
        fee_quote=by_victim,
        margin_quote=by_haircut,
        other_margin_quote=unpaid,
        other_fee_quote=cut - by_haircut,
    )


def list_winners(state: State, bankrupt: Domain, market: int) -> list[tuple[int, int]]:
    """Return the accounts with unrealised gain in a market and the gain, at most the domain's equity.

    Source: DEF-002.
    """
    winners: list[tuple[int, int]] = []
    for account in state.list_accounts():
        if (account, market) not in state.positions or domain_of(state, account, market) == bankrupt:
            continue
        equity = compute_equity(state, domain_of(state, account, market))
        gain = min(compute_unrealised(state, account, market), equity)
        if gain > 0:
            winners.append((account, gain))
    return winners


def cut_winners(state: State, bankrupt: Domain, market: int, deficit_id: int, short_quote: int) -> int:
    """Cut the winners of a market pro rata to their gains, each keeping the floor, and return the sum of the cuts.

    Source: DEF-002.
    """
    winners = list_winners(state, bankrupt, market)
    total = sum(gain for _, gain in winners)
    cuts = 0
    for account, gain in winners:
        keep = gain * (total - short_quote) // total if short_quote < total else 0
        cut = gain - keep
        if cut == 0:
            continue
        cuts += cut
        position = state.position(account, market)
        is_isolated = position.mode == ISOLATED
        if is_isolated:
            position.margin_quote -= cut
            position.is_called = False
        else:
            wallet = state.wallet(account, state.rules(market).asset)
            wallet.balance_quote -= cut
            wallet.is_called = False
        emit(
            state,
            HAIRCUT,
            account=account,
            market=market,
            amount_quote=cut,
            order_id=deficit_id,
            margin_quote=-cut if is_isolated else 0,
            count=len(winners),
        )
    return cuts
