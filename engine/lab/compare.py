"""Runs and policies side by side: the papers' table, from a run directory's own events."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from engine.codes import POLICIES
from engine.contract import Setup
from engine.errors import ConfigError, DataError, InvariantError, list_known
from engine.lab import metrics
from engine.lab.policies import BY_LOTS, BY_MONEY, FAIREST, divide
from engine.lab.waves import Totals, Wave, WaveReader
from engine.reference.own import OwnRule
from engine.runs.read import RunRecord, open_run, read_events
from engine.table import Table, Tabular, pick_plain, tabulate_rows

Burdens = list[list[Fraction]]  # per wave, per winner, in money

RUN = "run"  # the row of what happened


def find_waves(run: RunRecord, gap_ns: int, horizon_ns: int = 0) -> tuple[list[Wave], Totals]:
    """Return a run's waves and deficits, every event audited on the way.

    Raises
    ------
    DataError
        If the events contradict themselves, or the summary beside them.

    Source: LAB-001, LAB-013.
    """
    try:
        waves, totals = WaveReader(run.setup, gap_ns, horizon_ns).read(read_events(run.folder))
    except InvariantError as error:
        raise DataError(
            run.folder, None, "events", f"expected the events of one run from its start: {error}"
        ) from error
    for name, got in totals._asdict().items():
        if run.summary.get(name) != got:
            raise DataError(
                run.folder, None, name, f"expected {run.summary.get(name)} as summary.json, events say {got}"
            )
    return waves, totals


# ---------------------------------------------------------------- measuring


def list_policies(scores: Sequence[str] = ()) -> list[str]:
    """Return the names of the allocations that are compared, queues by further scores included.

    Raises
    ------
    ConfigError
        For an unknown score, listing the known.
    """
    known = POLICIES["adl_score"]
    for score in scores:
        if score not in known:
            raise ConfigError(f"--score: unknown '{score}', {list_known(score, known)}")
    lots = list(BY_LOTS)
    return [lots[0], *(f"queue:{score}" for score in scores), *lots[1:], *BY_MONEY]


def name_rules(rules: Sequence[OwnRule]) -> dict[str, OwnRule]:
    """Return rules of one's own by the names of their rows.

    Raises
    ------
    ConfigError
        If a name is another row's.

    Source: OWN-002.
    """
    named: dict[str, OwnRule] = {}
    for rule in rules:
        if rule.name in {RUN, *BY_LOTS, *BY_MONEY, *named}:
            raise ConfigError(f"rule {rule.name}: expected a name of its own, there is a row {rule.name}")
        named[rule.name] = rule
    return named


def measure(waves: Sequence[Wave], burdens: Burdens, fairest: Sequence[Fraction]) -> dict[str, Any]:
    """Return a policy's row: regrets in units of the asset, shares of equity, solvency ratios, order.

    Parameters
    ----------
    waves : sequence of Wave
    burdens : list of lists
        What each winner of each wave gives.
    fairest : sequence
        The largest share of each wave under the min-max program.

    Source: LAB-004, LAB-005, LAB-006, LAB-007.
    """
    needed = [wave.needed_quote for wave in waves]
    taken = [sum(parts, Fraction(0)) for parts in burdens]
    shares = [_share(wave, parts) for wave, parts in zip(waves, burdens, strict=True)]
    largest = [max(parts, default=Fraction(0)) for parts in shares]
    tracking = metrics.tracking_regret(taken, needed)
    fairness = metrics.fairness_regret(needed, largest, fairest)
    inversions = pairs = 0
    for wave, parts in zip(waves, burdens, strict=True):
        found = metrics.count_inversions([winner.endowment_quote for winner in wave.winners], parts)
        inversions, pairs = inversions + found[0], pairs + found[1]
    return {
        "taken_quote": round(sum(taken, Fraction(0))),
        "tracking_quote": round(tracking),
        "fairness_quote": round(fairness),
        "total_quote": round(tracking + fairness),
        "mean_max_share": _mean(largest),
        "shares": metrics.describe_shares([share for parts in shares for share in parts]),
        **_measure_solvency(waves, burdens),
        "inversions": inversions,
        "neighbours": pairs,
        "rank_stability": _measure_stability(waves, shares),
    }


def _share(wave: Wave, parts: Sequence[Fraction]) -> list[Fraction]:
    return metrics.shares_of_equity(parts, [winner.equity_quote for winner in wave.winners])


def _mean(values: Sequence[Fraction | float | None]) -> float | None:
    """Return the mean of what is known, None where nothing is."""
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _measure_solvency(waves: Sequence[Wave], burdens: Burdens) -> dict[str, float | None]:
    """Return the means over waves of PTSR, PMR and RD-NSE, each where it is defined."""
    ratios: dict[str, list[Fraction | None]] = {"ptsr": [], "pmr": [], "rd_nse": []}
    for wave, parts in zip(waves, burdens, strict=True):
        top = metrics.top_remaining([winner.endowment_quote for winner in wave.winners], parts)
        taken = sum(parts, Fraction(0))
        ratios["ptsr"].append(metrics.profit_to_shortfall(top, wave.deficit_quote, taken))
        ratios["pmr"].append(metrics.profit_to_max_loss(top, wave.deficit_quote, taken, wave.largest_quote))
        ratios["rd_nse"].append(metrics.shortfall_share(top, wave.deficit_quote, taken))
    return {name: _mean(values) for name, values in ratios.items()}


def _measure_stability(waves: Sequence[Wave], shares: Burdens) -> float | None:
    """Return the mean rank correlation of burdens between successive waves of a market and side."""
    last: dict[tuple[int, int], dict[int, Fraction]] = {}
    found = []
    for wave, parts in zip(waves, shares, strict=True):
        now = {winner.account: part for winner, part in zip(wave.winners, parts, strict=True)}
        before = last.get((wave.market, wave.side))
        if before is not None:
            found.append(metrics.rank_stability(before, now))
        last[wave.market, wave.side] = now
    return _mean(found)


def compare(waves: Sequence[Wave], policies: Sequence[str], rules: Sequence[OwnRule] = ()) -> dict[str, dict[str, Any]]:
    """Return a row for what the run did and one for each policy, all over the waves in which lots were closed.

    Parameters
    ----------
    rules : sequence of OwnRule
        Compared beside the policies, each under its name.

    Source: LAB-003, LAB-008, LAB-009, OWN-002.
    """
    kept = [wave for wave in waves if wave.lots and wave.needed_quote]
    asked: dict[str, str | OwnRule] = {name: name for name in (FAIREST, *policies)}
    own = name_rules(rules)
    burdens = {name: [divide(wave, policy) for wave in kept] for name, policy in (asked | own).items()}
    fairest = [max(_share(*row), default=Fraction(0)) for row in zip(kept, burdens[FAIREST], strict=True)]
    done = [[Fraction(winner.taken_quote) for winner in wave.winners] for wave in kept]
    rows = {RUN: done} | {name: burdens[name] for name in (*policies, *own)}
    return {name: measure(kept, own, fairest) for name, own in rows.items()}


# ---------------------------------------------------------------- telling


class Comparison(dict[str, Any], Tabular):
    """What `perp lab run` tells of a run; as a table a row for what it did and one per policy.

    Source: LAB-003, LOG-006.
    """

    def to_table(self) -> Table:
        """Return the measures of every policy; money in units of the run's asset."""
        return tabulate_rows(
            [
                {
                    "run": self["run"],
                    "policy": name,
                    **pick_plain(row),
                    **{f"share_{key}": value for key, value in row["shares"].items()},
                }
                for name, row in self["policies"].items()
            ]
        )


