"""Waves of a run, rebuilt from its events alone: what had to be paid, who could have paid it, who did.

The auditor follows the events; where winners begin to pay, what it has rebuilt is the state just before.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.audit import Auditor
from engine.audit.books import Stand
from engine.contract import MarketRules, Setup, value_of
from engine.formulas.exact import Number
from engine.reference.scores import Standing, compute_score

Rows = NDArray[np.void]


class Winner(NamedTuple):
    """An account that could have paid, as it stood before the wave, and what the run took from it."""

    account: int
    qty_lot: int  # of its position, whatever its side
    pnl_quote: int  # unrealised
    equity_quote: Number  # of its domain
    opened_seq: int = 0
    is_candidate: bool = True  # in the queue (ADL-002); others are only cut
    standing: Standing | None = None  # what another score would look at
    hedge_quote: Number = 0  # risk of its positions elsewhere, signed as this one: what leverage draining adds
    closed_lot: int = 0
    taken_quote: int = 0  # what it gave up against the mark, and what was cut from it
    gained_quote: int = 0  # against the mark, in closes whose price was better for it

    @property
    def endowment_quote(self) -> int:
        """What can be taken of its profit, `max(PnL, 0)`."""
        return max(self.pnl_quote, 0)


class Wave(NamedTuple):
    """Successive payments by the winners of one market and side; money in units of the asset.

    Source: LAB-001, LAB-002.
    """

    market: int
    side: int  # of the winners' positions; 0: both, where a flat wallet was made whole
    start_ns: int
    end_ns: int
    lot_quote: Number  # what a lot was worth at the mark when it began
    winners: tuple[Winner, ...]  # in the order of the queue
    lots: int  # whose deficits the winners had to pay
    deficit_quote: int  # all that arose in it, whoever paid
    largest_quote: int  # of one account
    by_fund_quote: int
    by_adl_quote: int
    by_haircut_quote: int
    unpaid_quote: int
    marked_out_quote: int = 0  # what was taken, closes valued at the mark some time after the wave's end

    @property
    def needed_quote(self) -> int:
        """What the winners had to pay: B."""
        return self.by_adl_quote + self.by_haircut_quote

    @property
    def taken_quote(self) -> int:
        """What they paid: H."""
        return sum(winner.taken_quote for winner in self.winners)

    @property
    def gained_quote(self) -> int:
        """What closes gave them."""
        return sum(winner.gained_quote for winner in self.winners)


class Totals(NamedTuple):
    """All deficits of a run, in waves or not, as a summary has them (CLI-001)."""

    deficits: int
    deficit_quote: int
    paid_by_fund_quote: int
    paid_by_adl_quote: int
    paid_by_haircut_quote: int
    unpaid_quote: int


class _Debt(NamedTuple):
    """What of a `deficit` event waves need."""

    ts_ns: int
    account: int
    payers: tuple[int, int, int, int]  # fund, ADL, haircut, nobody
    is_settled: bool  # winners of a settlement at the mark got less for it: no event takes that from them (CASH-004)


class _Close(NamedTuple):
    account: int
    lots: int  # signed as the position
    paid_quote: int  # signed as the bankrupt's position


@dataclass
class _Open:
    """A wave that is being read."""

    market: int
    side: int
    start_ns: int
    end_ns: int
    lot_quote: Fraction
    winners: dict[int, Winner]
    lots: int = 0
    closes: list[_Close] = field(default_factory=list)
    cuts: dict[int, int] = field(default_factory=dict)


def score_stand(rules: MarketRules, stand: Stand) -> Standing:
    """Return what a score may look at (ADL-003, ADL-010..ADL-016)."""
    return Standing(
        gain=stand.gain_quote,
        cost=max(abs(stand.cost_quote), 1),
        value=abs(stand.value_quote),
        share=stand.share_quote,
        leverage_ppm=stand.leverage_ppm,
        equity=stand.equity_quote,
        maintenance=stand.maintenance_quote,
        own=stand.own_quote,
        whole=rules.whole_quote,
    )


class WaveReader:
    """Finds waves while it follows events.

    Parameters
    ----------
    setup : Setup
        Of the exchange that emitted them.
    gap_ns : int
        A payment by winners later than this after the last of its market and side begins another wave.
    horizon_ns : int
        How long after a wave's end its closes are valued for `marked_out_quote`.

    Source: LAB-001, LAB-002, LAB-003, LAB-012.
    """

    def __init__(self, setup: Setup, gap_ns: int, horizon_ns: int = 0) -> None:
        self.setup, self.gap_ns, self.horizon_ns = setup, gap_ns, horizon_ns
        self.auditor = Auditor(setup)
        self._open: dict[tuple[int, int], _Open] = {}
        self._found: list[_Open] = []
        self._debts: dict[tuple[int, int], list[_Debt]] = {}  # by market and closing side, in order of time
        self._cuts: list[tuple[Stand, int]] = []  # of the deficit whose event is still to come
        self._closed: set[int] = set()  # deficits of closes, whose lots are counted there
        self._marks: list[list[tuple[int, int]]] = [[] for _ in setup.markets]  # (ts_ns, tick) of every move

    def read(self, events: Iterable[Rows]) -> tuple[list[Wave], Totals]:
        """Return the waves in the order they began, and the run's deficits.

        Parameters
        ----------
        events : iterable of EVENT arrays
            Of whole commands each, in order, from the first on.

        Raises
        ------
        InvariantError
            At the first event that contradicts those before it (MONEY-002).
        """
        kinds = (codes.MARK_MOVED, codes.ADL_FILL, codes.HAIRCUT, codes.DEFICIT)
        handlers = dict(zip(kinds, (self._mark, self._close, self._cut, self._owe), strict=True))
        for rows in events:
            for event in self.auditor.follow(rows):
                handler = handlers.get(event.kind)
                if handler:
                    handler(event)
        return [self._finish(wave) for wave in self._found], self._add_up()

    # ------------------------------------------------------------ events

    def _mark(self, event: Any) -> None:
        self._marks[event.market].append((event.ts_ns, event.price_tick))

    def _close(self, event: Any) -> None:
        """Note a close: it is the bankrupt's side that its victim's position has."""
        wave = self._wave(event, event.side)
        if event.other not in wave.winners:
            self._join(wave, self.auditor.describe(event.other, event.market), is_candidate=True)
        wave.closes.append(_Close(event.other, event.side * event.qty_lot, event.amount_quote))
        wave.lots += event.qty_lot
        if event.order_id:
            self._closed.add(event.order_id)
        winner = wave.winners[event.other]
        at_mark = value_of(self.setup.markets[event.market], event.mark_tick, event.side * event.qty_lot)
        loss = event.amount_quote + at_mark
        wave.winners[event.other] = winner._replace(
            closed_lot=winner.closed_lot + event.qty_lot,
            taken_quote=winner.taken_quote + max(loss, 0),
            gained_quote=winner.gained_quote + max(-loss, 0),
        )

    def _cut(self, event: Any) -> None:
        self._cuts.append((self.auditor.describe(event.account, event.market), event.amount_quote))

    def _owe(self, event: Any) -> None:
        payers = (event.other_amount_quote, event.fee_quote, event.margin_quote, event.other_margin_quote)
        is_settled = event.margin_quote > 0 and not self._cuts
        debt = _Debt(event.ts_ns, event.account, payers, is_settled)
        self._debts.setdefault((event.market, event.side), []).append(debt)
        if not self._cuts:
            return
        wave = self._wave(event, event.side)
        for stand, cut in self._cuts:
            if stand.account not in wave.winners:
                self._join(wave, stand, is_candidate=False)
            winner = wave.winners[stand.account]
            wave.winners[stand.account] = winner._replace(taken_quote=winner.taken_quote + cut)
            wave.cuts[stand.account] = wave.cuts.get(stand.account, 0) + cut
        if event.order_id not in self._closed:
            wave.lots += event.qty_lot
        self._cuts = []

    def _wave(self, event: Any, side: int) -> _Open:
        """Return the wave an event belongs to, begun with it if the last one is too long ago."""
        wave = self._open.get((event.market, side))
        if wave is None or event.ts_ns - wave.end_ns > self.gap_ns:
            wave = self._open[event.market, side] = self._begin(event, side)
            self._found.append(wave)
        wave.end_ns = event.ts_ns
        return wave

    def _begin(self, event: Any, side: int) -> _Open:
        rules, mark = self.setup.markets[event.market], self.auditor.marks[event.market]
        # a lot of an inverse market is worth its face over the mark
        lot = Fraction(rules.multiplier, mark) if rules.kind == codes.INVERSE else Fraction(rules.multiplier * mark)
        wave = _Open(event.market, side, event.ts_ns, event.ts_ns, lot, {})
        before = {stand.account: stand for stand, _ in self._cuts}
        stands = [before.get(stand.account, stand) for stand in self.auditor.describe_market(event.market)]
        ranked = [
            (-self._score(stand, rules), stand.opened_seq, stand.account, stand)
            for stand in stands
            if stand.share_quote > 0 and stand.qty_lot * side > 0
        ]
        for *_, stand in sorted(ranked):
            self._join(wave, stand, is_candidate=True)
        return wave

    def _score(self, stand: Stand, rules: MarketRules) -> int:
        return compute_score(rules.adl_score, score_stand(rules, stand))

    def _join(self, wave: _Open, stand: Stand, *, is_candidate: bool) -> None:
        wave.winners[stand.account] = Winner(
            account=stand.account,
            qty_lot=abs(stand.qty_lot),
            pnl_quote=stand.gain_quote,
            equity_quote=stand.equity_quote,
            opened_seq=stand.opened_seq,
            is_candidate=is_candidate,
            standing=score_stand(self.setup.markets[wave.market], stand),
        )

    # ------------------------------------------------------------ sums

    def _finish(self, wave: _Open) -> Wave:
        inside = self._debts_of(wave)
        sums = [sum(debt.payers[payer] for debt in inside) for payer in range(4)]
        losses: dict[int, int] = {}
        for debt in inside:
            losses[debt.account] = losses.get(debt.account, 0) + sum(debt.payers)
        return Wave(
            market=wave.market,
            side=wave.side,
            start_ns=wave.start_ns,
            end_ns=wave.end_ns,
            lot_quote=wave.lot_quote,
            winners=tuple(wave.winners.values()),
            lots=wave.lots,
            deficit_quote=sum(sums),
            largest_quote=max(losses.values(), default=0),
            by_fund_quote=sums[0],
            by_adl_quote=sums[1],
            by_haircut_quote=sums[2],
            unpaid_quote=sums[3],
            marked_out_quote=self._mark_out(wave),
        )

    def _debts_of(self, wave: _Open) -> list[_Debt]:
        """Return the deficits of a wave's market and side from its first payment to its last, whoever paid."""
        debts = self._debts.get((wave.market, wave.side), [])
        first = bisect_left(debts, wave.start_ns, key=lambda debt: debt.ts_ns)
        last = bisect_right(debts, wave.end_ns, key=lambda debt: debt.ts_ns)
        return [debt for debt in debts[first:last] if not debt.is_settled]

    def _mark_out(self, wave: _Open) -> int:
        """Return what winners lost by the wave, had they held on until its end and the horizon: `sum of max(0, loss)`.

        Source: LAB-012.
        """
        rules = self.setup.markets[wave.market]
        until = wave.end_ns + self.horizon_ns
        tick = next((tick for ts_ns, tick in reversed(self._marks[wave.market]) if ts_ns <= until), 0)
        losses = dict(wave.cuts)
        for close in wave.closes:
            loss = close.paid_quote + value_of(rules, tick or rules.initial_mark_tick, close.lots)
            losses[close.account] = losses.get(close.account, 0) + loss
        return sum(max(loss, 0) for loss in losses.values())

    def _add_up(self) -> Totals:
        debts = list(chain.from_iterable(self._debts.values()))
        fund, adl, haircut, unpaid = (sum(debt.payers[payer] for debt in debts) for payer in range(4))
        return Totals(len(debts), fund + adl + haircut + unpaid, fund, adl, haircut, unpaid)
