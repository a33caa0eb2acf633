"""One account's story, from the events of a finished run (EXPL-001)."""

from engine.explain.page import compose_story
from engine.explain.story import explain_account

__all__ = ["compose_story", "explain_account"]
