"""Who pays: the fund, the victims, the winners, in the end the exchange; each held against its deficit (EVT-002)."""

from dataclasses import dataclass, field
from typing import Any

from engine.audit.books import Books, Domain, ceil_div
from engine.codes import EVENT_NAMES, EXTERNAL, HOUSE, ISOLATED, PPM, TRIGGER_EQUITY
from engine.contract import Setup
from engine.errors import InvariantError


@dataclass(slots=True)
class Closing:
    """A position being liquidated; `value` is the bankruptcy value of what is left (LIQ-005)."""

    market: int
    sign: int
    left: int
    value: int
    tick: int
    limit: int | None = None  # of the walk, where the policies have one of their own (STAGE-005, STAGE-006)
    is_part: bool = False  # a step that leaves some of the position open (STAGE-004)
    filled: int = 0
    queue_count: int = -1
    rank: int = 0
    adl_tick: int = 0  # at which it is deleveraged, 0: the shares of `value`
    whole: int = 0  # what was open when it started


@dataclass(slots=True)
class Liquidation:
    """The liquidation whose events are being read."""

    domain: Domain
    closing: Closing | None = None
    closed: int = 0
    waived: int = 0
    lost: int = 0  # what its fills cost the fund (STAGE-008)
    credit: tuple[int, int, int] | None = None  # market, surplus and liquidation fee that a fund_credit must follow
    left_open: set[int] = field(default_factory=set)  # markets whose positions it had to leave (STAGE-009)
    is_whole: bool = False  # a vault takes all of it (HOUSE-005)


@dataclass(slots=True)
class Deficit:
    """A deficit whose payers are being read; it ends with its `deficit` event."""

    id: int
    market: int
    side: int
    price: int
    qty: int
    amount: int
    by_fund: int  # what the fund has to pay
    by_adl: int
    fund_paid: int = 0
    cuts: int = 0
    gains: dict[int, int] | None = None
    origin: Domain | None = None  # None: the domain being liquidated


def due_fee(value: int, rate_ppm: int) -> int:
    """Return the fee of a forced close, of which a rebate is nothing (LIQ-006, ADL-007)."""
    return max(0, ceil_div(value * rate_ppm, PPM))


