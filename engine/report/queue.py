"""The queue of winners as it stood before the first ADL of a run and after the last, rebuilt from the events alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audit import Auditor
from engine.codes import ADL_FILL, ADL_STARTED
from engine.errors import DataError, InvariantError
from engine.lab.waves import score_stand
from engine.reference.adl import count_lights
from engine.reference.scores import compute_score
from engine.runs.read import RunRecord

Rows = NDArray[np.void]


class Place(NamedTuple):
    """A candidate in the queue, first to be deleveraged first (ADL-002)."""

    rank: int
    account: int
    qty_lot: int
    gain_quote: int
    lights: int
    score: int


class Queue(NamedTuple):
    """A side of a market whose winners were deleveraged.

    Parameters
    ----------
    market, side : int
        Side of the winners' positions.
    before, after : tuple of Place
        Just before the first ADL, and when the last was booked.
    closed : dict
        Victim -> lots it lost to ADL.
    """

    market: int
    side: int
    before: tuple[Place, ...]
    after: tuple[Place, ...]
    closed: dict[int, int]


def find_queues(run: RunRecord, events: Rows) -> list[Queue]:
    """Return the queues of every market and side that saw ADL; events are audited up to the last of them.

    Raises
    ------
    DataError
        At the first event that contradicts those before it.

    Source: REP-004.
    """
    starts = events[(events["kind"] == ADL_STARTED) | (events["kind"] == ADL_FILL)]
    if not len(starts):
        return []
    last = {(int(row["market"]), int(row["side"])): int(row["seq"]) for row in starts}
    auditor = Auditor(run.setup)
    before: dict[tuple[int, int], tuple[Place, ...]] = {}
    after: dict[tuple[int, int], tuple[Place, ...]] = {}
    try:
        for event in auditor.follow(events):
            for key, seq in last.items():
                if event.seq > seq and key not in after:
                    after[key] = rank_winners(auditor, *key)
            if len(after) == len(last):
                break
            if event.kind == ADL_STARTED and (event.market, event.side) not in before:
                before[event.market, event.side] = rank_winners(auditor, event.market, event.side)
    except InvariantError as error:
        raise DataError(
            run.folder, None, "events", f"expected the events of one run from its start: {error}"
        ) from error
    found = []
    for key in last:
        closed: dict[int, int] = {}
        fills = starts[(starts["kind"] == ADL_FILL) & (starts["market"] == key[0]) & (starts["side"] == key[1])]
        for victim, lots in zip(fills["other"].tolist(), fills["qty_lot"].tolist(), strict=True):
            closed[victim] = closed.get(victim, 0) + lots
        rest = after[key] if key in after else rank_winners(auditor, *key)
        found.append(Queue(*key, before.get(key, ()), rest, closed))
    return found


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
