"""The third opinion: balances rebuilt from the events alone, and what must hold of any state.

`Auditor` shares no arithmetic with either engine: it is plain Python integers, written from the rule book.  It holds
every number of an event against the one it computes itself, so that a wrong event is named where it stands.
"""

from engine.audit.auditor import Auditor
from engine.audit.state import check_state

__all__ = ["Auditor", "check_state"]
