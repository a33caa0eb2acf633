"""The auditor: balances rebuilt from the events alone, every number of every event held against its own."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.audit.books import Books, Domain, ceil_div, sign_of
from engine.audit.fields import UNNAMED, UNNAMED_ACCEPTED
from engine.audit.state import compare_rows, read_table
from engine.codes import BUY, CROSS, EVENT_NAMES, EXTERNAL, ISOLATED, PPM, PRICE_MAX_LIMIT, SELL
from engine.contract import Setup
from engine.digest import View
from engine.errors import InvariantError
from engine.layout import EVENT

_Row: Any = namedtuple("_Row", EVENT.names or ())  # type: ignore[misc]

# Events about a whole domain: their market may be -1, and `other` is the asset.
_OF_DOMAINS = (codes.MARGIN_CALL, codes.LIQUIDATION_STARTED, codes.LIQUIDATION_ENDED)
_FILLS = (codes.TRADE, codes.LIQUIDATION_FILL, codes.ADL_FILL, codes.TAKEOVER)


@dataclass(slots=True)
class _Closing:
    """A position being liquidated; `value` is the bankruptcy value of what is left (LIQ-005)."""

    market: int
    sign: int
    left: int
    value: int
    tick: int
    queue_count: int = -1
    rank: int = 0


@dataclass(slots=True)
class _Liquidation:
    """The liquidation whose events are being read."""

    domain: Domain
    closing: _Closing | None = None
    closed: int = 0
    waived: int = 0
    credit: tuple[int, int, int] | None = None  # market, surplus and liquidation fee that a fund_credit must follow


@dataclass(slots=True)
class _Deficit:
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


def _due(value: int, rate_ppm: int) -> int:
    """Return the fee of a forced close, of which a rebate is nothing (LIQ-006, ADL-007)."""
    return max(0, ceil_div(value * rate_ppm, PPM))


class Auditor(Books):
    """Rebuilds every balance from events, and refuses the first event that cannot be true.

    Parameters
    ----------
    setup : Setup
        What the engine that emitted the events was built from.

    Source: MONEY-002, EVT-001, EVT-002.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.deficit_id = 0
        self.ts_ns = 0
        self._liquidation: _Liquidation | None = None
        self._deficit: _Deficit | None = None
        self._notice: tuple[int, int, int] | None = None  # victim, market and side of an adl_notice still to come
        self._handlers: dict[int, Callable[[Any], None]] = {
            codes.ACCEPTED: self._accepted,
            codes.REJECTED: self._nothing,
            codes.TRADE: self._trade,
            codes.CANCELED: self._nothing,
            codes.AMENDED: self._nothing,
            codes.MARK_MOVED: self._mark,
            codes.MARGIN_CALL: self._margin_call,
            codes.LIQUIDATION_STARTED: self._liquidation_started,
            codes.LIQUIDATION_FILL: self._liquidation_fill,
            codes.LIQUIDATION_ENDED: self._liquidation_ended,
            codes.TAKEOVER: self._takeover,
            codes.FUND_CREDIT: self._fund_credit,
            codes.FUND_DEBIT: self._fund_debit,
            codes.DEFICIT: self._deficit_paid,
            codes.ADL_STARTED: self._adl_started,
            codes.ADL_FILL: self._adl_fill,
            codes.ADL_NOTICE: self._adl_notice,
            codes.HAIRCUT: self._haircut,
            codes.FUNDING_PAYMENT: self._funding_payment,
        }

    # ------------------------------------------------------------ reading

    def feed(self, events: Iterable[Any] | NDArray[np.void]) -> None:
        """Read events of whole commands.

        Raises
        ------
        InvariantError
            At the first event that contradicts the ones before it, or command that does not conserve (MONEY-001).
        """
        event: Any = None
        for event in self._rows(events):
            if event.seq != self.seq:
                self._end_command()
                self._expect(event, "seq", event.seq, self.seq + 1, event.seq > self.seq)
                self._expect(event, "ts_ns", event.ts_ns, self.ts_ns, self._may_move_time(event))
                self.seq = event.seq
                if event.kind != codes.REJECTED:
                    self.ts_ns = event.ts_ns
            elif event.kind != codes.REJECTED:
                self._check(event, "ts_ns", event.ts_ns, self.ts_ns)
            handler = self._handlers.get(event.kind)
            if handler is None:
                raise InvariantError(f"command {event.seq}: an event of unknown kind {event.kind}")
            self._check_range(event)
            self._check_order(event)
            handler(event)
        if event is not None:
            self._end_command()

    def _rows(self, events: Iterable[Any] | NDArray[np.void]) -> Iterator[Any]:
        if isinstance(events, np.ndarray):
            # In pieces, since Python's integers take far more room than the array.
            starts = range(0, len(events), 65_536)
            return (_Row._make(row) for start in starts for row in events[start : start + 65_536].tolist())
        return iter(events)

    def _may_move_time(self, event: Any) -> bool:
        return bool(event.ts_ns >= self.ts_ns) or event.kind == codes.REJECTED

    def _expect(self, event: Any, name: str, got: int, expected: int, is_true: bool) -> None:
        if not is_true:
            kind = EVENT_NAMES.get(event.kind, str(event.kind))
            where = f"command {event.seq}: {kind} of account {event.account} in market {event.market}"
            raise InvariantError(f"{where}: {name} is {got}, expected {expected}")

    def _check(self, event: Any, name: str, got: int, expected: int) -> None:
        self._expect(event, name, got, expected, got == expected)

    def _check_range(self, event: Any) -> None:
        """Refuse what no event of this kind can hold, so that the handlers may index and divide."""
        if event.kind == codes.ACCEPTED:
            self._expect(event, "code", event.code, codes.PLACE, event.code in UNNAMED_ACCEPTED)
            unnamed = UNNAMED_ACCEPTED[event.code]
        else:
            unnamed = UNNAMED[event.kind]
        for name in unnamed:
            self._check(event, name, getattr(event, name), 0)
        if event.kind == codes.REJECTED:
            return  # its fields are as they were sent
        least = -1 if event.kind in _OF_DOMAINS else 0
        self._expect(event, "market", event.market, 0, least <= event.market < len(self.marks))
        if event.kind in _OF_DOMAINS:
            self._expect(event, "asset", event.other, 0, 0 <= event.other < len(self.sums))
        if event.kind in _FILLS:
            self._expect(event, "side", event.side, BUY, event.side in (BUY, SELL))
            self._expect(event, "qty_lot", event.qty_lot, 1, event.qty_lot >= 1)
            self._expect(event, "price_tick", event.price_tick, 0, 0 <= event.price_tick <= PRICE_MAX_LIMIT)

    def _check_order(self, event: Any) -> None:
        """Refuse an event that stands between a cause and the payment it announced."""
        liquidation = self._liquidation
        if liquidation is not None and liquidation.credit is not None:
            self._check(event, "kind after a surplus", event.kind, codes.FUND_CREDIT)
        if self._deficit is not None:
            is_payer = event.kind in (codes.FUND_DEBIT, codes.HAIRCUT, codes.DEFICIT)
            self._expect(event, "kind before the deficit was reported", event.kind, codes.DEFICIT, is_payer)
        elif self._notice is not None:
            self._expect(
                event,
                "kind before the victim's notice",
                event.kind,
                codes.ADL_NOTICE,
                event.kind in (codes.CANCELED, codes.ADL_NOTICE),
            )

    def _end_command(self) -> None:
        """Check what must hold after every command.

        Source: MONEY-001, FUND-002, DEF-003.
        """
        if self._liquidation is not None or self._deficit is not None:
            raise InvariantError(f"command {self.seq}: a liquidation was started and not ended")
        self.add_up()
        for market, total in enumerate(self.quantities):
            if total:
                symbol = self.setup.markets[market].symbol
                raise InvariantError(f"command {self.seq}: the quantities of {symbol} sum to {total}, expected 0")
        for asset, sums in enumerate(self.sums):
            funds = sum(self.funds[fund] for fund, where in enumerate(self.setup.fund_assets) if where == asset)
            owned = self.held[asset] + funds + sums.fees + sums.rounding + sums.insolvency
            if owned != sums.deposits - sums.withdrawals:
                raise InvariantError(
                    f"command {self.seq}: {self.setup.assets[asset]} is not conserved: "
                    f"{owned} owned, {sums.deposits - sums.withdrawals} paid in"
                )
            if sums.insolvency > 0:
                raise InvariantError(f"command {self.seq}: the insolvency account is {sums.insolvency}, above zero")

    def _named_domain(self, event: Any) -> Domain:
        """Return the domain a liquidation or call names, after checking that it is one."""
        if event.market >= 0:
            self._check(event, "margin mode", self._holding(event.account, event.market).mode, ISOLATED)
            self._check(event, "asset", event.other, self._rules(event.market).asset)
        return Domain(event.account, event.other, event.market)

    def _nothing(self, event: Any) -> None:
        """Read an event that moves no money."""

    def _trade(self, event: Any) -> None:
        rules = self._rules(event.market)
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        taker = self._fill(
            event.account, event.market, event.side, event.qty_lot, event.price_tick, rules.taker_fee_ppm
        )
        maker = self._fill(event.other, event.market, -event.side, event.qty_lot, event.price_tick, rules.maker_fee_ppm)
        self._check(event, "fee_quote", event.fee_quote, taker[0])
        self._check(event, "margin_quote", event.margin_quote, taker[1])
        self._check(event, "other_fee_quote", event.other_fee_quote, maker[0])
        self._check(event, "other_margin_quote", event.other_margin_quote, maker[1])

    # ------------------------------------------------------------ commands of accounts

    def _accepted(self, event: Any) -> None:
        """Book what a command moved by itself: money in and out, margin, settings (EVT-001)."""
        amount, market = event.amount_quote, event.market
        self._expect(event, "account", event.account, 1, (event.account >= 1) == (event.code != codes.FUND_DEPOSIT))
        if event.code == codes.DEPOSIT:
            self._deposit(event, amount, 1)
            self._pay(event.account, market, amount)
        elif event.code == codes.WITHDRAW:
            self._expect(event, "amount_quote", amount, 1, amount >= 1)
            self._pay(event.account, market, -amount)
            self.sums[self._rules(market).asset].withdrawals += amount
        elif event.code == codes.FUND_DEPOSIT:
            self._check(event, "fund", event.other, self._rules(market).fund)
            self._deposit(event, amount, 1)
            self._raise_fund(event.other, amount)
        elif event.code == codes.MOVE_MARGIN:
            self._check(event, "margin_quote", event.margin_quote, amount)
            self._check(event, "margin mode", self._holding(event.account, market).mode, ISOLATED)
            self._holding(event.account, market).margin += amount
            self._pay(event.account, market, -amount)
        elif event.code == codes.SET_LEVERAGE:
            self._expect(event, "amount_quote", amount, 1, amount >= 1)
            self._holding(event.account, market).leverage_ppm = ceil_div(PPM, amount)
        elif event.code == codes.SET_MARGIN_MODE:
            self._check(event, "position", self._holding(event.account, market).qty, 0)
            self._expect(event, "amount_quote", amount, ISOLATED, amount in (CROSS, ISOLATED))
            self._holding(event.account, market).mode = amount
        elif event.code == codes.ASSIGN:
            self._assign(event)

    def _deposit(self, event: Any, amount: int, least: int) -> None:
        self._expect(event, "amount_quote", amount, least, amount >= least)
        self.sums[self._rules(event.market).asset].deposits += amount

    def _assign(self, event: Any) -> None:
        """Book a position brought from elsewhere (POS-006)."""
        holding = self._holding(event.account, event.market)
        self._check(event, "position", holding.qty, 0)
        self._deposit(event, event.amount_quote, 0)
        is_isolated = holding.mode == ISOLATED
        self._check(event, "margin_quote", event.margin_quote, event.amount_quote if is_isolated else 0)
        holding.margin += event.margin_quote
        self._pay(event.account, event.market, event.amount_quote - event.margin_quote)
        holding.qty = event.side * event.qty_lot
        holding.cost = self._value(event.market, event.price_tick, holding.qty)
        holding.opened_seq = event.seq
        self._fill(EXTERNAL, event.market, -event.side, event.qty_lot, event.price_tick, 0)

    def _mark(self, event: Any) -> None:
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        self._expect(event, "price_tick", event.price_tick, event.mark_tick, event.price_tick != event.mark_tick)
        self.marks[event.market] = event.price_tick

    def _funding_payment(self, event: Any) -> None:
        """Book a payment; its rate is in no event, so that only its place and its rounding account are checked."""
        holding = self._holding(event.account, event.market)
        is_isolated = holding.mode == ISOLATED
        self._check(event, "qty_lot", event.qty_lot, holding.qty)
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        self._check(event, "margin_quote", event.margin_quote, event.amount_quote if is_isolated else 0)
        holding.margin += event.margin_quote
        self._pay(event.account, event.market, event.amount_quote - event.margin_quote)
        self.sums[self._rules(event.market).asset].rounding -= event.amount_quote

    # ------------------------------------------------------------ liquidations

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
        self._liquidation = _Liquidation(domain)
        if not self._open_markets(domain):
            # Nothing else announces the deficit of a wallet: its id is the next one, its market the last fill's.
            market = self.last_markets.get((domain.account, domain.asset), -1)
            self._expect(event, "market of the last fill", market, 0, market >= 0)
            by_fund = min(-equity, self.funds[self._rules(market).fund])
            self._deficit = _Deficit(self.deficit_id + 1, market, 0, 0, 0, -equity, by_fund, 0)
            self._pay(domain.account, market, -equity)

    def _current(self, event: Any) -> _Closing:
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

    def _start_closing(self, domain: Domain, market: int, is_only: bool) -> _Closing:
        holding = self._holding(domain.account, market)
        share = self._equity(domain)
        if not is_only:
            share = share * self._need(domain.account, market) // self._maintenance(domain)
        value = self._value(market, self.marks[market], holding.qty) - share
        unit = holding.qty * self._rules(market).multiplier
        tick = ceil_div(value, unit) if holding.qty > 0 else value // unit
        return _Closing(market, sign_of(holding.qty), abs(holding.qty), value, max(0, min(PRICE_MAX_LIMIT, tick)))

    def _take_share(self, event: Any, closing: _Closing, received: int) -> int:
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
        due = _due(value, rules.taker_fee_ppm)
        fee = min(due, max(0, gain))
        self._check(event, "fee_quote", event.fee_quote, fee)
        self._check(event, "amount_quote", event.amount_quote, gain - fee)
        self._check(event, "bankruptcy_tick", event.bankruptcy_tick, closing.tick)
        self._check(event, "margin_quote", event.margin_quote, self._take_share(event, closing, share))
        self.sums[rules.asset].fees += fee
        named_due = _due(value, rules.liquidation_fee_ppm)
        named = min(named_due, max(0, gain - fee))
        liquidation.waived += due - fee + named_due - named
        maker = self._fill(event.other, event.market, -event.side, qty, event.price_tick, rules.maker_fee_ppm)
        self._check(event, "other_fee_quote", event.other_fee_quote, maker[0])
        self._check(event, "other_margin_quote", event.other_margin_quote, maker[1])
        if gain - fee > 0:
            liquidation.credit = (event.market, gain - fee, named)
        self._announce(event, max(0, -gain), event.price_tick, by_fund=max(0, -gain))

    def _announce(self, event: Any, amount: int, price: int, by_fund: int = 0, by_adl: int = 0) -> None:
        """Open the deficit that an event announces with its id, which must be the next one (EVT-002)."""
        self._check(event, "order_id", event.order_id, self.deficit_id + 1 if amount else 0)
        if amount:
            deficit = _Deficit(event.order_id, event.market, event.side, price, event.qty_lot, amount, by_fund, by_adl)
            self._deficit = deficit

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
        due, own_due = (_due(value, ppm) if rules.adl_fees else 0 for ppm in (rules.maker_fee_ppm, rules.taker_fee_ppm))
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

    # ------------------------------------------------------------ who pays

    def _raise_fund(self, fund: int, amount: int) -> None:
        self.funds[fund] += amount
        if not self.fund_paid[fund]:
            self.fund_lows[fund] = self.funds[fund]

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

    def _paying(self, event: Any) -> _Deficit:
        """Return the open deficit, after checking that the event belongs to it."""
        deficit = self._deficit
        if deficit is None or self._liquidation is None:
            raise InvariantError(f"command {event.seq}: {EVENT_NAMES[event.kind]} without a deficit")
        self._check(event, "order_id", event.order_id, deficit.id)
        self._check(event, "market", event.market, deficit.market)
        return deficit

    def _fund_debit(self, event: Any) -> None:
        deficit = self._paying(event)
        fund = self._rules(event.market).fund
        assert self._liquidation is not None
        self._check(event, "account", event.account, self._liquidation.domain.account)
        self._check(event, "fund", event.other, fund)
        self._check(event, "amount_quote", event.amount_quote, deficit.by_fund - deficit.fund_paid)
        self._expect(event, "amount_quote", event.amount_quote, 1, event.amount_quote >= 1)
        self._expect(
            event, "fund's balance", self.funds[fund], event.amount_quote, event.amount_quote <= self.funds[fund]
        )
        deficit.fund_paid += event.amount_quote
        self.funds[fund] -= event.amount_quote
        self.fund_lows[fund] = min(self.fund_lows[fund], self.funds[fund])
        self.fund_paid[fund] = True

    def _winners(self, deficit: _Deficit) -> dict[int, int]:
        """Return the winners of a market and their gains as they count before the first cut (DEF-002)."""
        if deficit.gains is None:
            assert self._liquidation is not None
            deficit.gains = {}
            for account in sorted(self.holdings):
                if account == EXTERNAL or deficit.market not in self.holdings[account]:
                    continue
                domain = self._domain(account, deficit.market)
                gain = min(self._gain(account, deficit.market), self._equity(domain))
                if gain > 0 and domain != self._liquidation.domain:
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
        assert self._liquidation is not None
        self._check(event, "account", event.account, self._liquidation.domain.account)
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
        sums = self.sums[self._liquidation.domain.asset]
        sums.rounding += event.other_fee_quote
        sums.insolvency -= event.other_margin_quote
        self.deficit_id = event.order_id
        self._deficit = None

    # ------------------------------------------------------------ against a state

    def compare(self, view: View) -> None:
        """Hold what was rebuilt against a state.

        Orders, index and last prices and who was called are not compared: the outside's levels are in no event.

        Raises
        ------
        InvariantError
            Naming the first difference (MONEY-002).
        """
        clock, markets, _, positions, wallets, funds, assets = (
            read_table(view, name).tolist() for name in View._fields
        )
        compare_rows("clock", [(row[2],) for row in clock], [(self.deficit_id,)])
        interest = [
            sum(max(0, held[market].qty) for held in self.holdings.values() if market in held)
            for market in range(len(self.marks))
        ]
        compare_rows("markets", [(row[0], row[3]) for row in markets], list(zip(self.marks, interest, strict=True)))
        compare_rows("positions", [tuple(row[:8]) for row in positions], self._list_positions())
        balances = [(*key, balance) for key, balance in sorted(self.wallets.items()) if balance]
        compare_rows("wallets", [tuple(row[:3]) for row in wallets if row[2]], balances)
        compare_rows("funds", [tuple(row) for row in funds], list(zip(self.funds, self.fund_lows, strict=True)))
        compare_rows("assets", [tuple(row) for row in assets], [astuple(sums) for sums in self.sums])

    def _list_positions(self) -> list[tuple[int, ...]]:
        """Return the rows of positions that are open or have settings of their own, as a View has them."""
        rows: list[tuple[int, ...]] = []
        for account, held in sorted(self.holdings.items()):
            for market, holding in sorted(held.items()):
                rules = self._rules(market)
                default = (rules.leverage_ppm, rules.margin_mode)
                settings = default if account == EXTERNAL else (holding.leverage_ppm, holding.mode)
                if holding.qty or settings != default:
                    sums = (holding.qty, holding.cost, holding.margin, holding.opened_seq)
                    rows.append((account, market, *sums, *settings))
        return rows
