"""Who has what, as the auditor counts it: its own positions, margins and requirements, from the rule book alone."""

from dataclasses import dataclass
from typing import NamedTuple

from engine.audit.watch import FundWatch
from engine.codes import CROSS, EXTERNAL, ISOLATED, LINEAR, PPM, SETTLED_AT_MARK, TRIGGER_DRAWDOWN
from engine.contract import MarketRules, Setup


class Domain(NamedTuple):
    """What stands or falls together; market -1 is the cross domain of the asset."""

    account: int
    asset: int
    market: int


class Stand(NamedTuple):
    """A position and the domain it belongs to, at the present marks: what ranks and allocations look at (ADL-002)."""

    account: int
    qty_lot: int  # signed
    gain_quote: int  # unrealised
    cost_quote: int
    value_quote: int  # signed as the quantity, an inverse one the other way
    share_quote: int  # of the domain's equity
    equity_quote: int  # of the domain
    maintenance_quote: int  # of the domain
    own_quote: int  # isolated margin or wallet
    leverage_ppm: int
    opened_seq: int


@dataclass(slots=True)
class Holding:
    """One account in one market."""

    leverage_ppm: int
    mode: int
    qty: int = 0
    cost: int = 0
    margin: int = 0
    opened_seq: int = 0


@dataclass(slots=True)
class Sums:
    """The exchange's own accounts in one asset, in the order of a View's rows."""

    fees: int = 0
    rounding: int = 0
    insolvency: int = 0
    deposits: int = 0
    withdrawals: int = 0
    waived: int = 0


