"""The auditor: balances rebuilt from the events alone, every number of every event held against its own."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.audit.books import ceil_div
from engine.audit.fields import UNNAMED, UNNAMED_ACCEPTED
from engine.audit.house import HouseBooks
from engine.audit.state import compare_rows, read_table
from engine.codes import BUY, CROSS, EXTERNAL, HOUSE, ISOLATED, PORTFOLIO, PPM, PRICE_MAX_LIMIT, SELL
from engine.contract import Setup
from engine.digest import View
from engine.errors import InvariantError
from engine.layout import EVENT

_Row: Any = namedtuple("_Row", EVENT.names or ())  # type: ignore[misc]

# Events about a whole domain: their market may be -1, and `other` is the asset.
_OF_DOMAINS = (codes.MARGIN_CALL, codes.LIQUIDATION_STARTED, codes.LIQUIDATION_ENDED)
_FILLS = (codes.TRADE, codes.LIQUIDATION_FILL, codes.ADL_FILL, codes.TAKEOVER)


class Auditor(HouseBooks):
    """Rebuilds every balance from events, and refuses the first event that cannot be true.

    Parameters
    ----------
    setup : Setup
        What the engine that emitted the events was built from.

    Source: MONEY-002, EVT-001, EVT-002.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
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
            codes.TIERS_CHANGED: self._tiers_changed,
            codes.FUNDING_RATE: self._funding_rate,
            codes.VARIATION: self._variation,
        }

    # ------------------------------------------------------------ reading

    def feed(self, events: Iterable[Any] | NDArray[np.void]) -> None:
        """Read events of whole commands.

        Raises
        ------
        InvariantError
            At the first event that contradicts the ones before it, or command that does not conserve (MONEY-001).
        """
        for _ in self.follow(events):
            pass

    def follow(self, events: Iterable[Any] | NDArray[np.void]) -> Iterator[Any]:
        """Yield each event of whole commands in the state it came from, and book it when the next one is asked for.

        Source: MONEY-002.
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
            yield event
            if not self._take_planned(event):
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
        if self._dues and not self._plan and self._deficit is None:
            self._check(event, "kind before all have paid", event.kind, codes.FUNDING_PAYMENT)
        liquidation = self._liquidation
        if liquidation is not None and liquidation.credit is not None:
            self._check(event, "kind after a surplus", event.kind, codes.FUND_CREDIT)
        elif self._deficit is not None:
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
        self._end_plan()
        if self._liquidation is not None or self._deficit is not None:
            raise InvariantError(f"command {self.seq}: a liquidation was started and not ended")
        if self._dues:
            raise InvariantError(f"command {self.seq}: funding was announced and account {self._dues[-1][0]} not paid")
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

    def _nothing(self, event: Any) -> None:
        """Read an event that moves no money."""

    def _trade(self, event: Any) -> None:
        if event.account == HOUSE:
            self._trade_of_house(event)
            return
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
        if event.code in (codes.PLACE, codes.ASSIGN) and self._is_cash(market):
            self.entries[market].setdefault(event.account)
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
            self._set_mode(event)
        elif event.code == codes.ASSIGN:
            self._assign(event)

    def _set_mode(self, event: Any) -> None:
        """Book a margin mode: of a market, or of all that settle in its asset (MARGIN-008, PORT-002)."""
        account, mode, asset = event.account, event.amount_quote, self._rules(event.market).asset
        together = [market for market, rules in enumerate(self.setup.markets) if rules.asset == asset]
        has_grids = all(self._rules(market).moves_ppm for market in together)
        is_known = mode in (CROSS, ISOLATED) or (mode == PORTFOLIO and has_grids)
        self._expect(event, "amount_quote", mode, ISOLATED, is_known)
        was_portfolio = self._is_portfolio(account, asset)
        if was_portfolio and mode == PORTFOLIO:
            return
        is_switch = was_portfolio or mode == PORTFOLIO
        for market in together if is_switch else [event.market]:
            self._check(event, "position", self._holding(account, market).qty, 0)
            self._holding(account, market).mode = CROSS if mode == PORTFOLIO else self._rules(market).margin_mode
        if is_switch:
            self.switched ^= {(account, asset)}
        if mode != PORTFOLIO:
            self._holding(account, event.market).mode = mode

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
        holding.cost += self._value(event.market, event.price_tick, holding.qty)
        holding.opened_seq = event.seq
        self._fill(EXTERNAL, event.market, -event.side, event.qty_lot, event.price_tick, 0)

    def _mark(self, event: Any) -> None:
        self._check(event, "mark_tick", event.mark_tick, self.marks[event.market])
        self._expect(event, "price_tick", event.price_tick, event.mark_tick, event.price_tick != event.mark_tick)
        self.previous_marks[event.market], self.marks[event.market] = event.mark_tick, event.price_tick
        self._note_moved(event.market)

    def _tiers_changed(self, event: Any) -> None:
        """Put another tier table in force (TIER-002)."""
        before = self.tables[event.market]
        self._check(event, "rank", event.rank, before)
        is_table = 0 <= event.code < len(self._rules(event.market).tables) and event.code != before
        self._expect(event, "code", event.code, before, is_table)
        self.tables[event.market] = event.code

    # ------------------------------------------------------------ against a state

    def compare(self, view: View) -> None:
        """Hold what was rebuilt against a state.

        Orders, index and last prices and who was called are not compared: the outside's levels are in no event.

        Raises
        ------
        InvariantError
            Naming the first difference (MONEY-002).
        """
        names = ("clock", "markets", "positions", "wallets", "funds", "assets", "tables", "resting", "portfolios")
        clock, markets, positions, wallets, funds, assets, tables, resting, portfolios = (
            read_table(view, name).tolist() for name in names
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
        entered = [(market, account) for market, accounts in enumerate(self.entries) for account in accounts]
        compare_rows("entries", [tuple(row) for row in read_table(view, "entries").tolist()], entered)
        compare_rows("funds", [tuple(row) for row in funds], list(zip(self.funds, self.fund_lows, strict=True)))
        compare_rows("assets", [tuple(row) for row in assets], [astuple(sums) for sums in self.sums])
        chosen = [(market, table) for market, table in enumerate(self.tables) if table]
        compare_rows("tables", [tuple(row) for row in tables], chosen)
        adl = [(*row[:3], max(row[4:])) for row in read_table(view, "adl").tolist()]
        now = clock[0][1]
        compare_rows("adl", adl, self._list_adl(now))
        compare_rows("resting", [tuple(row) for row in resting if row[3] > now], self._list_resting(now))
        modes = [(*key, int(self._is_portfolio(*key))) for key in sorted(self.switched)]
        compare_rows("portfolios", [tuple(row) for row in portfolios], modes)

    def _list_adl(self, ts_ns: int) -> list[tuple[int, ...]]:
        """Return market, previous mark, whether its trigger is active, and its fund's peak (ADL-017, ADL-020)."""
        rows: list[tuple[int, ...]] = []
        for market, rules in enumerate(self.setup.markets):
            is_priced, watch = rules.adl_price == codes.PRICE_PREVIOUS, self.watches.get(market)
            previous = self.previous_marks[market] if is_priced else 0
            if watch is not None:
                watch.look(ts_ns)
                rows.append((market, previous, int(watch.is_active), watch.peak()))
            elif is_priced:
                rows.append((market, previous, 0, 0))
        return rows

    def _list_positions(self) -> list[tuple[int, ...]]:
        """Return the rows of positions that are open or have settings of their own, as a View has them."""
        rows: list[tuple[int, ...]] = []
        for account, held in sorted(self.holdings.items()):
            for market, holding in sorted(held.items()):
                rules = self._rules(market)
                start_mode = CROSS if self._is_portfolio(account, rules.asset) else rules.margin_mode
                default = (rules.leverage_ppm, rules.margin_mode if account <= EXTERNAL else start_mode)
                settings = default if account <= EXTERNAL else (holding.leverage_ppm, holding.mode)
                if holding.qty or holding.cost or settings != default:
                    sums = (holding.qty, holding.cost, holding.margin, holding.opened_seq)
                    rows.append((account, market, *sums, *settings))
        return rows
