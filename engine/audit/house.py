"""The house and settlement in cash, followed event by event (HOUSE-001..HOUSE-008, CASH-001..CASH-004)."""

from typing import Any

from engine.audit.books import Domain, Holding, ceil_div
from engine.audit.fundings import Fundings
from engine.audit.payers import Deficit
from engine.codes import (
    BACKSTOP_ADL,
    BACKSTOP_VAULT,
    DEFICIT,
    EXTERNAL,
    FUND_CREDIT,
    FUND_DEBIT,
    HOUSE,
    MARK_MOVED,
    PPM,
    TAKEN_AT_MARK,
    VARIATION,
)
from engine.contract import Setup
from engine.errors import InvariantError

Planned = tuple[int, dict[str, int]]  # an event that must come next, and its fields
Flow = tuple[int, int, int, int, int]  # market, gain of the house, side, price and quantity of what brought it


class HouseBooks(Fundings):
    """What the house holds and the fund pays for it, and what each settlement has to move."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._plan: list[Planned | Flow | Deficit] = []
        self._moved: set[int] = set()  # markets settled at the mark whose mark moved just now

    # ------------------------------------------------------------ what must come next

    def _unroll(self) -> None:
        """Turn what stands first in the plan into events, as far as no deficit is open (HOUSE-003)."""
        while self._deficit is None and self._plan:
            first = self._plan[0]
            if isinstance(first, Deficit):
                self._deficit = first
                del self._plan[0]
            elif len(first) == 5:
                self._plan[:1] = self._plan_flow(*first)
            else:
                return

    def _plan_flow(self, market: int, flow: int, side: int, price: int, qty: int) -> list[Planned | Flow | Deficit]:
        """Return what follows from a gain or loss of the house."""
        fund = self._rules(market).fund
        fields = {"account": HOUSE, "market": market, "other": fund}
        if flow > 0:
            return [(FUND_CREDIT, fields | {"amount_quote": flow, "other_amount_quote": 0})]
        paid = min(-flow, self.funds[fund])
        steps: list[Planned | Flow | Deficit] = []
        if paid:
            steps.append((FUND_DEBIT, fields | {"amount_quote": paid, "order_id": 0}))
        if -flow > paid:
            origin = Domain(HOUSE, self._rules(market).asset, -1)
            steps.append(Deficit(self.deficit_id + 1, market, side, price, qty, -flow - paid, 0, 0, origin=origin))
        return steps

    def _take_planned(self, event: Any) -> bool:
        """Return whether the event is one that had to come now, after booking it."""
        self._unroll()
        if self._deficit is not None:
            return False
        if not self._plan:
            if event.kind not in (MARK_MOVED, VARIATION):
                self._check_settled()
            return False
        kind, fields = self._plan.pop(0)  # type: ignore[misc]
        self._check(event, "kind", event.kind, kind)
        for name, expected in fields.items():
            self._check(event, name, getattr(event, name), expected)
        self._book_planned(event)
        return True

    def _book_planned(self, event: Any) -> None:
        if event.kind == FUND_CREDIT:
            self._raise_fund(event.other, event.amount_quote)
        elif event.kind == FUND_DEBIT:
            self._lower_fund(event.other, event.amount_quote)
        elif event.kind == DEFICIT:
            self.sums[self._rules(event.market).asset].insolvency -= event.other_margin_quote
            self.deficit_id = event.order_id
        else:
            self._holding(event.account, event.market).cost += event.amount_quote
            if event.account != HOUSE:
                self._pay(event.account, event.market, event.other_amount_quote)

    def _end_plan(self) -> None:
        """Refuse a command that ends before what had to come."""
        self._unroll()
        if self._plan:
            raise InvariantError(f"command {self.seq}: it ended before what the house or a settlement had to pay")
        self._check_settled()

    # ------------------------------------------------------------ the house

    def _hold(self, market: int, side: int, qty: int, value: int) -> int:
        """Add to the house's position at a value, and return what closing realised (HOUSE-002)."""
        holding = self._holding(HOUSE, market)
        before, realised = holding.qty, 0
        if self._is_cash(market):
            self._book_cash(HOUSE, market, side, qty, value)
            return 0
        closed = min(qty, abs(before)) if before * side < 0 else 0
        part = value * closed // qty
        if closed:
            cost = holding.cost * closed // abs(before)
            realised = -part - cost
            holding.cost -= cost
            holding.qty += side * closed
        if closed < qty:
            if holding.qty == 0:
                holding.opened_seq = self.seq
            holding.qty += side * (qty - closed)
            holding.cost += value - part
        return realised

    def _count_house(self, fund: int, market: int, qty: int) -> int:
        """Return the notional of the house's positions of a fund, with `qty` more in a market (HOUSE-006)."""
        total = 0
        for other, rules in enumerate(self.setup.markets):
            if rules.fund == fund:
                held = self._holding(HOUSE, other).qty + (qty if other == market else 0)
                total += abs(self._value(other, self.marks[other], held))
        return total

    def _is_for_vault(self, domain: Domain) -> bool:
        """Return whether a vault takes the domain as a whole (HOUSE-005)."""
        markets = self._open_markets(domain)
        if not markets or any(self._rules(market).backstop != BACKSTOP_VAULT for market in markets):
            return False
        if domain.market < 0 and self._is_portfolio(domain.account, domain.asset):
            least = min(self._rules(market).vault_below_ppm for market in markets)
            return self._equity(domain) < ceil_div(self._maintenance(domain) * least, PPM)
        parts = (self._need(domain.account, market) * self._rules(market).vault_below_ppm for market in markets)
        return self._equity(domain) < sum(ceil_div(part, PPM) for part in parts)

    def _liquidation_started(self, event: Any) -> None:
        super()._liquidation_started(event)
        assert self._liquidation is not None
        self._liquidation.is_whole = self._is_for_vault(self._liquidation.domain)

    def _takeover(self, event: Any) -> None:
        if event.other != HOUSE:
            self._check(event, "other_amount_quote", event.other_amount_quote, 0)
            super()._takeover(event)
            return
        closing, market, mark = self._current(event), event.market, self.marks[event.market]
        rules = self._rules(market)
        assert self._liquidation is not None
        self._expect(event, "backstop", rules.backstop, 1, rules.backstop != BACKSTOP_ADL)
        if rules.backstop == BACKSTOP_VAULT:
            held = abs(self._holding(event.account, market).qty)
            is_first = self._liquidation.is_whole and held == closing.left == closing.whole
            self._expect(event, "qty_lot taken before the book is touched", event.qty_lot, held, is_first)
        self._check(event, "qty_lot", event.qty_lot, closing.left)
        before, after = (self._count_house(rules.fund, market, n * closing.sign) for n in (0, event.qty_lot))
        most = self.funds[rules.fund] * rules.carry_ppm // PPM
        self._expect(event, "notional", after, most, rules.carry_ppm == 0 or after <= max(most, before))
        owed = closing.value
        value = owed
        if rules.takeover_price == TAKEN_AT_MARK:
            value = self._value(market, mark, closing.sign * event.qty_lot)
        for name, expected in (
            ("price_tick", mark),
            ("amount_quote", max(0, owed - value)),
            ("other_amount_quote", value),
            ("bankruptcy_tick", closing.tick),
            ("margin_quote", self._take_share(event, closing, owed)),
            ("order_id", self.deficit_id + 1 if value < owed else 0),
        ):
            self._check(event, name, getattr(event, name), expected)
        if value > owed:
            fields = {"account": event.account, "market": market, "other": rules.fund}
            self._plan.append((FUND_CREDIT, fields | {"amount_quote": value - owed, "other_amount_quote": 0}))
        if value < owed:
            by_fund = min(owed - value, self.funds[rules.fund])
            deficit = (event.order_id, market, event.side, mark, event.qty_lot, owed - value, by_fund, 0)
            self._plan.append(Deficit(*deficit))
        realised = self._hold(market, closing.sign, event.qty_lot, value)
        self._plan.append((market, realised, event.side, mark, event.qty_lot))

    def _trade_of_house(self, event: Any) -> None:
        """Check a trade with which the house unwinds (HOUSE-008)."""
        market, side, qty, rules = event.market, event.side, event.qty_lot, self._rules(event.market)
        held = self._holding(HOUSE, market).qty
        self._expect(event, "unwind", rules.unwind, 1, rules.unwind != 0)
        self._expect(event, "position of the house", held, -side * qty, held * -side >= qty)
        value = self._value(market, event.price_tick, side * qty)
        realised = self._hold(market, side, qty, value)
        maker = self._fill(event.other, market, -side, qty, event.price_tick, rules.maker_fee_ppm)
        fee = min(ceil_div(abs(value) * rules.closeout_fee_ppm, PPM), max(0, self.funds[rules.fund] + realised))
        for name, expected in (
            ("mark_tick", self.marks[market]),
            ("order_id", 0),
            ("fee_quote", fee),
            ("margin_quote", 0),
            ("other_fee_quote", maker[0]),
            ("other_margin_quote", maker[1]),
        ):
            self._check(event, name, getattr(event, name), expected)
        self.sums[rules.asset].fees += fee
        self._plan.append((market, realised - fee, side, event.price_tick, qty))

    def _book_payment(self, event: Any, holding: Holding) -> None:
        """Book a funding payment, the house's with its fund (HOUSE-003)."""
        if event.account != HOUSE:
            super()._book_payment(event, holding)
            return
        self.sums[self._rules(event.market).asset].rounding -= event.amount_quote
        self._plan.append((event.market, event.amount_quote, 0, 0, 0))

    # ------------------------------------------------------------ settlement

    def _check_settled(self) -> None:
        """Refuse a mark of a market settled at the mark after which anything is still to be paid (CASH-001)."""
        for market in self._moved:
            for account in (EXTERNAL, *self.entries[market], HOUSE):
                if self._gain(account, market):
                    symbol = self._rules(market).symbol
                    raise InvariantError(f"command {self.seq}: {symbol} was not settled at its mark: {account}")
        self._moved.clear()

    def _variation(self, event: Any) -> None:
        """Plan the settlement of which this is the first event, then read it as that (CASH-004)."""
        self._expect(event, "settlement of the market", 0, 1, self._is_cash(event.market))
        self._plan_settlement(event.market)
        self._expect(event, "variation", event.amount_quote, 0, bool(self._plan))
        self._take_planned(event)
        self._moved.discard(event.market)

    def _plan_settlement(self, market: int) -> None:
        """Write down every payment of a settlement: the outside, the losers, the winners, what was not paid."""
        rules = self._rules(market)
        due = {account: self._gain(account, market) for account in (*self.entries[market], HOUSE)}
        outside = self._gain(EXTERNAL, market)
        if outside:
            self._plan_variation(EXTERNAL, market, outside, outside)
        fund = self.funds[rules.fund]
        lacking: list[tuple[int, int, int, int]] = []
        for account, change in due.items():
            if change >= 0:
                continue
            have = fund if account == HOUSE else max(0, self.wallets.get((account, rules.asset), 0))
            paid = min(-change, have)
            short = -change - paid
            number = self.deficit_id + len(lacking) + 1 if short else 0
            self._plan_variation(account, market, change, -paid, number)
            from_fund = paid if account == HOUSE else min(short, fund)
            fund -= from_fund
            if from_fund:
                fields = {"account": account, "market": market, "other": rules.fund, "amount_quote": from_fund}
                self._plan.append((FUND_DEBIT, fields | {"order_id": 0 if account == HOUSE else number}))
            if short:
                lacking.append((account, number, short, 0 if account == HOUSE else from_fund))
        lack = sum(short - by_fund for *_, short, by_fund in lacking)
        self._plan_gains(market, {account: change for account, change in due.items() if change > 0}, lack)
        left = sum(change for change in due.values() if change > 0)
        for account, number, short, by_fund in lacking:
            by_haircut = min(short - by_fund, left)
            left -= by_haircut
            fields = {"account": account, "market": market, "order_id": number, "price_tick": self.marks[market]}
            fields |= {"side": 0, "qty_lot": 0, "fee_quote": 0, "other_fee_quote": 0, "amount_quote": short}
            fields |= {"other_amount_quote": by_fund, "margin_quote": by_haircut}
            self._plan.append((DEFICIT, fields | {"other_margin_quote": short - by_fund - by_haircut}))

    def _plan_gains(self, market: int, gains: dict[int, int], lack: int) -> None:
        """Write down what each winner gets: all of it, or its floored part, the last one what is left."""
        total = sum(gains.values())
        kept = max(0, total - lack)
        parts = {account: gain * kept // total for account, gain in gains.items()} if lack else dict(gains)
        if lack and parts:
            last = list(parts)[-1]
            parts[last] += kept - sum(parts.values())
        for account, part in parts.items():
            self._plan_variation(account, market, gains[account], part)
            if account == HOUSE and part:
                fields = {"account": HOUSE, "market": market, "other": self._rules(market).fund}
                self._plan.append((FUND_CREDIT, fields | {"amount_quote": part, "other_amount_quote": 0}))

    def _plan_variation(self, account: int, market: int, change: int, booked: int, number: int = 0) -> None:
        fields = {"account": account, "market": market, "qty_lot": self._holding(account, market).qty}
        fields |= {"mark_tick": self.marks[market], "amount_quote": change, "other_amount_quote": booked}
        self._plan.append((VARIATION, fields | {"order_id": number}))

    def _note_moved(self, market: int) -> None:
        """Note that a settlement must follow, where the mark settles (CASH-001)."""
        if self._is_cash(market):
            self._moved.add(market)
