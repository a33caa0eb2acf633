"""A recorded tape run through the exchange: who was liquidated, what the fund paid, who paid the rest."""

from engine.replay.files import EVENT_FORMATS, write_summary
from engine.replay.runner import Plan, Run, Watcher, build_opening, count_fund, run_replay

__all__ = ["EVENT_FORMATS", "Plan", "Run", "Watcher", "build_opening", "count_fund", "run_replay", "write_summary"]
