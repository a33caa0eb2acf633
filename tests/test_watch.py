"""A run watched on a terminal: the frame is the engine's state, and watching changes nothing (WATCH-001..WATCH-004)."""

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine import Exchange, commands, load_market
from engine.cli import compile_kernels, main
from engine.cli.watch import speed
from engine.codes import ADL_FILL, DEFICIT, LIQUIDATION_FILL, TAKEOVER
from engine.errors import ConfigError
from engine.feeds import open_feed
from engine.feeds.synthetic import Request, write_tape
from engine.replay import Plan, count_fund, run_replay
from engine.replay.tally import Tally
from engine.scenario import load_population, load_shock

rich_console = pytest.importorskip("rich.console", reason="the extra tui is not installed")

from engine.watch import Watch, open_console  # noqa: E402
from engine.watch.frame import list_closes, read_frame  # noqa: E402
from engine.watch.live import describe_units  # noqa: E402
from engine.watch.screen import compose_screen  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
SIMULATED = ROOT / "replay_data" / "simulated_btc"
TIMINGS = ("seconds", "engine_seconds", "events_per_s", "commands_per_s")
CROWD = """
seed = 3
accounts = 60
open_interest = "40"
long_share = "0.6"
entry_spread = "0.005"
isolated_share = "0.5"
leverage = [{ leverage = 50, weight = "2" }, { leverage = 100, weight = "1" }]
size = { kind = "lognormal", sigma = "1.2" }
"""
CRASH = """
price = [{ t = "500ms", factor = "1" }, { t = "2s", factor = "0.9" }]
depth = [{ t = "500ms", factor = "1" }, { t = "1s", factor = "0.002" }]
"""


@pytest.fixture(scope="module", autouse=True)
def warm():
    compile_kernels()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with three seconds of a made-up tape, a market, sixty accounts and a crash."""
    folder = tmp_path_factory.mktemp("small")
    write_tape(Request(seed=5, seconds=3), folder / "tape")
    (folder / "market.toml").write_bytes((DEMO / "market.toml").read_bytes())
    (folder / "population.toml").write_text(CROWD)
    (folder / "shock.toml").write_text(CRASH)
    return folder


def read_plan(folder, engine="compiled", fund="2000"):
    markets = [load_market(folder / "market.toml")]
    return Plan(
        markets=markets,
        feed=open_feed([folder / "tape"], markets),
        populations=[load_population(folder / "population.toml")],
        shock=load_shock(folder / "shock.toml"),
        funds=count_fund(fund, markets),
        engine=engine,
    )


def make_console(width=140, height=45, **more):
    """Return a console that believes it is a terminal, and what it writes to."""
    out = io.StringIO()
    return rich_console.Console(file=out, force_terminal=True, width=width, height=height, **more), out


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def make_watch(console, kind=Watch, pace=1):
    """Return a watch that keeps its pace by a clock of its own: many frames, small pieces, no waiting."""
    time_ = Time()
    return kind(console, "test", speed=Fraction(pace), clock=time_.clock, sleep=time_.sleep)


def timeless(summary):
    return {key: value for key, value in summary.items() if key not in TIMINGS}


# ---------------------------------------------------------------- nothing changes


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_watching_changes_nothing(small, tmp_path, engine):
    """Digest, events, samples, summary: byte for byte (WATCH-001)."""
    plain = run_replay(read_plan(small, engine), out=tmp_path / "plain")
    console, _ = make_console()
    with make_watch(console) as watch:
        watched = run_replay(read_plan(small, engine), out=tmp_path / "watched", watcher=watch)
    assert watch.frames > 20
    assert timeless(watched.summary) == timeless(plain.summary)
    assert plain.summary["adl_fills"] > 0
    for name in ("events.npz", "series.npz", "liquidations.csv"):
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_watching_a_simulated_market_changes_nothing():
    """Source: WATCH-001, SIM-009."""
    from msgspec.structs import replace as change

    from engine.scenario import load_simulated
    from engine.sim import run_simulation

    market = load_market(SIMULATED / "market.toml")
    config = change(load_simulated(SIMULATED / "simulated.toml"), duration="20s")
    given = {"keep_commands": True, "funds": count_fund("1000000", [market])}
    plain = run_simulation(config, market, **given)
    console, _ = make_console()
    with make_watch(console, pace=4) as watch:
        watched = run_simulation(config, market, watcher=watch, **given)
    assert watch.frames > 20
    assert timeless(watched.summary) == timeless(plain.summary)
    assert watched.commands.tobytes() == plain.commands.tobytes()
    assert watched.signs.tobytes() == plain.signs.tobytes()
    assert any(level.accounts_lot for level in (*watch.frame.asks, *watch.frame.bids)), "makers' orders are accounts'"


# ---------------------------------------------------------------- what is shown


class Looking(Watch):
    """A watch that holds every frame it draws against the engine, and keeps the richest."""

    seen: list

    def _draw(self):
        super()._draw()
        exchange, frame = self._exchange, self.frame
        depth = exchange.depth(0, len(frame.bids) or 1)
        assert [(row.price_tick, row.market_lot + row.accounts_lot) for row in frame.bids] == depth["bids"]
        for side in (1, -1):
            queue = exchange.adl_queue(0, side)
            told = [(row.rank, row.account, row.qty_lot, row.lights) for row in frame.queues[side]]
            columns = (queue[name].tolist() for name in ("rank", "account", "qty_lot", "lights"))
            assert told == list(zip(*columns, strict=True))[: len(told)]
            assert frame.queue_lengths[side] == len(queue["rank"])
        view = exchange.view()
        assert (frame.mark_tick, frame.index_tick, frame.last_tick) == tuple(int(row) for row in view.markets[0][:3])
        assert frame.fund_quote == int(view.funds[0][0])
        assert frame.commands == int(view.clock[0][0])
        self.seen.append(frame)


def test_every_frame_is_the_engine_s(small):
    """Book, queues with lights, prices, fund and count are one moment's (WATCH-002)."""
    console, _ = make_console()
    watch = make_watch(console, Looking)
    watch.seen = []
    with watch:
        run = run_replay(read_plan(small), watcher=watch)
    assert 20 < len(watch.seen) <= 32
    funds = [frame.fund_quote for frame in watch.seen]
    assert funds[0] > min(funds)
    watch.finish(run.summary["verdict"])
    last = watch.frame
    names = ("liquidations", "deficits", "deficit_quote", "adl_fills", "adl_victims")
    assert {name: getattr(last, name) for name in names} == {name: run.summary[name] for name in names}
    assert (last.fund_quote, last.fund_low_quote) == (run.summary["fund_end_quote"], run.summary["fund_low_quote"])
    assert any(lights < 5 for frame in watch.seen for _, _, _, lights in frame.queues[-1])


