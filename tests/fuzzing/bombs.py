"""Small files that say, or unpack to, more than any machine has: each refused by a rule, in a process of little memory.

`python -m tests.fuzzing.bombs FOLDER` limits its own address space, reads every bomb and prints what it was told.
"""

import gzip
import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from engine.errors import EngineError
from engine.journal import FORMAT, LOG, MAGIC, START
from tests.fuzzing import samples
from tests.fuzzing.samples import Sample, build_commands, pack_archive, pack_array
from tests.fuzzing.targets import TARGETS

ROOM_BYTES = 3 << 28  # above what is loaded: 768 MiB
ZEROES = bytes(1 << 24)
DEEP = 100_000


def _claim(array: np.ndarray[Any, Any], shape: str) -> bytes:
    """Return an array whose header says another shape."""
    data = pack_array(array)
    end = 10 + int.from_bytes(data[8:10], "little")
    head = data[10:end].replace(f"({len(array)},)".encode(), shape.encode()).rstrip(b" \n") + b"\n"
    return data[:8] + len(head).to_bytes(2, "little") + head + data[end:]


def _deflate(name: str, first: bytes, times: int) -> bytes:
    """Return a zip archive of one member: a beginning, and zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(first)
            for _ in range(times):
                member.write(ZEROES)
    return stream.getvalue()


def _nest(text: str) -> bytes:
    """Return a text in which @ stands for very many brackets that open."""
    return text.replace("@", "[" * DEEP).encode()


def _gzip(first: bytes, times: int) -> bytes:
    """Return gzip members after each other: a beginning, and zeros for 16 MiB times `times`."""
    return gzip.compress(first, mtime=0) + gzip.compress(ZEROES, mtime=0) * times


def list_packed() -> Iterator[tuple[str, Sample]]:
    """Yield what unpacks to very much, by target."""
    capture = b'1700000000.5: {"topic":"orderbook.50.BTCUSDT","data":"'
    trades = samples.tardis()[0]
    yield "packed", Sample("endless.ws.gz", _gzip(capture, 256))
    yield "packed", Sample(f"{trades.name}.gz", _gzip(trades.data, 256))
    yield "packed", Sample("BTCUSDT-trades-2023-11-14.zip", _deflate("BTCUSDT-trades-2023-11-14.csv", b"1,1,", 6))
    yield "packed", Sample("capture.zip", _deflate("capture.ws", capture, 6))
    book = b'[\n{"channel":"order_book:1","data":"' + (b"a" * 1_000 + b"\n") * 4_000
    yield "packed", Sample("open.json.gz", gzip.compress(book) + gzip.compress((b"a" * 1_000 + b"\n") * 4_000) * 64)
    try:
        import zstandard
    except ImportError:
        return
    one = zstandard.ZstdCompressor().compress(ZEROES * 16)
    yield "packed", Sample("endless.ws.zst", zstandard.compress(capture) + one * 16)
    window = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=window).compressobj()
    yield "packed", Sample("window.ws.zst", stream.compress(capture) + stream.flush())


def list_claims() -> Iterator[tuple[str, Sample]]:
    """Yield what says it holds very much, by target."""
    rows, meta = build_commands(), samples.build_meta()
    for shape in ("(1152921504606846976,)", "(4611686018427387904, 4)", "(100000000,)"):
        yield "commands", Sample("tape.npz", pack_archive(commands=_claim(rows, shape), meta=meta))
    yield (
        "commands",
        Sample("tape.npz", pack_archive(commands=pack_array(rows), meta=_claim(rows["side"], "(9000000000,)"))),
    )
    for engine, snapshot in zip(("compiled", "reference"), TARGETS["snapshot"].samples(), strict=True):
        with zipfile.ZipFile(io.BytesIO(snapshot.data)) as archive:
            members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        name = "orders" if engine == "compiled" else "reference"
        count = int(members[name].partition(b"'shape': (")[2].partition(b",")[0])
        claimed = members[name].replace(f"({count},)".encode(), b"(1152921504606846976,)", 1)
        size = int.from_bytes(claimed[8:10], "little") + len(claimed) - len(members[name])
        members[name] = claimed[:8] + size.to_bytes(2, "little") + claimed[10:]
        yield "snapshot", Sample(f"{engine}.npz", pack_archive(**members))
    huge = pack_array(np.zeros(1, np.uint8)).replace(b"(1,)", b"(5368709120,)")
    head = huge[:8] + (int.from_bytes(huge[8:10], "little") + 9).to_bytes(2, "little") + huge[10:-1]
    yield "snapshot", Sample("bomb.npz", _deflate("meta.npy", head, 2))
    yield "events", Sample("events.npz", _deflate("events.npy", head, 2))
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for at in range((1 << 16) + 1):
            archive.writestr(zipfile.ZipInfo(str(at)), b"")
    yield "packed", Sample("many.zip", many.getvalue())
    if databento := samples.databento():
        data = databento[0].data
        yield "databento", Sample("length.dbn", data[:4] + struct.pack("<I", (1 << 32) - 1) + data[8:])
        yield (
            "databento",
            Sample("symbols.dbn", data[:8] + data[8:].replace(struct.pack("<I", 1), struct.pack("<I", 1 << 31), 1)),
        )


def list_nested() -> Iterator[tuple[str, Sample]]:
    """Yield brackets that never close, by target."""
    yield "hyperliquid", Sample("deep.json", _nest('[{"channel":"trades","data":@'))
    yield "hyperliquid", Sample("deep.ws", _nest('1700000000.5: {"channel":"trades","data":@\n'))
    yield "lighter", Sample("deep.json", _nest('[\n{"channel":"trade:1","trades":@'))
    yield "okx", Sample("deep.ws", _nest('1700000000.5: {"arg":{"channel":"books"},"data":@\n'))
    yield "binance", Sample("deep.dat", _nest('1700000000000 {"e":"trade","s":"BTCUSDT","E":1,"o":@\n'))
    yield "luno", Sample("luno-XBTZAR.txt", _nest('{"sequence":"1","asks":[@'))
    yield "scenarios", Sample("deep.json", _nest('{"scenarios":@'))
    yield "kept", Sample("deep.json", _nest('{"markets":@'))
    yield "summary", Sample("summary.json", _nest('{"parameters":@'))
    yield "tiers", Sample("deep.json", _nest('{"BTCUSDT":@'))
    for name in ("market", "population", "shock", "simulated"):
        yield name, Sample("deep.toml", _nest("a = @"))
        yield name, Sample("digits.toml", b"seed = " + b"9" * 100_000)
        yield name, Sample("large.toml", b"#" * ((1 << 24) + 1))
    header = _nest('{"markets":@')
    crc = zlib.crc32(header, zlib.crc32(struct.pack("<II", FORMAT, len(header))))
    yield "log", Sample(LOG, START.pack(MAGIC, FORMAT, len(header), crc) + header)
    large = struct.pack("<II", FORMAT, (1 << 32) - 1)
    yield "log", Sample(LOG, START.pack(MAGIC, FORMAT, (1 << 32) - 1, zlib.crc32(large)))


def list_numbers() -> Iterator[tuple[str, Sample]]:
    """Yield numbers that nobody can compute with, by target."""
    for text in (b"1e999999", b"1e-999999", b"1e99999999999", b"9" * 100_000):
        for name in ("market", "population", "shock", "simulated", "positions", "waves", "index", "kept"):
            sample = TARGETS[name].samples()[0]
            for number in (b"0.1", b"0.6", b"0.95", b"100000", b"100.5", b"99000.5"):
                if number in sample.data:
                    yield name, Sample(sample.name, sample.data.replace(number, text, 1))
                    break
    head, row, _ = samples.tardis()[0].data.decode().split("\n", 2)
    rows = [row.replace("100.5", price) for price in ("1e17", "1e-18", "1e17", "0.000000001")]
    yield "tardis", Sample(samples.tardis()[0].name, "\n".join([head, *rows, ""]).encode())
    fields = row.split(",")
    rows = [",".join([fields[0], f"S{at}", *fields[2:-2], f"{10**17 + at}", "1"]) for at in range(300)]
    yield "tardis", Sample(samples.tardis()[0].name, "\n".join([head, *rows, ""]).encode())


def list_bombs() -> Iterator[tuple[str, Sample]]:
    """Yield every bomb with the name of its target."""
    for make in (list_packed, list_claims, list_nested, list_numbers):
        yield from make()


def limit_memory() -> None:
    """Let this process have no more than it has now, and a little."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(folder: Path) -> None:
    """Read every bomb and print what came out, one JSON object a line."""
    bombs = list(list_bombs())
    for target in TARGETS.values():  # compiles and loads what it needs
        for sample in target.samples():
            target.check(folder, sample)
            (folder / sample.name).unlink()
    limit_memory()
    for name, bomb in bombs:
        before = monotonic()
        try:
            told = TARGETS[name].check(folder, bomb)
        except EngineError as error:
            told = str(error)
        except BaseException as error:
            told = f"FOUND {type(error).__name__}: {error}"[:500]
        (folder / bomb.name).unlink()
        facts = {"target": name, "name": bomb.name, "told": told, "seconds": round(monotonic() - before, 2)}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
