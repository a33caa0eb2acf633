"""The specification that runs: an exchange in the plainest Python, and the oracle of the compiled one.

It recomputes everything from scratch and scans every account at every trigger round; never use it where speed matters.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine import codes
from engine.codes import (
    BUY,
    EXTERNAL,
    FUNDING,
    SATURATED,
    SELL,
)
from engine.contract import Setup
from engine.errors import InvariantError
from engine.reference.adl import rank_candidates
from engine.reference.book import Order
from engine.reference.commands import COMMANDS, Command, check_common
from engine.reference.ledger import (
    Asset,
    Event,
    Fund,
    Position,
    Wallet,
    count_open_interest,
    emit,
    open_state,
    pay_funding,
)
from engine.reference.margin import (
    Domain,
    compute_equity,
    compute_maintenance,
    domain_of,
    find_bankruptcy_price,
    find_liquidation_price,
)
from engine.reference.risk import follow_last, settle_triggers


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
        state.ts_ns = command.ts_ns
        follow_last(state)
        if command.kind == FUNDING:
            pay_funding(state, command.market, command.amount_quote)
        if state.events:  # whatever moves a mark or money says so; without a word nobody's standing has changed
            settle_triggers(state)
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

    # ------------------------------------------------------------ what can be seen

    def view(self) -> tuple[list[tuple[int, ...]], ...]:
        """Return the canonical state: clock, markets, orders, positions, wallets, funds, assets.

        Source: STATE-001.
        """
        state = self.state
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
        )

    def _view_positions(self) -> list[tuple[int, ...]]:
        """Return the rows of positions that are open or have settings of their own.

        Source: STATE-001.
        """
        rows: list[tuple[int, ...]] = []
        for (account, market), p in sorted(self.state.positions.items()):
            rules = self.state.rules(market)
            is_default = (p.leverage_ppm, p.mode) == (rules.leverage_ppm, rules.margin_mode) or account == EXTERNAL
            if p.qty_lot or not is_default:
                sums = (p.qty_lot, p.cost_quote, p.margin_quote, p.opened_seq)
                mode = rules.margin_mode if account == EXTERNAL else p.mode  # the outside has no mode of its own
                rows.append((account, market, *sums, p.leverage_ppm, mode, int(p.is_called)))
        return rows

    def adl_queue(self, market: int, side: int) -> list[tuple[int, int, int]]:
        """Return (account, score, signed quantity) of the positions of sign `side`, first to be deleveraged first.

        Source: ADL-002, ADL-003.
        """
        return [(c.account, c.score, c.qty_lot) for c in rank_candidates(self.state, market, side)]

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
        return made

    def copy(self) -> "ReferenceExchange":
        """Return an exchange that shares nothing with this one.

        Source: STATE-002.
        """
        return self.load_state(self.state.setup, self.save_state())
