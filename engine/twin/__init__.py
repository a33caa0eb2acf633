"""Counterfactual twins: one market forked, each copy on under other policies, and who gains by which (TWIN-004)."""

from engine.twin.fork import Fork, parse_fork
from engine.twin.page import compose_accounts, compose_page
from engine.twin.policy import Policy, list_policies
from engine.twin.run import Twins, compare_replay, compare_simulation

__all__ = [
    "Fork",
    "Policy",
    "Twins",
    "compare_replay",
    "compare_simulation",
    "compose_accounts",
    "compose_page",
    "list_policies",
    "parse_fork",
]
