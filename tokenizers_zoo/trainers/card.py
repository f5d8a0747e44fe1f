"""What a run says of itself beside its weights: README.md, filled in by the run, and the curves that it logged."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import atomic_path
from ..tokenizer import Tokenizer

Curves = dict[str, dict[int, float]]  # values of each scalar by step


def write_card(tokenizer: Tokenizer, checkpoint: dict[str, Any], averaged: bool, logs: Iterable[Path], folder: Path) -> None:
    """README.md and curves.png in `folder`; a card that is there is kept.

    averaged: whether the weights are the moving average. logs: folders with TensorBoard files of the run, in their order.
    """
    curves, hours = read_logs(file for log in logs for file in sorted(log.glob("events.out.tfevents.*")))
    if curves:
        draw(curves, folder / "curves.png")
    if not (folder / "README.md").exists():
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text(card(tokenizer, checkpoint, averaged, hours))


def card(tokenizer: Tokenizer, checkpoint: dict[str, Any], averaged: bool, hours: float) -> str:
    """Markdown: what the run knows of itself, and its curves where it logged any."""
    run = checkpoint.get("run", {})
    facts = {
        "parameters": f"{sum(p.numel() for p in tokenizer.parameters()):,}",
        "steps": checkpoint["global_step"],
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
    return "\n".join(lines)


def read_logs(files: Iterable[Path]) -> tuple[Curves, float]:
    """Every loss and codebook measure that TensorBoard files hold, and the hours that they span without pauses.

    Of a step that two files have, the later one's.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: Curves = {}
    seconds = 0.0
    for file in files:
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            scalars = events.Scalars(name)
            curves.setdefault(name, {}).update({s.step: s.value for s in scalars})
            if name == "train/total":
                seconds += scalars[-1].wall_time - scalars[0].wall_time
    names = sorted(name for name in curves if name != "epoch" and not name.startswith("speed"))
    return {name: curves[name] for name in names}, seconds / 3600


def panels(names: Iterable[str]) -> dict[str, list[str]]:
    """Curves by the panel that they share: training and validation of one loss, and one measure of all codebooks."""
    found: dict[str, list[str]] = {}
    for name in names:
        group, _, part = name.partition("/")
        found.setdefault(part.rsplit("_", 1)[0] if group == "codebook" else part, []).append(name)
    return found


def draw(curves: Curves, target: Path) -> None:
    """A picture of small `panels`."""
    from matplotlib.figure import Figure

    together = panels(curves)
    rows = -(-len(together) // 4)
    figure = Figure(figsize=(14, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False).flat
    for axis in axes[len(together) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, together.items(), strict=False):
        for name in names:
            steps = sorted(curves[name])
            axis.plot(steps, [curves[name][step] for step in steps], lw=0.8, label=name.split("/")[0])
        axis.set_title(title, fontsize=9)
        if len(names) == 2:
            axis.legend(fontsize=7)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=70)