def ceil_div(number: int, divisor: int) -> int:
    """Return the quotient rounded up (NUM-004)."""
    return -(-number // divisor)


def sign_of(number: int) -> int:
    """Return 1, -1 or 0."""
    return (number > 0) - (number < 0)


class Books:
    """The balances of every account and of the exchange, and what the rules make of them at the present marks."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.marks = [rules.initial_mark_tick for rules in setup.markets]
        self.tables = [0] * len(setup.markets)  # the tier table in force (TIER-002)
        self.wallets: dict[tuple[int, int], int] = {}
        self.last_markets: dict[tuple[int, int], int] = {}  # of an account's last fill in an asset (LIQ-011)
        self.holdings: dict[int, dict[int, Holding]] = {}
        self.entries: list[dict[int, None]] = [{} for _ in setup.markets]  # of markets settled at the mark (CASH-002)
        self.funds = [0] * len(setup.funds)
        self.fund_lows = [0] * len(setup.funds)
        self.fund_paid = [False] * len(setup.funds)
        self.sums = [Sums() for _ in setup.assets]
        self.previous_marks = [0] * len(setup.markets)  # the mark before the one in force, 0: none (ADL-017)
        self.watches = {
            market: FundWatch(rules)
            for market, rules in enumerate(setup.markets)
            if rules.adl_trigger == TRIGGER_DRAWDOWN
        }
        self.switched: set[tuple[int, int]] = set()  # accounts that in an asset left the mode they start in (PORT-002)
        self.seq = 0
        self.ts_ns = 0
        # What accounts hold together, and what changed since it was last added up (MONEY-001).
        self.held = [0] * len(setup.assets)
        self.quantities = [0] * len(setup.markets)
        self._wallets_before: dict[tuple[int, int], int] = {}
        self._holdings_before: dict[tuple[int, int], tuple[int, int]] = {}

    def add_up(self) -> None:
        """Bring the sums over all accounts up to date, looking only at those that were touched.

        Source: MONEY-001.
        """
        for key, before in self._wallets_before.items():
            self.held[key[1]] += self.wallets[key] - before
        for (account, market), (qty, worth) in self._holdings_before.items():
            holding = self.holdings[account][market]
            self.held[self._rules(market).asset] += holding.margin - holding.cost - worth
            self.quantities[market] += holding.qty - qty
        self._wallets_before.clear()
        self._holdings_before.clear()

    # ------------------------------------------------------------ who has what

    def _rules(self, market: int) -> MarketRules:
        return self.setup.markets[market]

    def _holding(self, account: int, market: int) -> Holding:
        """Return a holding, to read or to change: what it was is kept until `add_up`."""
        held = self.holdings.setdefault(account, {})
        if market not in held:
            rules = self._rules(market)
            is_cross = account <= EXTERNAL or self._is_portfolio(account, rules.asset)
            held[market] = Holding(rules.leverage_ppm, CROSS if is_cross else rules.margin_mode)
        holding = held[market]
        self._holdings_before.setdefault((account, market), (holding.qty, holding.margin - holding.cost))
        return holding

    def _pay(self, account: int, market: int, amount: int) -> None:
        key = (account, self._rules(market).asset)
        before = self.wallets.get(key, 0)
        self._wallets_before.setdefault(key, before)
        self.wallets[key] = before + amount

    def _value(self, market: int, price: int, qty: int) -> int:
        """Return the value of a signed quantity, an inverse one's rounded half to even (NUM-002, INV-001)."""
        rules = self._rules(market)
        if rules.kind == LINEAR or price == 0:
            return price * qty * rules.multiplier
        magnitude, rest = divmod(abs(qty) * rules.multiplier, price)
        if 2 * rest > price or (2 * rest == price and magnitude % 2):
            magnitude += 1
        return -sign_of(qty) * magnitude

    def _domain(self, account: int, market: int) -> Domain:
        is_isolated = self._holding(account, market).mode == ISOLATED
        return Domain(account, self._rules(market).asset, market if is_isolated else -1)

    def _open_markets(self, domain: Domain) -> list[int]:
        held = self.holdings.get(domain.account, {})
        return [
            market for market, holding in held.items() if holding.qty and self._domain(domain.account, market) == domain
        ]

    def _gain(self, account: int, market: int) -> int:
        holding = self._holding(account, market)
        return self._value(market, self.marks[market], holding.qty) - holding.cost

    def _equity(self, domain: Domain) -> int:
        if domain.market >= 0:
            return self._holding(domain.account, domain.market).margin + self._gain(domain.account, domain.market)
        held = [market for market, holding in self.holdings.get(domain.account, {}).items() if holding.mode == CROSS]
        markets = [market for market in held if self._rules(market).asset == domain.asset]
        own = self.wallets.get((domain.account, domain.asset), 0)
        return own + sum(self._gain(domain.account, market) for market in markets)

    def _tier(self, market: int, notional: int) -> tuple[int, int, int, int]:
        return max(tier for tier in self._rules(market).tables[self.tables[market]] if tier[0] <= notional)

    def _need(self, account: int, market: int) -> int:
        qty = self._holding(account, market).qty
        notional = abs(self._value(market, self.marks[market], qty))
        tier = self._tier(market, notional)
        extra = self._rules(market).short_maintenance_ppm if qty < 0 else 0
        return ceil_div(notional * (tier[2] + extra), PPM) - tier[3]

    def _maintenance(self, domain: Domain) -> int:
        return self._requirement(domain, self._open_markets(domain))

    # ------------------------------------------------------------ portfolios

    def _is_portfolio(self, account: int, asset: int) -> bool:
        """Return whether the account's cross domain in an asset is margined as a portfolio (PORT-002)."""
        return ((account, asset) in self.switched) != self.setup.starts_as_portfolio(asset)

    def _scan(self, account: int, markets: list[int]) -> int:
        """Return what positions on one underlying require: the marks at their worst, and the contingency (PORT-003)."""
        rules = self._rules(markets[0])
        values = [self._value(each, self.marks[each], self._holding(account, each).qty) for each in markets]
        now = sum(values) * PPM
        then = [sum(value * (PPM + move) for value in values) for move in rules.moves_ppm]
        return ceil_div(max(now - min(then), 0) + rules.contingency_ppm * sum(map(abs, values)), PPM)

    def _requirement(self, domain: Domain, markets: list[int]) -> int:
        """Return the maintenance of a domain's positions in some markets (MARGIN-001, PORT-003)."""
        if domain.market >= 0 or not self._is_portfolio(domain.account, domain.asset):
            return sum(self._need(domain.account, market) for market in markets)
        groups: dict[int, list[int]] = {}
        for market in markets:
            groups.setdefault(self._rules(market).underlying, []).append(market)
        return sum(self._scan(domain.account, group) for group in groups.values())

    def _share(self, domain: Domain, market: int) -> int:
        """Return a position's share of its domain's equity, by what each would require alone (MARGIN-005, PORT-006)."""
        equity, markets = self._equity(domain), self._open_markets(domain)
        if markets == [market]:
            return equity
        weights = {each: self._requirement(domain, [each]) for each in markets}
        return equity * weights[market] // sum(weights.values())

    def describe(self, account: int, market: int) -> Stand:
        """Return how an open position stands (ADL-002, MARGIN-005)."""
        holding, domain = self._holding(account, market), self._domain(account, market)
        is_isolated = holding.mode == ISOLATED
        return Stand(
            account=account,
            qty_lot=holding.qty,
            gain_quote=self._gain(account, market),
            cost_quote=holding.cost,
            value_quote=self._value(market, self.marks[market], holding.qty),
            share_quote=self._share(domain, market),
            equity_quote=self._equity(domain),
            maintenance_quote=self._maintenance(domain),
            own_quote=holding.margin if is_isolated else self.wallets.get((account, domain.asset), 0),
            leverage_ppm=holding.leverage_ppm,
            opened_seq=holding.opened_seq,
        )

    def describe_market(self, market: int) -> list[Stand]:
        """Return how the open positions in a market stand, by account; the outside's and the house's are left out."""
        accounts = sorted(self.holdings)
        open_ = [account for account in accounts if account > EXTERNAL and market in self.holdings[account]]
        return [self.describe(account, market) for account in open_ if self.holdings[account][market].qty]

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return the first mark at which a position's domain is liquidatable, the other marks as they are; 0: none.

        Source: MARGIN-011.
        """
        rules, qty = self._rules(market), self._holding(account, market).qty
        highest = rules.tables[self.tables[market]][-1][2]
        is_beyond = qty > 0 and highest > PPM
        if rules.kind != LINEAR:
            is_beyond = qty < 0 and highest + rules.short_maintenance_ppm > PPM
        if qty == 0 or is_beyond:
            return 0
        domain, mark = self._domain(account, market), self.marks[market]

        def is_liquidatable(tick: int) -> bool:
            self.marks[market] = tick
            found = self._equity(domain) < self._maintenance(domain)
            self.marks[market] = mark
            return found

        near, far = (rules.price_max_tick, 1) if qty > 0 else (1, rules.price_max_tick)
        if not is_liquidatable(far):
            return 0
        if is_liquidatable(near):
            return near
        while abs(far - near) > 1:
            middle = (far + near) // 2
            near, far = (near, middle) if is_liquidatable(middle) else (middle, far)
        return far

    # ------------------------------------------------------------ fills

    def _close(self, account: int, market: int, qty: int, value: int) -> int:
        """Close part of a position for `value`, and return what it realised (POS-001..POS-003)."""
        holding = self._holding(account, market)
        total = abs(holding.qty)
        cost = holding.cost * qty // total
        realised = value - cost
        if holding.mode == ISOLATED:
            released = holding.margin * qty // total
            stays = realised + released < 0
            holding.margin += realised if stays else -released
            self._pay(account, market, 0 if stays else realised + released)
        else:
            self._pay(account, market, realised)
        holding.cost -= cost
        holding.qty -= sign_of(holding.qty) * qty
        self._sweep(account, market)
        return realised

    def _sweep(self, account: int, market: int) -> None:
        """Move the margin of a position that is now flat to the wallet (POS-003)."""
        self.last_markets[account, self._rules(market).asset] = market
        holding = self._holding(account, market)
        if holding.qty == 0:
            self._pay(account, market, holding.margin)
            holding.margin = 0

    def _open(self, account: int, market: int, side: int, qty: int, value: int) -> None:
        """Open for a signed value, and move an isolated position's margin from the wallet (POS-004)."""
        self.last_markets[account, self._rules(market).asset] = market
        holding = self._holding(account, market)
        if holding.qty == 0:
            holding.opened_seq = self.seq
        holding.qty += side * qty
        holding.cost += value
        if holding.mode == ISOLATED:
            notional = abs(self._value(market, self.marks[market], holding.qty))
            rate = max(holding.leverage_ppm, self._tier(market, notional)[1])
            wallet = self.wallets.get((account, self._rules(market).asset), 0)
            moved = min(ceil_div(abs(value) * rate, PPM), max(0, wallet))
            self._pay(account, market, -moved)
            holding.margin += moved

    def _is_cash(self, market: int) -> bool:
        return self._rules(market).settlement == SETTLED_AT_MARK

    def _book_cash(self, account: int, market: int, side: int, qty: int, value: int) -> None:
        """Book a trade where the mark settles: quantity and cost (CASH-003)."""
        self.last_markets[account, self._rules(market).asset] = market
        holding = self._holding(account, market)
        before = holding.qty
        holding.qty += side * qty
        holding.cost += value
        if holding.qty and sign_of(holding.qty) != sign_of(before):
            holding.opened_seq = self.seq

    def _fill(self, account: int, market: int, side: int, qty: int, price: int, fee_ppm: int) -> tuple[int, int]:
        """Book one side of a fill, and return its fee and the change of its isolated margin."""
        holding = self._holding(account, market)
        before = holding.margin
        value = self._value(market, price, side * qty)
        fee = 0 if account == EXTERNAL else ceil_div(abs(value) * fee_ppm, PPM)
        self._pay(account, market, -fee)
        self.sums[self._rules(market).asset].fees += fee
        if self._is_cash(market):
            self._book_cash(account, market, side, qty, value)
            return fee, 0
        closed = min(qty, abs(holding.qty)) if holding.qty * side < 0 else 0
        # what closes gets its part of the one value of the fill, floored; what opens the rest (INV-003)
        worth = -value * closed // qty
        if closed:
            self._close(account, market, closed, worth)
        if closed < qty:
            self._open(account, market, side, qty - closed, value + worth)
        return fee, holding.margin - before
