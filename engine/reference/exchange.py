"""The specification that runs: an exchange in the plainest Python, and the oracle of the compiled one.

It recomputes everything from scratch and scans every account at every trigger round; never use it where speed matters.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine import codes
from engine.codes import (
    BUY,
    CROSS,
    EXTERNAL,
    PEAK_BUCKETS,
    PRICE_PREVIOUS,
    SATURATED,
    SELL,
    TRIGGER_DRAWDOWN,
    UNWIND_STEPPED,
)
from engine.contract import Setup, is_derived
from engine.errors import InvariantError
from engine.reference.adl import count_lights, rank_candidates
from engine.reference.book import Order
from engine.reference.cash import settle_marked
from engine.reference.checks import Command
from engine.reference.commands import COMMANDS, check_common
from engine.reference.funding import settle_funding
from engine.reference.ledger import (
    Asset,
    Average,
    Event,
    Fund,
    Position,
    Wallet,
    count_open_interest,
    emit,
    open_state,
    roll_watches,
)
from engine.reference.margin import (
    Domain,
    compute_equity,
    compute_maintenance,
    domain_of,
    find_bankruptcy_price,
    find_liquidation_price,
)
from engine.reference.marks import observe_markets, take_bases
from engine.reference.risk import follow_last, run_house, settle_triggers
from engine.reference.signs import count_signs
from engine.reference.wake import list_resting, wake_domains
from engine.reference.watch import Watch


class ReferenceExchange:
    """One exchange; `step` applies one command and returns its events.

    Source: STEP-001, CMD-001.
    """

    def __init__(self, setup: Setup) -> None:
        self.state = open_state(setup)

    # ------------------------------------------------------------ one step

    def step(self, command: Command) -> list[Event]:
        """Apply one command and return its events in order.

        Raises
        ------
        InvariantError
            When the trigger rounds do not settle or a balance leaves the proven range (STEP-004, NUM-006).

        Source: STEP-001, CMD-001, CMD-002.
        """
        state = self.state
        state.seq += 1
        state.event_ts_ns = command.ts_ns
        state.events = []
        seen = observe_markets(state, command.ts_ns)
        state.settled.clear()
        code = check_common(state, command)
        if code == 0:
            code = COMMANDS[command.kind](state, command)
        if code:
            emit(
                state,
                codes.REJECTED,
                code=code,
                rank=command.kind,
                account=command.account,
                market=command.market,
                order_id=command.order_id,
            )
            return state.events
        before_ns, state.ts_ns = state.ts_ns, command.ts_ns
        roll_watches(state)
        take_bases(state, seen, before_ns)
        follow_last(state)
        settle_marked(state)
        settle_funding(state, command, seen, before_ns)
        follow_last(state)
        settle_marked(state)
        # whatever moves a mark or money says so; without a word, or a settlement, nobody's standing has changed
        if wake_domains(state) or state.events or state.settled:
            settle_triggers(state)
        run_house(state)
        if state.events:
            self._check_balances()
        return state.events

    def _check_balances(self) -> None:
        """Stop the run when a balance is beyond what the compiled engine could hold.

        Source: NUM-006.
        """
        state = self.state
        balances = [wallet.balance_quote for wallet in state.wallets.values()]
        balances += [position.margin_quote for position in state.positions.values()]
        balances += [position.cost_quote for position in state.positions.values()]
        balances += [fund.balance_quote for fund in state.funds]
        for asset in state.assets:
            balances += list(asdict(asset).values())
        if any(abs(balance) > SATURATED for balance in balances):
            raise InvariantError(f"command {state.seq}: a balance is beyond 2**62")

    def change_rules(self, setup: Setup) -> None:
        """Go on by other rules, which differ from those in force only in what may change in flight.

        Who rests or cools by an old rule is looked at in the next command; a watch over a fund that is new, or has
        another window, begins with what the fund holds.

        Source: TWIN-001, TWIN-002, TWIN-003.
        """
        state = self.state
        pairs = list(zip(state.setup.markets, setup.markets, strict=True))
        state.setup = setup
        patience = [(rules.adl_gate, rules.cooldown_ns, rules.after_share) for pair in pairs for rules in pair]
        if patience[::2] != patience[1::2]:
            state.resting = {domain: (0, seq) for domain, (_, seq) in state.resting.items()}
            state.cooling = dict.fromkeys(state.cooling, 0)
        before, state.watches = state.watches, {}
        for market, (old, new) in enumerate(pairs):
            if new.unwind != UNWIND_STEPPED:
                state.unwind_due_ns[market] = 0
            if new.adl_trigger != TRIGGER_DRAWDOWN:
                continue
            balance = state.funds[new.fund].balance_quote
            watch = Watch(new.adl_drawdown_ppm, new.adl_release_ppm, new.adl_bucket_ns)
            if market in before and old.adl_bucket_ns == new.adl_bucket_ns:
                watch.bucket, watch.highest = before[market].bucket, before[market].highest
                watch.is_active = before[market].is_active
            else:
                watch.bucket = state.ts_ns // new.adl_bucket_ns
                watch.highest = {watch.bucket - age: balance for age in range(PEAK_BUCKETS)}
            watch.judge(balance)
            state.watches[market] = watch

    # ------------------------------------------------------------ what can be seen

    def view(self) -> tuple[list[tuple[int, ...]], ...]:
        """Return the canonical state: clock, markets, orders, positions, wallets, funds, assets, what policies keep.

        Source: STATE-001.
        """
        state = self.state
        starts = [state.setup.starts_as_portfolio(asset) for asset in range(len(state.assets))]
        markets = [
            (state.marks[market], state.indexes[market], state.lasts[market], count_open_interest(state, market), 0)
            for market in range(len(state.setup.markets))
        ]
        orders = [
            (o.market, o.side, o.price_tick, o.qty_lot, o.account, o.order_id, o.flags)
            for book in state.books
            for side in (BUY, SELL)
            for o in book.iterate(side)
        ]
        wallets = [
            (account, asset, wallet.balance_quote, int(wallet.is_called))
            for (account, asset), wallet in sorted(state.wallets.items())
            if wallet.balance_quote or wallet.is_called
        ]
        return (
            [(state.seq, state.ts_ns, state.deficit_id)],
            list(markets),
            list(orders),
            self._view_positions(),
            list(wallets),
            [(fund.balance_quote, fund.low_quote) for fund in state.funds],
            [tuple(asdict(asset).values()) for asset in state.assets],
            [(market, table) for market, table in enumerate(state.tables) if table],
            self._view_adl(),
            list_resting(state),
            self._view_averages(),
            [
                (account, asset, int(wallet.is_portfolio))
                for (account, asset), wallet in sorted(state.wallets.items())
                if wallet.is_portfolio != starts[asset]
            ],
            [(market, account) for market, entered in enumerate(state.entries) for account in entered],
            [(market, due_ns) for market, due_ns in enumerate(state.unwind_due_ns) if due_ns],
        )

    def _view_adl(self) -> list[tuple[int, ...]]:
        """Return the rows of markets whose policies of auto-deleveraging remember something.

        Source: STATE-001, ADL-017, ADL-021.
        """
        rows: list[tuple[int, ...]] = []
        for market, rules in enumerate(self.state.setup.markets):
            is_priced, watch = rules.adl_price == PRICE_PREVIOUS, self.state.watches.get(market)
            previous = self.state.previous_marks[market] if is_priced else 0
            if watch is not None:
                rows.append((market, previous, int(watch.is_active), watch.bucket, *watch.list_highest()))
            elif is_priced:
                rows.append((market, previous, 0, 0, *[0] * PEAK_BUCKETS))
        return rows

    def _view_averages(self) -> list[tuple[int, ...]]:
        """Return what derived marks and funding rates remember.

        Source: MARK-001, FUND-011.
        """
        rows: list[tuple[int, ...]] = []
        for market, average in enumerate(self.state.averages):
            if is_derived(self.state.rules(market)):
                samples = average.premiums
                weighted = sum(place * premium for place, premium in enumerate(samples, 1))
                numbers = [average.rate_ppb, len(samples), sum(samples), weighted]
                numbers += [average.ema_micro, average.ema_start_ppb, *average.bases]
                rows += [(market, place, number) for place, number in enumerate(numbers)]
        return rows

    def _view_positions(self) -> list[tuple[int, ...]]:
        """Return the rows of positions that are open or have settings of their own.

        Source: STATE-001.
        """
        rows: list[tuple[int, ...]] = []
        for (account, market), p in sorted(self.state.positions.items()):
            rules = self.state.rules(market)
            start_mode = CROSS if self.state.wallet(account, rules.asset).is_portfolio else rules.margin_mode
            is_default = (p.leverage_ppm, p.mode) == (rules.leverage_ppm, start_mode) or account <= EXTERNAL
            if p.qty_lot or p.cost_quote or not is_default:
                sums = (p.qty_lot, p.cost_quote, p.margin_quote, p.opened_seq)
                mode = rules.margin_mode if account <= EXTERNAL else p.mode  # the outside has no mode of its own
                rows.append((account, market, *sums, p.leverage_ppm, mode, int(p.is_called)))
        return rows

    def adl_queue(self, market: int, side: int) -> list[tuple[int, int, int]]:
        """Return (account, score, signed quantity) of the positions of sign `side`, first to be deleveraged first.

        Source: ADL-002, ADL-003.
        """
        return [(c.account, c.score, c.qty_lot) for c in rank_candidates(self.state, market, side)]

    def adl_lights(self, market: int, side: int) -> list[int]:
        """Return the lights of the positions of the queue, in its order.

        Source: ADL-009, ADL-028.
        """
        queue = rank_candidates(self.state, market, side)
        return count_lights(self.state.rules(market).lights, [abs(candidate.qty_lot) for candidate in queue])

    def adl_trigger(self, market: int) -> tuple[int, int, int]:
        """Return (whether the fund is kept from paying, its balance, its peak).

        Source: ADL-029.
        """
        balance = self.state.funds[self.state.rules(market).fund].balance_quote
        watch = self.state.watches.get(market)
        if watch is None:
            return int(balance <= 0), balance, balance
        return int(watch.is_active), balance, watch.peak_quote

    def liquidation_price(self, account: int, market: int) -> int:
        """Return the first mark at which the position's domain is liquidatable, 0 for none.

        Source: MARGIN-011.
        """
        return find_liquidation_price(self.state, account, market)

    def bankruptcy_price(self, account: int, market: int) -> int:
        """Return the bankruptcy price of a position, 0 where it is flat.

        Source: MARGIN-005.
        """
        return find_bankruptcy_price(self.state, account, market)

    def margin(self, account: int, market: int) -> tuple[int, int]:
        """Return (equity, maintenance) of the domain of a position, (0, 0) for the outside and for no account.

        Source: MARGIN-001.
        """
        state = self.state
        if account not in state.list_accounts():
            return 0, 0
        is_open = (account, market) in state.positions and state.position(account, market).qty_lot != 0
        domain = domain_of(state, account, market) if is_open else Domain(account, state.rules(market).asset, -1)
        return compute_equity(state, domain), compute_maintenance(state, domain)

    def count_signs(self, market: int) -> list[int]:
        """Return the numbers of a market's warning signs.

        Source: SIGN-002, SIGN-003, SIGN-004, SIGN-005.
        """
        return count_signs(self.state, market)

    # ------------------------------------------------------------ saved states

    def save_state(self) -> dict[str, Any]:
        """Return the whole state as plain lists and numbers.

        Source: STATE-002.
        """
        state = self.state
        return {
            "seq": state.seq,
            "ts_ns": state.ts_ns,
            "deficit_id": state.deficit_id,
            "priority": state.priority,
            "marks": list(state.marks),
            "indexes": list(state.indexes),
            "lasts": list(state.lasts),
            "orders": [asdict(o) for book in state.books for side in (BUY, SELL) for o in book.iterate(side)],
            "positions": [[*key, asdict(position)] for key, position in state.positions.items()],
            "wallets": [[*key, asdict(wallet)] for key, wallet in state.wallets.items()],
            "funds": [asdict(fund) for fund in state.funds],
            "assets": [asdict(asset) for asset in state.assets],
            "tables": list(state.tables),
            "previous_marks": list(state.previous_marks),
            "watches": [[market, asdict(watch)] for market, watch in state.watches.items()],
            "resting": [[*domain, *rest] for domain, rest in state.resting.items()],
            "cooling": [[*domain, due] for domain, due in state.cooling.items()],
            "averages": [asdict(average) for average in state.averages],
            "entries": [list(entered) for entered in state.entries],
            "unwind_due_ns": list(state.unwind_due_ns),
        }

    @classmethod
    def load_state(cls, setup: Setup, saved: Mapping[str, Any]) -> "ReferenceExchange":
        """Return an exchange that continues where `save_state` was called.

        Source: STATE-002.
        """
        made = cls(setup)
        state = made.state
        state.seq, state.ts_ns = saved["seq"], saved["ts_ns"]
        state.deficit_id, state.priority = saved["deficit_id"], saved["priority"]
        state.marks, state.indexes, state.lasts = list(saved["marks"]), list(saved["indexes"]), list(saved["lasts"])
        for fields in saved["orders"]:  # in matching order, so that appending restores every queue
            order = Order(**fields)
            state.books[order.market].append(order)
            if order.account != EXTERNAL:
                state.orders[order.order_id] = order
        state.positions = {(account, market): Position(**p) for account, market, p in saved["positions"]}
        state.wallets = {(account, asset): Wallet(**w) for account, asset, w in saved["wallets"]}
        state.funds = [Fund(**fund) for fund in saved["funds"]]
        state.assets = [Asset(**asset) for asset in saved["assets"]]
        state.tables = list(saved["tables"])
        state.previous_marks = list(saved["previous_marks"])
        for market, watch in saved["watches"]:
            highest = {int(bucket): balance for bucket, balance in watch["highest"].items()}  # JSON's keys are text
            state.watches[market] = Watch(**{**watch, "highest": highest})
        state.resting = {Domain(*row[:3]): (row[3], row[4]) for row in saved["resting"]}
        state.cooling = {Domain(*row[:3]): row[3] for row in saved["cooling"]}
        state.averages = [
            Average(**{**fields, "premiums": list(fields["premiums"]), "bases": list(fields["bases"])})
            for fields in saved["averages"]
        ]
        state.entries = [list(entered) for entered in saved["entries"]]
        state.unwind_due_ns = list(saved["unwind_due_ns"])
        return made

    def copy(self) -> "ReferenceExchange":
        """Return an exchange that shares nothing with this one.

        Source: STATE-002.
        """
        twin = self.load_state(self.state.setup, self.save_state())
        twin.state.allocation = self.state.allocation
        return twin
