"""A run that goes on from a checkpoint is compared with the run that wrote it."""

import hashlib
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from ..errors import InputError
from .data import MediaData
from .export import read_checkpoint

KEY = "fit"  # of what a checkpoint holds for this comparison
FREE = (  # what decides no step: where things lie, how fast they are read, what is validated
    *("model.name", "model.license", "model.initial"),
    *(f"data.init_args.{key}" for key in ("data", "workers", "cache", "valid_items", "valid_seconds", "max_unreadable")),
)
TOLD = (  # what may change on the way and acts from there on; of the rest a checkpoint brings the old, or the draws would differ
    *("model.objective", "model.clip", "model.adversary.loss", "model.adversary.weight", "model.adversary.feature_matching"),
    *("model.adversary.start", "model.adversary.window", "trainer.precision", "trainer.devices"),
)


class Resume(lightning.Callback):
    """Refuses to go on from a checkpoint of another tokenizer, and as `fit` also of other data, batches, seeds or optimizers.

    checkpoint: what is gone on from, or measured. Changes that act from here on (losses, precision, processes) are warned about.
    """

    def __init__(self, checkpoint: Path | None = None):
        self.checkpoint = checkpoint
        self.mine: dict[str, Any] = {}

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Compares, before any weight is loaded."""
        self.mine = _settings(trainer, stage)
        if self.checkpoint is None:
            return
        content = read_checkpoint(self.checkpoint)
        fresh = "for a new run from its weights: `export`, then --model.initial FOLDER" if stage == "fit" else ""
        if stage == "fit" and KEY not in content:
            raise InputError(f"{self.checkpoint} was not written by `fit` of this release, so it may not go on exactly; {fresh}")
        theirs = content.get(KEY, {})
        found = list(differences(content["assembly"], pl_module.tokenizer.config, "model.tokenizer"))
        if stage == "fit" and "config" in theirs and "config" in self.mine:
            found += differences(theirs["config"], self.mine["config"])
        told = [line for key, line in found if key.startswith(TOLD)]
        wrong = [line for key, line in found if not key.startswith(TOLD)]
        if stage == "fit" and theirs["files"] != self.mine["files"]:
            wrong.append("--data.init_args.data: other files, or in another order")
        if wrong:
            saved = self.checkpoint.parent.parent / "config.yaml"
            options = f" (-c {shlex.quote(str(saved))} has them all)" if saved.exists() else ""
            lines = "\n  ".join(wrong)
            way_out = "; ".join(filter(None, [f"repeat the options of that run{options}", fresh]))
            raise InputError(f"{self.checkpoint} is of a run with other options:\n  {lines}\n{way_out}")
        if told and trainer.is_global_zero:
            warnings.warn(f"from step {content['global_step']} on this run differs: {'; '.join(told)}", stacklevel=2)
        if stage == "fit":
            self.mine["logs"] = [*theirs.get("logs", []), *self.mine["logs"]]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps this run's options, a hash of its files, and where it logged, for the run that goes on from here."""
        checkpoint[KEY] = self.mine


def _settings(trainer: lightning.Trainer, stage: str) -> dict[str, Any]:
    logs = [logger.log_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    settings: dict[str, Any] = {"files": "", "logs": [str(Path(folder).absolute()) for folder in logs]}
    data = trainer.datamodule  # type: ignore[attr-defined]
    if isinstance(data, MediaData) and stage == "fit":
        names = "\n".join(row.path.name for row in data.rows("train"))
        settings["files"] = hashlib.sha256(names.encode()).hexdigest()[:16]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback):
            settings["config"] = _decisive(yaml.safe_load(callback.parser.dump(callback.config, skip_none=False)), trainer)
    return settings


def _decisive(config: dict[str, Any], trainer: lightning.Trainer) -> dict[str, Any]:
    """What decides the steps. The tokenizer is compared as it was built, processes as they are counted."""
    model = {key: value for key, value in config["model"].items() if key != "tokenizer"}
    how = {"precision": config["trainer"]["precision"], "devices": trainer.world_size}
    return {"seed_everything": config["seed_everything"], "model": model, "data": config["data"], "trainer": how}


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Options in which two configs differ, each with a line that says so.

    An option that only one side has is left out, since versions of the library differ in what they have, except for losses.
    """
    if key in FREE:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        names = old.keys() | new.keys() if key == "model.objective" else old.keys() & new.keys()
        for name in sorted(names):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, f"--{key}: {_short(new)}, was {_short(old)}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("class_path", "given")).split(".")[-1]
    return "null" if value is None else str(value)
