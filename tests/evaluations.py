"""What tests of the evaluation share: suites from a dict, systems and metrics of a few lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.eval.base import Item, Measure, Metric, System
from tokenizers_zoo.eval.run import evaluate
from tokenizers_zoo.eval.suite import Parts, Plan, Suite
from tokenizers_zoo.manifest import Row

SPEECH = {"modality": "audio", "metrics": {"stoi": "STOI", "mel": "MelDistance"}, "codebooks": [1], "baselines": ["Original"]}
PHOTOS = {"modality": "image", "image_size": 64, "metrics": {"psnr": "PSNR", "ssim": "SSIM"}, "baselines": ["Original"]}


def suite(config: dict[str, Any], folder: Path, *overrides: str) -> Suite:
    (folder / "suite.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Suite.load(folder / "suite.yaml", overrides)


def run(
    systems: Sequence[System], found: Suite | Plan, rows: list[Row], folder: Path, batch_size: int = 16
) -> list[dict[str, Any]]:
    plan = found if isinstance(found, Plan) else Plan(found, found.build(), rows)
    return evaluate({f"{i}": system for i, system in enumerate(systems)}, plan, folder, batch_size)


def one(system: System, found: Suite | Plan, rows: list[Row], folder: Path) -> dict[str, Any]:
    """Results of a single system."""
    return run([system], found, rows, folder)[0]


def clips(folder: Path, count: int, seconds: float = 0.5) -> list[Row]:
    """Noise of growing length and loudness."""
    rows = []
    for i in range(count):
        path = folder / f"{i}.wav"
        wave = torch.randn(1, 1, int(16000 * seconds) + 100 * i, generator=torch.Generator().manual_seed(i))
        tz.Audio(wave * (i + 1) / 50, 16000).save(path)
        rows.append(Row(path, f"text {i}"))
    return rows


def toy_plan(rows: list[Row], seed: int = 0, missing: dict[str, str] | None = None, **metrics: Measure) -> Plan:
    """A plan of metrics of our own, under their names."""
    config = {name: type(metric).__name__ for name, metric in metrics.items()}
    parts = Parts(metrics, missing=missing or {})
    return Plan(Suite("audio", config | dict.fromkeys(missing or {}, "Missing")), parts, rows, seed)


class Same(System):
    """Gives everything back, times a factor for some items. Counts what it runs."""

    def __init__(self, name: str = "same", factors: dict[int, float] | None = None):
        self.name, self.factors, self.seen = name, factors or {}, []

    def roundtrip(self, media: Any, **given: Any) -> tuple[Any, Item]:
        index = (media.waveform.shape[-1] - 8000) // 100  # of `clips`
        self.seen.append(index)
        return tz.Audio(media.waveform * self.factors.get(index, 1.0), media.sample_rate), {"bits": 100.0 * (index + 1)}


class Loudness(Metric):
    """Of the original, at what it was prepared, and of the decoded side. Counts what it prepares and the sizes of its batches."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.batches: list[int] = []

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        self.prepared += [len(x) for x in originals]
        return [float(x.abs().mean()) for x in originals]

    def items(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Any]:
        self.batches.append(len(rows))
        return super().items(prepared, decoded, rows)

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        return {"ratio": float(decoded.abs().mean()) / original}
