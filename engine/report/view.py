"""One run as the sections of a report: each returns HTML, and puts its pictures on the canvas."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.codes import BUY, POLICIES
from engine.contract import value_of
from engine.errors import DataError
from engine.replay.timeline import Timeline
from engine.report import Writer, count_noun, format_time
from engine.report.flow import Flow, add_flows, draw_flow, keep_largest
from engine.report.markup import Canvas, fold, list_tiles, write_paragraph, write_table
from engine.report.policies import write_lab
from engine.report.queue import Queue, find_queues
from engine.report.shape import (
    DEPTH_ROWS,
    MAP_ROWS,
    RATE_LINES,
    SIGN_LINES,
    Picture,
    count_interest,
    draw_entries,
    draw_fund,
    draw_heat,
    draw_liquidations,
    draw_prices,
    draw_signs,
    draw_steps,
    find_largest,
)
from engine.runs.logs import CLOSED_BY, describe_ranking
from engine.runs.read import open_run, read_events, read_series, read_steps
from engine.runs.standing import Place

Rows = NDArray[np.void]

NS, MS = 1_000_000_000, 1_000_000
FLOWS_MAX = 7
ROWS_MAX = 60
QUEUE_ROWS_MAX = 40
NO_EVENTS = "the run kept no events (--events none)"
NO_SERIES = "the run sampled none of it (series.npz), and events alone do not hold it"


class RunView:
    """A run directory, read once, and what the sections of a page say of it.

    Parameters
    ----------
    folder : path
    label : str
        What the page calls the run.
    number : int
        Its place on the page.
    canvas : Canvas
        Takes the pictures.
    """

    def __init__(self, folder: Path, label: str, number: int, canvas: Canvas) -> None:
        self.label, self.number, self.canvas = label, number, canvas
        self.run = open_run(folder)
        self.summary = self.run.summary
        self.write = Writer(self.summary)
        self.first_ns, self.last_ns = int(self.summary["first_ns"]), int(self.summary["last_ns"])
        self.names = self.run.names
        kept = any((folder / name).exists() for name in ("events.npz", "events.parquet"))
        self.events: Rows | None = np.concatenate(list(read_events(folder))) if kept else None
        self.series = read_series(folder)
        self.steps = read_steps(folder)  # of a simulated market: finer than what was sampled
        self.symbols = [market.symbol for market in self.run.markets]
        self.has_many = len(self.symbols) > 1
        self.lab: dict[str, Any] | None = None
        self.left_out: dict[str, list[str]] = {}  # why -> the sections that are not there

    def leave_out(self, section: str, why: str) -> str:
        """Return nothing, and note why a section is not there."""
        self.left_out.setdefault(why, []).append(section)
        return ""

    # ------------------------------------------------------------ words

    def who(self, account: int) -> str:
        """Return an account's name, or its number."""
        people = {codes.EXTERNAL: "the outside", codes.HOUSE: "the house"}
        return self.names.get(account, people.get(account, str(account)))

    def when(self, ts_ns: int) -> str:
        """Return a time of the day with how far into the tape it is."""
        return f"{format_time(ts_ns)[11:]} ({(ts_ns - self.first_ns) / NS:.1f} s)"

    def head(self, market: int, title: str) -> str:
        """Return a title with the market's symbol where there are several."""
        return f"{self.symbols[market]}: {title}" if self.has_many else title

    def picture(self, series: list[Picture], unit: str, **more: Any) -> Picture:
        """Return what the script draws: series over the time of the run."""
        span = max((self.last_ns - self.first_ns) / NS, 0.001)
        return {
            "kind": "lines",
            "series": series,
            "unit": unit,
            "span": span,
            "t0": self.first_ns / MS,
            "sync": f"run{self.number}",
            **more,
        }

    def count_points(self, series: Sequence[Picture]) -> str:
        """Return how many values were left out of a picture, if any."""
        left = [each for each in series if "of" in each and each["of"] > len(each["x"]) + 1]
        told = ", ".join(f"{each['name']} {len(each['x']):,} of {each['of']:,}" for each in left)
        return f"Values drawn, extremes kept: {told}" if told else ""

    # ------------------------------------------------------------ verdict

    def write_verdict(self) -> str:
        """Return the answer and its main numbers (REP-001)."""
        told, write = self.summary, self.write
        kind, word = judge(told)
        tiles = [
            ("Fund at the start", write.amount(told["fund_start_quote"]), ""),
            ("Fund at its lowest", write.amount(told["fund_low_quote"]), self.when(told["fund_low_ns"])),
            ("Fund at the end", write.amount(told["fund_end_quote"]), ""),
            ("Liquidated", write.amount(told["liquidated_quote"]), count_noun(told["liquidated_accounts"], "account")),
            ("Deficits", write.amount(told["deficit_quote"]), count_noun(told["deficits"], "deficit")),
            ("Paid by the fund", write.amount(told["paid_by_fund_quote"]), ""),
            ("Paid by ADL", write.amount(told["paid_by_adl_quote"]), count_noun(told["adl_victims"], "winner")),
            ("Haircut", write.amount(told["paid_by_haircut_quote"]), count_noun(told["haircut_winners"], "winner")),
            ("Unpaid", write.amount(told["unpaid_quote"]), ""),
        ]
        verdict = write_paragraph(told["verdict"], "said")
        box = f'<div class="verdict {kind}" role="status"><strong>{word}</strong>{verdict}</div>'
        return box + list_tiles(tiles) + write_paragraph(f"Amounts in {write.name}.")

    # ------------------------------------------------------------ prices and book

    def write_prices(self) -> str:
        """Return the price of each market with the bankruptcy prices of its largest liquidations."""
        if self.events is None:
            return self.leave_out("price", NO_EVENTS)
        return "".join(self._write_price(market) for market in range(len(self.symbols)))

    def _write_price(self, market: int) -> str:
        assert self.events is not None
        write = self.write
        largest = find_largest(self.run, self.events, market)
        for row in largest:
            side = "short" if row["side"] == BUY else "long"
            row["label"] = (
                f"{self.who(row['account'])}, {side} {write.lots(market, row['qty_lot'])}, bankrupt at "
                f"{write.price(market, row['bankruptcy_tick'])}, closed at {write.price(market, row['price_tick'])}"
            )
        drawn = draw_prices(self.run, self.events, self.steps or self.series, market, largest)
        if not drawn:
            return write_paragraph(f"{self.symbols[market]}: no price moved.")
        described = self.summary["markets"][market]
        path = ", ".join(
            f"{name} {write.price(market, described[f'mark_{name}_tick'])}" for name in ("first", "low", "high", "last")
        )
        heads = ("account", "side", "time", "quantity", "notional", "bankrupt at", "closed at", "closed by")
        rows = [
            [
                self.who(row["account"]),
                "short" if row["side"] == BUY else "long",
                self.when(row["ts_ns"]),
                write.lots(market, row["qty_lot"]),
                write.amount(row["value_quote"]),
                write.price(market, row["bankruptcy_tick"]) if row["bankruptcy_tick"] else "none",
                write.price(market, row["price_tick"]),
                ", ".join(CLOSED_BY[kind] for kind in row["by"]),
            ]
            for row in largest
        ]
        table = fold(
            f"The {count_noun(len(rows), 'largest liquidation')} as a table" if len(rows) != 1 else "It as a table",
            write_table(f"Largest liquidations by notional ({write.name})", heads, rows, texts=(1, 2, 7)),
        )
        lacking = "" if any(each["name"] == "index" for each in drawn) else "The run kept no index. "
        note = f"{lacking}{self.count_points(drawn)}"
        return self.canvas.draw(
            self.head(market, "Mark, index and last price"),
            note,
            f"Price of {self.symbols[market]}: mark {path}",
            self.picture(drawn, ""),
            table if rows else "",
        )

    def write_depth(self) -> str:
        """Return what rested near the middle over time, where the run sampled it (REP-003)."""
        return self._write_heats(DEPTH_ROWS, "Book depth", "heat", is_lots=True)

    def write_map(self) -> str:
        """Return what a move of the mark would have liquidated, where the run sampled it (REP-003)."""
        return self._write_heats(MAP_ROWS, "What a move of the mark would have liquidated", "risk")

    def _write_heats(self, bands: Any, title: str, colour: str, *, is_lots: bool = False) -> str:
        found = []
        for market, rules in enumerate(self.run.markets):
            unit = rules.lot_size if is_lots else Decimal(self.summary["assets"][0]["unit"])
            heat = draw_heat(self.series, market, bands, self.first_ns, float(unit), is_book=is_lots)
            if heat is None:
                continue
            if not heat["x"]:
                found.append(
                    write_paragraph(f"{self.symbols[market]}: nothing rested in the book when it was sampled.")
                )
                continue
            name = "quantity" if is_lots else self.write.name
            rows = [
                [label, *(f"{number(cells):,.2f}" for number in (min, np.median, max)), f"{cells[-1]:,.2f}"]
                for label, cells in zip(heat["rows"], heat["cells"], strict=True)
            ]
            heads = ("band", "least", "median", "most", "at the end")
            table = fold("As a table", write_table(f"{title} ({name})", heads, rows))
            notes = [f"{len(heat['x']):,} of {heat['of']:,} samples drawn"] if heat["of"] > len(heat["x"]) else []
            if heat["before"]:
                notes.append(f"left out: {count_noun(heat['before'], 'sample')} from before the book was there")
            label = f"Heat map of {self.symbols[market]}: {title}, {len(rows)} bands over time"
            picture = self.picture([], name, **heat, colour=colour)
            found.append(self.canvas.draw(self.head(market, title), "; ".join(notes), label, picture, table))
        return "".join(found) or self.leave_out(title, NO_SERIES)

    # ------------------------------------------------------------ liquidations and the fund

    def _read_seconds(self) -> list[dict[str, str]]:
        """Return liquidations by second: the run's own file, or its events folded again (REPLAY-001)."""
        path = self.run.folder / "liquidations.csv"
        if path.exists():
            text = path.read_text(encoding="utf-8")
        elif self.events is not None:
            timeline = Timeline(self.run.setup)
            timeline.fold(self.events)
            text = timeline.compose_csv(self.run.markets)
        else:
            return []
        lines = list(csv.DictReader(io.StringIO(text)))
        wanted = {"time", "symbol", "side", "simulated_notional", "adl_notional", "recorded_notional"}
        if lines and not wanted <= set(lines[0]):
            raise DataError(path, 1, None, f"expected the columns {', '.join(sorted(wanted))}")
        return lines

    def write_liquidations(self) -> str:
        """Return liquidations by second, longs up and shorts down."""
        lines = self._read_seconds()
        if not lines:
            if self.events is None:
                return self.leave_out("liquidations", NO_EVENTS)
            return write_paragraph("Nobody was liquidated.")
        found = []
        for market, symbol in enumerate(self.symbols):
            drawn, width = draw_liquidations(self.run, lines, symbol)
            if not drawn:
                continue
            mine = [line for line in lines if line["symbol"] == symbol]
            columns = ("side", "simulated", "simulated_notional", "adl_notional", "recorded", "recorded_notional")
            rows = [[line["time"][11:-1], *(_shorten(line[name]) for name in columns)] for line in mine]
            heads = ("UTC", "side", "orders", "in the book", "by ADL", "told by the venue", "notional told")
            caption = f"Notional by second ({self.write.name}); sell closes a long. "
            caption += _say_shown(len(rows), ROWS_MAX, "rows, all in liquidations.csv")
            table = fold("As a table", write_table(caption, heads, rows[:ROWS_MAX], texts=(1,)))
            sums = [
                sum(float(line["simulated_notional"]) for line in mine if line["side"] == side)
                for side in ("sell", "buy")
            ]
            label = f"Liquidations of {symbol} by time: longs {sums[0]:,.0f}, shorts {sums[1]:,.0f} {self.write.name}"
            title = self.head(market, "Notional liquidated: longs up, shorts down")
            note = f"a bar is {count_noun(width, 'second')}"
            picture = self.picture(drawn, self.write.name, zero=True)
            found.append(self.canvas.draw(title, note, label, picture, table))
        return "".join(found)

    def write_fund(self) -> str:
        """Return each fund's balance, and its surpluses and deficits."""
        if self.events is None:
            return self.leave_out("insurance fund", NO_EVENTS)
        return "".join(self._write_fund(fund) for fund in range(len(self.run.setup.funds)))

    def _write_fund(self, fund: int) -> str:
        assert self.events is not None
        told, write, name = self.summary["funds"][fund], self.write, self.run.setup.funds[fund]
        balance = draw_fund(self.run, self.events, fund)
        if not balance:
            return write_paragraph(f"The fund {name} was empty from beginning to end.")
        start, low, end = (write.amount(told[f"{when}_quote"]) for when in ("start", "low", "end"))
        label = f"Balance of the fund {name}: {start} at the start, {low} at its lowest, {end} at the end"
        entries, width = draw_entries(self.run, self.events, fund)
        found = self.canvas.draw(
            f"Balance of the fund {name}",
            self.count_points(balance),
            label,
            self.picture(balance, write.name, zero=True),
            _table_lines(f"Balance ({write.name})", balance),
        )
        if not entries:
            return found
        sums = ", ".join(f"{each['name']} {abs(sum(each['show'])):,.2f}" for each in reversed(entries))
        return found + self.canvas.draw(
            "Surpluses (up), and deficits by who paid them (down)",
            f"a bar is {width:g} s; every entry: perp log RUN --fund",
            f"Entries of the fund {name}: {sums} {write.name}",
            self.picture(entries, write.name, zero=True),
            self._table_deficits(),
        )

    def _table_deficits(self) -> str:
        write = self.write
        keys = ("deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")
        rows = [
            [self.who(row["account"]), self.when(row["ts_ns"]), *(write.amount(row[key]) for key in keys)]
            for row in self.summary["deficits_top"]
        ]
        heads = ("account", "time", "deficit", "fund", "ADL", "haircut", "unpaid")
        caption = f"Largest deficits ({write.name}); {len(rows)} of {self.summary['deficits']:,}"
        return fold("The largest deficits as a table", write_table(caption, heads, rows, texts=(1,))) if rows else ""

    # ------------------------------------------------------------ who paid

    def write_flow(self) -> str:
        """Return the ledger of bad debt as a flow picture, and as a table (REP-005)."""
        if self.events is None:
            return self.leave_out("bad debt", NO_EVENTS)
        debts = self.events[self.events["kind"] == codes.DEFICIT]
        if not len(debts):
            return write_paragraph("There was no deficit.")
        first, second = self._list_flows(debts)
        write = self.write
        sums = ", ".join(
            f"{payer} {write.amount(amount)}" for payer, amount in add_flows(first, by_target=True).items()
        )
        label = f"Who owed and who paid, in {write.name}: {sums}"
        rows = [[flow.source, flow.target, write.amount(flow.amount)] for flow in (*first, *second)]
        table = write_table(f"Flows of bad debt ({write.name})", ("from", "to", "amount"), rows, texts=(1,))
        svg = draw_flow(first, second, write.amount, label)
        scroll = f'<div class="wide" tabindex="0" role="region" aria-label="Flow picture">{svg}</div>'
        caption = f"From whose deficit to whose money ({write.name})"
        return f"<figure><figcaption>{caption}</figcaption>{scroll}{fold('As a table', table)}</figure>"

    def write_policies(self) -> str:
        """Return what the policy lab told of the run, where the page was given it (REP-008)."""
        return write_lab(self.lab) if self.lab else ""

    def _list_flows(self, debts: Rows) -> tuple[list[Flow], list[Flow]]:
        """Return the flows from origins to payers, and from payers to those whose money it was."""
        assert self.events is not None
        payers = (
            ("fund", "other_amount_quote", "the fund"),
            ("adl", "fee_quote", "ADL"),
            ("cut", "margin_quote", "haircut"),
            ("unpaid", "other_margin_quote", "nobody"),
        )
        owed = _sum_by(debts["account"], debts["amount_quote"])
        shown = keep_largest({self.who(account): amount for account, amount in owed.items()}, FLOWS_MAX, "{} others")
        first = []
        for origin in shown:
            is_rest = origin.endswith(" others") and origin not in {self.who(account) for account in owed}
            mine = np.array([(self.who(a) not in shown) if is_rest else (self.who(a) == origin) for a in owed])
            rows = debts[np.isin(debts["account"], np.array(list(owed))[mine])]
            for kind, column, name in payers:
                amount = sum(rows[column].tolist())
                if amount:
                    first.append(Flow(f"account {origin}" if origin.isdigit() else origin, name, kind, amount))
        first.sort(key=lambda flow: [kind for kind, *_ in payers].index(flow.kind))
        order = {flow.source: place for place, flow in enumerate(first)}
        first.sort(key=lambda flow: order[flow.source])
        second = []
        for kind, name, given in (("adl", "ADL", self._sum_adl()), ("cut", "haircut", self._sum_cuts())):
            named = {self.who(account): amount for account, amount in given.items()}
            for victim, amount in keep_largest(named, FLOWS_MAX, "{} other winners").items():
                second.append(Flow(name, f"account {victim}" if victim.isdigit() else victim, kind, amount))
        paid = add_flows(first, by_target=True)
        return first, [flow for flow in second if flow.source in paid]

    def _sum_adl(self) -> dict[int, int]:
        """Return what each victim gave up against the mark (ADL-006)."""
        assert self.events is not None
        given: dict[int, int] = {}
        for row in self.events[self.events["kind"] == codes.ADL_FILL]:
            rules, lots = self.run.setup.markets[row["market"]], int(row["side"]) * int(row["qty_lot"])
            loss = int(row["amount_quote"]) + int(value_of(rules, int(row["mark_tick"]), lots))
            if loss > 0:
                given[int(row["other"])] = given.get(int(row["other"]), 0) + loss
        return given

    def _sum_cuts(self) -> dict[int, int]:
        assert self.events is not None
        rows = self.events[self.events["kind"] == codes.HAIRCUT]
        return _sum_by(rows["account"], rows["amount_quote"])

    def write_queues(self) -> str:
        """Return the queue of winners before the first ADL and after the last (REP-004)."""
        if self.events is None:
            return self.leave_out("ADL queue", NO_EVENTS)
        queues = find_queues(self.run, self.events)
        return "".join(map(self._write_queue, queues)) or write_paragraph("Nobody was deleveraged.")

    def _write_queue(self, queue: Queue) -> str:
        market, side = queue.market, "longs" if queue.side > 0 else "shorts"
        if not queue.before and not queue.closed:
            return write_paragraph(f"{self.symbols[market]}: ADL began among the {side}, and nobody was in the queue.")
        victims = sum(place.account in queue.closed for place in queue.before)
        text = (
            f"{self.symbols[market]}: {count_noun(len(queue.before), 'winner')} among the {side} before the first ADL, "
            f"{len(queue.after):,} after the last; {count_noun(len(queue.closed), 'victim')}, {victims:,} of them in "
            "the queue as it first stood. Each bar is a winner, first in line on the left, its height its quantity, "
            "the paler the fewer lights; victims are coloured."
        )
        most = max((place.qty_lot for place in (*queue.before, *queue.after)), default=1)
        strips = ""
        for word, places in (("before", queue.before), ("after", queue.after)):
            label = f"{count_noun(len(places), 'winner')} {word}"
            strips += write_paragraph(label) + draw_strip(places, queue.closed, most, label)
        ranking = describe_ranking(self.run.setup.markets[market])
        caption = f"{self.symbols[market]} {side}, ranked by {ranking['adl_score']} ({ranking['rule']}). "
        table = self._table_queue(queue, caption + _say_shown(len(queue.before), QUEUE_ROWS_MAX, "places"))
        formula = write_paragraph(f"{ranking['rule']}: {ranking['formula']}")
        figure = f"<figure>{write_paragraph(text)}{strips}{fold('The queue as a table', table)}</figure>"
        return figure + fold("The ranking formula in force", formula)

    def _table_queue(self, queue: Queue, caption: str) -> str:
        """Return the front of the queue before ADL, and where each stood after it."""
        write, market = self.write, queue.market
        after = {place.account: place for place in queue.after}
        rows, marked = [], []
        for at, place in enumerate(queue.before[:QUEUE_ROWS_MAX]):
            now, closed = after.get(place.account), queue.closed.get(place.account, 0)
            if closed:
                marked.append(at)
            rows.append(
                [
                    f"{place.rank:,}",
                    self.who(place.account),
                    show_lights(place.lights),
                    write.lots(market, place.qty_lot),
                    write.amount(place.gain_quote),
                    f"victim: {write.lots(market, closed)}" if closed else "",
                    f"{now.rank:,}" if now else "not in it",
                    show_lights(now.lights) if now else "",
                ]
            )
        gain = f"gain ({write.name})"
        heads = ("rank", "account", "lights", "quantity", gain, "closed by ADL", "rank after", "lights after")
        return write_table(caption, heads, rows, texts=(1, 2, 5, 7), marked=marked)

    # ------------------------------------------------------------ the rest

    def write_interest(self) -> str:
        """Return open interest over time."""
        if self.events is None:
            return self.leave_out("open interest", NO_EVENTS)
        found = []
        for market, rules in enumerate(self.run.markets):
            times, lots = count_interest(self.events, market)
            if not len(times):
                continue
            drawn = [draw_steps("open interest", "mark", times, lots, self.first_ns, self.last_ns)]
            drawn[0]["y"] = [round(count * float(rules.lot_size), 9) for count in drawn[0]["y"]]
            described = self.summary["markets"][market]
            start, end = (self.write.lots(market, described[f"open_interest_{when}_lot"]) for when in ("start", "end"))
            label = f"Open interest of {rules.symbol}: {start} after the opening, {end} at the end"
            picture = self.picture(drawn, "quantity", zero=True)
            table = _table_lines("Open interest (quantity)", drawn)
            title = self.head(market, "Open interest")
            found.append(self.canvas.draw(title, self.count_points(drawn), label, picture, table))
        return "".join(found) or write_paragraph("Nobody held a position.")

    def write_signs(self) -> str:
        """Return what the run sampled of concentration and rates (REP-003)."""
        found = []
        groups = (("Concentration", SIGN_LINES, 1e-4, "% of its whole"), ("Rates", RATE_LINES, 1e-7, "%"))
        for market in range(len(self.symbols)):
            for title, lines, scale, unit in groups:
                drawn = draw_signs(self.series, market, lines, self.first_ns, scale)
                if drawn:
                    ends = ", ".join(f"{each['name']} {each['y'][-1]:g}" for each in drawn)
                    label = f"{title} of {self.symbols[market]}, at the end: {ends} {unit}"
                    picture = self.picture(drawn, unit, zero=True)
                    table = _table_lines(f"{title} ({unit})", drawn)
                    found.append(self.canvas.draw(self.head(market, title), unit, label, picture, table))
        return "".join(found) or self.leave_out("warning signs", NO_SERIES)

    def write_parameters(self) -> str:
        """Return what the run was made from, and what proves it."""
        told = self.summary
        facts = [
            ("digest", told["digest"]),
            ("conserved", f"{'yes' if told['conserved'] else 'NO'}, checked {count_noun(told['checks'], 'time')}"),
            ("version", f"perp-engine {told['version']}, {told['engine']} engine"),
            ("tape", f"{format_time(told['first_ns'])} to {format_time(told['last_ns'])}"),
            ("commands, events", f"{told['commands']:,}, {told['events']:,}"),
        ]
        facts += [("seed", ", ".join(map(str, find_seeds(told["parameters"]))) or "none")]
        for market in self.run.setup.markets:
            names = ("adl_score", "adl_allocation", "adl_trigger", "adl_price", "backstop")
            policies = ", ".join(
                f"{name.removeprefix('adl_')} {POLICIES[name][getattr(market, name)]}" for name in names
            )
            facts.append((f"{market.symbol} policies", policies))
        table = write_table("What it was, and what proves it", ("", ""), [list(fact) for fact in facts], texts=(1,))
        if told["inputs"]:
            rows = [[row["role"], row["file"], row["sha256"]] for row in told["inputs"]]
            table += fold(
                "Files it read", write_table("SHA-256 of inputs", ("role", "file", "SHA-256"), rows, texts=(1, 2))
            )
        table += fold("All parameters", f"<pre>{escape(json.dumps(told['parameters'], indent=2))}</pre>")
        reasons = (f"Left out: {', '.join(names)}: {why}." for why, names in self.left_out.items())
        return table + "".join(map(write_paragraph, reasons))