def test_the_ladder_tells_whose_orders_rest():
    """Accounts' lots stand beside the recorded market's, at the same price too (WATCH-002)."""
    exchange = Exchange([load_market(DEMO / "market.toml")])
    tally = Tally(exchange.setup)
    rows = [
        commands.Mark(price_tick=600_000),
        commands.Deposit(account=1, amount_quote=10**12),
        commands.Level(side="bid", price_tick=599_990, qty_lot=400),
        commands.Level(side="bid", price_tick=599_980, qty_lot=70),
        commands.Level(side="ask", price_tick=600_010, qty_lot=30),
        commands.Place(account=1, order_id=1, side="buy", qty_lot=25, price_tick=599_990),
        commands.Place(account=1, order_id=2, side="sell", qty_lot=7, price_tick=600_020),
    ]
    tally.fold(exchange.apply(rows))
    frame = read_frame(exchange, tally, market=0, ts_ns=0, commands=len(rows))
    assert [tuple(level) for level in frame.bids] == [(599_990, 400, 25), (599_980, 70, 0)]
    assert [tuple(level) for level in frame.asks] == [(600_010, 30, 0), (600_020, 0, 7)]
    console, out = make_console(width=100, height=24)
    console.print(draw(frame, exchange, console))
    text = plain(out)
    assert re.search(r"59999\.0 +0\.400 +0\.025", text)
    assert re.search(r"60002\.0 +0\.007", text)
    assert re.search(r"0\.2 +spread", text) is None
    assert re.search(r"2\.0 +spread", text)


def draw(frame, exchange, console, footer="verdict", names=None):
    units = describe_units(exchange, 0)
    return compose_screen(frame, units, title="test", speed=1.0, names=names or {}, footer=footer, console=console)


