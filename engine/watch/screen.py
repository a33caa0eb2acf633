"""A frame as a screen of text: rich's tables in a layout that fits the terminal (WATCH-002, WATCH-003).

Nothing hangs on colour alone: sides are named, the accounts' orders have a column of their own, lights are counted.
"""

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.box import ASCII, ROUNDED
from rich.console import Console, Group
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.codes import BUY, SELL
from engine.report import Writer, format_time
from engine.watch.frame import Close, Frame, Level, Place

NS = 1_000_000_000
SMALLEST = (80, 18)  # columns, lines
WIDE = 130  # columns from which on numbers are written out
LIGHTS = 5
SHORT = {"takeover": "take"}
SIDES = {BUY: ("long", "green"), SELL: ("short", "red")}
MARKS = {False: ("█", "░", "┃", "●", "○"), True: ("#", ".", "|", "*", ".")}  # full, empty, low, lit, unlit
BAR_COLUMNS = 14


def compose_screen(
    frame: Frame,
    write: Writer,
    *,
    title: str,
    speed: float,
    names: Mapping[int, str],
    footer: str,
    console: Console,
) -> Any:
    """Return a renderable that fills the console.

    Parameters
    ----------
    write : Writer
        Of the run's units.
    speed : float
        Seconds of the tape per second so far.
    names : mapping
        What a file of real positions calls its accounts.
    footer : str
        The last lines: a hint, or the verdict.
    """
    width, height = console.width, console.height
    if width < SMALLEST[0] or height < SMALLEST[1]:
        need = " x ".join(map(str, SMALLEST))
        return Text(f"the terminal is {width} x {height}: expected at least {need}, make it larger")
    return _Screen(frame, write, names, width, is_plain=console.options.ascii_only).compose(title, speed, footer)