def describe_run(
    folder: Path, gap_ns: int, horizon_ns: int = 0, scores: Sequence[str] = (), rules: Sequence[OwnRule] = ()
) -> Comparison:
    """Return everything the lab says of one run, a dict ready for JSON; money in units of its asset.

    Source: LAB-001..LAB-010, LAB-012, LAB-013, OWN-002.
    """
    policies = list_policies(scores)
    run = open_run(folder)
    waves, totals = find_waves(run, gap_ns, horizon_ns)
    thetas = [metrics.severity(wave.needed_quote, wave.deficit_quote) for wave in waves]
    deficits = [wave.deficit_quote for wave in waves]
    marked_out = sum(wave.marked_out_quote for wave in waves)
    needed = sum(wave.needed_quote for wave in waves)
    facts = {
        "run": str(folder),
        "asset": run.summary["assets"][0],
        "adl": [_name_adl(market) for market in run.setup.markets],
        **totals._asdict(),
        "waves": [_describe_wave(wave, run.setup) for wave in waves],
        "needed_quote": needed,
        "taken_quote": sum(wave.taken_quote for wave in waves),
        "gained_quote": sum(wave.gained_quote for wave in waves),
        "marked_out_quote": marked_out,
        "overshoot_quote": marked_out - needed,
        "compared_waves": sum(bool(wave.lots and wave.needed_quote) for wave in waves),
        "severity_path": float(metrics.severity_path(thetas)),
        "severity_envelope_quote": round(metrics.severity_envelope(thetas, deficits)),
        "policies": compare(waves, policies, rules),
    }
    return Comparison(facts)


def _name_adl(rules: Any) -> dict[str, str]:
    names = ("adl_allocation", "adl_score")
    return {
        "symbol": rules.symbol,
        **{name.removeprefix("adl_"): POLICIES[name][getattr(rules, name)] for name in names},
    }


def _describe_wave(wave: Wave, setup: Setup) -> dict[str, Any]:
    counts = {"winners": len(wave.winners), "payers": sum(winner.taken_quote > 0 for winner in wave.winners)}
    names = ("start_ns", "end_ns", "lots", "deficit_quote", "largest_quote", "by_fund_quote", "by_adl_quote")
    more = ("by_haircut_quote", "unpaid_quote", "needed_quote", "taken_quote", "gained_quote", "marked_out_quote")
    sums = {name: getattr(wave, name) for name in (*names, *more)}
    return {"symbol": setup.markets[wave.market].symbol, "side": wave.side, **counts, **sums}