def plain(out):
    """Return what was written without the terminal's codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_closes_are_the_events(small):
    """Summed over rows: the lots of all fills, and every deficit once (WATCH-002, EVT-001)."""
    found = []
    run_replay(read_plan(small), on_events=lambda _, events: found.append(events.copy()))
    events = np.concatenate(found)
    kinds = {"book": LIQUIDATION_FILL, "ADL": ADL_FILL, "takeover": TAKEOVER}
    chosen = np.isin(events["kind"], list(kinds.values()))
    rows = [close for seq in np.unique(events["seq"][chosen]) for close in list_closes(events[events["seq"] == seq])]
    assert sum(close.qty_lot for close in rows) == events["qty_lot"][chosen].sum()
    assert sum(close.deficit_quote for close in rows) == events["amount_quote"][events["kind"] == DEFICIT].sum() > 0
    assert {close.way for close in rows} == set(kinds)
    fills = events[chosen]
    for close in rows:
        own = fills[(fills["account"] == close.account) & (fills["kind"] == kinds[close.way])]
        own = own[own["ts_ns"] == close.ts_ns]
        assert own["price_tick"].min() <= close.price_tick <= own["price_tick"].max()
        assert close.side == -own["side"][0]
    assert len(list_closes(np.concatenate([events] * 3))) <= 100


@pytest.mark.parametrize(("width", "height"), [(80, 18), (80, 24), (129, 30), (130, 30), (140, 45), (220, 60)])
def test_a_frame_fills_the_terminal(small, width, height):
    """Every line has the terminal's width, nothing is cut from the numbers that matter (WATCH-003)."""
    console, out = make_console(width, height)
    with Watch(console, "test") as watch:
        run = run_replay(read_plan(small, fund="1000000"), watcher=watch)
    out.seek(0)
    out.truncate()
    watch._read()
    watch._draw()
    text = out.getvalue()
    assert text.startswith("\x1b[?2026h\x1b[H")
    assert text.endswith("\x1b[?2026l")
    lines = plain(out).split("\n")
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    shown = "\n".join(lines)
    frame = watch.frame
    words = "BTCUSDT mark index fund low spread longs shorts bankr deficit accounts"
    assert not [word for word in words.split() if word not in shown]
    assert f"liquidations {run.summary['liquidations']:,}" in shown
    assert f"{frame.commands:,} commands" in shown
    for close in frame.closes[-3:]:
        price = watch.write.price(0, close.price_tick)
        assert (price if width >= 130 else price.replace(",", "")) in shown
    first = frame.queues[-1][0]
    assert re.search(rf"1 ●{{{first.lights}}}○* +{first.account} ", shown)


def test_small_ascii_and_colourless_terminals(small):
    """Too small says so; without UTF-8 no other character; NO_COLOR writes no colour (WATCH-003)."""
    console, out = make_console()
    with Watch(console, "test") as watch:
        run_replay(read_plan(small, fund="1000000"), watcher=watch)
    tiny, out = make_console(60, 10)
    tiny.print(draw(watch.frame, watch._exchange, tiny))
    assert "60 x 10: expected at least 80 x 18" in " ".join(plain(out).split())
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    ascii_ = rich_console.Console(file=raw, force_terminal=True, width=100, height=30)
    ascii_.print(draw(watch.frame, watch._exchange, ascii_, names={watch.frame.queues[1][0].account: "alice"}))
    raw.flush()
    text = raw.buffer.getvalue().decode("ascii")
    assert "*****" in text
    assert "alice" in text
    colourless, out = make_console(no_color=True)
    colourless.print(draw(watch.frame, watch._exchange, colourless))
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38|48|4[0-7])[;m]", out.getvalue())


def test_the_pace():
    """A command is applied when it is due, never before; frames go on where the tape is silent (WATCH-004)."""
    time_ = Time()
    console, _ = make_console()
    exchange = Exchange([load_market(DEMO / "market.toml")])
    watch = Watch(console, "test", speed=Fraction(2), clock=time_.clock, sleep=time_.sleep)
    with watch:
        watch.begin(exchange, Tally(exchange.setup), 1_000, {}, None)
        stamps = 1_000 + np.array([0, 0, 10**9, 4 * 10**9, 4 * 10**9])
        taken = []
        while len(stamps):
            count = watch.find_cut(stamps)
            taken += [(round(time_.now, 1), int(stamp - 1_000) // 10**9) for stamp in stamps[:count]]
            stamps = stamps[count:]
    assert taken == [(0.0, 0), (0.0, 0), (0.5, 1), (2.0, 4), (2.0, 4)]
    assert 18 <= watch.frames <= 21


def test_the_pace_lets_go():
    """Who asks for a stop does not wait for a silent tape (WATCH-004)."""
    time_ = Time()
    console, out = make_console()
    exchange = Exchange([load_market(DEMO / "market.toml")])
    watch = Watch(console, "test", speed=Fraction(1), clock=time_.clock, sleep=time_.sleep)
    with watch:
        watch.begin(exchange, Tally(exchange.setup), 0, {}, lambda: time_.now > 3)
        assert watch.find_cut(np.array([10**15])) == 1
    assert 3 < time_.now < 3.5
    assert out.getvalue().endswith("\x1b[?1049l\x1b[?25h")


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("0.5", Fraction(1, 2)), ("2x", 2), ("max", 0)])
def test_speeds(text, value):
    assert speed(text) == value


