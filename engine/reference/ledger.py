"""Who owns what, and the only functions that change it: fills, fees, funding, funds.

Money is unbounded Python integers; `//` floors, `-(-a // b)` is the ceiling.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from engine.codes import (
    CROSS,
    EXTERNAL,
    FUND_CREDIT,
    FUND_DEBIT,
    HOUSE,
    ISOLATED,
    LINEAR,
    PAY_ON_INDEX,
    PPB,
    PPM,
    SATURATED,
    SETTLED_AT_MARK,
    TRIGGER_DRAWDOWN,
)
from engine.contract import MarketRules, Setup
from engine.errors import InvariantError
from engine.reference.book import Book, Order
from engine.reference.own import OwnRule
from engine.reference.watch import Watch


@dataclass(slots=True)
class Event:
    """One event; the fields and their order are those of the recorded format (EVT-001)."""

    seq: int = 0
    ts_ns: int = 0
    kind: int = 0
    code: int = 0
    market: int = 0
    side: int = 0
    flags: int = 0
    account: int = 0
    other: int = 0
    rank: int = 0
    count: int = 0
    mark_tick: int = 0
    bankruptcy_tick: int = 0
    price_tick: int = 0
    qty_lot: int = 0
    order_id: int = 0
    other_order_id: int = 0
    amount_quote: int = 0
    other_amount_quote: int = 0
    fee_quote: int = 0
    other_fee_quote: int = 0
    margin_quote: int = 0
    other_margin_quote: int = 0


@dataclass(slots=True)
class Position:
    """What an account holds in one market, and how it is margined there (NUM-003)."""

    leverage_ppm: int
    mode: int
    qty_lot: int = 0
    cost_quote: int = 0
    margin_quote: int = 0
    opened_seq: int = 0
    is_called: bool = False  # of an isolated position's own domain


@dataclass(slots=True)
class Wallet:
    """What an account holds in one asset."""

    balance_quote: int = 0
    last_market: int = -1  # where the account's last fill in this asset was (LIQ-011)
    is_called: bool = False  # of the cross domain
    is_portfolio: bool = False  # whether that is margined as a portfolio (PORT-002)


@dataclass(slots=True)
class Fund:
    """An insurance fund; until it first pays, its lowest balance is its balance."""

    balance_quote: int = 0
    low_quote: int = 0
    has_paid: bool = False


@dataclass(slots=True)
class Asset:
    """The exchange's own accounts in one asset (MONEY-001)."""

    fees_quote: int = 0
    rounding_quote: int = 0
    insolvency_quote: int = 0
    deposits_quote: int = 0
    withdrawals_quote: int = 0
    waived_quote: int = 0


@dataclass(slots=True)
class Average:
    """What a market remembers of its past book (MARK-002, FUND-011)."""

    rate_ppb: int = 0  # the last funding rate
    premiums: list[int] = field(default_factory=list)  # samples of the funding interval that runs, per 10^9
    ema_micro: int = 0
    ema_start_ppb: int = PPB
    bases: list[int] = field(default_factory=list)  # the last samples of the basis in half ticks, oldest first


