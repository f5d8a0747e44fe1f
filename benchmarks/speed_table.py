"""README's table of speed from results.json, which `make bench` writes: `python benchmarks/speed_table.py` makes it anew.

It stands between the lines `<!-- speed -->` and `<!-- end -->`; no number is typed by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results.json"
MARK = re.compile(r"(<!-- speed -->\n).*?(<!-- end -->)", re.DOTALL)
WAYS = ("float32", "bfloat16", "compiled")
OPERATIONS = ("encode", "decode")


def table(results: dict[str, Any]) -> str:
    """A row a system, of single items: speed in float32, and ratios to what it is compared with, encoding / decoding."""
    lines = [
        "| system | float32, a second | compared with | float32 | bfloat16 | compiled |",
        "|" + "---|" * 6,
    ]
    single = [row for row in results["rows"] if row["batch"] == 1]
    for system in dict.fromkeys(row["system"] for row in single):
        rows = {row["operation"]: row for row in single if row["system"] == system}
        some = next(iter(rows.values()))
        base = "reference" if some["reference"] else "float32"
        speeds = " / ".join(f"{r['amount'] / r['seconds']['float32']:.3g}" if (r := rows.get(o)) else "-" for o in OPERATIONS)
        ways = [" / ".join(_ratio(rows.get(operation), base, way) for operation in OPERATIONS) for way in WAYS]
        cells = (system, f"{speeds} {some['unit']}", some["reference"] or "itself in float32", *ways)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def caption(results: dict[str, Any]) -> str:
    """Under what the numbers came about, and what is not there."""
    machine, rounds = results["machine"], [row["rounds"] for row in results["rows"] if row["batch"] == 1]
    state = "a quiet machine" if results["quiet"] else f"a busy machine (load average {results['load_average']:.1f})"
    said = (
        f"{results['date']}, commit {results['commit']}, {machine['threads']} threads of {machine['processor']}, {state}, "
        f"torch {machine['torch']}; medians of {min(rounds)} to {max(rounds)} rounds, {results['minutes']} minutes in all."
    )
    reasons: dict[str, list[str]] = {}
    for what, why in results["left_out"].items():
        reasons.setdefault(why, []).append(what)
    left = "; ".join(f"{', '.join(what)} ({why})" for why, what in reasons.items())
    return said + (f"\nLeft out: {left}." if left else "")


def filled(text: str, results: dict[str, Any]) -> str:
    """The same text with the table of `results`."""
    return MARK.sub(lambda match: f"{match[1]}\n{table(results)}\n\n{caption(results)}\n\n{match[2]}", text)


def write() -> None:
    """Makes README's table of results.json."""
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(), json.loads(RESULTS.read_text())))


def _ratio(row: dict[str, Any] | None, base: str, way: str) -> str:
    """Of times, base / way, with its interval."""
    if row is None or way not in row["seconds"]:
        return "-"
    if way == base:
        return "1"
    median, low, high = row["ratios"][f"{base} / {way}"]
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    write()
