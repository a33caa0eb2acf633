"""Domains that rest after an attempt that left them liquidatable, and those of which a share was closed."""

from engine.reference.ledger import State
from engine.reference.margin import Domain

TIME_MAX = 2**63 - 1


def rest_domain(state: State, domain: Domain, due_ns: int) -> None:
    """Let a domain rest until a time, 0: until the next command.

    Source: WAKE-001.
    """
    state.resting[domain] = (due_ns, state.seq)


def cool_domain(state: State, domain: Domain, due_ns: int) -> None:
    """Have a domain closed in full, should it be liquidated again before a time.

    Source: WAKE-002.
    """
    state.cooling.setdefault(domain, due_ns)


def wake_domains(state: State) -> bool:
    """Wake who has rested long enough, end the cooldowns that are over, and return whether anybody woke.

    Source: WAKE-001, WAKE-002.
    """
    woken = [domain for domain, (due, seq) in state.resting.items() if due <= state.ts_ns and seq < state.seq]
    for domain in woken:
        del state.resting[domain]
    state.cooling = {domain: due for domain, due in state.cooling.items() if due > state.ts_ns}
    return bool(woken)


def list_resting(state: State) -> list[tuple[int, ...]]:
    """Return the rows of the canonical state.

    Source: WAKE-001, WAKE-002, STATE-001.
    """
    rows = [(*domain, due, 0) for domain, (due, _) in state.resting.items()]
    rows += [(*domain, due, 1) for domain, due in state.cooling.items()]
    return sorted(rows, key=lambda row: (row[:3], row[4]))
