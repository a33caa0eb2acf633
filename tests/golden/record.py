"""Record the demo's result anew: `python -m tests.golden.record`; say why under Money in CHANGELOG.md."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from engine.cli import main

FILE = Path(__file__).parent / "demo.json"
KEYS = (
    "digest",
    "commands",
    "events",
    "liquidations",
    "liquidated_quote",
    "fund_low_quote",
    "fund_end_quote",
    "deficits",
    "deficit_quote",
    "paid_by_fund_quote",
    "paid_by_adl_quote",
    "paid_by_haircut_quote",
    "unpaid_quote",
    "adl_victims",
    "adl_fills",
)


def record() -> None:
    """Run the demo and write what must not change unnoticed."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        main(["demo", "--json", "--out", str(Path(folder) / "demo")])
    summary = json.loads(printed.getvalue())
    FILE.write_text(json.dumps({key: summary[key] for key in KEYS}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
    print(FILE)
