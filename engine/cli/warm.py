"""Machine code as the command line handles it: where it is kept, compiling it, saying so before it takes long."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

COMPILE_SECONDS = 40  # about, on two slow cores


def find_kernels() -> tuple[Path, int]:
    """Return where machine code is kept for these sources, and how many files of it there are."""
    import importlib

    import numba

    importlib.import_module("engine._jit")  # sets the folder
    folder = Path(numba.config.CACHE_DIR)  # type: ignore[attr-defined]
    return folder, sum(1 for _ in folder.rglob("*.nbc"))


def compile_kernels(*, is_all: bool = True) -> float:
    """Compile or load the kernels, by using them once; return the seconds it took.

    Parameters
    ----------
    is_all : bool
        Those that answer questions about an exchange too, not only the one that runs it.
    """
    from decimal import Decimal

    import numpy as np
    from msgspec.structs import replace

    from engine.bench.matching import make_engine, run_workload
    from engine.codes import LEVEL
    from engine.contract import Market, Tier
    from engine.exchange import Exchange
    from engine.layout import COMMAND, MESSAGE, REPORT
    from engine.scenario import SimulatedMarket
    from engine.signs import measure_signs
    from engine.sim import run_simulation

    started = perf_counter()
    tier = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
    market = Market(symbol="WARM", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=(tier,))
    exchange = Exchange([market])
    # More levels than an exchange starts with room for, so that growing is compiled too.
    rows = np.zeros(1_000 if is_all else 1, COMMAND)
    rows["kind"], rows["side"], rows["qty_lot"] = LEVEL, 1, 1
    rows["price_tick"] = np.arange(1, len(rows) + 1)
    exchange.apply(rows)
    if is_all:
        exchange.adl_queue(0, 1)
        exchange.liquidation_price(0, 0)
        exchange.bankruptcy_price(0, 0)
        exchange.margin(0, 0)
        exchange.depth(0, 1)
        measure_signs(exchange, 0, 0)
        run_workload(make_engine(), np.ones(1, MESSAGE), np.zeros(4, REPORT))
        _read_tape(market)
        run_simulation(SimulatedMarket(seed=0, price=Decimal(1), duration="1s"), replace(market, mark_model="last"))
    return perf_counter() - started


def _read_tape(market: Any) -> None:
    """Use what reads recordings: two streams merged, told, and moved to larger arrays."""
    import numpy as np

    from engine.codes import ROW_LEVEL
    from engine.feeds.instruments import Instruments
    from engine.feeds.merge import merge_streams
    from engine.feeds.tape import Teller
    from engine.layout import RECORD

    rows = np.zeros(2_000, RECORD)
    rows["kind"], rows["side"], rows["qty"], rows["ts_ns"] = ROW_LEVEL, 1, 1, np.arange(2_000)
    rows["price"] = np.arange(1, 2_001)
    teller = Teller(Instruments([market]))
    for block in merge_streams([iter([rows]), iter([rows])]):
        teller.tell(block)
    teller.finish()


def load_kernels() -> None:
    """Load the kernels before anything is timed; where they have to be compiled first, say so."""
    from engine._jit import JIT_DISABLED

    if JIT_DISABLED:
        return
    folder, count = find_kernels()
    if not count:
        print(f"perp: compiling the kernels once, about {COMPILE_SECONDS} s ...", file=sys.stderr, flush=True)
    seconds = compile_kernels(is_all=not count)
    if not count:
        print(f"perp: compiled in {seconds:.1f} s, kept in {folder}", file=sys.stderr, flush=True)
