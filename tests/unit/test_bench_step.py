"""`perp bench step`: every moment is charged once, to the innermost phase, and what probes cost is taken off again."""

import numpy as np
import pytest

from engine._probe import ENTERED, PHASES, RESUMED, SPENT, WIDTH, WORDS, Counts, charge, phase, read_counts
from engine.bench.step import explain, make_works, subtract_probes
from engine.errors import InvariantError

OUTER, INNER = 1, 2


def count(spent, entered, resumed):
    """Return counts of which only the first few phases have any."""
    return Counts(*(np.array([*given, *[0] * (WIDTH - len(given))]) for given in (spent, entered, resumed)))


def test_time_is_charged_to_the_innermost_phase():
    words = np.zeros_like(WORDS)
    assert charge(words, 100, OUTER, ENTERED) == 0  # since the clock was at 0
    assert charge(words, 107, INNER, ENTERED) == OUTER
    assert charge(words, 110, INNER, ENTERED) == INNER  # within itself: nothing is read
    assert charge(words, 115, INNER, RESUMED) == INNER
    assert charge(words, 120, OUTER, RESUMED) == INNER
    assert charge(words, 121, 0, RESUMED) == OUTER
    found = read_counts(words)
    assert found.spent[:4].tolist() == [100, 8, 13, 0]
    assert found.entered[:4].tolist() == [0, 1, 1, 0]
    assert found.resumed[:4].tolist() == [1, 1, 0, 0]
    assert found.spent.sum() == 121
    words[SPENT:] = 0
    assert found.spent.sum() == 121  # a copy


def test_a_normal_build_has_no_probes():
    def work():
        return 1

    assert phase(PHASES[0])(work) is work


def test_probes_are_subtracted_where_they_are_charged():
    own = subtract_probes(count([500, 300, 90], [0, 10, 20], [10, 20, 0]), inside=5, outside=4)
    assert own[:3].tolist() == [460, 170, 0]  # never below nothing


def test_the_plain_time_is_divided():
    counts = {name: column.tolist() for name, column in count([0, 600, 200], [0, 1, 4], [0, 4, 0])._asdict().items()}
    plain = {"workload": "w", "commands": 3, "unit": "command", "units": 3, "digest": "d", "ns": 300}
    row = explain(plain, {"digest": "d", "ns": 600, "counts": counts}, inside=0, outside=0)
    assert row["ns_per_unit"] == 100
    assert row["instrumented_ratio"] == row["corrected_ratio"] == 2
    assert row["phases"]["commands"] == {"share": 0.75, "ns_per_unit": 75, "entered_per_unit": 0.333}
    assert row["phases"]["matching"] == {"share": 0.25, "ns_per_unit": 25, "entered_per_unit": 1.333}
    with pytest.raises(InvariantError, match="w: the instrumented build"):
        explain(plain, {"digest": "e", "ns": 600, "counts": counts}, inside=0, outside=0)


def test_workloads_are_the_same_every_time():
    """The child makes its own."""
    for one, other in zip(make_works(30, 10), make_works(30, 10), strict=True):
        assert one.rows.tobytes() == other.rows.tobytes()
        assert one.before.tobytes() == other.before.tobytes()
