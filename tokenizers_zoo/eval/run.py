"""Runs a suite: every item through every system, resumable. Media are read once, and metrics prepare an original once."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_path
from ..manifest import Row
from ..many import read_ahead
from ..media import Audio, Images, as_audio, as_images
from ..provenance import versions
from .base import UNMEASURED, Item, Metric, System, TokenMetric, attempt, is_silent, seed_all
from .results import how, listing, summarise
from .store import Store
from .suite import Plan, Suite


def evaluate(systems: Mapping[str, System], plan: Plan, output: Path, batch_size: int = 16) -> list[dict[str, Any]]:
    """Results of all systems over the items that all of them have; writes rows.jsonl, decoded media and results.json of each.

    systems: by their folders below `output`. A folder that holds items already goes on where it stopped. What cannot be measured
    is listed with the reason. batch_size: items that are read and run together; the numbers do not depend on it.

    Raises InputError where no item could be measured by any system.
    """
    rows, missing = plan.rows, plan.parts.missing
    packages = {name: number for name, number in versions().items() if name != "python"}
    stores = {name: Store(output / name, identity(system, plan), missing, packages) for name, system in systems.items()}
    todo = [index for index in range(len(rows)) if any(index not in store for store in stores.values())]
    read = read_ahead(lambda index: media_of(plan.suite, rows[index]), todo, ahead=batch_size)
    with tqdm(total=len(rows), initial=len(rows) - len(todo), unit="item", disable=None) as bar, torch.no_grad():
        while some := list(islice(read, batch_size)):
            batch = _Batch(some, plan)
            for name, system in systems.items():
                store = stores[name]
                for index, reason in batch.left_out.items():
                    if index not in store:
                        store.add(index, {"path": str(rows[index].path), "failures": {"original": reason}})
                places = [place for place, index in enumerate(batch.indexes) if index not in store]
                for place, item in zip(places, batch.through(system, places, store.folder), strict=True):
                    store.add(batch.indexes[place], item)
            bar.update(len(some))
    for store in stores.values():
        store.sort()
    results, circumstances = summarise(systems, stores, plan), how(plan)
    for name, result in zip(systems, results, strict=True):
        result |= {"identity": stores[name].identity, "how": circumstances, "folder": name}
        with atomic_path(output / name / "results.json") as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    return results


class _Batch:
    """Items that run together: those that can be measured, and of the others the reason; and what metrics made of originals."""

    def __init__(self, read: Iterable[tuple[int, Audio | Images | Exception]], plan: Plan):
        rows, self.metrics = plan.rows, plan.parts.metrics
        self.left_out: dict[int, str] = {}
        self.indexes: list[int] = []
        self.media: list[Audio | Images] = []
        for index, media in read:
            if isinstance(media, UNMEASURED):
                self.left_out[index] = _reason(media, rows[index])
            elif isinstance(media, Exception):
                raise media
            elif is_silent(as_seen(media)):
                self.left_out[index] = "the original is silent"
            else:
                self.indexes.append(index)
                self.media.append(media)
        self.rows = [rows[index] for index in self.indexes]
        self.seeds = [seed_of(plan.seed, index) for index in self.indexes]
        self.originals = [as_seen(media) for media in self.media]
        self.prepared = {
            name: attempt(_seeded(metric.prepare), self.seeds, self.originals)
            for name, metric in self.metrics.items()
            if isinstance(metric, Metric)
        }

    def through(self, system: System, places: Sequence[int], folder: Path) -> list[Item]:
        """What a system makes of the items at some places, with all measures; decoded media go into `folder`."""
        media, rows, seeds = ([column[place] for place in places] for column in (self.media, self.rows, self.seeds))
        items: dict[int, Item] = {}
        decoded: dict[int, torch.Tensor] = {}
        for place, outcome in zip(places, attempt(system.roundtrips, media, rows, seeds), strict=True):
            original, row = self.originals[place], self.rows[place]
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                back, found = outcome
                if back is not None:
                    seen = as_seen(back)
                    _check_pair(original, seen, system.name)
                    kind = ".wav" if isinstance(back, Audio) else ".png"
                    back.save((folder / f"items/{self.indexes[place]:05d}").with_suffix(kind))
                    decoded[place] = seen
            except UNMEASURED as error:
                items[place] = {"path": str(row.path), "failures": {"all": _reason(error, row)}}
                continue
            items[place] = found | {"path": str(row.path), "length": _length(self.media[place]), "failures": {}}
        for name, metric in self.metrics.items():
            if isinstance(metric, TokenMetric):
                values = self._of_tokens(metric, system, {k: item for k, item in items.items() if "length" in item})
            else:
                values = self._of_media(name, metric, decoded)
            for place, value in values.items():
                if isinstance(value := _finite(value), Exception):
                    items[place]["failures"][name] = _reason(value, self.rows[place])
                elif value is not None:
                    items[place][name] = value
        return [items[place] for place in places]

    def _of_media(self, name: str, metric: Any, decoded: Mapping[int, torch.Tensor]) -> dict[int, Any]:
        prepared = self.prepared[name]
        values = {place: prepared[place] for place in decoded if isinstance(prepared[place], Exception)}
        silent = [place for place, wave in decoded.items() if place not in values and is_silent(wave)]
        audible = [place for place in decoded if place not in values and place not in silent]

        def columns(places: Sequence[int]) -> list[list[Any]]:
            return [[column[place] for place in places] for column in (self.seeds, prepared, decoded, self.rows)]

        def of_silence(originals: Sequence[Any], decoded: Sequence[torch.Tensor], rows: Sequence[Row]) -> list[Item]:
            for pair in zip(decoded, rows, strict=True):
                metric.check(*pair)
            return [metric.silent(*pair) for pair in zip(originals, rows, strict=True)]

        values |= dict(zip(silent, attempt(_seeded(of_silence), *columns(silent)), strict=True))
        return values | dict(zip(audible, attempt(_seeded(metric.items), *columns(audible)), strict=True))

    def _of_tokens(self, metric: TokenMetric, system: System, items: Mapping[int, Item]) -> dict[int, Any]:
        def run(*columns: Sequence[Any]) -> list[Item | None]:
            return metric.items(system, *columns)

        media, rows, seeds = ([column[place] for place in items] for column in (self.media, self.rows, self.seeds))
        return dict(zip(items, attempt(_seeded(run), seeds, media, list(items.values()), rows, seeds), strict=True))


def _seeded(run: Any) -> Any:
    """`run` of a batch, after random numbers are set by its first item's seed."""

    def seeded(seeds: Sequence[int], *columns: Sequence[Any]) -> Any:
        seed_all(seeds[0])
        return run(*columns)

    return seeded


