"""Items of all systems become numbers, each over the items that all systems have."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..manifest import Row
from ..provenance import commit, machine, versions
from .base import UNMEASURED, System
from .names import labels
from .store import Store
from .suite import Plan

ENOUGH = 10  # codes an entry, below which the entropy of a codebook is not known


def summarise(systems: Mapping[str, System], stores: Mapping[str, Store], plan: Plan) -> list[dict[str, Any]]:
    """Of each system the values, what failed, and what was left out for all.

    values: `items`, rates (of what has bits), codebooks, and of each measure {value, low, high, unit, better, items}, with the
    seconds of its clips; the items of a measure are those it counts, where it says so itself.
    An item counts in a measure where every system has it that has this measure at all. failures: items that this system or a
    metric could not do, {path, what: reason}. left_out: items of no system, because the original cannot be read or is silent.
    not_measured: metrics and baselines that could not be had. lengths: seconds of the clips, least, median and greatest. notes:
    on the values.

    Raises InputError where no system has an item.
    """
    done = common(stores, "length")
    if not done:
        raise InputError(f"no item could be measured by all systems; the first failed with: {_first_reason(stores)}")
    results: list[dict[str, Any]] = []
    for folder, system in systems.items():
        store = stores[folder]
        failures = [_listed(row) for row in store.rows.values() if row["failures"].keys() - {"original"}]
        left_out = [_listed(row) for row in store.rows.values() if "original" in row["failures"]]
        result: dict[str, Any] = {"values": {"items": 0}, "failures": failures, "left_out": left_out, "notes": []}
        result |= {"not_measured": dict(plan.parts.missing), "system": system.name, "weights": system.weights}
        if any("length" in row for row in store.rows.values()):
            result["values"], result["notes"] = _rates(system, store, done)
            if plan.suite.modality == "audio":
                result["lengths"] = _lengths(store, done)
        results.append(result)
    for (folder, label), value in _measured(stores, plan, results).items():
        results[list(systems).index(folder)]["values"][label] = value
    return results


def common(stores: Mapping[str, Store], name: str) -> list[int]:
    """Numbers of the items that have something under a name in every system that has it at all."""
    having = [{index for index, row in store.rows.items() if _has(row, name)} for store in stores.values()]
    having = [some for some in having if some]
    return sorted(set.intersection(*having)) if having else []


def _has(row: Mapping[str, Any], name: str) -> bool:
    return name in row or any(key.split("/")[0] == name for key in row.get("arrays", ()))


def _measured(
    stores: Mapping[str, Store], plan: Plan, results: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """By folder and label, every measure of every metric."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, metric in plan.parts.metrics.items():
        items = common(stores, name)
        found[name] = {}
        for (folder, store), result in zip(stores.items(), results, strict=True):
            if not any(_has(row, name) for row in store.rows.values()):
                continue
            try:
                if not items:
                    raise InputError("no item was measured of all systems")
                values = store.values(name, items)
                more = metric.together(values)
                store.put(name, items, more)
                summary = metric.summary([value | some for value, some in zip(values, more, strict=True)])
                for word, value in summary.items():
                    if not math.isfinite(value["value"]):
                        raise InputError(f"{word} is {value['value']}")
                about = {"unit": metric.unit, "better": metric.better, "items": len(items)}
                about |= _lengths(store, items) if plan.suite.modality == "audio" else {}
                found[name][folder] = {word: about | value for word, value in summary.items()}
            except UNMEASURED as error:
                result["failures"].append({"path": "all items", name: str(error)})
    words = {name: dict.fromkeys(word for summary in some.values() for word in summary) for name, some in found.items()}
    called = labels(plan.suite.metrics, plan.parts.metrics, words)
    return {
        (folder, called[name, word]): value
        for name, some in found.items()
        for folder, summary in some.items()
        for word, value in summary.items()
    }


