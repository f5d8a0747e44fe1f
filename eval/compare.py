"""Two systems of one evaluation, clip by clip: how much of a metric's value is left, with a paired interval.

    python eval/compare.py out/eval "with, 1 codebook" "without, 1 codebook"

Prints for every metric both values and their ratio. Items are drawn anew 10,000 times, the same ones for both systems, so that
what is hard for both does not widen the interval (paired bootstrap, 95 %).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 10_000


def items_of(folder: Path, system: str) -> dict[str, dict[str, Any]]:
    """What was measured of each file of one system. Ends the program for a system that is not there."""
    for results in folder.glob("*/results.json"):
        if json.loads(results.read_text())["system"] == system:
            lines = (results.parent / "rows.jsonl").read_text().splitlines()
            return {row["path"]: row for row in map(json.loads, lines)}
    names = sorted(json.loads(path.read_text())["system"] for path in folder.glob("*/results.json"))
    raise SystemExit(f"{folder} has no {system!r}; it has {', '.join(names)}")


def fractions(item: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Numerator and denominator of each measure of an item; a rate is the sum of one over the sum of the other."""
    if "errors" in item:
        return {"wer": (item["errors"], item["words"]), "cer": (item["letter_errors"], item["letters"])}
    return {key: (value, 1.0) for key, value in item.items() if isinstance(value, float)}


def compare(first: dict[str, Any], second: dict[str, Any], metric: str) -> dict[str, tuple[float, ...]]:
    """Of each measure of a metric: first value, second value, their ratio, its low and high end, and the number of items."""
    pairs = [(first[path][metric], second[path][metric]) for path in first if path in second and metric in first[path]]
    ratios = {}
    for key in fractions(pairs[0][0]):
        table = np.array([[*fractions(a)[key], *fractions(b)[key]] for a, b in pairs])
        draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
        whole = table.sum(0)
        sums = table[draws].sum(1)
        values = whole[0] / whole[1], whole[2] / whole[3]
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing to compare with: the ratio is inf or nan
            low, high = np.quantile((sums[:, 0] / sums[:, 1]) / (sums[:, 2] / sums[:, 3]), [0.025, 0.975])
            ratios[key] = (*values, values[0] / values[1], low, high, len(table))
    return ratios


def main() -> None:
    """Prints a line a measure of the two systems that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `tokenizers-zoo eval -o` wrote")
    parser.add_argument("first")
    parser.add_argument("second")
    args = parser.parse_args()
    first, second = items_of(args.folder, args.first), items_of(args.folder, args.second)
    known = ("bits", "codes", "path", "length", "failures")
    for metric in [key for key in next(iter(first.values())) if key not in known]:
        for key, (a, b, ratio, low, high, items) in compare(first, second, metric).items():
            print(f"{key}: {a:.3f} against {b:.3f}, ratio {ratio:.2f} ({low:.2f} to {high:.2f}), {items} items")


if __name__ == "__main__":
    main()
