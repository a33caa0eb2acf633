"""`load_run`: a finished run in a notebook."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.runs.logs import build_log
from engine.runs.read import RunRecord, open_run, read_events, read_series
from engine.runs.standing import build_positions, build_ranks
from engine.table import Table, Tabular, pick_plain, tabulate_rows


@dataclass(frozen=True)
class LoadedRun(Tabular):
    """A run directory; everything but the summary is read when it is first asked for.

    As a table it is one row, its summary; its logs are tables of their own.

    Parameters
    ----------
    record : RunRecord
        Its folder, summary and markets.
    """

    record: RunRecord

    def to_table(self) -> Table:
        """Return the plain numbers of the summary as one row: runs under each other are a table of runs."""
        return tabulate_rows([pick_plain(self.summary)])

    @property
    def summary(self) -> dict[str, Any]:
        """Return every number of the run (CLI-001)."""
        return self.record.summary

    @cached_property
    def events(self) -> NDArray[np.void]:
        """Return the events, an EVENT array (EVT-001); DataError where the run kept none."""
        return np.concatenate(list(read_events(self.record.folder)))

    @cached_property
    def series(self) -> dict[str, NDArray[Any]]:
        """Return what was sampled while it ran, a column per name; empty where nothing was."""
        return read_series(self.record.folder)

    @cached_property
    def liquidations(self) -> Table:
        """Return every close of a liquidation: in the book, against a winner, by takeover."""
        return build_log(self.record, self.events, "liquidations")

    @cached_property
    def adl(self) -> Table:
        """Return every close against a winner, from the victim's side too."""
        return build_log(self.record, self.events, "adl")

    @cached_property
    def deficits(self) -> Table:
        """Return every deficit and who paid it."""
        return build_log(self.record, self.events, "deficits")

    @cached_property
    def fund(self) -> Table:
        """Return every entry of the funds and the balance after it."""
        return build_log(self.record, self.events, "fund")

    @cached_property
    def trades(self) -> Table:
        """Return every trade in the book, those of liquidations included, from the taker's side."""
        return build_log(self.record, self.events, "trades")

    @cached_property
    def positions(self) -> Table:
        """Return the positions that are open at the end, with their place in the ADL queue (LOG-007)."""
        return build_positions(self.record, self.events)

    @cached_property
    def ranks(self) -> Table:
        """Return the ADL queues at the end, first to be deleveraged first."""
        return build_ranks(self.positions)

    def _repr_html_(self) -> str:
        """Return the verdict and the main numbers, escaped."""
        told = self.summary
        names = ("commands", "events", "liquidations", "deficits", "adl_fills", "adl_victims", "digest")
        rows = "".join(
            f"<tr><th>{name.replace('_', ' ')}</th><td>{html.escape(str(told[name]))}</td></tr>" for name in names
        )
        return f"<p><strong>{html.escape(told['verdict'])}</strong></p><table><tbody>{rows}</tbody></table>"


def load_run(folder: str | Path) -> LoadedRun:
    """Return a finished run.

    Raises
    ------
    DataError
        If the folder holds no run of ours.

    Source: LOG-004.
    """
    return LoadedRun(open_run(Path(folder)))
