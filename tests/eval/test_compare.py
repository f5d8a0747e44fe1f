"""eval/compare.py: ratios of two systems over the same items."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import DATA

SCRIPT = DATA.parents[1] / "eval/compare.py"


def written(folder: Path, system: str, items: list[dict[str, Any]]) -> None:
    (folder / system).mkdir()
    (folder / system / "results.json").write_text(json.dumps({"system": system}))
    rows = ({"path": f"{n}.wav", "bits": 1.0, "failures": {}} | item for n, item in enumerate(items))
    (folder / system / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def wer(errors: int, words: int) -> dict[str, Any]:
    return {"wer": {"text": "", "errors": errors, "words": words, "letter_errors": errors, "letters": words}}


def test_pairs_are_compared_item_by_item(tmp_path: Path) -> None:
    """Half of the errors on every item is half of them in every draw, however much the items differ; rates are ratios of sums."""
    sizes = [(2, 10), (40, 50), (6, 100), (8, 8)]
    written(tmp_path, "all", [wer(e, w) | {"stoi": {"stoi": 0.5 * e}} for e, w in sizes])
    written(tmp_path, "half", [wer(e // 2, w) | {"stoi": {"stoi": 0.25 * e}} for e, w in sizes[:3]])
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, "half", "all"], capture_output=True, text=True, check=True)
    assert "wer: 0.150 against 0.300, ratio 0.50 (0.50 to 0.50), 3 items" in done.stdout
    assert "stoi: 4.000 against 8.000, ratio 0.50 (0.50 to 0.50), 3 items" in done.stdout
    other = subprocess.run([sys.executable, SCRIPT, tmp_path, "half", "none"], capture_output=True, text=True)
    assert other.returncode == 1
    assert "has no 'none'; it has all, half" in other.stderr
