"""Liquidations and auto-deleveraging, followed event by event (LIQ-001..LIQ-011, ADL-001..ADL-008)."""

from typing import Any

from engine.audit.books import Domain, ceil_div, sign_of
from engine.audit.payers import Closing, Deficit, Liquidation, Payers, due_fee
from engine.codes import EVENT_NAMES, EXTERNAL, ISOLATED, PPM, PRICE_MAX_LIMIT
from engine.contract import Setup
from engine.errors import InvariantError


class Closings(Payers):
    """The one liquidation that can be open at a time; reads the events of it."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._notice: tuple[int, int, int] | None = None  # victim, market and side of an adl_notice still to come

    def _named_domain(self, event: Any) -> Domain:
        """Return the domain a liquidation or call names, after checking that it is one."""
        if event.market >= 0:
            self._check(event, "margin mode", self._holding(event.account, event.market).mode, ISOLATED)
            self._check(event, "asset", event.other, self._rules(event.market).asset)
        return Domain(event.account, event.other, event.market)

    def _margin_call(self, event: Any) -> None:
        """Check that a called domain is between its maintenance and its call level (STEP-005)."""
        domain = self._named_domain(event)
        equity, maintenance = self._equity(domain), self._maintenance(domain)
        self._check(event, "amount_quote", event.amount_quote, equity)
        self._check(event, "other_amount_quote", event.other_amount_quote, maintenance)
        call_ppm = next(rules.call_ppm for rules in self.setup.markets if rules.asset == domain.asset)
        level = ceil_div(maintenance * call_ppm, PPM)
        self._expect(event, "equity", equity, level, maintenance <= equity < level)

    def _liquidation_started(self, event: Any) -> None:
        """Check that the domain is liquidatable; a flat one opens the deficit of its wallet (MARGIN-004, LIQ-011)."""
        domain = self._named_domain(event)
        equity, maintenance = self._equity(domain), self._maintenance(domain)
        self._expect(event, "open liquidation", 1, 0, self._liquidation is None)
        self._check(event, "amount_quote", event.amount_quote, equity)
        self._check(event, "other_amount_quote", event.other_amount_quote, maintenance)
        self._expect(event, "equity", equity, maintenance, equity < maintenance)
        self._liquidation = Liquidation(domain)
        if not self._open_markets(domain):
            # Nothing else announces the deficit of a wallet: its id is the next one, its market the last fill's.
            market = self.last_markets.get((domain.account, domain.asset), -1)
            self._expect(event, "market of the last fill", market, 0, market >= 0)
            by_fund = min(-equity, self.funds[self._rules(market).fund])
            self._deficit = Deficit(self.deficit_id + 1, market, 0, 0, 0, -equity, by_fund, 0)
            self._pay(domain.account, market, -equity)

    def _current(self, event: Any) -> Closing:
        """Return the position being liquidated, started with this event if it is its first (LIQ-005, MARGIN-005)."""
        liquidation = self._liquidation
        if liquidation is None or liquidation.domain.account != event.account:
            raise InvariantError(f"command {event.seq}: {EVENT_NAMES[event.kind]} outside a liquidation of its account")
        domain = liquidation.domain
        if liquidation.closing is None or not liquidation.closing.left:
            open_markets = self._open_markets(domain)
            self._expect(event, "market", event.market, domain.market, event.market in open_markets)
            first = min(open_markets, key=lambda market: (-self._need(domain.account, market), market))
            self._check(event, "market, largest maintenance first", event.market, first)
            liquidation.closing = self._start_closing(domain, event.market, len(open_markets) == 1)
        closing = liquidation.closing
        self._check(event, "market", event.market, closing.market)
        self._check(event, "side", event.side, -closing.sign)
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        return closing

    def _start_closing(self, domain: Domain, market: int, is_only: bool) -> Closing:
        holding = self._holding(domain.account, market)
        share = self._equity(domain)
        if not is_only:
            share = share * self._need(domain.account, market) // self._maintenance(domain)
        value = self._value(market, self.marks[market], holding.qty) - share
        unit = holding.qty * self._rules(market).multiplier
        tick = ceil_div(value, unit) if holding.qty > 0 else value // unit
        shown, lots = max(0, min(PRICE_MAX_LIMIT, tick)), abs(holding.qty)
        return Closing(market, sign_of(holding.qty), lots, value, shown, whole=lots)

    def _take_share(self, event: Any, closing: Closing, received: int) -> int:
        """Close part of the bankrupt's position for `received`, and return the change of its isolated margin."""
        qty = event.qty_lot
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        holding = self._holding(event.account, closing.market)
        before, cost = holding.margin, holding.cost * qty // abs(holding.qty)
        closing.value -= closing.value * qty // closing.left
        closing.left -= qty
        holding.cost -= cost
        holding.qty -= closing.sign * qty
        if holding.mode == ISOLATED:
            holding.margin += received - cost
        else:
            self._pay(event.account, closing.market, received - cost)
        self._sweep(event.account, closing.market)
        assert self._liquidation is not None
        self._liquidation.closed += qty
        return holding.margin - before

    def _liquidation_fill(self, event: Any) -> None:
        """Check a fill of the walk against the share of the bankruptcy value (LIQ-005..LIQ-007)."""
        closing, rules, qty = self._current(event), self._rules(event.market), event.qty_lot
        liquidation = self._liquidation
        assert liquidation is not None
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        share = closing.value * qty // closing.left
        value = self._value(event.market, event.price_tick, qty)
        gain = closing.sign * value - share
        due = due_fee(value, rules.taker_fee_ppm)
        fee = min(due, max(0, gain))
        self._check(event, "fee_quote", event.fee_quote, fee)
        self._check(event, "amount_quote", event.amount_quote, gain - fee)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, share))
        self.sums[rules.asset].fees += fee
        named_due = due_fee(value, rules.liquidation_fee_ppm)
        named = min(named_due, max(0, gain - fee))
        liquidation.waived += due - fee + named_due - named
        maker = self._fill(event.other, event.market, -event.side, qty, event.price_tick, rules.maker_fee_ppm)
        self._check(event, "other_fee_quote", event.other_fee_quote, maker[0])
        self._check(event, "other_margin_quote", event.other_margin_quote, maker[1])
        if gain - fee > 0:
            liquidation.credit = (event.market, gain - fee, named)
        self._announce(event, max(0, -gain), event.price_tick, by_fund=max(0, -gain))

    def _adl_started(self, event: Any) -> None:
        closing = self._current(event)
        self._check(event, "qty_lot", event.qty_lot, closing.left)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        closing.queue_count = event.count

    def _adl_fill(self, event: Any) -> None:
        """Check a close against a victim: both book the share of the bankruptcy value (ADL-005..ADL-007)."""
        closing, qty, victim = self._current(event), event.qty_lot, event.other
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        self._check(event, "count", event.count, closing.queue_count)
        self._expect(event, "rank", event.rank, closing.rank + 1, closing.rank < event.rank <= event.count)
        closing.rank = event.rank
        share = closing.value * qty // closing.left
        at_mark = closing.sign * self._value(event.market, self.marks[event.market], qty)
        left_over = self._equity(self._domain(victim, event.market)) + at_mark - share
        self._expect(event, "victim's equity afterwards", left_over, 0, left_over >= 0)
        self._check(event, "amount_quote", event.amount_quote, share)
        self._check(event, "price_tick", event.price_tick, closing.tick)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        self._check(event, "fee_quote", event.fee_quote, 0)
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, share))
        holding = self._holding(victim, event.market)
        self._expect(event, "victim's position", holding.qty, qty, holding.qty * closing.sign <= -qty)
        before = holding.margin
        realised = self._close(victim, event.market, qty, -share)
        self._check(event, "other_amount_quote", event.other_amount_quote, realised)
        self._check(event, "other_margin_quote", event.other_margin_quote, holding.margin - before)
        self._charge_deleveraged(event, abs(share), left_over)
        given_up = max(0, share - at_mark)
        self._announce(event, given_up, closing.tick, by_adl=given_up)
        self._notice = (victim, event.market, -closing.sign)

    def _charge_deleveraged(self, event: Any, value: int, equity: int) -> None:
        """Book the victim's fee after its close, as far as it can pay; the bankrupt's is waived (ADL-007)."""
        rules = self._rules(event.market)
        due, own_due = (
            due_fee(value, ppm) if rules.adl_fees else 0 for ppm in (rules.maker_fee_ppm, rules.taker_fee_ppm)
        )
        fee = min(due, equity)
        if self._holding(event.other, event.market).mode == ISOLATED:
            fee = min(fee, max(0, self.wallets.get((event.other, rules.asset), 0)))
        self._check(event, "other_fee_quote", event.other_fee_quote, fee)
        self._pay(event.other, event.market, -fee)
        self.sums[rules.asset].fees += fee
        assert self._liquidation is not None
        self._liquidation.waived += due - fee + own_due

    def _adl_notice(self, event: Any) -> None:
        assert self._liquidation is not None
        bankrupt = self._liquidation.domain.account
        victim, market, side = self._notice or (-1, -1, 0)
        self._check(event, "account", event.account, victim)
        self._check(event, "market", event.market, market)
        self._check(event, "side", event.side, side)
        self._check(event, "other", event.other, bankrupt)
        self._check(event, "qty_lot", event.qty_lot, abs(self._holding(victim, market).qty))
        self._notice = None

    def _takeover(self, event: Any) -> None:
        """Check what the outside took at the mark (LIQ-009)."""
        closing = self._current(event)
        mark = self.marks[event.market]
        value = closing.sign * self._value(event.market, mark, event.qty_lot)
        amount = max(0, closing.value - value)
        self._check(event, "qty_lot", event.qty_lot, closing.left)
        self._check(event, "other", event.other, EXTERNAL)
        self._check(event, "price_tick", event.price_tick, mark)
        self._check(event, "amount_quote", event.amount_quote, amount)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, value + amount))
        self._fill(EXTERNAL, event.market, closing.sign, event.qty_lot, mark, 0)
        fund = self.funds[self._rules(event.market).fund]
        self._announce(event, amount, mark, by_fund=min(amount, fund))

    def _liquidation_ended(self, event: Any) -> None:
        liquidation = self._liquidation
        if liquidation is None or tuple(liquidation.domain) != (event.account, event.other, event.market):
            raise InvariantError(f"command {event.seq}: the liquidation that ended is not the one that started")
        self._check(event, "amount_quote", event.amount_quote, self._equity(liquidation.domain))
        self._check(event, "other_amount_quote", event.other_amount_quote, self._maintenance(liquidation.domain))
        self._check(event, "qty_lot", event.qty_lot, liquidation.closed)
        self._check(event, "fee_quote", event.fee_quote, liquidation.waived)
        self._check(event, "lots left open", liquidation.closing.left if liquidation.closing else 0, 0)
        self.sums[liquidation.domain.asset].waived += event.fee_quote
        self._liquidation = None
