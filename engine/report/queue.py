"""The queue of winners as it stood before the first ADL of a run and after the last, rebuilt from the events alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audit import Auditor
from engine.codes import ADL_FILL, ADL_STARTED
from engine.errors import DataError, InvariantError
from engine.runs.read import RunRecord
from engine.runs.standing import Place, rank_winners

Rows = NDArray[np.void]


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
