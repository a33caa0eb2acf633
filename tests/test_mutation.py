"""The mutation tool: what it lists can be put in, what it puts in is noticed, and what is explained exists."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation import mutants
from tests.mutation.survivors import FILE, read_survivors

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def listed():
    return [mutant for module in mutants.MODULES for mutant in mutants.list_mutants(module)]


def test_every_function_has_mutants_of_its_own(listed):
    names = {(mutant.name, mutant.text) for mutant in listed}
    assert len(names) == len(listed) > 4_000
    functions = {f"{module}.{name}" for module in mutants.MODULES for name in mutants.read_functions(module)}
    # nothing in these but a field read
    assert len(functions - {mutant.name for mutant in listed}) <= 8


def test_a_mutant_is_the_change_it_says(listed):
    """Whatever is listed compiles, and only the function it names says something else."""
    for mutant in listed[::40]:
        tree = mutants.change_function(mutant.module, mutant.function, mutant.node, mutant.variant)
        assert mutants.ast.unparse(tree) != mutants.ast.unparse(mutants.read_functions(mutant.module)[mutant.function])
        assert mutants.compile_mutant(mutant).co_name == mutant.function
    texts = {mutant.text for mutant in listed if mutant.name == "margin.find_tier"}
    assert "st.tiers[tier + 1]['floor_quote'] <= notional -> st.tiers[tier + 1]['floor_quote'] < notional" in texts
    assert {"tier += 1 -> pass", "tier += 1 -> tier -= 1", "tier += 1 -> tier += 2"} <= texts


def test_every_explained_survivor_is_a_mutant(listed):
    """Who changes a line that is explained explains it anew."""
    gone = set(read_survivors()) - {(mutant.name, mutant.text) for mutant in listed}
    assert not gone, f"{FILE.name} names what is no mutant any more"


def test_faults_in_the_fund_are_noticed(tmp_path):
    """Four streams notice that the fund is not debited, debited twice, or pays nobody; what they miss is listed.

    Source: FUND-002, MONEY-001.
    """
    options = ["--no-tests", "--streams", "4", "--module", "fund", "--function", "debit_fund", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "tests.mutation", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads((tmp_path / "mutation.json").read_text())
    results = {row["change"]: row["result"] for row in found["mutants"]}
    for fault in (
        "fund['balance_quote'] -= amount_quote -> fund['balance_quote'] += amount_quote",
        "fund['balance_quote'] -= amount_quote -> pass",
        "event['amount_quote'] = amount_quote -> pass",
        "amount_quote == 0 -> amount_quote != 0",
    ):
        assert results[fault] == "killed", fault
    # no fund of these four is watched
    assert results["roll_watches(st) -> pass"] == "not reached"
    assert "not reached: fund.debit_fund" in (tmp_path / "mutation.txt").read_text()
