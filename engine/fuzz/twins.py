"""Both engines side by side, and the auditor behind them: the first difference is what is shown (FUZZ-002)."""

from collections import Counter

import numpy as np

from engine import codes
from engine.audit import Auditor, check_state
from engine.compiled import Capacity, CompiledEngine, Rows
from engine.contract import Setup
from engine.digest import View, compute_digest
from engine.errors import InvariantError
from engine.exchange import ReferenceEngine
from engine.fuzz.storm import Command, pack_commands
from engine.layout import EVENT


def show_event(event: np.void) -> str:
    """Return an event as a readable text: its kind and the fields that are not 0."""
    kind = codes.EVENT_NAMES.get(int(event["kind"]), int(event["kind"]))
    return f"{kind} " + " ".join(
        f"{name}={event[name]}" for name in EVENT.names or () if event[name] and name != "kind"
    )


def differ(command: Command, got: Rows, want: Rows, got_view: View, want_view: View) -> str:
    """Return the first difference between two engines after `command`."""
    lines = [f"after {command}"]
    for index in range(max(len(got), len(want))):
        left = show_event(got[index]) if index < len(got) else "nothing"
        right = show_event(want[index]) if index < len(want) else "nothing"
        if left != right:
            lines += [f"event {index}", f"  compiled  {left}", f"  reference {right}"]
            break
    for name, ours, theirs in zip(View._fields, got_view, want_view, strict=True):
        mine = [tuple(map(int, row)) for row in np.asarray(ours).tolist()]
        other = [tuple(row) for row in theirs]
        if mine != other:
            lines.append(f"{name}: compiled only {[r for r in mine if r not in other][:4]}")
            lines.append(f"{name}: reference only {[r for r in other if r not in mine][:4]}")
    return "\n".join(lines)


class Twins:
    """Compiled and reference engine fed alike, audited after every command."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.fast = CompiledEngine(setup, Capacity())
        self.plain = ReferenceEngine(setup)
        self.auditor = Auditor(setup)
        self.kinds: Counter[str] = Counter()

    def apply(self, command: Command) -> Rows:
        """Apply one command to both; events, state, conservation and audit must agree.

        Raises
        ------
        InvariantError
            If they do not, with the first difference.

        Source: STATE-003, MONEY-001, MONEY-002, FUZZ-002.
        """
        rows = pack_commands([command])
        got, want = self.fast.apply(rows.copy()), self.plain.apply(rows.copy())
        view, plain_view = self.fast.view(), self.plain.view()
        if got.tobytes() != want.tobytes() or compute_digest(view) != compute_digest(plain_view):
            raise InvariantError(differ(command, got, want, view, plain_view))
        check_state(view, self.setup)
        self.auditor.feed(got)
        self.auditor.compare(view)
        self.kinds.update(codes.EVENT_NAMES[int(kind)] for kind in got["kind"])
        return got

    def fork(self) -> None:
        """Go on with copies of both engines, which must be the same (STATE-002)."""
        before = compute_digest(self.fast.view())
        self.fast, self.plain = self.fast.copy(), self.plain.copy()
        if {compute_digest(self.fast.view()), compute_digest(self.plain.view())} != {before}:
            raise InvariantError("a copy is not what it was copied from")
