"""How large has the insurance fund to be, and does it spare the fund to sell slowly.

A made-up market falls by seven percent within two seconds, on forty days that differ by nothing but the draw.  A run
with an endless fund tells what its day takes out of one; the fund that lasts on all but one day in ten is the answer.
The same days under another liquidation policy say what that policy costs.

From the top of the repository: `python engine/docs/examples/size_fund.py`, or cell by cell in an editor that knows
`# %%`.  It needs polars (`pip install 'perp-engine[parquet]'`) and a few seconds.
"""

# %% the question
import polars as pl

from engine.sweep import change_scenario, find_need, load_scenario, run_seed, summarise_need

SEEDS = range(40)
BREACH = 0.10  # how often the fund may be empty
USDT = 1_000_000  # units of the asset

scenario = load_scenario("replay_data/stress/flash_crash.toml")
policies = {
    "at once": {},
    "a fifth a second": {"liquidation.size": "share", "liquidation.share": "0.2", "liquidation.cooldown_s": "1"},
}
scenarios = {name: change_scenario(scenario, changes, name) for name, changes in policies.items()}

# %% what each day takes, under each policy: the same seed is the same day
rows = {
    name: [find_need(changed, seed, until="fund_empty", halvings=10) for seed in SEEDS]
    for name, changed in scenarios.items()
}
needs = pl.DataFrame(
    {"seed": list(SEEDS), **{name: [row["need_quote"] / USDT for row in own] for name, own in rows.items()}}
)
print(needs.describe(percentiles=(0.5, 0.9)).filter(pl.col("statistic").is_in(["mean", "50%", "90%", "max"])))

# %% the fund: the smallest that at most a tenth of the days empties, and its 95 % band
found = {name: summarise_need(own, BREACH) for name, own in rows.items()}
funds = pl.DataFrame(
    [
        {"policy": name, **{key: told[f"{key}_quote"] / USDT for key in ("low", "fund", "high")}}
        for name, told in found.items()
    ]
)
print(funds)

# %% does it hold?  every day once more, with that fund and not a unit more
fund_quote = found["at once"]["fund_quote"]
days = pl.DataFrame([run_seed(scenario, seed, {"USDT": fund_quote}) for seed in SEEDS])
breached = days.filter("fund_exhausted")

# %% the verdict
first, second = found["at once"], found["a fifth a second"]
slower = needs["a fifth a second"] - needs["at once"]
ratio = second["fund_quote"] / first["fund_quote"]
verdict = f"""\
A fund of {first["fund_quote"] / USDT:,.2f} USDT is emptied on {len(breached)} of {len(days)} such days.
So few days bound it between {first["low_quote"] / USDT:,.0f} and {first["high_quote"] / USDT:,.0f} USDT (95 %).
On {days["adl"].sum()} days winners are deleveraged: also where not the fund but the book was at its end.
Selling a fifth a second takes {slower.mean():,.2f} USDT more a day, more on {(slower > 0).sum()} of {len(slower)} days;
the fund has to be {ratio:.1f} times as large.  A price that does not come back punishes patience.
"""
print(verdict)
