"""Finished runs, read back: `load_run` for notebooks, the logs behind `perp log`, what reports are made of.

Source: LOG-001..LOG-005.
"""

from engine.runs.load import LoadedRun, load_run
from engine.runs.read import RunRecord, open_run, read_events, read_series
from engine.table import Table

__all__ = ["LoadedRun", "RunRecord", "Table", "load_run", "open_run", "read_events", "read_series"]