def _lengths(store: Store, items: Sequence[int]) -> dict[str, float]:
    """Seconds of some clips."""
    lengths = store.values("length", items)
    return {"least": min(lengths), "median": float(np.median(lengths)), "greatest": max(lengths)}


def _rates(system: System, store: Store, items: Sequence[int]) -> tuple[dict[str, Any], list[str]]:
    """Number of items, bits a second or pixel, and of codes what their entropy says; with notes."""
    length = sum(store.values("length", items))
    values: dict[str, Any] = {"items": len(items)}
    if not _has(store.rows[items[0]], "bits"):
        return values, []
    values["bits_per_second_or_pixel"] = sum(store.values("bits", items)) / length
    if not system.sizes or not _has(store.rows[items[0]], "codes"):
        return values, []
    books = values["codebooks"] = codebooks(store.values("codes", items), system.sizes)
    few = [str(k) for k, bits in enumerate(books["corrected_bits"], 1) if bits is None]
    if few:
        which = f"codebook{'s' * (len(few) > 1)} {', '.join(few)}"
        return values, [f"no entropy-coded rate: fewer than {ENOUGH} codes an entry in {which}"]
    coded = float(np.dot(books["corrected_bits"], books["codes"]))
    side = sum(store.values("side", items)) if _has(store.rows[items[0]], "side") else 0.0  # as it is: no coder knows it
    values["entropy_coded_per_second_or_pixel"] = (coded + side) / length
    return values, []


def codebooks(codes: Sequence[np.ndarray[Any, Any]], sizes: Sequence[int]) -> dict[str, list[Any]]:
    """Of each codebook over all items (K, N): number of codes, entries, entries in use, perplexity, and entropy in bits a code.

    entropy_bits: of the codes' own frequencies, which is too low by about (used - 1) / (2 codes) nats (Miller and Madow 1955).
    corrected_bits: with that added, at most log2(size): what an ideal coder without context would need that knows the true
    frequencies; None below 10 codes an entry, where the correction itself is far off.
    """
    table: dict[str, list[Any]] = {k: [] for k in ("codes", "sizes", "used", "perplexity", "entropy_bits", "corrected_bits")}
    for size, *book in zip(sizes, *codes, strict=True):
        counts = np.unique(np.concatenate(book), return_counts=True)[1]
        total, used = int(counts.sum()), len(counts)
        shares = counts / total
        bits = float(-(shares * np.log2(shares)).sum())
        corrected = min(bits + (used - 1) / (2 * total * math.log(2)), math.log2(size)) if total >= ENOUGH * size else None
        for key, value in zip(table, (total, size, used, 2**bits, bits, corrected), strict=True):
            table[key].append(value)
    return table


def how(plan: Plan) -> dict[str, Any]:
    """With what numbers come about: the suite, a hash of the files, the seed, and what runs."""
    return {
        "suite": _portable(vars(plan.suite)),
        "files": hashlib.sha256(json.dumps(listing(plan.rows)).encode()).hexdigest()[:16],
        "seed": plan.seed,
        "versions": versions(),
        "machine": machine(),
        "device": plan.parts.device,
        "commit": commit(),
    }


def listing(rows: Sequence[Row]) -> list[list[Any]]:
    """Of each file its name, a hash of its bytes (empty if it is missing), text and label."""
    return [[row.path.name, _content(row.path), row.text, row.label] for row in rows]


def _content(path: Path) -> str:
    if not path.is_file():
        return ""
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hashed(path: Path, size: int, time: int) -> str:
    """Of a file as it was at a time: it is read once for all systems."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _portable(value: Any) -> Any:
    """The same without the folders of this machine: a local path becomes its last part."""
    if isinstance(value, dict):
        return {key: _portable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_portable(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", ".")) else value


def _listed(row: Mapping[str, Any]) -> dict[str, str]:
    return {"path": Path(row["path"]).name, **row["failures"]}


def _first_reason(stores: Mapping[str, Store]) -> str:
    return next((reason for store in stores.values() for row in store.rows.values() for reason in row["failures"].values()), "")
