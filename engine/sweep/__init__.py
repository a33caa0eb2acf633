"""Many runs of one scenario: how likely, how bad, how large a fund, how small a shock (STRESS-001).

`run_seed` is one run and its row of numbers, `find_need` the fund one run takes; rows are plain dictionaries, which any
frame library takes.  `perp stress` and its sisters add processes, a folder to go on from, and pages.
"""

from engine.sweep.measure import run_seed
from engine.sweep.scenario import Scenario, change_scenario, load_scenario
from engine.sweep.search import find_need
from engine.sweep.summary import compare_cells, summarise_cell, summarise_need

__all__ = [
    "Scenario",
    "change_scenario",
    "compare_cells",
    "find_need",
    "load_scenario",
    "run_seed",
    "summarise_cell",
    "summarise_need",
]
