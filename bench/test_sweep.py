"""Runs of one scenario in this process and in two: two workers are to be worth 1.8 (STRESS-009).

Workers are started and have loaded their kernels before the clock runs; so a long sweep's rate is compared.  Where
other programs want the cores too, `cpu_ms` says what the clock cannot: the processor time of one run, with that of
handing it out.  Two workers on two free cores are worth 2 x cpu_ms of one worker / cpu_ms of two.
"""

import hashlib
import os
from pathlib import Path
from time import process_time

import pytest

from engine.sweep.executors import load_everything, open_crew
from engine.sweep.jobs import Cell, run_jobs
from engine.sweep.measure import run_seed
from engine.sweep.scenario import change_scenario, load_scenario
from engine.sweep.store import Store

EXAMPLE = Path(__file__).resolve().parents[1] / "replay_data" / "stress" / "flash_crash.toml"
SEEDS = 16
# long enough for a run to be what is timed, and not the way to a worker
LONGER = {"simulated.duration": "10m", "population.accounts": "400"}


def run_timed(scenario, seed):
    """Run a seed, and tell what processor time it took."""
    begun = process_time()
    row = run_seed(scenario, seed)
    return {**row, "cpu_s": process_time() - begun, "pid": os.getpid()}


@pytest.fixture(scope="module")
def digests():
    """Collect what each way of running computed: the same."""
    return set()


@pytest.mark.parametrize("workers", [1, 2])
def test_sweep(benchmark, workers, digests):
    scenario = change_scenario(load_scenario(EXAMPLE), LONGER, "bench")
    cells = [Cell({}, scenario, {})]
    load_everything()
    with open_crew(workers) as crew:
        executor = crew.open()
        ready = set()
        while len(ready) < workers:
            futures = [executor.submit(run_timed, scenario, seed) for seed in range(2 * workers)]
            ready |= {future.result()["pid"] for future in futures}
        warm = crew._replace(open=lambda: executor)

        spent = []

        def run():
            begun = process_time()
            with Store(None, {}, {}) as store:
                assert run_jobs(run_timed, cells, range(SEEDS), store, warm)
            rows = [store.rows["", seed] for seed in range(SEEDS)]
            elsewhere = sum(row["cpu_s"] for row in rows) if workers > 1 else 0
            spent.append(process_time() - begun + elsewhere)
            return [row["digest"] for row in rows]

        found = benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["cpu_ms"] = 1_000 * min(spent) / SEEDS
    digests.add(hashlib.sha256("".join(found).encode()).hexdigest())
    assert len(digests) == 1
    benchmark.extra_info["runs"] = SEEDS
