"""An ADL rule of one's own: the largest positions are cut to one size, and nobody who holds less gives anything.

perp lab run runs/demo --rule engine/docs/examples/level_down.py:level_down
"""


def level_down(lots, holders):
    """Return who gives up how many lots: whatever stands above a level that is as high as it can be.

    `holders` stand in the order of the ADL queue; each has `account`, `qty` (lots held), `cap` (lots it can bear to
    lose), `gain` (unrealised PnL) and `equity`.  The parts must sum to `lots`, or to all caps if that is less.
    """

    def above(level):
        return {holder.account: min(holder.cap, max(0, holder.qty - level)) for holder in holders}

    wanted = min(lots, sum(holder.cap for holder in holders))
    low, high = 0, max(holder.qty for holder in holders)
    while low < high:  # the highest level that still yields enough
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(above(middle).values()) >= wanted else (low, middle - 1)
    parts = above(low)
    over = sum(parts.values()) - wanted
    for holder in reversed(holders):  # whole lots: the last of the queue keep what is too much, one each
        if over and 0 < parts[holder.account] == holder.qty - low:
            parts[holder.account] -= 1
            over -= 1
    return parts
