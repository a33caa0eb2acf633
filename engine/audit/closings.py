"""Liquidations and auto-deleveraging, followed event by event (LIQ-001..LIQ-011, ADL-001..ADL-008)."""

from typing import Any

from engine.audit.books import Domain, ceil_div, sign_of
from engine.audit.payers import Closing, Deficit, Liquidation, due_fee
from engine.audit.stages import Stages
from engine.codes import (
    ALLOT_QUEUE,
    EVENT_NAMES,
    EXTERNAL,
    FUND_HELD,
    FUND_SHORT,
    ISOLATED,
    LINEAR,
    PPM,
    PRICE_BANKRUPTCY,
    PRICE_PREVIOUS,
    PRICE_WITHIN,
)
from engine.contract import Setup
from engine.errors import InvariantError


class Closings(Stages):
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
        self._check_awake(event, domain)
        equity, maintenance = self._equity(domain), self._maintenance(domain)
        self._check(event, "amount_quote", event.amount_quote, equity)
        self._check(event, "other_amount_quote", event.other_amount_quote, maintenance)
        call_ppm = next(rules.call_ppm for rules in self.setup.markets if rules.asset == domain.asset)
        level = ceil_div(maintenance * call_ppm, PPM)
        self._expect(event, "equity", equity, level, maintenance <= equity < level)

    def _liquidation_started(self, event: Any) -> None:
        """Check that the domain is liquidatable; a flat one opens the deficit of its wallet (MARGIN-004, LIQ-011)."""
        domain = self._named_domain(event)
        self._check_awake(event, domain)
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
        closing = liquidation.closing
        if closing is None or not closing.left or event.market != closing.market:
            self._turn_to(event)
            closing = liquidation.closing = self._start_closing(liquidation.domain, event.market)
        self._check(event, "market", event.market, closing.market)
        self._check(event, "side", event.side, -closing.sign)
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        return closing

    def _start_closing(self, domain: Domain, market: int) -> Closing:
        holding = self._holding(domain.account, market)
        value = self._value(market, self.marks[market], holding.qty) - self._share(domain, market)
        whole, is_whole = abs(holding.qty), self._liquidation is not None and self._liquidation.is_whole
        step = whole if is_whole else self._step(domain, market)
        tick = self._show(market, value, holding.qty)
        limit = self._limit(domain, market, tick)
        made = Closing(market, sign_of(holding.qty), step, value * step // whole, tick, limit, step < whole)
        made.whole = whole
        return made

    def _take_share(self, event: Any, closing: Closing, received: int) -> int:
        """Close part of the bankrupt's position for `received`, and return the change of its isolated margin."""
        qty = event.qty_lot
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        holding = self._holding(event.account, closing.market)
        before, cost = holding.margin, holding.cost * qty // abs(holding.qty)
        closing.value -= closing.value * qty // closing.left
        closing.left -= qty
        closing.filled += qty
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
        """Check a fill of the walk against its share of the bankruptcy value (LIQ-005..007, STAGE-005..008)."""
        closing, rules, qty = self._current(event), self._rules(event.market), event.qty_lot
        liquidation = self._liquidation
        assert liquidation is not None
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        share = closing.value * qty // closing.left
        value = self._value(event.market, event.price_tick, closing.sign * qty)
        gain = value - share
        room = 0 if self._is_fund_held(closing) else self.funds[rules.fund]
        self._expect(event, "what the fund may pay", room, -gain, -gain <= room)
        due = due_fee(abs(value), rules.taker_fee_ppm)
        fee = min(due, max(0, gain))
        self._check(event, "fee_quote", event.fee_quote, fee)
        self._check(event, "amount_quote", event.amount_quote, gain - fee)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        if closing.limit is not None:
            is_inside = (event.price_tick - closing.limit) * closing.sign >= 0
            self._expect(event, "price_tick", event.price_tick, closing.limit, is_inside)
        self._expect(event, "maker", event.other, EXTERNAL, event.other != event.account)
        surplus = max(0, gain - fee)
        to_fund = self._fund_part(event.market, abs(value), surplus)
        kept = surplus - to_fund
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, share + kept))
        self.sums[rules.asset].fees += fee
        named_due = due_fee(abs(value), rules.liquidation_fee_ppm)
        named = min(named_due, to_fund)
        liquidation.waived += due - fee + named_due - named
        maker = self._fill(event.other, event.market, -event.side, qty, event.price_tick, rules.maker_fee_ppm)
        self._check(event, "other_fee_quote", event.other_fee_quote, maker[0])
        self._check(event, "other_margin_quote", event.other_margin_quote, maker[1])
        if to_fund > 0:
            liquidation.credit = (event.market, to_fund, named)
        liquidation.lost += max(0, -gain)
        if gain < 0 and rules.fund_loss_max_quote:
            most = rules.fund_loss_max_quote
            self._expect(event, "loss of the fund", liquidation.lost, most, liquidation.lost <= most)
        self._announce(event, max(0, -gain), event.price_tick, by_fund=max(0, -gain))

    def _adl_started(self, event: Any) -> None:
        closing = self._current(event)
        self._check(event, "qty_lot", event.qty_lot, closing.left)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        reason = event.code
        if reason in (FUND_SHORT, FUND_HELD):
            reason = FUND_HELD if self._is_fund_held(closing) else FUND_SHORT
        self._check(event, "code", event.code, reason)
        closing.queue_count, closing.rank = event.count, 0
        closing.adl_tick = self._adl_price(closing)

    def _adl_price(self, closing: Closing) -> int:
        """Return the tick at which the rest is deleveraged, 0 for its bankruptcy value (ADL-005, ADL-017, ADL-018)."""
        rules, mark = self._rules(closing.market), self.marks[closing.market]
        value = closing.sign * self._value(closing.market, mark, closing.left)
        base = value if rules.kind == LINEAR else closing.value
        is_far = abs(closing.value - value) * PPM > abs(base) * rules.adl_within_ppm
        if rules.adl_price == PRICE_BANKRUPTCY or (rules.adl_price == PRICE_WITHIN and not is_far):
            return 0
        before = self.previous_marks[closing.market] if rules.adl_price == PRICE_PREVIOUS else 0
        return before or mark

    def _adl_fill(self, event: Any) -> None:
        """Check a close: the bankrupt books its share of B, the victim the price, others the gap (ADL-005..ADL-022)."""
        closing, qty, victim = self._current(event), event.qty_lot, event.other
        self._expect(event, "qty_lot", qty, closing.left, 1 <= qty <= closing.left)
        self._check(event, "count", event.count, closing.queue_count)
        least = closing.rank if self._rules(event.market).adl_allocation == ALLOT_QUEUE else 0
        self._expect(event, "rank", event.rank, least + 1, least < event.rank <= event.count)
        closing.rank = event.rank
        share = closing.value * qty // closing.left
        paid = self._value(event.market, closing.adl_tick, closing.sign * qty) if closing.adl_tick else share
        at_mark = self._value(event.market, self.marks[event.market], closing.sign * qty)
        left_over = self._equity(self._domain(victim, event.market)) + self._change_value(event, victim, closing) - paid
        self._expect(event, "victim's equity afterwards", left_over, 0, left_over >= 0)
        price = closing.adl_tick or closing.tick
        self._check(event, "amount_quote", event.amount_quote, paid)
        self._check(event, "price_tick", event.price_tick, price)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        surplus = max(0, paid - share)
        rules = self._rules(event.market)
        own_fee = min(due_fee(abs(paid), rules.taker_fee_ppm) if rules.adl_fees else 0, surplus)
        to_fund = self._fund_part(event.market, abs(paid), surplus - own_fee)
        kept = share + surplus - own_fee - to_fund
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, kept))
        holding = self._holding(victim, event.market)
        self._expect(event, "victim's position", holding.qty, qty, holding.qty * closing.sign <= -qty)
        before = holding.margin
        realised = self._close(victim, event.market, qty, -paid)
        self._check(event, "other_amount_quote", event.other_amount_quote, realised)
        self._check(event, "other_margin_quote", event.other_margin_quote, holding.margin - before)
        self._charge_deleveraged(event, abs(paid), left_over, own_fee)
        assert self._liquidation is not None
        if to_fund > 0:
            self._liquidation.credit = (event.market, to_fund, 0)
        given_up, lack = max(0, paid - at_mark), max(0, share - paid)
        fund = self.funds[self._rules(event.market).fund]
        self._announce(event, given_up + lack, price, by_fund=min(lack, fund), by_adl=given_up)
        self._notice = (victim, event.market, -closing.sign)

    def _change_value(self, event: Any, victim: int, closing: Closing) -> int:
        """Return what a victim's position gains in value at the mark by giving up the lots (ADL-004)."""
        market, held = event.market, self._holding(victim, event.market).qty
        rest = self._value(market, self.marks[market], held + closing.sign * event.qty_lot)
        return rest - self._value(market, self.marks[market], held)

    def _charge_deleveraged(self, event: Any, value: int, equity: int, own_fee: int) -> None:
        """Book the victim's fee after its close and the bankrupt's, each as far as there is something (ADL-007)."""
        rules = self._rules(event.market)
        assert self._liquidation is not None
        due, own_due = (
            due_fee(value, ppm) if rules.adl_fees else 0 for ppm in (rules.maker_fee_ppm, rules.taker_fee_ppm)
        )
        fee = min(due, equity)
        if self._holding(event.other, event.market).mode == ISOLATED:
            fee = min(fee, max(0, self.wallets.get((event.other, rules.asset), 0)))
        self._check(event, "fee_quote", event.fee_quote, own_fee)
        self._check(event, "other_fee_quote", event.other_fee_quote, fee)
        self._pay(event.other, event.market, -fee)
        self.sums[rules.asset].fees += fee + own_fee
        self._liquidation.waived += due - fee + own_due - own_fee

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
        value = self._value(event.market, mark, closing.sign * event.qty_lot)
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
        self._put_to_rest(event)
        self.sums[liquidation.domain.asset].waived += event.fee_quote
        self._liquidation = None