# ---------------------------------------------------------------- the command


def given(folder, *more):
    told = ["replay", str(folder / "tape"), "--market", str(folder / "market.toml"), "--fund", "2000"]
    files = ["--population", str(folder / "population.toml"), "--shock", str(folder / "shock.toml")]
    return [*told, *files, *more]


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [
        (["--watch"], 5, "expected a terminal on stderr, found none: leave --watch out"),
        (["--speed", "3"], 5, "--speed: expected --watch beside it"),
        (["--watch-market", "BTCUSDT"], 5, "--watch-market: expected --watch beside it"),
    ],
)
def test_refused(small, capsys, more, status, text):
    """Source: WATCH-003, CLI-002."""
    assert main(given(small, *more)) == status
    assert text in capsys.readouterr().err


def test_a_measurement_is_not_watched(capsys):
    """Source: WATCH-003, SIM-010."""
    files = [str(SIMULATED / "simulated.toml"), "--market", str(SIMULATED / "market.toml")]
    assert main(["sim", *files, "--shape", "1000000", "--watch"]) == 5
    assert "leave --watch out" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "fast", "1/0", "1e9"])
def test_bad_speeds(small, capsys, text):
    with pytest.raises(SystemExit) as left:
        main(given(small, "--watch", "--speed", text))
    assert left.value.code == 2
    assert "--speed" in capsys.readouterr().err


def test_a_missing_extra(small, capsys, monkeypatch):
    """Source: WATCH-003, CLI-002."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(given(small, "--watch")) == 3
    assert "pip install 'perp-engine[tui]'" in capsys.readouterr().err


def test_a_dumb_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(ConfigError, match="TERM=dumb"):
        open_console(Terminal())


def test_an_unknown_market(small):
    console, out = make_console()
    with Watch(console, "test", symbol="BTCUSD") as watch, pytest.raises(ConfigError, match="known: BTCUSDT"):
        run_replay(read_plan(small), watcher=watch)
    assert not out.getvalue()


def run_in_terminal(arguments, *, until=None, kill=False, columns=90, lines=28):
    """Run perp with stderr on a terminal; return its exit status, stdout, and everything the terminal got."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "engine", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=its, env=environment) as child:
        os.close(its)
        seen, begun = b"", time.monotonic()
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # how a terminal tells that everybody has left it
                break
            if not part:
                break
            seen += part
            if until is not None and until in seen:
                child.send_signal(signal.SIGINT)
                until = None
            assert time.monotonic() - begun < 60
        printed = child.stdout.read()
        status = child.wait(60)
    os.close(ours)
    return status, printed, seen.decode()


def test_on_a_terminal(small, tmp_path):
    """stdout is the summary alone; the screen is left, with the verdict on the last frame (WATCH-003)."""
    status, printed, seen = run_in_terminal(given(small, "--watch", "--json"))
    assert status == 0
    summary = json.loads(printed)
    assert seen.count("\x1b[?1049h") == seen.count("\x1b[?1049l") == 1
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert seen.count("\x1b[?2026h") == seen.count("\x1b[?2026l") > 0
    after = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.rpartition("\x1b[?1049l")[2])
    assert " ".join(summary["verdict"].split()) in " ".join(after.split())
    assert run_replay(read_plan(small)).summary["digest"] == summary["digest"]


@pytest.mark.parametrize(("more", "paced"), [([], 5), (["--speed", "max"], None), (["--speed", "0.5x"], 0.5)])
def test_the_demo_has_a_pace_of_its_own(monkeypatch, more, paced):
    """Source: WATCH-004."""
    from engine.cli import build_parser
    from engine.cli.watch import open_watch

    monkeypatch.setattr("engine.watch.open_console", lambda file: make_console()[0])
    assert open_watch(build_parser().parse_args(["demo", "--watch", *more]), "test").speed == paced
    replay = ["replay", "tape", "--market", "file", "--watch", *more]
    assert open_watch(build_parser().parse_args(replay), "test").speed == (paced if more else None)


def test_ctrl_c_leaves_the_terminal_clean(small, tmp_path):
    """Exit 130, the screen and the cursor as before, what was done is kept (WATCH-003, CLI-002)."""
    out = tmp_path / "run"
    more = ["--watch", "--speed", "0.01", "--out", str(out)]
    status, _, seen = run_in_terminal(given(small, *more), until=b"\x1b[?2026l")
    assert status == 130
    assert seen.count("\x1b[?1049h") == seen.count("\x1b[?1049l") == 1
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "Traceback" not in seen
    assert json.loads((out / "summary.json").read_text())["interrupted"] is True
