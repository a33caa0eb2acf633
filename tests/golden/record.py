"""Record the golden results anew: `python -m tests.golden.record`; say why under Money in CHANGELOG.md."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from engine.cli import main
from tests.conftest import find_shared
from tests.golden.recordings import list_cases

FILE = Path(__file__).parent / "demo.json"
RECORDINGS = Path(__file__).parent / "recordings.json"
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


def record_recordings(shared: Path) -> None:
    """Run every case whose files are there; the others keep what was recorded."""
    known = json.loads(RECORDINGS.read_text(encoding="utf-8")) if RECORDINGS.is_file() else {}
    for name, files, run in list_cases(shared):
        if all(file.is_file() for file in files):
            known[name] = run()
    RECORDINGS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
    record_recordings(find_shared())
    print(FILE, RECORDINGS)
