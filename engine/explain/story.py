"""What an account met and how it stood, told by the auditor: balances rebuilt from the events, nothing run again."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.audit import Auditor
from engine.audit.books import Stand
from engine.codes import PPM
from engine.contract import Setup, value_of
from engine.errors import ConfigError, DataError, InvariantError
from engine.lab.waves import score_stand
from engine.reference.scores import compute_score
from engine.runs.people import find_account
from engine.runs.read import RunRecord, open_run, read_events

Rows = NDArray[np.void]
Row = dict[str, Any]

SCHEMA = 1
# accepted commands that change what an account has or how it is margined
WITH_OTHER = (codes.TRADE, codes.LIQUIDATION_FILL, codes.ADL_FILL)  # whose `other` is an account
BY_FUND = ("fund_credit", "fund_debit")  # whose `other` is a fund
REASONS = {codes.FUND_SHORT: "fund_short", codes.BOOK_EMPTY: "book_empty", codes.FUND_HELD: "fund_held"}
BOOKED = (codes.DEPOSIT, codes.WITHDRAW, codes.MOVE_MARGIN, codes.SET_LEVERAGE, codes.SET_MARGIN_MODE, codes.ASSIGN)


def explain_account(folder: Path, account: int | str, looks: int) -> Row:
    """Return an account's story.

    Parameters
    ----------
    folder : path
        A run directory with its events.
    account : int or str
        Its number, or its name.
    looks : int
        At how many times, evenly over the run, its standing is told.

    Returns
    -------
    dict
        `end`, `sums`, `looks` and `events`, as formats.md has them; in `names` who of it has one.

    Raises
    ------
    ConfigError
        If nobody is called so, or the run has no event of the account.
    DataError
        If the folder is no run, keeps no events, or they contradict each other.

    Source: EXPL-001..EXPL-004, POP-002.
    """
    run = open_run(folder)
    account = account if isinstance(account, int) else find_account(run, account)
    if account <= codes.EXTERNAL:
        raise ConfigError(f"--account {account}: the outside and the house have no story, accounts begin at 1")
    reader = _Reader(run, account, looks)
    try:
        reader.read(read_events(folder))
    except InvariantError as error:
        raise DataError(folder, None, "events", f"expected the events of one run from its start: {error}") from error
    if not reader.events:
        raise ConfigError(f"--account {account}: nothing happened to it in this run (perp log RUN lists accounts)")
    return {
        "schema": SCHEMA,
        "account": account,
        "names": reader.list_names(run.names),
        "run": folder.name,
        "digest": run.summary["digest"],
        "first_ns": run.summary["first_ns"],
        "last_ns": run.summary["last_ns"],
        "assets": run.summary["assets"],
        "markets": [
            {name: market[name] for name in ("symbol", "tick_size", "lot_size")} for market in run.summary["markets"]
        ],
        "end": reader.describe_end(),
        "sums": {name: reader.sums[name] for name in SUMS},
        "orders": reader.orders,
        "looks": reader.looks,
        "events": reader.events,
    }


SUMS = (
    "paid_in_quote",
    "withdrawn_quote",
    "fees_quote",
    "funding_quote",
    "adl_loss_quote",
    "adl_gain_quote",
    "haircut_quote",
    "deficit_quote",
    "paid_by_fund_quote",
    "paid_by_adl_quote",
    "paid_by_haircut_quote",
    "unpaid_quote",
)


class _Reader:
    """Follows the events of a run with an eye on one account."""

    def __init__(self, run: RunRecord, account: int, looks: int) -> None:
        self.setup: Setup = run.setup
        self.account = account
        self.auditor = Auditor(run.setup)
        self.sums: Counter[str] = Counter()
        self.orders = 0
        self.events: list[Row] = []
        self.looks: list[Row] = []
        first, last = int(run.summary["first_ns"]), int(run.summary["last_ns"])
        self._due = [first + (last - first) * number // max(looks, 1) for number in range(1, looks + 1)]
        self._tellers: dict[int, Callable[[Any], Row | None]] = {
            codes.ACCEPTED: self._accepted,
            codes.TRADE: self._trade,
            codes.LIQUIDATION_FILL: self._liquidation_fill,
            codes.ADL_FILL: self._adl_fill,
            codes.FUNDING_PAYMENT: self._funding,
            codes.DEFICIT: self._deficit,
            codes.HAIRCUT: self._haircut,
            codes.LIQUIDATION_STARTED: self._started,
        }

    def read(self, blocks: Iterable[Rows]) -> None:
        """Follow all events, and look once more at the end."""
        for event in chain.from_iterable(self.auditor.follow(rows) for rows in blocks):
            while self._due and event.ts_ns >= self._due[0]:
                self._look(self._due.pop(0))
            if event.account == self.account or (event.kind in WITH_OTHER and event.other == self.account):
                self._tell(event)
        for due in self._due:
            self._look(due)

    def _tell(self, event: Any) -> None:
        teller = self._tellers.get(event.kind, self._plain)
        told = teller(event)
        if told is not None:
            place = {"ts_ns": event.ts_ns, "seq": event.seq, "kind": codes.EVENT_NAMES[event.kind]}
            self.events.append(place | {"market": event.market} | told)

    def list_names(self, names: Mapping[int, str]) -> dict[str, str]:
        """Return the names of the account and of those it met, by number, as JSON has them."""
        met = (row["other"] for row in self.events if "other" in row and row["kind"] not in BY_FUND)
        people = sorted({self.account, *met})
        return {str(account): names[account] for account in people if account in names}

    # ------------------------------------------------------------ how it stands

    def _look(self, ts_ns: int) -> None:
        """Note how each open position of the account stands (EXPL-002)."""
        for market in range(len(self.setup.markets)):
            held = self.auditor.holdings.get(self.account, {}).get(market)
            if held is not None and held.qty:
                self.looks.append({"ts_ns": ts_ns, "market": market} | self._stand(market) | self._rank(market))

    def _stand(self, market: int) -> Row:
        """Return a position, what it has gained, and how far its liquidation is."""
        stand, mark = self.auditor.describe(self.account, market), self.auditor.marks[market]
        price = self.auditor.find_liquidation_price(self.account, market)
        return {
            "qty_lot": stand.qty_lot,
            "mark_tick": mark,
            "gain_quote": stand.gain_quote,
            "cost_quote": stand.cost_quote,
            "value_quote": stand.value_quote,
            "share_quote": stand.share_quote,
            "equity_quote": stand.equity_quote,
            "maintenance_quote": stand.maintenance_quote,
            "leverage_ppm": stand.leverage_ppm,
            "effective_leverage_ppm": abs(stand.value_quote) * PPM // stand.share_quote
            if stand.share_quote > 0
            else None,
            "liquidation_tick": price,
            "distance_ppm": abs(mark - price) * PPM // mark if price and mark else None,
        }

    def _rank(self, market: int) -> Row:
        """Return where in its side's ADL queue a position stands, and by what score (ADL-002)."""
        rules, stands = self.setup.markets[market], self.auditor.describe_market(market)
        own = next(stand for stand in stands if stand.account == self.account)
        score_name = codes.POLICIES["adl_score"][rules.adl_score]

        def key(stand: Stand) -> tuple[int, int, int]:
            return -compute_score(rules.adl_score, score_stand(rules, stand)), stand.opened_seq, stand.account

        side = 1 if own.qty_lot > 0 else -1
        queue = [key(stand) for stand in stands if stand.share_quote > 0 and stand.qty_lot * side > 0]
        if own.share_quote <= 0:
            return {"rank": None, "queue": len(queue), "score": None, "score_by": score_name}
        mine = key(own)
        rank = 1 + sum(other < mine for other in queue)
        return {"rank": rank, "queue": len(queue), "score": -mine[0], "score_by": score_name}

    def describe_end(self) -> Row:
        """Return what the account has at the end, positions at their marks (EXPL-004)."""
        auditor, markets = self.auditor, self.setup.markets
        held = auditor.holdings.get(self.account, {})
        wallet = auditor.wallets.get((self.account, 0), 0)
        positions = []
        for market, holding in sorted(held.items()):
            if holding.qty or holding.cost or holding.margin:
                worth = int(value_of(markets[market], auditor.marks[market], holding.qty)) if holding.qty else 0
                row = {"market": market, "qty_lot": holding.qty, "mark_tick": auditor.marks[market]}
                positions.append(row | {"margin_quote": holding.margin, "gain_quote": worth - holding.cost})
        equity = wallet + sum(row["margin_quote"] + row["gain_quote"] for row in positions)
        result = equity - self.sums["paid_in_quote"] + self.sums["withdrawn_quote"]
        return {"equity_quote": equity, "wallet_quote": wallet, "result_quote": result, "positions": positions}

    # ------------------------------------------------------------ what it met

    def _plain(self, event: Any) -> Row | None:
        """Return an event that the account alone is in, as it is."""
        if event.kind in (codes.REJECTED, codes.CANCELED, codes.AMENDED):
            return None
        names = ("side", "qty_lot", "price_tick", "mark_tick", "bankruptcy_tick", "amount_quote", "other_amount_quote")
        told = {name: getattr(event, name) for name in names if getattr(event, name)}
        if event.kind in (codes.TAKEOVER, codes.ADL_NOTICE, codes.FUND_DEBIT, codes.FUND_CREDIT):
            told["other"] = event.other
        if event.kind == codes.ADL_STARTED:
            told |= {"reason": REASONS.get(event.code, str(event.code)), "queue": event.count}
        return told

    def _accepted(self, event: Any) -> Row | None:
        if event.code == codes.PLACE:
            self.orders += 1
        if event.code not in BOOKED:
            return None
        if event.code in (codes.DEPOSIT, codes.ASSIGN):
            self.sums["paid_in_quote"] += event.amount_quote
        elif event.code == codes.WITHDRAW:
            self.sums["withdrawn_quote"] += event.amount_quote
        told = {"command": codes.COMMAND_NAMES[event.code], "amount_quote": event.amount_quote}
        if event.code == codes.ASSIGN:
            told |= {"side": event.side, "qty_lot": event.qty_lot, "price_tick": event.price_tick}
        return told

    def _fill(self, event: Any) -> Row:
        """Return a fill from the account's side: what it paid as a fee, and to or from whom."""
        is_taker = event.account == self.account
        fee = event.fee_quote if is_taker else event.other_fee_quote
        self.sums["fees_quote"] += fee
        return {
            "role": "taker" if is_taker else "maker",
            "side": event.side if is_taker else -event.side,
            "qty_lot": event.qty_lot,
            "price_tick": event.price_tick,
            "mark_tick": event.mark_tick,
            "fee_quote": fee,
            "other": event.other if is_taker else event.account,
        }

    def _trade(self, event: Any) -> Row:
        return self._fill(event)

    def _started(self, event: Any) -> Row:
        """Return how a liquidation began, and what the domain's positions then were worth."""
        told = {"equity_quote": event.amount_quote, "maintenance_quote": event.other_amount_quote}
        stands = []
        for market, held in sorted(self.auditor.holdings.get(self.account, {}).items()):
            if held.qty and event.market in (-1, market):
                stands.append({"market": market} | self._stand(market))
        return told | {"positions": stands}

    def _liquidation_fill(self, event: Any) -> Row:
        told = self._fill(event)
        if event.account == self.account:
            told |= {"bankruptcy_tick": event.bankruptcy_tick, "surplus_quote": event.amount_quote}
            told |= {"deficit_id": event.order_id}
        else:
            told["role"] = "maker of a liquidation"
        return told

    def _adl_fill(self, event: Any) -> Row:
        """Return a deleveraging from the account's side; the loss is what it gave up against the mark (ADL-006)."""
        names = ("qty_lot", "price_tick", "mark_tick", "bankruptcy_tick", "rank")
        told = {name: getattr(event, name) for name in names} | {"queue": event.count}
        if event.other != self.account:
            self.sums["fees_quote"] += event.fee_quote
            return told | {"role": "bankrupt", "side": event.side, "other": event.other}
        lots = event.qty_lot * event.side
        loss = event.amount_quote + int(value_of(self.setup.markets[event.market], event.mark_tick, lots))
        self.sums["adl_loss_quote"] += max(loss, 0)
        self.sums["adl_gain_quote"] += max(-loss, 0)
        self.sums["fees_quote"] += event.other_fee_quote
        told |= {"role": "victim", "side": -event.side, "other": event.account, "score": event.other_order_id}
        return told | {
            "loss_quote": loss,
            "realised_quote": event.other_amount_quote,
            "fee_quote": event.other_fee_quote,
        }

    def _funding(self, event: Any) -> Row:
        self.sums["funding_quote"] += event.amount_quote
        return {"amount_quote": event.amount_quote, "qty_lot": event.qty_lot, "mark_tick": event.mark_tick}

    def _deficit(self, event: Any) -> Row:
        """Return who paid for what the account could not (EVT-002)."""
        payers = {
            "deficit_quote": event.amount_quote,
            "paid_by_fund_quote": event.other_amount_quote,
            "paid_by_adl_quote": event.fee_quote,
            "paid_by_haircut_quote": event.margin_quote,
            "unpaid_quote": event.other_margin_quote,
        }
        self.sums.update(payers)
        return {"id": event.order_id, "qty_lot": event.qty_lot, "price_tick": event.price_tick} | payers

    def _haircut(self, event: Any) -> Row:
        self.sums["haircut_quote"] += event.amount_quote
        return {"amount_quote": event.amount_quote, "winners": event.count}
