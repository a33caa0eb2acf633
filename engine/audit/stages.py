"""What the policies of stages 1 to 3 ask of a liquidation, by the auditor's own arithmetic (STAGE-001..STAGE-009)."""

from bisect import bisect_left
from typing import Any

from engine import codes
from engine.audit.books import Domain, ceil_div
from engine.audit.payers import Closing, Payers
from engine.codes import PPB, PPM, PRICE_MAX_LIMIT
from engine.contract import Setup

TIME_MAX = 2**63 - 1


class Stages(Payers):
    """Sizes, limits and gates; who rests, and until when (WAKE-001, WAKE-002)."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.ts_ns = 0
        self._rests: dict[Domain, tuple[int, int]] = {}  # when it may be liquidated again, and when it went to rest
        self._cools: dict[Domain, int] = {}

    def _is_cooling(self, domain: Domain) -> bool:
        return self._cools.get(domain, 0) > self.ts_ns

    def _step(self, domain: Domain, market: int) -> int:
        """Return how many lots the next step closes (STAGE-002, STAGE-003, WAKE-002)."""
        rules, lots = self._rules(market), abs(self._holding(domain.account, market).qty)

        def count_below(bound: int) -> int:
            mark = self.marks[market]
            return bisect_left(range(1, lots + 1), bound, key=lambda each: abs(self._value(market, mark, each)))

        notional = abs(self._value(market, self.marks[market], lots))
        if rules.size == codes.SIZE_TIERED:
            return lots - count_below(self._tier(market, notional)[0])
        is_whole = rules.size == codes.SIZE_FULL or notional <= rules.full_below_quote
        if is_whole or (rules.after_share == codes.AFTER_FULL and self._is_cooling(domain)):
            return lots
        least = count_below(rules.share_min_quote) + 1 if rules.share_min_quote else 1
        most = count_below(rules.step_max_quote + 1) if rules.step_max_quote else lots
        return max(1, min(lots, most, max(least, ceil_div(lots * rules.share_ppm, PPM))))

    def _show(self, market: int, value: int, qty: int) -> int:
        """Return the tick that displays a value: rounded up for longs, down for shorts (MARGIN-005, INV-004)."""
        unit = qty * self._rules(market).multiplier
        if self._rules(market).kind != codes.LINEAR:
            if value * qty >= 0:
                return PRICE_MAX_LIMIT  # at no price
            value, unit = abs(unit), abs(value)
        return max(0, min(PRICE_MAX_LIMIT, ceil_div(value, unit) if qty > 0 else value // unit))

    def _limit(self, domain: Domain, market: int, tick: int) -> int | None:
        """Return the walk's limit, None for the collar (STAGE-005, STAGE-006)."""
        rules, qty = self._rules(market), self._holding(domain.account, market).qty
        if rules.limit == codes.LIMIT_NONE:
            return None
        if rules.limit == codes.LIMIT_BANKRUPTCY:
            return tick + (qty > 0 and tick == PRICE_MAX_LIMIT)
        maintenance = self._maintenance(domain)
        lack = maintenance - self._equity(domain)
        part = max(0, min(PPB, rules.adjustment_ppm * 1000 * lack // maintenance))
        spread = self._requirement(domain, [market]) * rules.spread_ppm // PPM * part // PPB
        return self._show(market, self._value(market, self.marks[market], qty) - spread, qty)

    def _fund_part(self, market: int, value: int, surplus: int) -> int:
        """Return the fund's part of a surplus (STAGE-007)."""
        rules = self._rules(market)
        rates = (PPM, rules.liquidation_fee_ppm, rules.surplus_fee_ppm)
        if rules.surplus == codes.SURPLUS_FUND:
            return surplus
        return min(surplus, ceil_div(value * rates[rules.surplus], PPM))

    def _may_stay_open(self, market: int) -> bool:
        """Return whether a walk in this market may leave lots open (STAGE-009)."""
        assert self._liquidation is not None
        is_gated = self._rules(market).adl_gate == codes.GATE_INSOLVENT and not self._liquidation.is_whole
        return is_gated and (self._liquidation.closed > 0 or self._equity(self._liquidation.domain) >= 0)

    def _waits(self, closing: Closing) -> bool:
        """Return whether a step was the last for now (STAGE-004)."""
        rules = self._rules(closing.market)
        is_last = rules.after_share == codes.AFTER_WAIT or closing.is_part
        is_whole = self._liquidation is not None and self._liquidation.is_whole
        return rules.cooldown_ns > 0 and closing.filled > 0 and is_last and not is_whole

    def _check_awake(self, event: Any, domain: Domain) -> None:
        """Refuse what happens to a domain that rests (WAKE-001)."""
        due, since = self._rests.pop(domain, (0, 0))
        self._expect(event, "seq of a domain at rest", event.seq, since + 1, event.seq > since)
        self._expect(event, "time of a domain at rest", event.ts_ns, due, event.ts_ns >= due)

    def _order(self, domain: Domain, markets: set[int]) -> list[int]:
        """Return markets in the order in which their positions are closed (LIQ-004, PORT-007)."""
        held = self._open_markets(domain)

        def left(market: int) -> int:
            return self._requirement(domain, [each for each in held if each != market])

        return sorted(markets, key=lambda market: (left(market), market))

    def _turn_to(self, event: Any) -> None:
        """Check that the position of this event is the one whose turn it is (LIQ-004, STAGE-004, STAGE-009)."""
        liquidation = self._liquidation
        assert liquidation is not None
        domain, closing = liquidation.domain, liquidation.closing
        if closing is not None:
            self._leave(event, closing)
            self._expect(event, "step within the cooldown of another", 1, 0, not self._waits(closing))
        equity, maintenance = self._equity(domain), self._maintenance(domain)
        is_due = equity < maintenance or liquidation.is_whole
        self._expect(event, "equity before a step", equity, maintenance, is_due)
        waiting = set(self._open_markets(domain)) - liquidation.left_open
        self._expect(event, "market", event.market, domain.market, event.market in waiting)
        for market in self._order(domain, waiting):
            if market == event.market:
                break
            may_stay = self._may_stay_open(market)
            self._expect(event, "market, largest maintenance first", event.market, market, may_stay)
            liquidation.left_open.add(market)

    def _leave(self, event: Any, closing: Closing) -> None:
        """Check that what a step left open may stay so (STAGE-009)."""
        assert self._liquidation is not None
        if closing.left:
            is_gated = self._rules(closing.market).adl_gate == codes.GATE_INSOLVENT
            may_stay = is_gated if closing.queue_count >= 0 else self._may_stay_open(closing.market)
            self._expect(event, "lots left open", closing.left, 0, may_stay)
            self._liquidation.left_open.add(closing.market)

    def _put_to_rest(self, event: Any) -> None:
        """Check why a liquidation ended, and note until when its domain rests or cools (STAGE-009, WAKE-001)."""
        liquidation = self._liquidation
        assert liquidation is not None
        domain, closing = liquidation.domain, liquidation.closing
        waits = closing is not None and self._waits(closing)
        if closing is not None:
            self._leave(event, closing)
            rules = self._rules(closing.market)
            if waits and rules.after_share == codes.AFTER_FULL and not self._is_cooling(domain):
                self._cools[domain] = min(self.ts_ns + rules.cooldown_ns, TIME_MAX)
        if self._equity(domain) >= self._maintenance(domain):
            self._check(event, "code", event.code, 0)
            return
        untried = [] if waits else self._order(domain, set(self._open_markets(domain)) - liquidation.left_open)
        for market in untried:
            self._expect(event, "market left open", market, -1, self._may_stay_open(market))
        if waits and closing is not None and not closing.left:
            self._check(event, "code", event.code, codes.COOLDOWN)
        else:
            known = (codes.FUND_SHORT, codes.BOOK_EMPTY, codes.LOSS_LIMIT)
            self._expect(event, "code", event.code, codes.BOOK_EMPTY, event.code in known)
        last = untried[-1] if untried or closing is None else closing.market
        rules = self._rules(last)
        due = min(self.ts_ns + rules.cooldown_ns, TIME_MAX)
        self._rests[domain] = (due if rules.cooldown_ns and rules.after_share == codes.AFTER_WAIT else 0, event.seq)

    def _list_resting(self, now_ns: int) -> list[tuple[int, ...]]:
        """Return the rows of domains that rest or cool until a time still to come."""
        rows = [(*domain, due, 0) for domain, (due, _) in self._rests.items() if due > now_ns]
        rows += [(*domain, due, 1) for domain, due in self._cools.items() if due > now_ns]
        return sorted(rows, key=lambda row: (row[:3], row[4]))
