"""Liquidations by second, the venue's beside the run's (REPLAY-001)."""

import csv
import gzip
import json
from decimal import Decimal

import numpy as np
import pytest

from engine.cli import main
from engine.codes import ADL_FILL, LIQUIDATION_FILL, ROW_LIQUIDATION
from engine.contract import Market, Tier, build_setup
from engine.layout import EVENT, RECORD
from engine.replay.timeline import COLUMNS, Timeline

NS = 1_000_000_000
T0 = 1_700_000_000
TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
MARKET = Market(symbol="BTCUSDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=TIERS)


def fill(second, seq, account, side, price, lots, kind=LIQUIDATION_FILL):
    row = np.zeros(1, EVENT)
    row["ts_ns"], row["seq"], row["account"], row["side"] = (T0 + second) * NS + 5, seq, account, side
    row["price_tick"], row["qty_lot"], row["kind"] = price, lots, kind
    row["amount_quote"] = -100 * price * lots if kind == ADL_FILL else -1
    return row


def told(second, side, price, lots):
    row = np.zeros(1, RECORD)
    row["ts_ns"], row["side"], row["kind"] = (T0 + second) * NS + 900_000_000, side, ROW_LIQUIDATION
    row["price"], row["qty"] = price, lots
    return row


def test_orders_seconds_and_notional_by_hand():
    """Two orders in second 0, one of them in two fills, and one in second 3; the venue told one and then two."""
    timeline = Timeline(build_setup([MARKET]))
    timeline.fold(np.concatenate([fill(0, 7, 1, -1, 1000, 5), fill(0, 7, 1, -1, 990, 5)]))
    timeline.fold(np.concatenate([fill(0, 7, 2, -1, 980, 1), fill(0, 7, 2, -1, 1000, 4, ADL_FILL)]))
    timeline.fold(fill(3, 9, 3, 1, 1000, 2))
    timeline.add_recorded(
        [told(0, -1, 1000, 3), told(1, 1, 1000, 1), told(1, -1, 1000, 1), told(9, 1, 1, 1)], (T0 + 5) * NS
    )
    # a tick times a lot is 0.0001 USDT, 100 units
    assert timeline.summarise() == {
        "recorded": {"orders": 3, "seconds": 2, "notional_quote": 500_000, "second_most_quote": 300_000},
        "simulated": {
            "orders": 3,
            "seconds": 2,
            "notional_quote": 100 * (5_000 + 4_950 + 980 + 2_000),
            "second_most_quote": 100 * (5_000 + 4_950 + 980),
        },
    }
    lines = timeline.compose_csv([MARKET]).splitlines()
    assert lines[0] == COLUMNS
    assert lines[1:] == [
        "2023-11-14T22:13:20Z,BTCUSDT,sell,1,0.003,0.300000,2,0.011,1.093000,0.004,0.400000",
        "2023-11-14T22:13:21Z,BTCUSDT,sell,1,0.001,0.100000,0,0.000,0.000000,0.000,0.000000",
        "2023-11-14T22:13:21Z,BTCUSDT,buy,1,0.001,0.100000,0,0.000,0.000000,0.000,0.000000",
        "2023-11-14T22:13:23Z,BTCUSDT,buy,0,0.000,0.000000,1,0.002,0.200000,0.000,0.000000",
    ]


@pytest.mark.slow
def test_a_replay_compares_them(tmp_path, capsys):
    """The demo's market with five liquidations in its tape: summary, page and file agree with the events."""
    from engine.cli import find_demo

    demo = find_demo()
    tape = tmp_path / "tape"
    tape.mkdir()
    for file in demo.glob("*.csv.gz"):
        (tape / file.name).write_bytes(file.read_bytes())
    book = next(demo.glob("*incremental_book_L2*"))
    with gzip.open(book, "rt") as lines:
        first = next(csv.DictReader(lines))
    start = int(first["local_timestamp"])
    rows = ["exchange,symbol,timestamp,local_timestamp,id,side,price,amount"]
    rows += [
        f"{first['exchange']},{first['symbol']},{start + us},{start + us},{us},sell,60000,0.5"
        for us in (1_000_000, 1_100_000, 2_000_000, 40_000_000, 41_000_000)
    ]
    name = book.name.replace("incremental_book_L2", "liquidations")
    (tape / name).write_bytes(gzip.compress("\n".join(rows).encode() + b"\n", mtime=0))
    arguments = ["replay", str(tape), "--market", str(demo / "market.toml"), "--out", str(tmp_path / "run")]
    arguments += [
        "--population",
        str(demo / "population.toml"),
        "--shock",
        str(demo / "shock.toml"),
        "--fund",
        "1000000",
    ]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    by = summary["liquidations_by"]
    assert by["recorded"]["orders"] == 5
    assert by["recorded"]["seconds"] in (4, 5)  # where the tape's first second begins
    assert by["recorded"]["notional_quote"] == 150_000 * 10**6
    assert by["simulated"]["notional_quote"] == summary["liquidated_book_quote"]
    assert "the venue told" in text
    with (tmp_path / "run" / "liquidations.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert sum(int(cell["recorded"]) for cell in cells) == 5
    notional = sum(Decimal(cell["simulated_notional"]) for cell in cells)
    assert notional * 10**6 == summary["liquidated_book_quote"]
    assert sum(Decimal(cell["adl_notional"]) for cell in cells) * 10**6 == summary["liquidated_adl_quote"]