@dataclass(slots=True)
class State:
    """Everything one exchange knows."""

    setup: Setup
    marks: list[int]
    indexes: list[int]
    lasts: list[int]
    books: list[Book]
    funds: list[Fund]
    assets: list[Asset]
    tables: list[int]  # the tier table in force, per market
    averages: list[Average]
    seq: int = 0
    ts_ns: int = 0
    deficit_id: int = 0
    priority: int = 0
    orders: dict[int, Order] = field(default_factory=dict)  # the accounts' resting orders by id
    positions: dict[tuple[int, int], Position] = field(default_factory=dict)  # by account and market
    wallets: dict[tuple[int, int], Wallet] = field(default_factory=dict)  # by account and asset
    events: list[Event] = field(default_factory=list)  # of the command being applied
    event_ts_ns: int = 0  # time of the command being applied
    previous_marks: list[int] = field(default_factory=list)  # the mark before the one in force, 0: none
    watches: dict[int, Watch] = field(default_factory=dict)  # by market, where the drawdown trigger watches its fund
    # by domain (account, asset, market): when it is due, and the command in which it went to rest (WAKE-001)
    resting: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    cooling: dict[tuple[int, int, int], int] = field(default_factory=dict)  # until when (WAKE-002)
    unwind_due_ns: list[int] = field(default_factory=list)  # by market: when the house's next step is due, 0: none
    entries: list[list[int]] = field(default_factory=list)  # by market settled at the mark: accounts as they entered
    owed: set[int] = field(default_factory=set)  # markets to be settled before the next trigger round
    settled: set[int] = field(default_factory=set)  # assets of markets settled in the command being applied
    allocation: OwnRule | None = None  # instead of the markets' own (OWN-003)

    def rules(self, market: int) -> MarketRules:
        """Return the rules of a market."""
        return self.setup.markets[market]

    def position(self, account: int, market: int) -> Position:
        """Return a position, made on first use with the market's default leverage and mode.

        The outside and the house are never margined, so they have no isolated positions, whatever the default; nor has
        an account in portfolio mode.
        """
        if (account, market) not in self.positions:
            rules = self.rules(market)
            is_cross = account <= EXTERNAL or self.wallet(account, rules.asset).is_portfolio
            mode = CROSS if is_cross else rules.margin_mode
            self.positions[account, market] = Position(rules.leverage_ppm, mode)
        return self.positions[account, market]

    def wallet(self, account: int, asset: int) -> Wallet:
        """Return a wallet, made on first use in the mode accounts start in."""
        if (account, asset) not in self.wallets:
            self.wallets[account, asset] = Wallet(is_portfolio=self.setup.starts_as_portfolio(asset))
        return self.wallets[account, asset]

    def list_owned(self, account: int) -> list[tuple[int, Position]]:
        """Return (market, position) of an account, open or not, ascending by market."""
        owned = ((market, self.positions.get((account, market))) for market in range(len(self.setup.markets)))
        return [(market, position) for market, position in owned if position is not None]

    def list_accounts(self) -> list[int]:
        """Return all accounts but the outside and the house, ascending."""
        known = {account for account, _ in self.positions} | {account for account, _ in self.wallets}
        return sorted(known - {EXTERNAL, HOUSE})


def open_state(setup: Setup) -> State:
    """Return the state before the first command; marks start at `initial_mark` (STEP-002)."""
    return State(
        setup=setup,
        marks=[rules.initial_mark_tick for rules in setup.markets],
        indexes=[0 for _ in setup.markets],
        lasts=[0 for _ in setup.markets],
        books=[Book() for _ in setup.markets],
        funds=[Fund() for _ in setup.funds],
        assets=[Asset() for _ in setup.assets],
        tables=[0 for _ in setup.markets],
        previous_marks=[0 for _ in setup.markets],
        watches={
            market: Watch(rules.adl_drawdown_ppm, rules.adl_release_ppm, rules.adl_bucket_ns)
            for market, rules in enumerate(setup.markets)
            if rules.adl_trigger == TRIGGER_DRAWDOWN
        },
        averages=[Average() for _ in setup.markets],
        unwind_due_ns=[0 for _ in setup.markets],
        entries=[[] for _ in setup.markets],
    )


def emit(state: State, kind: int, **fields: int) -> Event:
    """Record an event with the sequence number and time of its cause; fields not named are 0.

    Source: EVT-001.
    """
    event = Event(seq=state.seq, ts_ns=state.event_ts_ns, kind=kind, **fields)
    state.events.append(event)
    return event


def compute_value(state: State, market: int, price_tick: int, qty_lot: int) -> int:
    """Return what a signed quantity is worth at a price: of a linear market exact, and signed as the quantity.

    An inverse market's value has the other sign and is rounded half-even to a unit.  Without a price it is 0.

    Source: NUM-002, INV-001.
    """
    rules = state.rules(market)
    if rules.kind == LINEAR or price_tick == 0:
        return price_tick * qty_lot * rules.multiplier
    return round(Fraction(-qty_lot * rules.multiplier, price_tick))


def compute_notional(state: State, market: int, price_tick: int, qty_lot: int) -> int:
    """Return the size of a value, whatever its sign: what fees, requirements and tiers go by.

    Source: NUM-002, INV-004.
    """
    return abs(compute_value(state, market, price_tick, qty_lot))


def sign(number: int) -> int:
    """Return 1, -1 or 0."""
    return (number > 0) - (number < 0)


def count_open_interest(state: State, market: int) -> int:
    """Return the sum of the long quantities of a market.

    Source: NUM-006.
    """
    return sum(max(p.qty_lot, 0) for (_, where), p in state.positions.items() if where == market)