def judge(summary: dict[str, Any]) -> tuple[str, str]:
    """Return how a verdict is coloured, and the word for it."""
    if summary["fault"]:
        return "bad", "Broken off"
    if summary["unpaid_quote"]:
        return "bad", "Insolvent"
    if summary["fund_dry_ns"] is not None:
        return "dry", "The fund ran dry" if summary["fund_start_quote"] else "No fund at the start"
    if summary["adl_fills"]:
        return "dry", "The fund survived; winners were deleveraged"
    return "ok", "The fund survived"


def find_seeds(tree: Any) -> list[int]:
    """Return every seed in a tree of parameters, in order, each once."""
    found: list[int] = []
    if isinstance(tree, dict):
        if isinstance(tree.get("seed"), int):
            found.append(tree["seed"])
        for value in tree.values():
            found += find_seeds(value)
    elif isinstance(tree, list):
        for value in tree:
            found += find_seeds(value)
    return list(dict.fromkeys(found))


def show_lights(lights: int) -> str:
    """Return the lights of a candidate as signs and as a number."""
    return "●" * lights + "○" * (5 - lights) + f" {lights}"


def draw_strip(places: Sequence[Place], closed: Mapping[int, int], most: int, label: str) -> str:
    """Return a queue as bars: first in line at the left, height by the root of the quantity."""
    step = 1000 / max(len(places), 1)
    bars = ""
    for at, place in enumerate(places):
        height = max(90 * (place.qty_lot / most) ** 0.5, 2)
        kind = f"l{place.lights}" + (" hit" if place.account in closed else "")
        size = f'width="{max(step * 0.86, 0.5):.2f}" height="{height:.1f}"'
        bars += f'<rect class="{kind}" x="{at * step:.2f}" y="{90 - height:.1f}" {size}/>'
    return (
        f'<svg class="strip" viewBox="0 0 1000 92" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{bars}</svg>'
    )


def _sum_by(accounts: NDArray[Any], amounts: NDArray[Any]) -> dict[int, int]:
    """Return the exact sum of each account."""
    found: dict[int, int] = {}
    for account, amount in zip(accounts.tolist(), amounts.tolist(), strict=True):
        found[account] = found.get(account, 0) + amount
    return found


def _table_lines(caption: str, drawn: Sequence[Picture]) -> str:
    """Return where each line begins, its extremes and its end, as a table that opens on demand."""
    rows = [
        [each["name"], *(f"{number:,.6g}" if abs(number) < 1 else f"{number:,.2f}" for number in _ends(each["y"]))]
        for each in drawn
    ]
    return fold("As a table", write_table(caption, ("line", "first", "lowest", "highest", "last"), rows))


def _ends(values: Sequence[float]) -> tuple[float, float, float, float]:
    return values[0], min(values), max(values), values[-1]


def _shorten(text: str) -> str:
    """Return a number of a CSV to two decimals; other texts as they are."""
    return f"{float(text):,.2f}" if "." in text else text


def _say_shown(count: int, most: int, noun: str) -> str:
    return f"{most:,} of {count:,} {noun}." if count > most else f"All {count:,}."
