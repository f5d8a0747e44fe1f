"""Two systems of one evaluation, item by item: how much of a metric's value is left, with a paired interval.

    python eval/compare.py out/eval "with, 1 codebook" "without, 1 codebook"
    python eval/compare.py out/eval textok-tiny "textok-tiny, no captions" --difference

Prints for every metric both values and their ratio, or difference, over the items that both have. Items are drawn anew 10,000
times, the same ones for both systems, so that what is hard for both does not widen the interval (paired bootstrap, 95 %). Says
what could not be compared; the exit code is 1 if that is everything.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 10_000
KNOWN = ("item", "bits", "side", "codes", "path", "length", "failures", "without", "arrays")  # of an item besides its metrics

Items = dict[tuple[str, int], dict[str, Any]]  # by file, and which time it is there


def items_of(folder: Path, system: str) -> Items:
    """What is known of each file of one system, by its name or folder. Ends the program for one that is not there, or twice."""
    found = {path.parent: json.loads(path.read_text())["system"] for path in sorted(folder.glob("*/results.json"))}
    chosen = [path for path, name in found.items() if system in (name, path.name)]
    if len(chosen) != 1:
        names = ", ".join(sorted(found.values())) if not chosen else ", ".join(path.name for path in chosen)
        raise SystemExit(f"{folder} has {len(chosen) or 'no'} {system!r}; it has {names}")
    rows = [json.loads(line) for line in (chosen[0] / "rows.jsonl").read_text().splitlines()]
    times: Counter[str] = Counter()
    items: Items = {}
    for row in rows:
        items[row["path"], times[row["path"]]] = row
        times[row["path"]] += 1
    return items


def fractions(item: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Numerator and denominator of each measure of an item; a rate is the sum of one over the sum of the other."""
    if "errors" in item:
        return {"wer": (item["errors"], item["words"]), "cer": (item["letter_errors"], item["letters"])}
    return {key: (value, 1.0) for key, value in item.items() if isinstance(value, float)}


def metrics_of(*sides: Items) -> list[str]:
    """Names of all metrics that an item of either side has, or failed at."""
    names = [key for items in sides for item in items.values() for key in item if key not in KNOWN]
    failed = [key for items in sides for item in items.values() for key in item["failures"] if key not in ("all", "original")]
    return list(dict.fromkeys([*names, *failed]))


def compare(pairs: list[tuple[dict[str, Any], dict[str, Any]]], change: np.ufunc = np.divide) -> dict[str, tuple[float, ...]]:
    """Of each measure that some pairs have: first value, second value, their `change`, its low and high end, number of pairs."""
    sides = [[fractions(item) for item in pair] for pair in pairs]
    changes: dict[str, tuple[float, ...]] = {}
    for key in dict.fromkeys(key for a, b in sides for key in a if key in b):
        table = np.array([[*a[key], *b[key]] for a, b in sides if key in a and key in b])
        random, whole = np.random.default_rng(0), table.sum(0)
        sums = np.stack([table[random.integers(len(table), size=len(table))].sum(0) for _ in range(RESAMPLES)])
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing to compare with: the ratio is inf or nan
            values = whole[0] / whole[1], whole[2] / whole[3]
            drawn = change(sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3])
            known = drawn[~np.isnan(drawn)]  # not where all that was drawn is 0 on both sides
            low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
            changes[key] = (*values, change(*values), low, high, len(table))
    return changes


def lacking(metric: str, sides: dict[str, Items]) -> list[str]:
    """A line on each side's items that the other has of a metric, with the reasons."""
    having = {name: {key for key, item in items.items() if metric in item} for name, items in sides.items()}
    lines = []
    for name, items in sides.items():
        gone = sorted(set.union(*having.values()) - having[name])
        if not having[name] or not gone:
            continue
        reasons = []
        for key in gone:
            failures = items[key]["failures"] if key in items else {"all": "not there"}
            reasons.append(f"{Path(key[0]).name} ({failures.get(metric) or failures.get('all') or 'without a reason'})")
        lines.append(f"{metric}: {len(gone)} item{'s' * (len(gone) > 1)} that {name!r} lacks: {', '.join(reasons)}")
    return lines


def main() -> int:
    """Prints a line a measure of the two systems that the command line names, and what they cannot be compared in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `tokenizers-zoo eval -o` wrote")
    parser.add_argument("first", help="a system's name, or its folder")
    parser.add_argument("second")
    parser.add_argument("--difference", action="store_true", help="of the two values, instead of their ratio")
    args = parser.parse_args()
    change, word, shape = (np.subtract, "difference", "+.3f") if args.difference else (np.divide, "ratio", ".2f")
    sides = {name: items_of(args.folder, name) for name in (args.first, args.second)}
    if len(sides) == 1:
        raise SystemExit("one system was named twice; name two")
    first, second = sides.values()
    compared: dict[tuple[str, str], tuple[float, ...]] = {}
    left: list[str] = []
    for metric in metrics_of(first, second):
        pairs = [(first[k][metric], second[k][metric]) for k in first if metric in first[k] and metric in second.get(k, {})]
        measures = compare(pairs, change) if pairs else {}
        compared |= {(metric, key): values for key, values in measures.items()}
        owners = [name for name, items in sides.items() if any(metric in item for item in items.values())]
        if not pairs:
            why = "no item of both has it" if len(owners) == 2 else f"only {owners[0]!r} has it" if owners else "neither has it"
            left.append(f"{metric}: {why}")
        elif not measures:
            left.append(f"{metric}: it is no number of single items")
        left += lacking(metric, sides)
    words = Counter(key for _, key in compared)
    for (metric, key), (a, b, *changed, items) in compared.items():
        label = key if words[key] == 1 else f"{metric}.{key}"
        value, low, high = (format(number, shape) for number in changed)
        print(f"{label}: {a:.3f} against {b:.3f}, {word} {value} ({low} to {high}), {items} items")
    print("".join(f"not compared: {line}\n" for line in left or ([] if compared else ["there is nothing"])), end="")
    return 0 if compared else 1


if __name__ == "__main__":
    raise SystemExit(main())
