"""`perp log` and `load_run`: what became of whom, exact, filtered, under the names others use."""

import csv
import io
import json
import shutil
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine
from engine.cli import compile_kernels, main
from engine.codes import ADL_FILL, LIQUIDATION_FILL, POLICIES, TAKEOVER, TRADE
from engine.contract import Market, Tier, build_setup, load_market
from engine.feeds import open_feed
from engine.layout import EVENT
from engine.replay import Plan, count_fund, run_replay
from engine.replay.files import RunFolder
from engine.runs import RunRecord, Table, load_run
from engine.runs.ccxt import rename_as_ccxt
from engine.runs.logs import SCORE_RULES, Units, build_log, format_ns, read_rule
from engine.scenario import load_population, load_shock
from tests.unit.test_twin import SIM, SIM_MARKET, write

ROOT = Path(__file__).resolve().parents[1]
TAPE = ROOT / "replay_data" / "synthetic_btc"
TARDIS = ["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"]
TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
NS = 1_000_000_000
T0 = 1_700_000_000 * NS


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    compile_kernels()
    folder = tmp_path_factory.mktemp("log") / "demo"
    assert main(["demo", "--out", str(folder), "--json"]) == 0
    return folder


def read_csv(text):
    """Return the notes and rows of a log in CSV."""
    lines = text.splitlines()
    notes = [line for line in lines if line.startswith("#")]
    return notes, list(csv.DictReader(io.StringIO("\n".join(lines[len(notes) :]))))


