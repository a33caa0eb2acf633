"""Another exchange's own acceptance tests of settlement in cash, restated, on both engines."""

import json

import pytest

from tests.mirror.vm_cash import Player

SETTLED = ["STTL-1", "STTL-2", "STTL-3", "STTL-4", "STTL-5", "MTMK-013", "1919"]
KEPT = ["POSR-010", "NETPNL-A", "NETPNL-B"]
SOLD = ["1847-L", "1847-S", "CASCADE", "630", "MTMK-003", "MTMK-003-NOFEE", "INSR-1", "VPR-1"]
STEPPED = ["POSR-013", "POSR-031", "NETPNL-C"]
NAMES = [*SETTLED, *KEPT, *SOLD, *STEPPED]


@pytest.fixture(scope="module")
def scenarios(shared):
    """Return the scenarios by name."""
    file = shared / "vectors" / "peer_scenarios.json"
    if not file.is_file():
        pytest.skip(f"the scenarios are not here: {file.name}")
    found = json.loads(file.read_text(encoding="utf-8"))["scenarios"]
    return {scenario["id"]: scenario for scenario in found if scenario["profile"] == "vm_cash"}


@pytest.mark.parametrize("name", NAMES)
def test_scenario(scenarios, name):
    """Positions, cash, fund, marks and trades are what the scenario says, to the unit.

    Source: CASH-001, CASH-002, CASH-003, CASH-004, CASH-005, CASH-006, CASH-007, HOUSE-005, HOUSE-007, HOUSE-008.
    """
    Player(scenarios[f"VEGA-{name}"]).play(scenarios[f"VEGA-{name}"])


def test_none_is_left_out(scenarios):
    """Every scenario of the profile is played above."""
    assert set(scenarios) == {f"VEGA-{name}" for name in NAMES}
