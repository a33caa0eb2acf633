"""Funding, followed from the announced rate to the last payment (FUND-001, FUND-010)."""

from fractions import Fraction
from typing import Any

from engine.audit.books import Holding, sign_of
from engine.audit.closings import Closings
from engine.codes import FUNDING_PREMIUM, ISOLATED, PAY_ON_MARK, PPB, PRICE_MAX_LIMIT
from engine.contract import MarketRules, Setup


def rate_of_premium(rules: MarketRules, premium: int) -> int:
    """Return the rate of one payment that an average premium makes (FUND-014)."""
    lowest, highest = premium - rules.funding_clamp_ppb, premium + rules.funding_clamp_ppb
    pulled = sorted((lowest, rules.funding_interest_ppb, highest))[1]
    part = round(Fraction(pulled) * rules.funding_interval_s / rules.funding_period_s)
    return sorted((-rules.funding_cap_ppb, part, rules.funding_cap_ppb))[1]


class Fundings(Closings):
    """The one rate that can be served at a time; reads its payments."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._dues: list[tuple[int, int, int]] = []  # account, market and amount of payments still to come, last first

    def _funding_rate(self, event: Any) -> None:
        """Check a rate as far as events tell, and find what everybody owes by it (FUND-010, FUND-016)."""
        rules, rate, price = self._rules(event.market), event.amount_quote, event.price_tick
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        if rules.funding_model == FUNDING_PREMIUM:
            self._expect(event, "premium", event.other_amount_quote, PPB, abs(event.other_amount_quote) <= PPB)
            self._check(event, "rate", rate, rate_of_premium(rules, event.other_amount_quote))
        else:
            self._check(event, "premium", event.other_amount_quote, 0)
            self._expect(event, "rate", rate, PPB, abs(rate) <= PPB)
        if rules.funding_pay_on == PAY_ON_MARK:
            self._check(event, "price_tick", price, event.mark_tick)
        self._expect(event, "price_tick", price, 0, 0 <= price <= PRICE_MAX_LIMIT)
        for account, held in sorted(self.holdings.items(), reverse=True):
            if event.market in held:
                qty = held[event.market].qty
                received = -rate * sign_of(qty) * abs(self._value(event.market, price, qty)) // PPB
                if received:
                    self._dues.append((account, event.market, received))

    def _funding_payment(self, event: Any) -> None:
        """Book a payment, which must be the next one due (FUND-001)."""
        account, market, received = self._dues.pop() if self._dues else (event.account, event.market, 0)
        self._check(event, "account", event.account, account)
        self._check(event, "market", event.market, market)
        self._check(event, "amount_quote", event.amount_quote, received)
        holding = self._holding(account, market)
        self._check(event, "qty_lot", event.qty_lot, holding.qty)
        self._check(event, "mark_tick", event.mark_tick, self.marks[market])
        self._check(event, "margin_quote", event.margin_quote, received if holding.mode == ISOLATED else 0)
        self._book_payment(event, holding)

    def _book_payment(self, event: Any, holding: Holding) -> None:
        """Book a checked payment; the house's goes elsewhere (HOUSE-003)."""
        holding.margin += event.margin_quote
        self._pay(event.account, event.market, event.amount_quote - event.margin_quote)
        self.sums[self._rules(event.market).asset].rounding -= event.amount_quote