def compute_fee(value_quote: int, rate_ppm: int) -> int:
    """Return a fill's fee, rounded up; a rebate is negative and so rounded towards zero.

    Source: POS-005, NUM-004.
    """
    return -(-abs(value_quote) * rate_ppm // PPM)


def touch_cross(state: State, account: int, asset: int) -> None:
    """Let the cross domain be called again: its wallet or positions changed otherwise than by the mark.

    Source: STEP-005.
    """
    state.wallet(account, asset).is_called = False


def touch_position(state: State, account: int, market: int) -> None:
    """Let the domain of a position be called again, and the cross domain, whose wallet moves with every fill.

    Source: STEP-005.
    """
    state.position(account, market).is_called = False
    touch_cross(state, account, state.rules(market).asset)


def is_cash(state: State, market: int) -> bool:
    """Return whether a market is settled in cash at each mark.

    Source: CASH-001.
    """
    return state.rules(market).settlement == SETTLED_AT_MARK


def enter_market(state: State, account: int, market: int) -> None:
    """Give an account its place among those of a market settled at the mark, if it has none yet.

    Source: CASH-002.
    """
    if is_cash(state, market) and account not in state.entries[market]:
        state.entries[market].append(account)


def book_variation(state: State, account: int, market: int, side: int, qty_lot: int, value_quote: int) -> None:
    """Book quantity and cost of a trade in a market settled at the mark; cash comes with the settlement.

    Raises
    ------
    InvariantError
        When the cost leaves the range a settlement can add up (NUM-006).

    Source: CASH-003.
    """
    position = state.position(account, market)
    before = sign(position.qty_lot)
    position.qty_lot += side * qty_lot
    position.cost_quote += value_quote
    if sign(position.qty_lot) not in (0, before):
        position.opened_seq = state.seq
    if abs(position.cost_quote) > SATURATED // 2:  # so that a settlement can add them up
        raise InvariantError(f"command {state.seq}: a cost is beyond 2**61")


def split_cost(position: Position, qty_lot: int) -> int:
    """Return the part of the cost that belongs to closing `qty_lot` lots, floored.

    Source: POS-001.
    """
    return position.cost_quote * qty_lot // abs(position.qty_lot)


def close_part(state: State, account: int, market: int, qty_lot: int, value_quote: int) -> int:
    """Close `qty_lot` lots of a position for `value_quote` (signed as the position) and return what it realised.

    Source: POS-001, POS-002, POS-003.
    """
    position = state.position(account, market)
    wallet = state.wallet(account, state.rules(market).asset)
    cost = split_cost(position, qty_lot)
    realised = value_quote - cost
    if position.mode == ISOLATED:
        released = position.margin_quote * qty_lot // abs(position.qty_lot)
        if realised + released >= 0:
            wallet.balance_quote += realised + released
            position.margin_quote -= released
        else:
            position.margin_quote += realised
    else:
        wallet.balance_quote += realised
    position.cost_quote -= cost
    position.qty_lot -= sign(position.qty_lot) * qty_lot
    settle_flat(state, account, market)
    touch_position(state, account, market)
    wallet.last_market = market
    return realised


def settle_flat(state: State, account: int, market: int) -> None:
    """Move what margin a flat position still has, of either sign, to the wallet.

    Source: POS-003.
    """
    position = state.position(account, market)
    if position.qty_lot == 0:
        state.wallet(account, state.rules(market).asset).balance_quote += position.margin_quote
        position.margin_quote = 0


def select_tier(state: State, market: int, notional_quote: int) -> tuple[int, int, int, int]:
    """Return the tier of a notional: the last of the table in force whose floor it reaches.

    Source: MARGIN-002, TIER-002.
    """
    in_force = state.rules(market).tables[state.tables[market]]
    return [tier for tier in in_force if tier[0] <= notional_quote][-1]


def compute_initial_rate(state: State, account: int, market: int, notional_quote: int) -> int:
    """Return the initial margin rate of a notional: the larger of the account's and the tier's.

    Source: MARGIN-003.
    """
    return max(state.position(account, market).leverage_ppm, select_tier(state, market, notional_quote)[1])


def open_part(state: State, account: int, market: int, side: int, qty_lot: int, value_quote: int) -> None:
    """Add `qty_lot` lots for a signed value; an isolated position takes its margin from the wallet, as far as it goes.

    Source: POS-001, POS-004.
    """
    position = state.position(account, market)
    wallet = state.wallet(account, state.rules(market).asset)
    if position.qty_lot == 0:
        position.opened_seq = state.seq
    position.qty_lot += side * qty_lot
    position.cost_quote += value_quote
    if position.mode == ISOLATED:
        notional = compute_notional(state, market, state.marks[market], position.qty_lot)
        rate = compute_initial_rate(state, account, market, notional)
        need = -(-abs(value_quote) * rate // PPM)
        moved = min(need, max(wallet.balance_quote, 0))
        wallet.balance_quote -= moved
        position.margin_quote += moved
    touch_position(state, account, market)
    wallet.last_market = market


def charge_fee(state: State, account: int, market: int, fee_quote: int) -> None:
    """Move a fee (or a rebate, negative) between the wallet and the asset's fee account.

    Source: POS-005.
    """
    asset = state.rules(market).asset
    state.wallet(account, asset).balance_quote -= fee_quote
    state.assets[asset].fees_quote += fee_quote


def apply_fill(
    state: State, account: int, market: int, side: int, qty_lot: int, price_tick: int, fee_ppm: int
) -> tuple[int, int]:
    """Book one side of a fill: the fee first, then what it closes, then what it opens.

    The fill has one value.  What closes gets its part of it, floored; what opens gets the rest.

    Returns
    -------
    tuple of int
        The fee, and the change of the isolated margin.

    Source: POS-001, POS-004, POS-005, OUT-001, INV-003, CASH-003.
    """
    position = state.position(account, market)
    margin_before = position.margin_quote
    fee = 0
    value = compute_value(state, market, price_tick, side * qty_lot)
    if account != EXTERNAL:
        fee = compute_fee(value, fee_ppm)
        charge_fee(state, account, market, fee)
    if is_cash(state, market):
        book_variation(state, account, market, side, qty_lot, value)
        touch_position(state, account, market)
        state.wallet(account, state.rules(market).asset).last_market = market
        return fee, 0
    closed = min(qty_lot, count_reducible(state, account, market, side))
    worth = -value * closed // qty_lot
    if closed:
        close_part(state, account, market, closed, worth)
    if qty_lot > closed:
        open_part(state, account, market, side, qty_lot - closed, value + worth)
    return fee, position.margin_quote - margin_before


def count_reducible(state: State, account: int, market: int, side: int) -> int:
    """Return how many lots an order of `side` could take off the account's position.

    Source: MATCH-008.
    """
    held = state.positions.get((account, market))
    return abs(held.qty_lot) if held is not None and held.qty_lot * side < 0 else 0


def find_funding_price(state: State, market: int) -> int:
    """Return the price that positions are valued at when they pay funding, 0 where it is not known yet.

    Source: FUND-016.
    """
    pays_on_index = state.rules(market).funding_pay_on == PAY_ON_INDEX
    return state.indexes[market] if pays_on_index else state.marks[market]


def roll_watches(state: State) -> None:
    """Bring every watched fund to the time of the command.

    Source: ADL-021.
    """
    for market, watch in state.watches.items():
        watch.roll(state.event_ts_ns, state.funds[state.rules(market).fund].balance_quote)


def note_fund(state: State, fund_index: int) -> None:
    """Have all who watch a fund note its new balance.

    Source: ADL-020, ADL-021.
    """
    for market, watch in state.watches.items():
        if state.rules(market).fund == fund_index:
            watch.note(state.funds[fund_index].balance_quote)


def raise_fund(state: State, fund_index: int, amount_quote: int) -> None:
    """Add to a fund's balance."""
    roll_watches(state)
    fund = state.funds[fund_index]
    fund.balance_quote += amount_quote
    if not fund.has_paid:
        fund.low_quote = fund.balance_quote
    note_fund(state, fund_index)


def credit_fund(state: State, account: int, market: int, amount_quote: int, fee_quote: int) -> None:
    """Give a liquidation's surplus to the market's fund; `fee_quote` of it is named the liquidation fee.

    Source: LIQ-006.
    """
    if amount_quote == 0:
        return
    index = state.rules(market).fund
    raise_fund(state, index, amount_quote)
    emit(
        state,
        FUND_CREDIT,
        account=account,
        other=index,
        market=market,
        amount_quote=amount_quote,
        other_amount_quote=fee_quote,
    )


def debit_fund(state: State, account: int, market: int, wanted_quote: int, deficit_id: int) -> int:
    """Let the market's fund pay for a deficit as far as it goes, and return what it paid.

    Source: LIQ-007, LIQ-009, FUND-002.
    """
    index = state.rules(market).fund
    fund = state.funds[index]
    paid = min(wanted_quote, fund.balance_quote)
    if paid == 0:
        return 0
    fund.balance_quote -= paid
    fund.low_quote = min(fund.low_quote, fund.balance_quote)
    fund.has_paid = True
    note_fund(state, index)
    emit(state, FUND_DEBIT, account=account, other=index, market=market, amount_quote=paid, order_id=deficit_id)
    return paid
