"""Runs a suite: every system over every item, resumable, with results that say how they came about."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_path
from ..manifest import Row, of_split, read_manifest
from ..many import read_ahead
from ..media import SUFFIXES, Audio, Images, as_audio, as_images
from ..provenance import commit, machine, versions
from . import distribution, image, neural, probe, speech, systems
from .base import Item, Measure, Metric, System, TokenMetric
from .store import Store


@dataclass
class Suite:
    """What is measured. modality: "audio" or "image". metrics, baselines: parts {class_path, init_args} by name, or in order.

    codebooks, positions: numbers of codebooks or tokens at which each tokenizer is also measured. needs: what has to be there
    before the suite can run. source: the paper whose rules it follows.
    """

    modality: str
    metrics: dict[str, Any]
    baselines: list[Any] = field(default_factory=list)
    codebooks: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sample_rate: int = 16000
    image_size: int | None = None
    needs: str = ""
    source: str = ""

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Suite":
        """A suite file; overrides are KEY=VALUE with dots into its parts. Raises InputError for what is no suite."""
        config = yaml.safe_load(Path(path).read_text())
        for override in overrides:
            key, _, value = override.partition("=")
            *parts, last = key.split(".")
            inner = config
            for part in parts:
                if not isinstance(inner, dict) or part not in inner:
                    raise InputError(f"{path} has no {key!r}")
                inner = inner[part]
            inner[last] = yaml.safe_load(value)
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError(f"{path} is no suite ({error}); see eval/speech.yaml") from error

    def build(self) -> tuple[dict[str, Measure], list[System]]:
        """The metrics and baselines. Raises InputError for what is not known or cannot be had, with what the suite needs."""
        known = _classes([speech, probe] if self.modality == "audio" else [image, distribution, probe], Measure)
        try:
            metrics = {name: _part(config, known) for name, config in self.metrics.items()}
            return metrics, [_part(config, _classes([systems, neural], System)) for config in self.baselines]
        except (ValueError, OSError) as error:  # ours are ValueErrors; a failed download is an OSError
            raise InputError(f"{error}; this suite needs {self.needs}" if self.needs else str(error)) from error


def _classes(modules: list[ModuleType], kind: type) -> dict[str, type]:
    """By name, what a suite may name: the classes of some modules that are of a kind and not abstract."""
    classes = [thing for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    return {c.__name__: c for c in classes if issubclass(c, kind) and not isabstract(c)}


def _part(config: Any, known: dict[str, type]) -> Any:
    """An object of {class_path, init_args}, or of a name alone."""
    config = {"class_path": config} if isinstance(config, str) else config
    name = str(config.get("class_path"))
    if name not in known:
        raise InputError(f"{name!r} is not known here; known: {', '.join(sorted(known))}")
    try:
        return known[name](**config.get("init_args", {}))
    except TypeError as error:
        raise InputError(f"{name} cannot be built: {error}") from error


@dataclass
class Data:
    """The items of an evaluation: at most `limit` files of a split, spread evenly over the manifest."""

    source: str
    split: str = "test"
    limit: int | None = None

    def rows(self, modality: str) -> list[Row]:
        """Files in the manifest's order."""
        rows = read_manifest(self.source, SUFFIXES[modality])
        rows = of_split(rows, self.split) if any(row.split for row in rows) else rows
        if self.limit and self.limit < len(rows):
            rows = [rows[i * len(rows) // self.limit] for i in range(self.limit)]
        return rows


def evaluate(
    system: System, suite: Suite, metrics: dict[str, Measure], rows: list[Row], folder: Path, seed: int = 0
) -> dict[str, Any]:
    """All metrics of one system; writes rows.jsonl, decoded media, results.json into `folder`, and goes on where it stopped.

    Items that cannot be measured are listed with the reason and left out of that metric.
    """
    store = Store(folder, identity(system, suite, rows, seed))
    read = read_ahead(lambda index: media_of(suite, rows[index]), range(len(store), len(rows)))
    for index, media in tqdm(read, desc=system.name, initial=len(store), total=len(rows), disable=None):
        torch.manual_seed(seed + index)
        store.add(_measure(system, suite, metrics, rows[index], media, folder / f"items/{index:05d}"))
    results = summarise(store.items(), metrics)
    results |= {"system": system.name, "weights": system.weights, "identity": store.identity, "how": how(suite, rows, seed)}
    with atomic_path(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    return results


def how(suite: Suite, rows: list[Row], seed: int) -> dict[str, Any]:
    """With what numbers come about: the suite, a hash of the files, the seed, and what runs."""
    files = hashlib.sha256(json.dumps(listing(rows)).encode()).hexdigest()[:16]
    return {
        "suite": _portable(vars(suite)),
        "files": files,
        "seed": seed,
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
    }


def _portable(value: Any) -> Any:
    """The same without the folders of this machine: a local path becomes its last part."""
    if isinstance(value, dict):
        return {key: _portable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_portable(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", ".")) else value


def _measure(
    system: System, suite: Suite, metrics: dict[str, Measure], row: Row, media: Audio | Images | Exception, target: Path
) -> Item:
    try:
        if isinstance(media, Exception):
            raise media
        with torch.inference_mode():
            decoded, item = system.roundtrip(media, **{name: getattr(row, name) for name in system.takes})
        pair = as_seen(media), as_seen(decoded)
        _check_pair(*pair, system.name)
        decoded.save(target.with_suffix(".wav" if isinstance(decoded, Audio) else ".png"))
    except (InputError, OSError) as error:
        return {"path": str(row.path), "failures": {"all": str(error)}}
    item |= {
        "path": str(row.path),
        "length": float(pair[0].shape[-1] / suite.sample_rate if pair[0].ndim == 1 else pair[0][0].numel()),
    }
    failures = {}
    for name, metric in metrics.items():
        try:
            if isinstance(metric, Metric):
                item[name] = metric.item(*pair, row)
            elif isinstance(metric, TokenMetric) and (latents := system.latents(item)) is not None:
                item[name] = metric.item(latents, row)
        except InputError as error:
            failures[name] = str(error)
    return {**item, "failures": failures}


def _check_pair(original: torch.Tensor, decoded: torch.Tensor, name: str) -> None:
    if original.shape != decoded.shape:
        sizes = [" x ".join(map(str, side.shape)) for side in (original, decoded)]
        raise InputError(f"{name} was given {sizes[0]} values and gave {sizes[1]} back; only equal sizes can be compared")
    if not decoded.isfinite().all():
        raise InputError(f"{name} gave values that are not finite; look at its weights")


def media_of(suite: Suite, row: Row) -> Audio | Images:
    """One item as all systems get it: mono at the suite's rate, or a square of its size."""
    if suite.modality == "audio":
        return as_audio(row.path, suite.sample_rate)
    return as_images(row.path, suite.image_size or 256)


def as_seen(media: Audio | Images) -> torch.Tensor:
    """What metrics get: samples (S,), or pixels (3, H, W) rounded to multiples of 1/255."""
    if isinstance(media, Audio):
        return media.waveform[0, 0].float().cpu()
    return (media.pixels[0].float().cpu().clamp(0, 1) * 255).round() / 255


def summarise(items: list[Item], metrics: dict[str, Measure]) -> dict[str, Any]:
    """Numbers of all items, the bits, and what failed."""
    measured = [item for item in items if "bits" in item]
    if not measured:
        raise InputError(f"no item could be measured; the first failed with: {items[0]['failures']['all']}")
    length = sum(item["length"] for item in measured)
    values: dict[str, Any] = {"items": len(measured), "bits_per_second_or_pixel": sum(item["bits"] for item in measured) / length}
    failures = [{"path": Path(item["path"]).name, **item["failures"]} for item in items if item.get("failures")]
    for name, metric in metrics.items():
        results = [item[name] for item in measured if name in item]
        try:
            summary = metric.summary(results) if results else {}
            values |= {key: value | {"unit": metric.unit, "better": metric.better} for key, value in summary.items()}
        except InputError as error:
            failures.append({"path": "all items", name: str(error)})
    if "codes" in measured[0]:
        values["codebooks"] = codebooks([item["codes"] for item in measured])
        bits = np.dot(values["codebooks"]["entropy_bits"], values["codebooks"]["codes"])
        values["entropy_coded_per_second_or_pixel"] = float(bits) / length
    return {"values": values, "failures": failures}


def codebooks(codes: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Of each codebook over all items: number of codes, entries in use, perplexity, and entropy in bits a code.

    The entropy is that of the codes' own frequencies: what an ideal coder without context would need, had it these frequencies
    beforehand. Where there are not many more codes than entries it is too low.
    """
    table: dict[str, Any] = {"codes": [], "used": [], "perplexity": [], "entropy_bits": []}
    for book in zip(*codes, strict=True):
        counts = np.unique(np.concatenate(book), return_counts=True)[1]
        shares = counts / counts.sum()
        bits = float(-(shares * np.log2(shares)).sum())
        for key, value in zip(table, (int(counts.sum()), len(counts), 2**bits, bits), strict=True):
            table[key].append(value)
    return table


def identity(system: System, suite: Suite, rows: list[Row], seed: int) -> str:
    """A hash of what decides the numbers: weights, suite, files with their texts, seed."""
    decisive = json.dumps([system.name, system.weights, vars(suite), listing(rows), seed], sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]


def listing(rows: list[Row]) -> list[list[Any]]:
    """Of each file its name, size in bytes (0 if it is missing), text and label."""
    return [[row.path.name, row.path.stat().st_size if row.path.exists() else 0, row.text, row.label] for row in rows]
