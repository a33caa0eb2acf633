"""A folder of many runs as the sections of a report: curves with bands, and a table under each (REP-007)."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

from engine.codes import PPM
from engine.report import count_noun
from engine.report.curves import LINES_MAX, Axis, Point, choose_axis, draw_curves, draw_level, spread_span
from engine.report.markup import Canvas, fold, list_tiles, write_paragraph, write_table
from engine.report.shape import Picture
from engine.sweep.load import NEED, SHOCK, STRESS, load_sweep
from engine.sweep.measure import AMOUNTS, NS, SHARES, Metric
from engine.sweep.page import band, percent, show_axis
from engine.sweep.search import count_axis
from engine.sweep.stats import count_share

Facts = dict[str, Any]

PAIRED = ("deficit_quote", "winners_loss_quote", "fund_need_quote", "forced_quote", "adl_victims")
EXCEEDED = (("deficit_quote", "Deficits"), ("fund_need_quote", "What was taken out of the fund at most"))
STEPS_MAX = 400  # of a curve through single runs
ROWS_MAX = 300  # of a table
SHOWN = 12
VERBS = {STRESS: "Stress test", NEED: "Fund size", SHOCK: "Smallest shock"}


class SweepView:
    """A folder of many runs, read once, and what the sections of a page say of it.

    Parameters
    ----------
    folder : path
    label : str
        What the page calls it.
    number : int
        Its place on the page.
    canvas : Canvas
        Takes the pictures.
    """

    def __init__(self, folder: Path, label: str, number: int, canvas: Canvas) -> None:
        self.label, self.number, self.canvas = label, number, canvas
        self.sweep = load_sweep(folder)
        self.summary = self.sweep.summary
        self.task = str(self.summary["task"])
        asset = self.summary["assets"][0]
        self.asset, self.unit = asset["name"], Decimal(asset["unit"])
        self.cells: list[Facts] = [cell for cell in self.summary.get("cells", ()) if cell["runs"]]
        self.axis = choose_axis([cell["point"] for cell in self.cells])

    # ------------------------------------------------------------ words

    def money(self, value: float | None) -> str:
        """Return an amount without its asset."""
        return "-" if value is None else f"{Decimal(value) * self.unit:,.2f}"

    def show(self, metric: Metric, value: float | None) -> str:
        """Return a number of a column."""
        if metric.kind == "money":
            return self.money(value)
        return "-" if value is None else percent(value) if metric.kind == "share" else f"{value:,.2f}"

    def count_runs(self) -> int:
        """Return how many runs there were."""
        if self.task == NEED:
            return int(self.summary["need"]["runs"])
        return sum(int(row["runs"]) for row in (self.cells or self.summary.get("frontier", ())))

    # ------------------------------------------------------------ verdict

    def write_verdict(self) -> str:
        """Return the answer, how sure it is, and the main numbers."""
        judge: Callable[[], tuple[str, str]] = {NEED: self._judge_need, SHOCK: self._judge_shock}.get(
            self.task, self._judge_cells
        )
        kind, said = judge()
        said = ("Interrupted; so far: " if self.summary["interrupted"] else "") + said
        word = "Sweep" if self.axis else VERBS[self.task]
        tiles = [
            ("Runs", f"{self.count_runs():,}", count_noun(self.summary["seeds"], "seed")),
            ("Markets", ", ".join(self.summary["markets"]), ""),
        ]
        if not any("fund" in cell["point"] for cell in self.cells):
            tiles.append(("Fund at the start", self.money(self.summary["fund_start_quote"]), ""))
        box = f'<div class="verdict {kind}" role="status"><strong>{word}</strong>{write_paragraph(said, "said")}</div>'
        return box + list_tiles(tiles) + write_paragraph(f"Amounts in {self.asset}. Intervals at 95 %.")

    def _judge_cells(self) -> tuple[str, str]:
        """Say how likely an empty fund is: of one scenario, or at the ends of the grid."""
        if not self.cells:
            return "dry", "No run is done."
        shares = [cell["shares"]["fund_exhausted"] for cell in self.cells]
        kind = "ok" if not any(facts["count"] for facts in shares) else "dry"
        if any(cell["shares"]["insolvent"]["count"] for cell in self.cells):
            kind = "bad"
        if len(self.cells) == 1:
            (facts,) = shares
            adl = self.cells[0]["shares"]["adl"]
            return kind, (
                f"In {percent(facts['share'])} of the runs ({band(facts)}) the fund could not pay all it was asked "
                f"for, in {percent(adl['share'])} ({band(adl)}) winners were deleveraged."
            )
        ordered = sorted(self.cells, key=lambda cell: float(cell["shares"]["fund_exhausted"]["share"]))
        least, most = (cell["shares"]["fund_exhausted"]["share"] for cell in (ordered[0], ordered[-1]))
        if least == most:
            where = "in no run at any" if not most else f"in {percent(most)} of the runs at every"
            return kind, f"The fund could not pay all it was asked for {where} point of the grid."
        ends = (
            f"{percent(cell['shares']['fund_exhausted']['share'])} of the runs at {_say_point(cell['point'])}"
            for cell in (ordered[0], ordered[-1])
        )
        return kind, f"The fund could not pay all it was asked for in {' and '.join(ends)}: least and most of the grid."

    def _judge_need(self) -> tuple[str, str]:
        need, until = self.summary["need"], self.summary["until"].replace("_", " ")
        wanted = percent(need["breach"])
        if need["fund_quote"] is None:
            return "bad", f"No fund brings '{until}' down to {wanted} of the runs."
        high = need["high_quote"]
        top = self.money(high) if high is not None else f"no upper end, that takes {need['seeds_needed']:,} seeds"
        return "ok", (
            f"{self.money(need['fund_quote'])} {self.asset} is the smallest fund with '{until}' in at most {wanted} of "
            f"the runs; 95 % band {self.money(need['low_quote'])} to {top}."
        )

    def _judge_shock(self) -> tuple[str, str]:
        until, share = self.summary["until"].replace("_", " "), percent(self.summary["share"])
        frontier = self.summary["frontier"]
        told = []
        for point in frontier[:3]:
            where = f" at {_say_point(point['fixed'])}" if point["fixed"] else ""
            told.append(f"{', '.join(self._list_thresholds(point, 'threshold'))}{where}")
        more = f"; {len(frontier) - 3:,} more below" if len(frontier) > 3 else ""
        return "dry", f"The mildest shock with '{until}' in at least {share} of the runs: {'; '.join(told)}{more}."

    def _list_thresholds(self, point: Facts, end: str) -> list[str]:
        return [f"{name} {show_axis(name, point[end])}" for name in self.summary["walked"]]

    # ------------------------------------------------------------ outcomes over a grid

    def write_shares(self) -> str:
        """Return how likely each outcome is, over the grid."""
        if not self.cells:
            return ""
        drawn = [metric for metric in SHARES if any(cell["shares"][metric.key]["count"] for cell in self.cells)]
        never = [metric.title for metric in SHARES if metric not in drawn]
        found = ""
        if len(self.cells) == 1:
            rows = [[metric.title, *self._row_share(self.cells[0], metric)] for metric in SHARES]
            heads = ("outcome", "share", "interval", "runs")
            return write_table("How likely each outcome is", heads, rows, sortable=True)
        for metric in drawn:
            rows = [[*cell["point"].values(), *self._row_share(cell, metric)] for cell in self.cells]
            heads = (*self.cells[0]["point"], "share", "interval", "runs")
            table = write_rows(f"{metric.title}: share of runs", heads, rows)
            points = [
                Point(cell["point"], *(cell["shares"][metric.key][name] for name in ("share", "low", "high")))
                for cell in self.cells
            ]
            found += self._draw(f"{metric.title}: share of runs, %", points, "%", 100, table)
        return found + (write_paragraph(f"In no run of any cell: {', '.join(never)}.") if never else "")

    def _row_share(self, cell: Facts, metric: Metric) -> list[str]:
        facts = cell["shares"][metric.key]
        return [percent(facts["share"]), band(facts), f"{facts['count']:,} of {facts['of']:,}"]

    def write_amounts(self) -> str:
        """Return the mean of each amount, over the grid, with quantiles in the table."""
        if not self.cells:
            return ""
        kept = [metric for metric in AMOUNTS if any(_largest(cell, metric) for cell in self.cells)]
        zero = [metric.title for metric in AMOUNTS if metric not in kept]
        found = ""
        heads = ("mean", "interval", "least", "p01", "p05", "median", "p95", "p99", "most")
        if len(self.cells) == 1:
            rows = [[self._name(metric), *self._row_amount(self.cells[0], metric)] for metric in kept]
            found = write_table("How much", ("amount", *heads), rows, sortable=True)
        for metric in kept if len(self.cells) > 1 else ():
            name = self._name(metric)
            rows = [[*cell["point"].values(), *self._row_amount(cell, metric)] for cell in self.cells]
            table = write_rows(name, (*self.cells[0]["point"], *heads), rows)
            points = []
            for cell in self.cells:
                mean = cell["amounts"][metric.key].get("mean") or {}
                points.append(Point(cell["point"], *(mean.get(key) for key in ("value", "low", "high"))))
            unit = self.asset if metric.kind == "money" else ""
            scale = float(self.unit) if metric.kind == "money" else 1
            found += self._draw(f"{name}: mean of the runs", points, unit, scale, table)
        return found + (write_paragraph(f"Nothing in any run: {', '.join(zero)}.") if zero else "")

    def _name(self, metric: Metric) -> str:
        return f"{metric.title}, {self.asset}" if metric.kind == "money" else metric.title

    def _row_amount(self, cell: Facts, metric: Metric) -> list[str]:
        facts = cell["amounts"][metric.key]
        if not facts["runs"]:
            return ["-"] * 9
        mean = facts["mean"]
        quantiles = [facts[name]["value"] for name in ("p01", "p05", "p50", "p95", "p99")]
        numbers = [facts["least"], *quantiles, facts["most"]]
        interval = f"{self.show(metric, mean['low'])} to {self.show(metric, mean['high'])}"
        return [self.show(metric, mean["value"]), interval, *(self.show(metric, number) for number in numbers)]

    def _draw(self, title: str, points: Sequence[Point], unit: str, scale: float, table: str) -> str:
        """Return a chart over the axis of the grid with its table, or the table alone where there is no axis."""
        title = title[0].upper() + title[1:]
        if self.axis is None:
            return table
        drawn, of = draw_curves(self.axis, points, scale)
        note = "bands" if not self.axis.labels else "whiskers"
        note = f"{note}: intervals at 95 %"
        if self.axis.is_log:
            note += f"; {self.axis.path} is logarithmic"
        if of > LINES_MAX:
            note += f"; {LINES_MAX} of {of:,} lines drawn"
        spans = ", ".join(f"{each['name']} {min(each['y']):g} to {max(each['y']):g}" for each in drawn)
        label = f"{title} over {self.axis.path}: {spans} {unit}"
        picture = self._picture(drawn, unit, self.axis)
        return self.canvas.draw(title, note, label, picture, fold("As a table", table))

    def _picture(self, drawn: list[Picture], unit: str, axis: Axis, **more: Any) -> Picture:
        begin, end = axis.span()
        return {
            "kind": "lines",
            "series": drawn,
            "unit": unit,
            "begin": begin,
            "span": end,
            "axis": axis.describe(),
            "sync": f"sweep{self.number}-{axis.path}",
            "zero": True,
            **more,
        }

    def write_paired(self) -> str:
        """Return by how much cells differ from the first, seed by seed (STRESS-003)."""
        metrics = [metric for metric in AMOUNTS if metric.key in PAIRED]
        rows = []
        for cell in self.cells[1:]:
            row = list(cell["point"].values())
            for metric in metrics:
                facts = cell.get("versus_first", {}).get(metric.key)
                row += (
                    [
                        self.show(metric, facts["value"]),
                        f"{self.show(metric, facts['low'])} to {self.show(metric, facts['high'])}",
                    ]
                    if facts
                    else ["-", "-"]
                )
            rows.append(row)
        if not rows:
            return ""
        heads = [*self.cells[0]["point"]]
        for metric in metrics:
            heads += [self._name(metric), "interval"]
        caption = f"Mean difference from {_say_point(self.cells[0]['point'])}, on the same seeds"
        return write_rows(caption, heads, rows)

    # ------------------------------------------------------------ one scenario: how far runs go

    def write_exceeded(self) -> str:
        """Return, of one scenario, the share of runs above each amount."""
        if self.task != STRESS or len(self.cells) != 1:
            return ""
        found = ""
        for key, title in EXCEEDED:
            amounts = sorted(int(count) for count in self.sweep.results.columns.get(key, []) if count is not None)
            if not amounts or not amounts[-1]:
                continue
            places = sorted({0, *amounts})
            places = sorted({*places[:: -(-len(places) // STEPS_MAX)], places[-1]})
            count = len(amounts)
            points = [(place, count_share(sum(amount > place for amount in amounts), count)) for place in places]
            name = f"{title}: share of runs with more, %"
            found += self._draw_steps(name, points, f"{title} ({self.asset})")
        return found

    def _draw_steps(
        self, title: str, points: Sequence[tuple[int, Facts]], axis: str, more: Sequence[Picture] = (), **marks: Any
    ) -> str:
        """Return a share that falls in steps over an amount, with its band and its table."""
        unit = float(self.unit)
        places = Axis(axis, {str(place): place * unit for place, _ in points})
        line = {"name": "share of runs", "colour": "mark", "style": "step", "width": 2}
        line |= {"x": [place * unit for place, _ in points]}
        for name, key in (("y", "share"), ("low", "low"), ("high", "high")):
            line[name] = [round(100 * facts[key], 4) for _, facts in points]
        rows = [[self.money(place), percent(facts["share"]), band(facts)] for place, facts in points]
        step = max(-(-len(rows) // SHOWN), 1)
        shown = rows[::step] + ([rows[-1]] if (len(rows) - 1) % step else [])
        caption = f"{title}; {len(shown):,} of {len(rows):,} places" if len(shown) < len(rows) else title
        table = write_table(caption, (axis, "share of runs", "interval"), shown)
        label = f"{title}: {rows[0][1]} at {rows[0][0]}, {rows[-1][1]} at {rows[-1][0]}"
        picture = self._picture([line, *more], "%", places, **marks)
        return self.canvas.draw(title, "band: interval at 95 %", label, picture, fold("As a table", table))

    # ------------------------------------------------------------ searches

    def write_need(self) -> str:
        """Return the breach probability over the size of the fund, with the breach asked for and the fund found."""
        if self.task != NEED:
            return ""
        need, unit = self.summary["need"], float(self.unit)
        points = [(int(point["fund_quote"]), point) for point in need["curve"]]
        span = spread_span(points[0][0] * unit, points[-1][0] * unit)
        levels = [draw_level(f"breach of {percent(need['breach'])}", "loss", span, 100 * need["breach"])]
        marks: Facts = {}
        if need["fund_quote"] is not None:
            marks["marks"] = [{"x": need["fund_quote"] * unit, "colour": "fund"}]
            high = need["high_quote"]
            ends = [(need["low_quote"] or 0) * unit, span[1] if high is None else high * unit]
            marks["areas"] = [{"from": ends[0], "to": ends[1], "colour": "fund"}]
        title = f"Runs that come to '{self.summary['until'].replace('_', ' ')}' by the size of the fund, %"
        chart = self._draw_steps(title, points, f"fund ({self.asset})", levels, **marks)
        told = "The upright line is the fund found, the tinted part its band." if marks else ""
        how = (
            "Each seed's need is read off one run with an endless fund."
            if self.summary.get("is_exact")
            else f"Each seed's need is found by halving ({', '.join(self.summary.get('why', ()))})."
        )
        return chart + write_paragraph(f"{told} {how}".strip())

    def write_frontier(self) -> str:
        """Return the mildest shocks over what stands still."""
        if self.task != SHOCK:
            return ""
        frontier, walked = self.summary["frontier"], list(self.summary["walked"])
        axis = choose_axis([point["fixed"] for point in frontier])
        heads, rows = [*frontier[0]["fixed"]], []
        for name in walked:
            heads += [name, "band"]
        for point in frontier:
            row = list(point["fixed"].values())
            for name in walked:
                ends = (show_axis(name, point[end]) for end in ("low", "high"))
                row += [show_axis(name, point["threshold"]), " to ".join(ends)]
            rows.append([*row, f"{point['reached']['count']:,} of {point['reached']['of']:,}"])
        table = write_rows("The mildest shocks", [*heads, "runs that come to it"], rows)
        found = ""
        for name in walked if axis else ():
            key, scale = ("speed_s", 1.0) if name == "speed" else (name, 100.0)
            # what so many runs do not bound from above may lie anywhere up to the end of the walk
            severe = count_axis(name, self.summary["walked"][name][1]) / (NS if name == "speed" else PPM)
            points = [
                Point(point["fixed"], point["threshold"][key], point["low"][key], point["high"][key] or severe)
                for point in frontier
            ]
            assert axis is not None
            drawn, _ = draw_curves(axis, points, scale)
            if drawn:
                unit = "s" if name == "speed" else "%"
                title = f"Mildest {name} that is enough, {unit}"
                label = f"{title} over {axis.path}: {', '.join(each['name'] for each in drawn)}"
                picture = self._picture(drawn, unit, axis)
                note = f"bands: intervals at 95 %; at {severe * scale:g} {unit} the walk ends"
                found += self.canvas.draw(title, note, label, picture, "")
        return found + table

    # ------------------------------------------------------------ the rest

    def write_parameters(self) -> str:
        """Return what the runs were made from, and what proves it."""
        told = self.summary
        facts = [
            ["digest of the scenario", told["digest"]],
            ["version", f"perp-engine {told['version']}"],
            ["runs", f"{self.count_runs():,}"],
            ["seeds", f"0 to {told['seeds'] - 1}, the same at every point of the grid"],
        ]
        table = write_table("What it was, and what proves it", ("", ""), facts, texts=(1,))
        tree = {"scenario": told["scenario"], "search": told["search"]}
        return table + fold("The scenario as it was understood", f"<pre>{escape(json.dumps(tree, indent=2))}</pre>")


def _say_point(point: dict[str, str]) -> str:
    return ", ".join(f"{path} {value}" for path, value in point.items())


def _largest(cell: Facts, metric: Metric) -> float:
    facts = cell["amounts"][metric.key]
    return max(abs(facts["least"]), abs(facts["most"])) if facts["runs"] else 0.0


def write_rows(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that sorts; of a large grid the first rows, and where the others are."""
    if len(rows) > ROWS_MAX:
        caption += f"; {ROWS_MAX} of {len(rows):,} rows, all in summary.json"
    return write_table(caption, heads, rows[:ROWS_MAX], sortable=True)
