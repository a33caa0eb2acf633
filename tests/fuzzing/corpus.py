"""Small pieces of real recordings to start from; read where they lie, kept nowhere."""

import zipfile
import zlib
from pathlib import Path

from engine.errors import EngineError
from engine.feeds.tape import open_bytes
from tests.conftest import find_shared
from tests.fuzzing.samples import Sample

PIECE_BYTES = 6_000
# Where the recordings of a format lie, under data/; text is cut at lines, everything else is taken where it is small.
PLACES = {
    "databento": ("databento_dbn_fixtures/tests/data/*.dbn",),
    "bitstamp": ("bitstamp_l3_20260502/orders.csv.gz", "bitstamp_l3_20260502/trades.csv"),
    "luno": ("luno_l3_20210713/*.gz",),
    "tardis": ("btcusdt_4min/binance*_2023-04-05_BTCUSDT.csv.gz", "tardis_csv_2020_binance_btcusdt/*.csv"),
    "binance-flat": ("binance_trx_2025_valid_and_corrupted/*.csv.gz",),
    "hyperliquid-node-fills": ("hyperliquid_node_fills_20251027/*.gz",),
    "hyperliquid": ("hyperliquid_misc/l2book*.gz", "hyperliquid_misc/*ws_*.json"),
    "lighter": ("lighter_btc_20251210/*.gz",),
    "bybit": ("bybit_v5_multi_20260809/*.zst", "bybit_ob500_20241201/*.zip", "cryptofeed_ws_captures/BYBIT*.gz"),
    "okx": ("cryptofeed_ws_captures/OKX*.gz", "btcusdt_4min/okx*.gz"),
    "binance": ("binance_20240808_btc_eth_usdm_coinm_spot/*/*.gz", "cryptofeed_ws_captures/BINANCE*.gz"),
    "waves": ("adl_papers/*.csv",),
}
SUFFIXES = (".gz", ".zst", ".zip")


def cut_recordings(name: str) -> list[Sample]:
    """Return the beginnings of the real recordings of a target; none where the folder is absent."""
    data = find_shared() / "data"
    files = [file for pattern in PLACES.get(name, ()) for file in sorted(data.glob(pattern))]
    return [sample for file in files for sample in _cut(file)]


def _cut(file: Path) -> list[Sample]:
    name = file.name
    try:
        with open_bytes(file) as stream:
            text = stream.read(1 << 20)
    except (EngineError, OSError, EOFError, zlib.error, zipfile.BadZipFile):
        return []
    while name.endswith(SUFFIXES):
        name = name.rpartition(".")[0]
    if name.endswith("_orders") or file.parent.name.startswith("bitstamp"):
        name = f"btcusd_{name}"
    if b"\0" in text[:PIECE_BYTES]:
        return [Sample(name, text)] if len(text) < PIECE_BYTES else []
    head, _, rest = text.partition(b"\n")
    comments = b""
    while head.startswith(b"#"):
        comments += head + b"\n"
        head, _, rest = rest.partition(b"\n")
    lines = [line for line in rest.split(b"\n") if len(line) < PIECE_BYTES]
    pieces = []
    for start in (0, len(lines) // 2):
        piece = b"\n".join(lines[start:])[:PIECE_BYTES].rpartition(b"\n")[0]
        pieces.append(Sample(name, comments + head + b"\n" + piece + b"\n"))
    return [piece for piece in pieces if len(piece.data) < 20 * PIECE_BYTES]