def seed_of(seed: int, index: int) -> int:
    """Of one item's random numbers."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _reason(error: Exception, row: Row) -> str:
    """An error's words, without the folders of this machine."""
    return str(error).replace(str(row.path), row.path.name) or type(error).__name__


def _finite(value: Any) -> Any:
    """What a metric gave, or an error in place of a number that is none."""
    if isinstance(value, dict):
        for key, number in value.items():
            if isinstance(number, float) and not np.isfinite(number):
                return InputError(f"{key} is {number}")
    return value


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


def _length(media: Audio | Images) -> float:
    """Seconds of a clip, pixels of a picture."""
    return len(as_seen(media)) / media.sample_rate if isinstance(media, Audio) else float(media.pixels[0, 0].numel())


def as_seen(media: Audio | Images) -> torch.Tensor:
    """What metrics get: samples (S,), or pixels (3, H, W) rounded to multiples of 1/255."""
    if isinstance(media, Audio):
        return media.waveform[0, 0].float().cpu()
    return (media.pixels[0].float().cpu().clamp(0, 1) * 255).round() / 255


def identity(system: System, plan: Plan) -> str:
    """A hash of what decides the numbers beside packages: system, weights, metrics with their files, items with texts, seed."""
    measured = {key: getattr(plan.suite, key) for key in ("modality", "metrics", "sample_rate", "image_size")}
    files = [list(_files(plan.suite.metrics)), listing(plan.rows)]
    decisive = [system.name, system.weights, measured, files, plan.seed]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _files(config: Any) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of every local file that a config names, itself or by its folder."""
    if isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _files(part)
    elif isinstance(config, str) and (path := Path(config).expanduser()).exists():
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield file.name, file.stat().st_size, file.stat().st_mtime_ns
