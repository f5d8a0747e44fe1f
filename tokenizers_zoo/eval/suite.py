"""What an evaluation measures, by a YAML file, and on which files."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from ..errors import InputError
from ..hub import without_retries
from ..manifest import Row, of_split, read_manifest
from ..media import SUFFIXES
from . import codecs, distribution, features, image, neural, probe, retrieval, speech, systems
from .base import Measure, System
from .overrides import overridden, written_out

# What an item has besides its metrics, and what its failures name besides them.
RESERVED = {"item", "path", "bits", "side", "codes", "length", "failures", "without", "arrays", "original"}
UNAVAILABLE = (ValueError, OSError, RuntimeError, ImportError)  # of a missing package, file or download; ours are ValueErrors


@dataclass
class Parts:
    """What a suite names. missing: the reason of each metric and baseline that cannot be had, by its name. device: of all."""

    metrics: dict[str, Measure] = field(default_factory=dict)
    baselines: list[System] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


@dataclass
class Suite:
    """What is measured. modality: "audio" or "image". metrics, baselines: parts {class_path, init_args} by name, or in order.

    codebooks, positions: numbers of codebooks or tokens at which each tokenizer is also measured, where it has so many. roles: of
    codebooks that are also measured alone, where a tokenizer has others besides. captions: what a tokenizer that takes texts is
    also given in place of the items' own, "none" or "others". needs: what has to be there before all of the suite can run.
    source: the paper whose rules it follows.
    """

    modality: str
    metrics: dict[str, Any]
    baselines: list[Any] = field(default_factory=list)
    codebooks: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    sample_rate: int = 16000
    image_size: int | None = None
    needs: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.modality not in ("audio", "image"):
            raise InputError(f"modality must be audio or image, got {self.modality!r}")
        if not isinstance(self.metrics, dict) or not self.metrics or not isinstance(self.baselines, list):
            raise InputError("metrics must be parts by name, at least one, and baselines a list of parts")
        for name in self.metrics:
            if name in RESERVED or not isinstance(name, str) or not name or "/" in name:
                raise InputError(f"no metric can be called {name}; give it another name")
        for part in [*self.metrics.values(), *self.baselines]:
            written_out(part)
        sizes = {"sample_rate": [self.sample_rate], "image_size": [1 if self.image_size is None else self.image_size]}
        for name, numbers in (sizes | {"codebooks": self.codebooks, "positions": self.positions}).items():
            if not isinstance(numbers, list) or not all(type(n) is int and n > 0 for n in numbers):
                raise InputError(f"{name} must be whole numbers above 0, got {numbers!r}")
        if not isinstance(self.roles, list) or not all(isinstance(role, str) and role for role in self.roles):
            raise InputError(f"roles must be a list of words, got {self.roles!r}")
        if not isinstance(self.captions, list) or not all(kind in ("none", "others") for kind in self.captions):
            raise InputError(f"captions must be a list of none and others, got {self.captions!r}")

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Suite":
        """A suite file; overrides as of `overridden`. Raises InputError for what is no suite."""
        try:
            config = yaml.safe_load(Path(path).read_text())
            if not isinstance(config, dict):
                raise InputError("it has no modality and metrics")
            return cls(**overridden(config, overrides))
        except (TypeError, yaml.YAMLError, UnicodeDecodeError) as error:
            reason = str(error).removeprefix("Suite.__init__() ").split("\n")[0]
            raise InputError(f"{path} is no suite ({reason}); see eval/speech.yaml") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def build(self, device: torch.device | str = "cpu") -> Parts:
        """Metrics and baselines, on a device. What cannot be had (a package, a file, a download) is listed with the reason.

        Raises InputError for what is not known here, and where no metric can be had.
        """
        modules = [speech, probe] if self.modality == "audio" else [image, distribution, probe, retrieval]
        known = _classes(modules, Measure), _classes([systems, codecs, neural, features], System)
        metrics = {name: _resolved(part, known[0]) for name, part in self.metrics.items()}
        baselines = [_resolved(part, known[1]) for part in self.baselines]
        parts = Parts(device=str(device))

        def built(name: str, make: type, options: dict[str, Any]) -> list[Any]:
            try:
                part = make(**options)
                part.to(device)
                return [part]
            except TypeError as error:
                raise InputError(f"{make.__name__} cannot be built: {error}") from error
            except UNAVAILABLE as error:
                parts.missing[name] = str(error)
                return []

        with without_retries():
            parts.metrics = {name: part for name, found in metrics.items() for part in built(name, *found)}
            for make, options in baselines:
                name = " ".join([make.__name__, *(f"{key}={value}" for key, value in options.items())])
                parts.baselines += built(name, make, options)
        if not parts.metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in parts.missing.items())
            needs = f"; this suite needs {self.needs}" if self.needs else ""
            raise InputError(f"none of the metrics can be had: {reasons}{needs}")
        return parts


def _classes(modules: list[ModuleType], kind: type) -> dict[str, type]:
    """By name, what a suite may name: the classes of some modules that are of a kind and not abstract."""
    classes = [thing for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    return {c.__name__: c for c in classes if issubclass(c, kind) and not isabstract(c)}


def _resolved(part: Any, known: dict[str, type]) -> tuple[type, dict[str, Any]]:
    """The class of a part and its arguments. Raises InputError for those that do not fit, before anything is built."""
    part = written_out(part)
    name, options = part["class_path"], part["init_args"]
    if name not in known:
        raise InputError(f"{name!r} is not known here; known: {', '.join(sorted(known))}")
    try:
        inspect.signature(known[name]).bind(**options)
    except TypeError as error:
        raise InputError(f"{name} cannot be built: {error}") from error
    return known[name], options


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


@dataclass
class Plan:
    """A suite, what it names, the files that it measures, and the seed of what draws random numbers."""

    suite: Suite
    parts: Parts
    rows: list[Row]
    seed: int = 0
