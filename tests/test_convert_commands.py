"""A tape of commands as a recording again (FEED-053, FEED-065)."""

from decimal import Decimal

import numpy as np
import pytest

from engine import Market, codes
from engine.contract import Tier
from engine.errors import ConfigError
from engine.feeds import open_feed
from engine.feeds.convert import convert_tape
from engine.feeds.inspect import inspect_tape

TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
SIZES = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(250_000)}


def test_a_command_tape_becomes_a_recording_again(shared, tmp_path):
    """FEED-053 FEED-065: what the market did comes back as the same commands by way of Tardis CSV and of Parquet."""
    folder = shared / "data/btcusdt_4min"
    kinds = ("incremental_book_L2", "trades", "derivative_ticker")
    files = [folder / f"binance-futures_{kind}_2023-04-05_BTCUSDT.csv.gz" for kind in kinds]
    if not all(file.is_file() for file in files):
        pytest.skip("the four-minute recording is not here")
    market = Market(symbol="BTCUSDT", tiers=TIERS, **SIZES)
    convert_tape(files, tmp_path / "tape.npz", markets=[market])
    first = np.concatenate(list(open_feed(tmp_path / "tape.npz", [market]).chunks()))
    for to in ("tardis", "parquet"):
        convert_tape(tmp_path / "tape.npz", tmp_path / to, to=to)
        again = np.concatenate(list(open_feed(tmp_path / to, [market]).chunks()))
        # a funding is due when it is told, and a next one never is
        is_kept = first["kind"] != codes.FUNDING
        assert np.array_equal(again, first[is_kept])
    facts = inspect_tape(tmp_path / "tape.npz")
    assert (facts["rows"], facts["crossed"], facts["symbols"]) == (len(first), 0, ["BTCUSDT"])
    with pytest.raises(ConfigError, match="commands already"):
        convert_tape(tmp_path / "tape.npz", tmp_path / "again.npz", markets=[market])
