"""A training checkpoint -> a weight folder of ours, with a card that the run itself filled in."""

import pickle
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from ..errors import WeightsError
from ..files import atomic_path
from ..tokenizer import Tokenizer
from ..weights import load_strict


def export(checkpoint: str | Path, folder: str | Path, averaged: bool = True, dtype: torch.dtype | None = None) -> Tokenizer:
    """Writes the tokenizer of a `tokenizers-zoo fit` checkpoint, without adversary and optimizer; returns it.

    averaged: the moving average of the weights where the run kept one. Raises WeightsError for anything else than such a
    checkpoint.
    """
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    prefix = "ema.module." if averaged and any(key.startswith("ema.module.") for key in state) else "tokenizer."
    config = content["assembly"]
    tokenizer = zoo.build(config, config["name"])
    load_strict(tokenizer, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, tokenizer.name)
    tokenizer.license = config["license"]
    tokenizer.eval().save_pretrained(folder, dtype)
    _write_card(tokenizer, content, Path(checkpoint), Path(folder), averaged)
    return tokenizer


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a training run, opened with weights_only. Raises WeightsError for other files."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit` ({reason})") from error
    if not isinstance(content, dict) or not content.keys() >= {"assembly", "state_dict"}:
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit`; weight folders load with tokenizers_zoo.load")
    return content


def _write_card(tokenizer: Tokenizer, content: dict[str, Any], checkpoint: Path, folder: Path, averaged: bool) -> None:
    """README.md with what the run knows of itself, and curves.png of what it logged; a card that is there already is kept."""
    run, hours = content.get("run", {}), _curves(checkpoint.parent, folder / "curves.png")
    facts = {
        "parameters": f"{sum(p.numel() for p in tokenizer.parameters()):,}",
        "steps": content["global_step"],
        "hours": f"{hours:.2f}" if hours else "not logged",
        "weights": "moving average" if averaged else "last",
        "seed": run.get("seed", ""),
        "commit": run.get("commit", ""),
        "machine": run.get("machine", ""),
        "versions": ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items()),
        "licence": tokenizer.license,
    }
    lines = [f"# {tokenizer.name}", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items() if v != ""), ""]
    lines += ["![losses and codebook use](curves.png)", ""] if hours else []
    if not (folder / "README.md").exists():
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text("\n".join(lines))


def _curves(logs: Path, target: Path) -> float:
    """Draws every scalar that TensorBoard files below `logs` hold; returns the hours that they span, pauses left out."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points: dict[str, dict[int, float]] = {}
    seconds = 0.0
    for file in sorted(logs.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            scalars = events.Scalars(name)
            points.setdefault(name, {}).update({s.step: s.value for s in scalars})
            if name == "train/total":
                seconds += scalars[-1].wall_time - scalars[0].wall_time
    names = sorted(name for name in points if name != "epoch" and not name.startswith("speed"))
    if names:
        _draw({name: points[name] for name in names}, target)
    return seconds / 3600


def _draw(points: dict[str, dict[int, float]], target: Path) -> None:
    """Small panels, one a loss, training and validation together; the codebooks in one."""
    from matplotlib.figure import Figure

    panels: dict[str, list[str]] = {}
    for name in points:
        group, _, part = name.partition("/")
        panels.setdefault(part.rsplit("_", 1)[0] if group == "codebook" else part, []).append(name)
    rows = -(-len(panels) // 4)
    figure = Figure(figsize=(14, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps = sorted(points[name])
            axis.plot(steps, [points[name][step] for step in steps], lw=0.8, label=name.split("/")[0])
        axis.set_title(title, fontsize=9)
        if len(names) == 2:
            axis.legend(fontsize=7)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=70)
