"""The fund is empty: who should pay, and what it matters to them how they are chosen.

The demo's crash ends in auto-deleveraging.  First the loss of its run is divided anew among the same winners, by the
policies there are and by one of our own, `level_down.py`: a comparison on a fixed path.  Then the market is forked
where ADL began, and each policy runs to the end with a book and positions of its own; the marks are the tape's.

From the top of the repository: `python engine/docs/examples/compare_adl.py`, or cell by cell in an editor that knows
`# %%`.  It needs polars (`pip install 'perp-engine[parquet]'`) and a few seconds.
"""

# %% the question
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from engine import load_market, load_run
from engine.feeds import open_feed
from engine.lab.compare import describe_run
from engine.reference.own import load_rule
from engine.replay import Plan, count_fund, run_replay
from engine.scenario import load_population, load_shock
from engine.twin import compare_replay, list_policies, parse_fork

DEMO = Path("replay_data/synthetic_btc")
USDT = 1_000_000  # units of the asset
GAP_NS = 5_000_000_000  # what parts two waves of deleveraging

market = load_market(DEMO / "market.toml")
plan = Plan(
    markets=[market],
    feed=open_feed([DEMO], [market]),
    populations=[load_population(DEMO / "population.toml")],
    shock=load_shock(DEMO / "shock.toml"),
    funds=count_fund("1000000", [market]),
)

# %% the run as it was, by the queue; then its loss divided anew
with TemporaryDirectory() as folder:
    run_replay(plan, out=Path(folder) / "queue")
    run = load_run(Path(folder) / "queue")
    victims = run.adl.to_polars()
    lab = describe_run(run.record.folder, GAP_NS, rules=[load_rule("engine/docs/examples/level_down.py:level_down")])
shares = pl.DataFrame(
    [
        {
            "policy": name,
            "paid, USDT": row["taken_quote"] / USDT,
            "payers": row["shares"]["payers"],
            "hardest hit, % of equity": 100 * row["mean_max_share"],
            "unfair, USDT": row["fairness_quote"] / USDT,
        }
        for name, row in lab["policies"].items()
        if name in ("run", "queue", "pro_rata_pnl", "pro_rata_equity", "level_down")
    ]
)
print(shares)

# %% the market forked where it began: other victims, who miss what comes
with TemporaryDirectory() as folder:
    paths = [Path("market")]
    for name in ("pro_rata_equity", "pro_rata_pnl"):
        paths.append(Path(folder) / f"{name}.toml")
        paths[-1].write_text(f'[adl]\nallocation = "{name}"\n')
    twins = compare_replay(plan, list_policies(paths, plan.markets), parse_fork(["adl_started"]))
names = [policy.name for policy in twins.policies]
equity = pl.DataFrame(twins.equity_quote / USDT, schema=names).insert_column(0, pl.Series("account", twins.accounts))
ends = pl.DataFrame(
    [
        {
            "policy": row["name"],
            "ADL victims": row["adl_victims"],
            "deficit, USDT": row["deficit_quote"] / USDT,
            "winners paid, USDT": row["paid_by_adl_quote"] / USDT,
            "accounts that gain": row["accounts_gain"],
            "accounts that lose": row["accounts_lose"],
            "they gain, USDT": row["gained_quote"] / USDT,
            "they lose, USDT": row["lost_quote"] / USDT,
        }
        for row in twins.summary["policies"]
    ]
)
print(ends)

# %% the verdict
paid, payers, hardest = (
    dict(zip(shares["policy"], shares[name], strict=True))
    for name in ("paid, USDT", "payers", "hardest hit, % of equity")
)
equal = ends.row(by_predicate=pl.col("policy") == "pro_rata_equity", named=True)
moved, gain, lose = (equal[name] for name in ("they gain, USDT", "accounts that gain", "accounts that lose"))
verdict = f"""\
Winners had to pay {paid["run"]:,.2f} USDT.  The queue took it from {payers["run"]} of them, from the hardest hit
{hardest["run"]:.2f} % of its equity; spread by equity it is {hardest["pro_rata_equity"]:.2f} % of everybody's.
Cutting the largest positions asks {payers["level_down"]} and takes up to {hardest["level_down"]:.2f} %.
But the payment is the smaller part.  At the end of the tape {moved:,.2f} USDT are with other accounts
than by the queue, {moved / paid["run"]:.0f} times as much: {gain} have more, {lose} less.  Whoever is closed misses
what the price does next.
"""
print(verdict)