def log(capsys, *arguments):
    assert main(["log", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def total(rows, name):
    return sum((Decimal(row[name]) for row in rows), Decimal(0))


# ---------------------------------------------------------------- against the summary, to the unit


def test_the_deficits_add_up_to_the_summary(demo, capsys):
    """Source: LOG-001, LOG-002, EVT-002."""
    told = load_run(demo).summary
    _, rows = read_csv(log(capsys, demo, "--deficits"))
    unit = Decimal(told["assets"][0]["unit"])
    assert len(rows) == told["deficits"]
    for name in ("paid_by_fund", "paid_by_adl", "paid_by_haircut", "unpaid"):
        assert total(rows, name) == told[f"{name}_quote"] * unit
    assert total(rows, "deficit") == told["deficit_quote"] * unit
    first, *_ = (row for row in rows if int(row["id"]) == told["deficits_top"][0]["id"])
    assert int(first["account"]) == told["deficits_top"][0]["account"]
    assert Decimal(first["deficit"]) == told["deficits_top"][0]["deficit_quote"] * unit


def test_the_liquidations_add_up_to_the_summary(demo, capsys):
    """Source: LOG-001."""
    told = load_run(demo).summary
    _, rows = read_csv(log(capsys, demo, "--liquidations"))
    unit = Decimal(told["assets"][0]["unit"])
    for how in ("book", "adl", "takeover"):
        assert (
            total([row for row in rows if row["closed_by"] == how], "notional")
            == told[f"liquidated_{how}_quote"] * unit
        )
    assert {row["side"] for row in rows} == {"sell"}  # only longs were liquidated
    assert list(rows[0])[:8] == TARDIS


def test_adl_adds_up_to_the_summary(demo, capsys):
    """What victims gave up is what ADL paid, what they gained stands beside it.  Source: LOG-001, ADL-006."""
    told = load_run(demo).summary
    _, rows = read_csv(log(capsys, demo, "--adl"))
    unit = Decimal(told["assets"][0]["unit"])
    losses = [Decimal(row["loss_against_mark"]) for row in rows]
    assert sum(loss for loss in losses if loss > 0) == told["paid_by_adl_quote"] * unit
    assert -sum(loss for loss in losses if loss < 0) == told["adl_gain_quote"] * unit
    assert len({row["victim"] for row in rows}) == told["adl_victims"]
    top = told["adl_top"][0]
    (row,) = (row for row in rows if Decimal(row["loss_against_mark"]) == top["loss_quote"] * unit)
    assert (int(row["victim"]), int(row["rank"]), int(row["queue"])) == (top["account"], top["rank"], top["queue"])
    assert row["victim_side"] == "short"
    assert row["lights"] == "5"


def test_the_fund_ends_where_the_summary_says(demo, capsys):
    """Source: LOG-001, LOG-004."""
    told = load_run(demo).summary
    unit = Decimal(told["assets"][0]["unit"])
    _, rows = read_csv(log(capsys, demo, "--fund"))
    assert Decimal(rows[0]["amount"]) == told["fund_start_quote"] * unit
    assert rows[0]["kind"] == "deposit"
    assert Decimal(rows[-1]["balance"]) == told["fund_end_quote"] * unit
    assert min(Decimal(row["balance"]) for row in rows) == told["fund_low_quote"] * unit
    balance = Decimal(0)
    for row in rows:
        balance += Decimal(row["amount"])
        assert Decimal(row["balance"]) == balance
    _, late = read_csv(log(capsys, demo, "--fund", "--from", "29s"))
    assert late == rows[-len(late) :]
    assert len(late) < len(rows)


# ---------------------------------------------------------------- formats, choice of rows


@pytest.mark.parametrize("name", ["liquidations", "adl", "deficits", "fund", "trades", "positions"])
def test_both_formats_say_the_same_exactly(demo, capsys, name):
    """Source: LOG-002, LOG-003."""
    notes, rows = read_csv(log(capsys, demo, f"--{name}"))
    head, *objects = (
        json.loads(line, parse_float=Decimal)
        for line in log(capsys, demo, f"--{name}", "--format", "jsonl").splitlines()
    )
    assert len(notes) == len(head["notes"]) == 1
    assert list(rows[0])[:8] == TARDIS
    assert len(rows) == len(objects) > 100
    for row, found in zip(rows, objects, strict=True):
        assert list(row) == list(found)
        for key, value in found.items():
            text = "" if value is None else str(value)
            same = Decimal(row[key]) == value if isinstance(value, Decimal) else row[key] == text
            assert same, (key, row[key], value)
    assert "." in str(objects[-1]["amount"])


def test_the_formula_in_force_stands_before_the_rows(demo, capsys):
    """Source: LOG-003, ADL-003."""
    (note,), _ = read_csv(log(capsys, demo, "--adl"))
    assert main(["docs", "ADL-003"]) == 0
    rule = " ".join(capsys.readouterr().out.split()).removeprefix("**ADL-003** ")
    assert note.endswith(f"formula: {rule}")
    assert "symbol: BTCUSDT; adl_score: bitmex; adl_allocation: queue; adl_trigger: fund_empty" in note


def test_every_score_has_its_rule():
    """Source: LOG-003."""
    assert set(SCORE_RULES) == set(POLICIES["adl_score"])
    for score, rule in SCORE_RULES.items():
        assert f"`{score}`" in read_rule(rule)
    assert read_rule("no rule") == ""


def test_rows_are_chosen_by_account_and_time(demo, capsys):
    """Source: LOG-004."""
    _, rows = read_csv(log(capsys, demo, "--adl"))
    victim = rows[40]["victim"]
    _, mine = read_csv(log(capsys, demo, "--adl", "--account", victim))
    assert mine == [row for row in rows if victim in (row["account"], row["victim"])] != []
    start, end = rows[20]["datetime"], rows[200]["datetime"]
    assert start < end
    _, between = read_csv(log(capsys, demo, "--adl", "--from", start, "--to", end))
    assert between == [row for row in rows if start <= row["datetime"] < end] != []
    first = load_run(demo).summary["first_ns"]
    since = Decimal(int(rows[200]["timestamp"]) * 1000 - first) / NS
    _, late = read_csv(log(capsys, demo, "--adl", "--from", f"{since}s"))
    assert late == [row for row in rows if row["datetime"] >= end] != rows
    _, zoned = read_csv(log(capsys, demo, "--adl", "--to", "2025-03-03T08:59:49+01:00"))
    assert zoned == [row for row in rows if row["datetime"] < "2025-03-03T07:59:49"] != []
    _, here = read_csv(log(capsys, demo, "--adl", "--market", "BTCUSDT"))
    assert here == rows


# ---------------------------------------------------------------- accounts by name

BOOK = """account,symbol,side,amount,entry_price,leverage,margin_mode
alice,BTCUSDT,long,12.5,59800.5,25,isolated
bob,BTCUSDT,long,300,59900,20,cross
carol,BTCUSDT,short,200,60100,10,cross
2,BTCUSDT,short,2,60100,10,cross
dora,BTCUSDT,short,1,60100,10,cross
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Return a run of positions whose owners have names; one is called 2, and has number 4."""
    compile_kernels()
    home = tmp_path_factory.mktemp("book")
    (home / "book.csv").write_text(BOOK)
    words = ["replay", str(TAPE), "--market", str(TAPE / "market.toml"), "--population", str(home / "book.csv")]
    words += ["--shock", str(TAPE / "shock.toml"), "--fund", "1000", "--json", "--out", str(home / "run")]
    assert main(words) == 0
    return home / "run"


def test_every_account_is_found_by_its_name(book, capsys):
    """Only bob is in a list of the summary; a name comes before a number.  Source: LOG-004, POP-002."""
    told = load_run(book).summary
    assert {row["name"] for row in (*told["adl_top"], *told["deficits_top"], told["worst_slippage"])} == {"bob"}
    names = {"1": "alice", "2": "bob", "3": "carol", "4": "2", "5": "dora"}
    assert json.loads((book / "names.json").read_text()) == names
    for asked, number in (("alice", 1), ("2", 4), ("02", 2), ("dora", 5), ("5", 5)):
        _, trades = read_csv(log(capsys, book, "--trades", "--account", asked))
        _, standing = read_csv(log(capsys, book, "--positions", "--to", "1s", "--account", asked))
        assert {row["account"] for row in standing} == {str(number)}
        assert all(str(number) in (row["account"], row["maker"]) for row in trades)
    _, standing = read_csv(log(capsys, book, "--positions", "--to", "1s"))
    assert [row["name"] for row in standing] == ["alice", "bob", "carol", "2", "dora"]
    _, several = read_csv(log(capsys, book, "--positions", "--to", "1s", "--account", "dora", "--account", "3"))
    assert [row["name"] for row in several] == ["carol", "dora"]
    _, house = read_csv(log(capsys, book, "--trades", "--account", "outside"))
    _, trades = read_csv(log(capsys, book, "--trades"))
    assert house == [row for row in trades if row["maker"] == "0" or row["account"] == "0"] != []


def test_a_name_nobody_has_is_refused_with_the_nearest(book, demo, tmp_path, capsys):
    """Source: LOG-004, CLI-033, CLI-002."""
    for words in (["log", str(book), "--adl"], ["explain", str(book)]):
        assert main([*words, "--account", "carl"]) == 5
        said = "--account: unknown 'carl', expected one of the run's 5 names, or a number; did you mean 'carol'?"
        assert said in capsys.readouterr().err
        assert main([*words, "--account", "zz"]) == 5
        assert capsys.readouterr().err.endswith("or a number\n")
    assert not (demo / "names.json").exists()
    assert main(["log", str(demo), "--adl", "--account", "bob"]) == 5
    assert "unknown 'bob', the run names nobody: expected a number" in capsys.readouterr().err
    # two files of positions may use a name twice
    twice = tmp_path / "twice"
    shutil.copytree(book, twice)
    (twice / "names.json").write_text('{"1": "alice", "3": "alice"}')
    _, both = read_csv(log(capsys, twice, "--positions", "--to", "1s", "--account", "alice"))
    assert [row["account"] for row in both] == ["1", "3"]
    assert main(["explain", str(twice), "--account", "alice"]) == 5
    assert "several are called 'alice', expected a number: 1, 3" in capsys.readouterr().err


def test_older_directories_are_read_still(book, tmp_path, capsys):
    """They hold the names of the summary's lists alone, and the message says so.  Source: LOG-004, POP-002."""
    old = tmp_path / "old"
    shutil.copytree(book, old)
    (old / "names.json").unlink()
    assert load_run(old).record.names == {2: "bob"}
    _, mine = read_csv(log(capsys, old, "--liquidations", "--account", "bob"))
    _, now = read_csv(log(capsys, book, "--liquidations", "--account", "bob"))
    assert [row["seq"] for row in mine] == [row["seq"] for row in now] != []
    assert main(["explain", str(old), "--account", "dora"]) == 5
    said = "this run directory is older and kept few of its names: run it again, or give the number"
    assert said in capsys.readouterr().err
    _, mine = read_csv(log(capsys, old, "--positions", "--account", "5"))
    assert [row["name"] for row in mine] == ["5"]


@pytest.mark.parametrize("text", ["[1]", "{", '{"1": 2}', '{"one": "alice"}', "[" * 100_000])
def test_names_that_are_none_are_refused(book, tmp_path, capsys, text):
    """Source: POP-002, CLI-002."""
    bad = tmp_path / "bad"
    shutil.copytree(book, bad)
    (bad / "names.json").write_text(text)
    for words in (["log", str(bad), "--adl"], ["explain", str(bad), "--account", "bob"], ["report", str(bad)]):
        assert main(words) == 4
        assert "names.json: expected an object of account numbers and names" in capsys.readouterr().err


@given(st.dictionaries(st.integers(1, 1 << 31), st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_names_come_back_as_they_were(names):
    """Commas, quotes, line ends, other scripts.  Source: POP-002."""
    market = load_market(TAPE / "market.toml")
    with TemporaryDirectory() as home, RunFolder(Path(home) / "run") as folder:
        folder.write_names(names)
        folder.write_names({})
        assert RunRecord(folder.part, {}, build_setup([market]), (market,)).names == names


def test_a_simulated_market_keeps_names_too(tmp_path, capsys):
    """Source: POP-002, SIM-009."""
    (tmp_path / "book.csv").write_text(BOOK)
    words = [str(write(tmp_path, "sim", SIM)), "--market", str(write(tmp_path, "market", SIM_MARKET)), "--json"]
    assert main(["sim", *words, "--out", str(tmp_path / "drawn")]) == 0
    assert not (tmp_path / "drawn" / "names.json").exists()
    words += ["--population", str(tmp_path / "book.csv")]
    assert main(["sim", *words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    _, mine = read_csv(log(capsys, tmp_path / "run", "--positions", "--to", "1s", "--account", "dora"))
    assert [(row["account"], row["name"]) for row in mine] == [("5", "dora")]
    (tmp_path / "run" / "names.json").unlink()
    assert main(["log", str(tmp_path / "run"), "--adl", "--account", "zoe"]) == 5
    assert "this run directory is older" in capsys.readouterr().err
    assert main(["sim", *words[:-2], "--out", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / "names.json").exists()


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--adl", "--market", "ETHUSDT"], 5, "--market: unknown 'ETHUSDT', the run has: BTCUSDT"),
        (["--adl", "--from", "noon"], 5, "--from: expected a time like 2025-10-10T21:15:00 or 30s, got 'noon'"),
        (
            ["--fund", "--names", "ccxt"],
            5,
            "ccxt has names for adl, ranks, liquidations, trades, positions, not for fund",
        ),
    ],
)
def test_bad_requests_are_refused(demo, capsys, more, status, said):
    """Source: LOG-004, LOG-005, CLI-002."""
    assert main(["log", str(demo), *more]) == status
    assert said in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    """Source: LOG-001, CLI-002."""
    assert main(["log", str(tmp_path), "--adl"]) == 4
    assert "expected the summary of a run" in capsys.readouterr().err
    market, out = TAPE / "market.toml", tmp_path / "quiet"
    quiet = ["replay", str(TAPE), "--market", str(market), "--until-seq", "9", "--events", "none", "--json"]
    assert main([*quiet, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["log", str(out), "--adl"]) == 4
    assert "run with --events npz" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["log", str(out)])
    assert stop.value.code == 2


def test_a_run_without_any_has_columns_still(tmp_path, demo, capsys):
    """Source: LOG-001."""
    out = tmp_path / "quiet"
    quiet = [
        "replay",
        str(TAPE),
        "--market",
        str(TAPE / "market.toml"),
        "--until-seq",
        "9",
        "--json",
        "--out",
        str(out),
    ]
    assert main(quiet) == 0
    capsys.readouterr()
    page = (ROOT / "engine" / "docs" / "formats.md").read_text(encoding="utf-8")
    told = page.split("## Logs")[1].split("## Tapes")[0]
    for name in ("liquidations", "adl", "deficits", "fund", "trades", "positions", "ranks"):
        empty = log(capsys, out, f"--{name}").splitlines()
        full = log(capsys, demo, f"--{name}").splitlines()
        assert empty[1:] == full[1:2]
        assert not [column for column in empty[1].split(",") if f"`{column}`" not in told]


# ---------------------------------------------------------------- by hand


def record(market):
    summary = {"assets": [{"name": market.settle, "unit": format(market.quote_unit, "f")}], "first_ns": T0}
    summary |= {"adl_top": [{"account": 7, "name": "Ada"}], "deficits_top": [], "worst_slippage": None}
    return RunRecord(Path("run"), summary, build_setup([market]), (market,))


def event(kind, **fields):
    row = np.zeros(1, EVENT)
    row["kind"], row["ts_ns"], row["seq"] = kind, T0 + 1_234_567_891, 5
    for name, value in fields.items():
        row[name] = value
    return row


def linear():
    return Market(symbol="BTCUSDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=TIERS)


def inverse():
    """One contract is 100 dollars; money is bitcoin in units of 1e-8."""
    size = {"tick_size": Decimal("0.1"), "lot_size": Decimal(1), "contract_size": Decimal(100)}
    return Market(symbol="BTCUSD", settle="BTC", quote_unit=Decimal("0.00000001"), kind="inverse", tiers=TIERS, **size)


def test_a_fill_a_takeover_and_a_close_by_hand():
    """2 lots of 0.001 at 50,000.0 are 100 USDT, 10 units short of B.  Source: LOG-001."""
    run = record(linear())
    shared = {
        "account": 3,
        "side": -1,
        "qty_lot": 2,
        "price_tick": 500_000,
        "mark_tick": 500_100,
        "bankruptcy_tick": 500_200,
    }
    rows = np.concatenate(
        [
            event(LIQUIDATION_FILL, other=0, amount_quote=-10, order_id=4, **shared),
            event(TAKEOVER, other=-1, amount_quote=20, **shared),
            event(ADL_FILL, other=7, amount_quote=100_040_000, other_amount_quote=12, rank=2, count=9, **shared),
        ]
    )
    found = list(build_log(run, rows, "liquidations").rows())
    assert [row["closed_by"] for row in found] == ["book", "takeover", "adl"]
    assert [row["counterparty"] for row in found] == ["outside", "house", "Ada"]
    assert [row["notional"] for row in found] == [Decimal(100), Decimal(100), Decimal("100.04")]
    assert [row["surplus"] for row in found] == [Decimal("-0.00001"), Decimal("-0.00002"), 0]
    assert found[0]["timestamp"] == 1_700_000_001_234_567
    assert found[0]["datetime"] == "2023-11-14T22:13:21.234567891Z" == format_ns(T0 + 1_234_567_891)
    assert [row["deficit_id"] for row in found] == [4, None, None]
    (adl,) = build_log(run, rows, "adl").rows()
    # sold to the short at 50,020 where the mark says 50,010: it gives up 0.02 USDT
    assert (adl["victim_name"], adl["victim_side"], adl["loss_against_mark"]) == ("Ada", "short", Decimal("0.02"))
    assert (adl["rank"], adl["queue"], adl["lights"]) == (2, 9, 5)


def test_lights_by_quantity_are_not_told():
    """They hang on the whole queue, which the event does not hold.  Source: LOG-001, ADL-028."""
    market = linear()
    import msgspec

    market = msgspec.structs.replace(market, adl=msgspec.structs.replace(market.adl, lights="quantity"))
    row = event(ADL_FILL, account=3, other=7, side=-1, qty_lot=2, price_tick=5, mark_tick=5, rank=2, count=9)
    assert build_log(record(market), row, "adl").columns["lights"] == [None]


def test_ccxt_names_of_both_kinds_of_contract():
    """Source: LOG-005."""
    row = event(LIQUIDATION_FILL, account=3, side=1, qty_lot=2, price_tick=500_000, mark_tick=500_000)
    for market, symbol, base, quote in (
        (linear(), "BTC/USDT:USDT", Decimal("0.002"), Decimal(100)),
        (inverse(), "BTCUSD", Decimal("0.004"), Decimal(200)),
    ):
        run = record(market)
        (found,) = rename_as_ccxt(run, build_log(run, row, "liquidations"), "liquidations").rows()
        assert (found["symbol"], found["baseValue"], found["quoteValue"]) == (symbol, base, quote)
        assert found["timestamp"] == 1_700_000_001_234
        assert found["datetime"] == "2023-11-14T22:13:21.234Z"
        assert (found["side"], found["contractSize"]) == ("buy", market.contract_size)
        assert found["info"]["account"] == 3
    close = event(ADL_FILL, account=3, other=7, side=-1, qty_lot=2, price_tick=5, mark_tick=5, rank=1, count=8)
    run = record(linear())
    (found,) = rename_as_ccxt(run, build_log(run, close, "adl"), "adl").rows()
    assert (found["rank"], found["rating"], found["percentage"]) == (5, None, Decimal("12.5"))


def test_ccxt_names_on_the_command_line(demo, capsys):
    """Source: LOG-005."""
    _, rows = read_csv(log(capsys, demo, "--liquidations", "--names", "ccxt"))
    assert "info" not in rows[0]
    assert Decimal(rows[0]["price"]) * Decimal(rows[0]["contracts"]) == Decimal(rows[0]["quoteValue"])
    _, first, *_ = log(capsys, demo, "--adl", "--names", "ccxt", "--format", "jsonl").splitlines()
    assert {"info", "symbol", "rank", "rating", "percentage", "timestamp", "datetime"} == set(json.loads(first))


# ---------------------------------------------------------------- trades, positions, ranks


def test_trades_are_the_fills_in_the_book(demo):
    """Source: LOG-007."""
    run = load_run(demo)
    rows = list(run.trades.rows())
    forced = [row for row in rows if row["kind"] == "liquidation"]
    closed = [row for row in run.liquidations.rows() if row["closed_by"] == "book"]
    shared = ("account", "price", "amount", "notional", "timestamp")
    assert (
        [[row[name] for name in shared] for row in forced] == [[row[name] for name in shared] for row in closed] != []
    )
    fills = run.events[np.isin(run.events["kind"], (TRADE, LIQUIDATION_FILL))]
    assert len(rows) == len(fills)
    fees = sum(row["fee"] + row["maker_fee"] for row in rows)
    assert fees == int(fills["fee_quote"].sum() + fills["other_fee_quote"].sum()) * Decimal("0.000001") > 0


def test_positions_at_the_end_are_the_exchanges(demo):
    """What the events rebuild is what the engine holds, its queues and its liquidation prices.  Source: LOG-007."""
    market = load_market(TAPE / "market.toml")
    plan = Plan(
        markets=[market],
        feed=open_feed([TAPE], [market]),
        populations=[load_population(TAPE / "population.toml")],
        shock=load_shock(TAPE / "shock.toml"),
        funds=count_fund("1000000", [market]),
    )
    run, exchange = load_run(demo), run_replay(plan).exchange
    assert exchange.digest() == run.summary["digest"]
    rows = list(run.positions.rows())
    held = {int(row[0]): row for row in exchange.view().positions if row[0] > 0 and row[2]}
    assert [row["account"] for row in rows] == sorted(held)
    for row in rows[::40]:
        account, lots, cost = (int(held[row["account"]][at]) for at in (0, 2, 3))
        assert row["amount"] * (1 if row["side"] == "long" else -1) == lots * market.lot_size
        assert abs(row["price"] * row["amount"] * 10**6 - abs(cost)) < 10**4
        tick = exchange.liquidation_price(account, 0)
        assert row["liquidation_price"] == (tick * market.tick_size if tick else None)
        assert row["unrealized_pnl"] == lots * market.lot_size * row["mark_price"] - cost * market.quote_unit
    for side, sign in (("long", 1), ("short", -1)):
        queue = [row for row in run.ranks.rows() if row["side"] == side]
        ours = exchange.adl_queue(0, sign)
        assert [row["account"] for row in queue] == ours["account"].tolist() != []
        assert [row["lights"] for row in queue] == ours["lights"].tolist()
        assert [row["rank"] for row in queue] == list(range(1, len(queue) + 1))
        assert {row["queue"] for row in queue} == {len(queue)}
        assert [row["adlQuantile"] for row in queue] == [row["lights"] - 1 for row in queue]
        assert {0, 4} <= {row["adlQuantile"] for row in queue} <= {0, 1, 2, 3, 4}
    waiting = {row["account"] for row in run.ranks.rows()}
    assert {row["adlQuantile"] for row in rows if row["account"] not in waiting} <= {0}


def test_positions_stand_as_they_did_before_a_time(demo, capsys):
    """Who held something at the beginning and nothing at the end was closed.  Source: LOG-007, LOG-004."""
    _, early = read_csv(log(capsys, demo, "--positions", "--to", "5s"))
    _, late = read_csv(log(capsys, demo, "--positions"))
    gone = {row["account"] for row in early} - {row["account"] for row in late}
    _, liquidated = read_csv(log(capsys, demo, "--liquidations"))
    _, adl = read_csv(log(capsys, demo, "--adl"))
    assert gone
    assert gone <= {row["account"] for row in liquidated} | {row["victim"] for row in adl}
    assert max(row["datetime"] for row in early) < "2025-03-03T07:59:25.25" < min(row["datetime"] for row in late)
    who = late[3]["account"]
    _, one = read_csv(log(capsys, demo, "--positions", "--account", who))
    assert one == [row for row in late if row["account"] == who] != []
    _, ranks = read_csv(log(capsys, demo, "--ranks", "--to", "5s"))
    assert {row["account"] for row in ranks} <= {row["account"] for row in early}


def test_trades_and_positions_under_ccxts_names(demo, capsys):
    """Source: LOG-005, LOG-007."""
    _, rows = read_csv(log(capsys, demo, "--trades", "--names", "ccxt"))
    first = rows[0]
    assert (first["symbol"], first["takerOrMaker"], first["fee.currency"]) == ("BTC/USDT:USDT", "taker", "USDT")
    assert Decimal(first["price"]) * Decimal(first["amount"]) == Decimal(first["cost"])
    _, rows = read_csv(log(capsys, demo, "--positions", "--names", "ccxt"))
    for row in rows[::100]:
        way = 1 if row["side"] == "long" else -1
        gain = way * (Decimal(row["markPrice"]) - Decimal(row["entryPrice"])) * Decimal(row["contracts"])
        assert abs(gain - Decimal(row["unrealizedPnl"])) < Decimal("0.01")
        initial = Decimal(row["notional"]) / Decimal(row["leverage"])
        assert Decimal(row["initialMargin"]) == pytest.approx(initial)
        assert row["marginMode"] in ("cross", "isolated")
    _, ranks = read_csv(log(capsys, demo, "--ranks", "--names", "ccxt"))
    assert list(ranks[0]) == ["symbol", "timestamp", "datetime", "rank", "rating", "percentage"]
    assert ranks[0]["rank"] == "5"
    objects = log(capsys, demo, "--trades", "--names", "ccxt", "--format", "jsonl").splitlines()
    assert set(json.loads(objects[1])["fee"]) == {"cost", "currency"}


def test_entry_prices_of_both_kinds_of_contract():
    """2 lots that cost 100 USDT, or 200 dollars that cost 0.004 BTC, were entered at 50,000.  Source: LOG-007."""
    assert Units(record(linear())).entry(0, -100_000_000, 2) == Decimal(50_000)
    assert Units(record(inverse())).entry(0, 400_000, 2) == Decimal(50_000)


def test_events_of_another_run_are_no_positions(demo, tmp_path, capsys):
    """Source: LOG-007, CLI-002."""
    shutil.copytree(demo, tmp_path / "run")
    np.savez(tmp_path / "run" / "events.npz", events=load_run(demo).events[5:])
    assert main(["log", str(tmp_path / "run"), "--positions"]) == 4
    assert "expected the events of one run from its start" in capsys.readouterr().err


# ---------------------------------------------------------------- notebooks


def test_load_run_gives_tables(demo):
    """Source: LOG-004."""
    run = engine.load_run(demo)
    assert len(run.deficits) == run.summary["deficits"]
    assert len(run.events) == run.summary["events"]
    arrays = run.deficits.to_arrays()
    assert arrays["deficit"].dtype == np.float64
    assert arrays["account"].dtype == np.int64
    assert arrays["deficit"].sum() == pytest.approx(run.summary["deficit_quote"] / 1e6)
    assert np.isnan(run.fund.to_arrays()["price"]).all()
    assert len(run.series["ts_ns"]) == run.summary["samples"]
    assert run.series["mark_tick"][-1] == run.summary["markets"][0]["mark_last_tick"]
    assert run.summary["verdict"] in run._repr_html_()
    assert "10 of 928 rows" in run.deficits._repr_html_()


def test_load_run_gives_frames(demo):
    """Source: LOG-004."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = engine.load_run(demo).adl.to_polars()
    assert frame["timestamp"].dtype == polars.Datetime("us", "UTC")
    assert str(frame["timestamp"][0]) == "2025-03-03 07:59:48.500000+00:00"
    assert frame.height == 363


def test_to_pandas_names_what_is_missing(demo, monkeypatch):
    """Source: LOG-004, CLI-002."""
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(engine.errors.MissingExtraError, match="pip install pandas"):
        engine.load_run(demo).adl.to_pandas()


def test_a_table_escapes_what_it_shows():
    """Source: LOG-004, REP-006."""
    shown = Table({"name": ["<b>&"], "none": [None]})._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;&amp;" in shown
