"""Another exchange's own acceptance tests of settlement in cash, restated, on both engines."""

import json

import pytest

from tests.mirror.vm_cash import Player

# With an underscore where the names have a hyphen, which would make them look like rules of ours.
SETTLED = ["STTL_1", "STTL_2", "STTL_3", "STTL_4", "STTL_5", "MTMK_013", "1919"]
KEPT = ["POSR_010", "NETPNL_A", "NETPNL_B"]
SOLD = ["1847_L", "1847_S", "CASCADE", "630", "MTMK_003", "MTMK_003_NOFEE", "INSR_1", "VPR_1"]
STEPPED = ["POSR_013", "POSR_031", "NETPNL_C"]
NAMES = [*SETTLED, *KEPT, *SOLD, *STEPPED]


def full_name(name):
    """Return what the file calls a scenario."""
    return "VEGA-" + name.replace("_", "-")


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
    scenario = scenarios[full_name(name)]
    Player(scenario).play(scenario)


def test_none_is_left_out(scenarios):
    """Every scenario of the profile is played above."""
    assert set(scenarios) == {full_name(name) for name in NAMES}
