"""Open positions as they stand at some moment of a run, and the queues they wait in, rebuilt from the events alone."""

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audit import Auditor
from engine.audit.books import Stand
from engine.codes import ISOLATED, PPM
from engine.contract import value_of
from engine.errors import DataError, InvariantError
from engine.lab.waves import score_stand
from engine.reference.adl import count_lights
from engine.reference.scores import compute_score
from engine.runs.logs import POSITIONS, Units, describe_ranking, format_ns
from engine.runs.read import RunRecord
from engine.table import Table

Rows = NDArray[np.void]

COLUMNS = (
    *("exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount", "datetime"),
    *("account", "name", "margin_mode", "leverage", "notional", "mark_price", "liquidation_price", "unrealized_pnl"),
    *("collateral", "equity", "maintenance_margin", "rank", "queue", "lights", "adlQuantile", "seq"),
)


class Place(NamedTuple):
    """A candidate in the queue, first to be deleveraged first (ADL-002)."""

    rank: int
    account: int
    qty_lot: int
    gain_quote: int
    lights: int
    score: int


def rank_winners(auditor: Auditor, market: int, side: int) -> tuple[Place, ...]:
    """Return the candidates of a side in the order of the market's score, as the books stand (ADL-002, ADL-009)."""
    rules = auditor.setup.markets[market]
    ranked = sorted(
        (-compute_score(rules.adl_score, score_stand(rules, stand)), stand.opened_seq, stand.account, stand)
        for stand in auditor.describe_market(market)
        if stand.share_quote > 0 and stand.qty_lot * side > 0
    )
    lights = count_lights(rules.lights, [abs(stand.qty_lot) for *_, stand in ranked])
    return tuple(
        Place(rank, account, abs(stand.qty_lot), stand.gain_quote, shown, -score)
        for rank, ((score, _, account, stand), shown) in enumerate(zip(ranked, lights, strict=True), 1)
    )


def build_positions(run: RunRecord, events: Rows) -> Table:
    """Return the open positions after some events, with the place of each in the queue of its side.

    Candidates have a `rank`, of `queue`, and `lights`; the others none.  `adlQuantile` is Binance's: 0 to 4, the lights
    less one, 0 outside the queue.

    Parameters
    ----------
    run : RunRecord
    events : EVENT[:]
        From the run's start, of whole commands.

    Raises
    ------
    DataError
        At the first event that contradicts those before it.

    Source: LOG-007, ADL-002, ADL-009, MARGIN-011.
    """
    auditor = Auditor(run.setup)
    try:
        auditor.feed(events)
    except InvariantError as error:
        raise DataError(
            run.folder, None, "events", f"expected the events of one run from its start: {error}"
        ) from error
    units, found = Units(run), list[dict[str, Any]]()
    for market in range(len(run.setup.markets)):
        queues = {side: rank_winners(auditor, market, side) for side in POSITIONS}
        places = {place.account: (place, len(queue)) for queue in queues.values() for place in queue}
        for stand in auditor.describe_market(market):
            found.append(_line_position(units, auditor, market, stand, places.get(stand.account), len(found) + 1))
    columns = {name: [row[name] for row in found] for name in COLUMNS}
    return Table(columns, [describe_ranking(rules) for rules in run.setup.markets])


def build_ranks(positions: Table) -> Table:
    """Return the positions that wait in a queue, by market and side, first to be deleveraged first (LOG-007)."""
    columns = positions.columns
    places = [at for at, rank in enumerate(columns["rank"]) if rank is not None]
    keys = ("symbol", "side", "rank")
    return positions.take(sorted(places, key=lambda at: tuple(columns[name][at] for name in keys)))


def _line_position(
    units: Units, auditor: Auditor, market: int, stand: Stand, place: tuple[Place, int] | None, number: int
) -> dict[str, Any]:
    rules, lots, mark = units.run.setup.markets[market], abs(stand.qty_lot), auditor.marks[market]
    notional = abs(int(value_of(rules, mark, lots)))
    holding = auditor.holdings[stand.account][market]
    side = POSITIONS[1 if stand.qty_lot > 0 else -1]
    winner, queue = place or (None, None)
    return {
        **units.head({"market": market, "ts_ns": auditor.ts_ns, "side": 0, "price_tick": 0}, number, lots),
        "side": side,
        "price": units.entry(market, stand.cost_quote, lots),
        "datetime": format_ns(auditor.ts_ns),
        "account": stand.account,
        "name": units.who(stand.account),
        "margin_mode": "isolated" if holding.mode == ISOLATED else "cross",
        "leverage": round(Decimal(PPM) / stand.leverage_ppm, 2) if stand.leverage_ppm else None,
        "notional": units.money(notional),
        "mark_price": units.price(market, mark),
        "liquidation_price": units.price(market, auditor.find_liquidation_price(stand.account, market)),
        "unrealized_pnl": units.money(stand.gain_quote),
        "collateral": units.money(stand.own_quote),
        "equity": units.money(stand.equity_quote),
        "maintenance_margin": units.money(stand.maintenance_quote),
        "rank": winner.rank if winner else None,
        "queue": queue,
        "lights": winner.lights if winner else 0,
        "adlQuantile": max(winner.lights - 1, 0) if winner else 0,
        "seq": auditor.seq,
    }