class _Screen:
    """One frame at one width."""

    def __init__(self, frame: Frame, write: Writer, names: Mapping[int, str], width: int, *, is_plain: bool) -> None:
        self.frame, self.write, self.names, self.width = frame, write, names, width
        self.is_wide = width >= WIDE
        self.box = ASCII if is_plain else ROUNDED
        self.full, self.empty, self.low, self.lit, self.unlit = MARKS[is_plain]
        self.symbol = write.markets[frame.market]["symbol"]

    def compose(self, title: str, speed: float, footer: str) -> Layout:
        last = [Text(f" {line}", style="bold", no_wrap=True) for line in wrap(footer, self.width - 2)]
        whole, body, right = Layout(), Layout(name="body"), Layout()
        book = 52 if self.is_wide else 28
        right.split_column(
            Layout(_Fitted(self._list_closes), ratio=3), Layout(_Fitted(self._list_queues), ratio=2, minimum_size=6)
        )
        body.split_row(Layout(_Fitted(self._list_book), size=book), right)
        whole.split_column(
            Layout(self._compose_head(title, speed), size=1),
            Layout(self._compose_prices(), size=1),
            Layout(self._compose_fund(), size=1),
            body,
            Layout(self._compose_counters(), size=1),
            Layout(Group(*last), size=len(last)),
        )
        return whole

    # ------------------------------------------------------------ numbers

    def price(self, tick: int) -> str:
        text = self.write.price(self.frame.market, tick) if tick else "none"
        return text if self.is_wide else text.replace(",", "")

    def lots(self, market: int, lots: int) -> str:
        text = self.write.lots(market, lots)
        return text if self.is_wide else text.replace(",", "")

    def money(self, count: int) -> str:
        """Return money in full where there is room, else in three or four digits."""
        if self.is_wide:
            return self.write.amount(count)
        amount = float(count * self.write.unit)
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(amount) >= size:
                return f"{amount / size:,.1f}{letter}"
        return f"{amount:.2f}"

    def who(self, account: int) -> str:
        return self.names.get(account, str(account))

    # ------------------------------------------------------------ lines

    def _compose_head(self, title: str, speed: float) -> Text:
        frame = self.frame
        clock = format_time(frame.ts_ns) if self.is_wide else format_time(frame.ts_ns)[11:]
        pace = f"{speed:,.1f}x" if speed < 1_000 else f"{speed:,.0f}x"
        left = f" {title}  {clock}  {(frame.ts_ns - self.write.first_ns) / NS:,.1f} s in  {pace}"
        right = f"{frame.commands:,} commands  {frame.events:,} events "
        gap = max(self.width - len(left) - len(right), 2)
        return Text(left + " " * gap + right, style="reverse", no_wrap=True, overflow="ellipsis")

    def _compose_prices(self) -> Text:
        frame = self.frame
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f" {self.symbol}  mark ")
        moved = frame.mark_tick - frame.first_mark_tick if frame.first_mark_tick else 0
        colour = "red" if moved < 0 else "green"
        line.append(self.price(frame.mark_tick), style=f"bold {colour}")
        if frame.first_mark_tick:
            line.append(f" {100 * moved / frame.first_mark_tick:+.2f} %", style=colour)
        for name, tick in (("index", frame.index_tick), ("last", frame.last_tick)):
            line.append(f"  {name} {self.price(tick)}")
        word = "open interest" if self.is_wide else "OI"
        line.append(f"  {word} {self.lots(frame.market, frame.open_interest_lot)}")
        for market, tick in enumerate(frame.marks):
            if market != frame.market and tick:
                symbol = self.write.markets[market]["symbol"]
                line.append(f"  {symbol} {self.write.price(market, tick)}", style="dim")
        return line

    def _compose_fund(self) -> Text:
        """Return the fund's bar: full to what it holds, with a stroke where it was lowest."""
        frame = self.frame
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(" fund  ")
        most = max(frame.fund_start_quote, frame.fund_quote, 1)
        size = self.width // 4
        held, low = (max(size * count // most, 0) for count in (frame.fund_quote, frame.fund_low_quote))
        share = frame.fund_quote / most
        colour = "green" if share > 0.5 else "yellow" if share > 0.2 else "red"
        cells = [self.full if at < held else self.empty for at in range(size)]
        cells[min(low, size - 1)] = self.low
        line.append("".join(cells), style=colour)
        texts = self._write_fund(self.write.amount)
        if line.cell_len + sum(map(len, texts)) > self.width:
            texts = self._write_fund(self.money)
        line.append(texts[0], style=f"bold {colour}")
        line.append(texts[1])
        return line

    def _write_fund(self, money: Callable[[int], str]) -> tuple[str, str]:
        frame = self.frame
        start = f"{money(frame.fund_start_quote)} {self.write.name}"
        return f"  {money(frame.fund_quote)}", f" of {start}  low {money(frame.fund_low_quote)}"

    def _compose_counters(self) -> Text:
        frame = self.frame
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f" liquidations {frame.liquidations:,}", style="bold")
        deficits = f"  deficits {frame.deficits:,}: {self.money(frame.deficit_quote)} {self.write.name}"
        line.append(deficits, style="red" if frame.deficits else "")
        text = f"  ADL {frame.adl_fills:,} closes of {frame.adl_victims:,} accounts"
        line.append(text, style="bold yellow" if frame.adl_fills else "")
        return line

    # ------------------------------------------------------------ panels

    def _make_table(self, *columns: tuple[str, str]) -> Table:
        """Return a table without lines; columns are (heading, justification)."""
        table = Table.grid(expand=True, padding=(0, 1, 0, 0))
        for name, justify in columns:
            table.add_column(name, justify=justify, no_wrap=True)
        table.show_header = True
        table.header_style = "dim"
        return table

    def _panel(self, table: Any, title: str, lines: int) -> Panel:
        sides = 1 if self.is_wide else 0
        return Panel(
            table,
            title=title,
            title_align="left",
            box=self.box,
            padding=(0, sides),
            border_style="dim",
            height=lines,
        )

    def _list_book(self, lines: int) -> Panel:
        """Return the ladder: asks above, bids below, the spread in the middle."""
        frame = self.frame
        room = max((lines - 4) // 2, 1)
        asks, bids = frame.asks[:room], frame.bids[:room]
        columns = [("price", "right"), ("market", "right"), ("accounts", "right")]
        table = self._make_table(*columns, *([("", "left")] if self.is_wide else []))
        most = max([level.market_lot + level.accounts_lot for level in (*asks, *bids)], default=1)
        for _ in range(room - len(asks)):
            table.add_row("")
        for level in reversed(asks):
            self._add_level(table, level, most, "red")
        spread = self.price(asks[0].price_tick - bids[0].price_tick) if asks and bids else "none"
        table.add_row(Text(spread, style="dim"), Text("spread", style="dim"))
        for level in bids:
            self._add_level(table, level, most, "green")
        return self._panel(table, f"book {self.symbol}", lines)

    def _add_level(self, table: Table, level: Level, most: int, colour: str) -> None:
        market = self.frame.market
        sizes = [self.lots(market, lots) if lots else "" for lots in (level.market_lot, level.accounts_lot)]
        cells = [Text(self.price(level.price_tick), style=colour), Text(sizes[0]), Text(sizes[1], style="bold cyan")]
        if self.is_wide:
            ours, all_ = (
                -(-BAR_COLUMNS * lots // most) for lots in (level.accounts_lot, level.market_lot + level.accounts_lot)
            )
            bar = Text(self.full * ours, style="cyan")
            cells.append(bar.append(self.full * (all_ - ours), style=colour))
        table.add_row(*cells)

    def _list_closes(self, lines: int) -> Panel:
        """Return the tape of liquidations, the latest first."""
        names = ("time", "account", "", "by", "quantity", "price", "bankrupt", "deficit")
        if not self.is_wide:
            names = ("time", "acct", "", "by", "qty", "price", "bankr", "deficit")
        justified = ("right", "right", "left", "left", "right", "right", "right", "right")
        table = self._make_table(*zip(names, justified, strict=True))
        for close in list(reversed(self.frame.closes))[: max(lines - 3, 1)]:
            table.add_row(*self._write_close(close))
        title = "liquidations, latest first (time: seconds in)" if self.is_wide else "liquidations, latest first"
        return self._panel(table, title, lines)

    def _write_close(self, close: Close) -> Sequence[Text]:
        side, colour = SIDES[close.side]
        market = close.market
        ticks = [self.write.price(market, tick) if tick else "" for tick in (close.price_tick, close.bankruptcy_tick)]
        if not self.is_wide:
            side, ticks = side[0], [text.replace(",", "") for text in ticks]
        way = close.way if self.is_wide else SHORT.get(close.way, close.way)
        seconds = (close.ts_ns - self.write.first_ns) / NS
        texts = [
            f"{seconds:.1f}" if seconds < 1_000 else f"{seconds:.0f}",
            self.who(close.account),
            side,
            way,
            self.lots(market, close.qty_lot),
            *ticks,
            self.money(close.deficit_quote) if close.deficit_quote else "",
        ]
        styles = ("dim", "bold", colour, "yellow" if close.way == "ADL" else "", "", "", "", "bold red")
        return [Text(text, style=style) for text, style in zip(texts, styles, strict=True)]

    def _list_queues(self, lines: int) -> Panel:
        """Return both sides' queues beside each other: rank, lights, account, quantity."""
        frame = self.frame
        sides = Table.grid(expand=True, padding=(0, 1))
        for _ in SIDES:
            sides.add_column(ratio=1)
        cells = []
        for side, (name, colour) in SIDES.items():
            account, quantity = ("account", "quantity") if self.is_wide else ("acct", "qty")
            table = self._make_table(("", "right"), (f"{name}s", "left"), (account, "right"), (quantity, "right"))
            for place in frame.queues[side][: max(lines - 3, 1)]:
                table.add_row(*self._write_place(place, colour))
            cells.append(table)
        sides.add_row(*cells)
        lengths = ", ".join(f"{frame.queue_lengths[side]:,} {name}s" for side, (name, _) in SIDES.items())
        return self._panel(sides, f"ADL queue: {lengths}", lines)

    def _write_place(self, place: Place, colour: str) -> Sequence[Text]:
        lit = min(place.lights, LIGHTS)
        lights = Text(self.lit * lit, style=colour).append(self.unlit * (LIGHTS - lit), style="dim")
        return [
            Text(str(place.rank), style="dim"),
            lights,
            Text(self.who(place.account), style="bold"),
            Text(self.lots(self.frame.market, abs(place.qty_lot))),
        ]


class _Fitted:
    """What is made when its height is known."""

    def __init__(self, make: Callable[[int], Panel]) -> None:
        self.make = make

    def __rich_console__(self, console: Console, options: Any) -> Any:
        """Yield the renderable for these lines."""
        yield self.make(options.height or options.max_height)