class Payers(Books):
    """What is owed for a bankrupt, and by whom; reads the events of payment."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.deficit_id = 0
        self._liquidation: Liquidation | None = None
        self._deficit: Deficit | None = None

    def _expect(self, event: Any, name: str, got: int, expected: int, is_true: bool) -> None:
        if not is_true:
            kind = EVENT_NAMES.get(event.kind, str(event.kind))
            where = f"command {event.seq}: {kind} of account {event.account} in market {event.market}"
            raise InvariantError(f"{where}: {name} is {got}, expected {expected}")

    def _check(self, event: Any, name: str, got: int, expected: int) -> None:
        self._expect(event, name, got, expected, got == expected)

    def _announce(self, event: Any, amount: int, price: int, by_fund: int = 0, by_adl: int = 0) -> None:
        """Open the deficit that an event announces with its id, which must be the next one (EVT-002)."""
        self._check(event, "order_id", event.order_id, self.deficit_id + 1 if amount else 0)
        if amount:
            deficit = Deficit(event.order_id, event.market, event.side, price, event.qty_lot, amount, by_fund, by_adl)
            self._deficit = deficit

    def _raise_fund(self, fund: int, amount: int) -> None:
        self.funds[fund] += amount
        if not self.fund_paid[fund]:
            self.fund_lows[fund] = self.funds[fund]
        self._note_fund(fund)

    def _note_fund(self, fund: int) -> None:
        for watch in self.watches.values():
            if watch.fund == fund:
                watch.change(self.ts_ns, self.funds[fund])

    def _gain_of_house(self, fund: int) -> int:
        """Return what the house has gained and not realised in the markets of a fund (HOUSE-003, ADL-019)."""
        held = self.holdings.get(HOUSE, {})
        return sum(self._gain(HOUSE, market) for market in held if self._rules(market).fund == fund)

    def _is_fund_held(self, closing: Closing) -> bool:
        """Return whether the trigger keeps the fund from paying for what is left of a position (ADL-019, ADL-020)."""
        rules = self._rules(closing.market)
        if rules.adl_trigger == TRIGGER_EQUITY:
            share = closing.sign * self._value(closing.market, self.marks[closing.market], closing.left) - closing.value
            return self.funds[rules.fund] + self._gain_of_house(rules.fund) + share <= 0
        watch = self.watches.get(closing.market)
        if watch is not None:
            watch.look(self.ts_ns)
        return watch is not None and watch.is_active

    def _fund_credit(self, event: Any) -> None:
        liquidation = self._liquidation
        if liquidation is None or liquidation.credit is None:
            raise InvariantError(f"command {event.seq}: a fund_credit without the surplus of a fill before it")
        market, amount, fee = liquidation.credit
        self._check(event, "market", event.market, market)
        self._check(event, "account", event.account, liquidation.domain.account)
        self._check(event, "fund", event.other, self._rules(market).fund)
        self._check(event, "amount_quote", event.amount_quote, amount)
        self._check(event, "other_amount_quote", event.other_amount_quote, fee)
        self._raise_fund(event.other, amount)
        liquidation.credit = None

    def _paying(self, event: Any) -> Deficit:
        """Return the open deficit, after checking that the event belongs to it."""
        deficit = self._deficit
        if deficit is None or (self._liquidation is None and deficit.origin is None):
            raise InvariantError(f"command {event.seq}: {EVENT_NAMES[event.kind]} without a deficit")
        self._check(event, "order_id", event.order_id, deficit.id)
        self._check(event, "market", event.market, deficit.market)
        return deficit

    def _origin(self, deficit: Deficit) -> Domain:
        """Return the domain a deficit comes from."""
        if deficit.origin is not None:
            return deficit.origin
        assert self._liquidation is not None
        return self._liquidation.domain

    def _lower_fund(self, fund: int, amount: int) -> None:
        self.funds[fund] -= amount
        self.fund_lows[fund] = min(self.fund_lows[fund], self.funds[fund])
        self.fund_paid[fund] = True
        self._note_fund(fund)

    def _fund_debit(self, event: Any) -> None:
        deficit = self._paying(event)
        fund = self._rules(event.market).fund
        self._check(event, "account", event.account, self._origin(deficit).account)
        self._check(event, "fund", event.other, fund)
        self._check(event, "amount_quote", event.amount_quote, deficit.by_fund - deficit.fund_paid)
        self._expect(event, "amount_quote", event.amount_quote, 1, event.amount_quote >= 1)
        self._expect(
            event, "fund's balance", self.funds[fund], event.amount_quote, event.amount_quote <= self.funds[fund]
        )
        deficit.fund_paid += event.amount_quote
        self._lower_fund(fund, event.amount_quote)

    def _winners(self, deficit: Deficit) -> dict[int, int]:
        """Return the winners of a market and their gains as they count before the first cut (DEF-002)."""
        if deficit.gains is None:
            deficit.gains = {}
            for account in sorted(self.holdings):
                if account <= EXTERNAL or deficit.market not in self.holdings[account]:
                    continue
                domain = self._domain(account, deficit.market)
                gain = min(self._gain(account, deficit.market), self._equity(domain))
                if gain > 0 and domain != self._origin(deficit):
                    deficit.gains[account] = gain
        return deficit.gains

    def _haircut(self, event: Any) -> None:
        deficit = self._paying(event)
        gains = self._winners(deficit)
        total, short = sum(gains.values()), deficit.amount - deficit.by_fund - deficit.by_adl
        gain = gains.get(event.account, 0)
        cut = gain - gain * (total - short) // total if short < total else gain
        holding = self._holding(event.account, event.market)
        self._check(event, "count", event.count, len(gains))
        self._check(event, "amount_quote", event.amount_quote, cut)
        self._expect(event, "amount_quote", cut, 1, cut > 0)
        self._check(event, "margin_quote", event.margin_quote, -cut if holding.mode == ISOLATED else 0)
        if holding.mode == ISOLATED:
            holding.margin -= cut
        else:
            self._pay(event.account, event.market, -cut)
        deficit.cuts += cut

    def _deficit_paid(self, event: Any) -> None:
        """Check that the payers of a deficit sum to it, each paying what the rules say (EVT-002, DEF-001..DEF-003)."""
        deficit = self._paying(event)
        short = deficit.amount - deficit.by_fund - deficit.by_adl
        total = sum(self._winners(deficit).values()) if short else 0
        by_haircut = min(short, total)
        self._check(event, "account", event.account, self._origin(deficit).account)
        for name, expected in (
            ("side", deficit.side),
            ("price_tick", deficit.price),
            ("qty_lot", deficit.qty),
            ("amount_quote", deficit.amount),
            ("other_amount_quote", deficit.by_fund),
            ("fee_quote", deficit.by_adl),
            ("margin_quote", by_haircut),
            ("other_margin_quote", short - by_haircut),
            ("other_fee_quote", deficit.cuts - by_haircut),
        ):
            self._check(event, name, getattr(event, name), expected)
        self._check(event, "fund debits", deficit.fund_paid, deficit.by_fund)
        self._expect(event, "haircuts", deficit.cuts, by_haircut, deficit.cuts >= by_haircut)
        payers = event.other_amount_quote + event.fee_quote + event.margin_quote + event.other_margin_quote
        self._check(event, "sum of the payers", payers, event.amount_quote)
        sums = self.sums[self._origin(deficit).asset]
        sums.rounding += event.other_fee_quote
        sums.insolvency -= event.other_margin_quote
        self.deficit_id = event.order_id
        self._deficit = None
