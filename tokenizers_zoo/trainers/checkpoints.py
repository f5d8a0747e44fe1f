"""`last.ckpt` of a run: where it lies, when it is written, and how a run is stopped without losing anything."""

import os
import shlex
import shutil
import signal
import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger

from ..errors import InputError
from .data import Batch

NAME, FOLDER = "last.ckpt", "checkpoints"


def last_checkpoint(path: str | Path) -> Path:
    """`path`, or of a folder the newest last.ckpt below it. Raises InputError where there is none."""
    path = Path(path)
    if path.is_dir():
        found = sorted(path.rglob(NAME), key=lambda file: file.stat().st_mtime)
        if not found:
            raise InputError(f"no {NAME} lies below {path}; a run leaves one in its folder below trainer.default_root_dir")
        return found[-1]
    return path


class Checkpoints(Checkpoint):
    """Writes last.ckpt every `every` steps, at the end, and when the run is stopped; nothing under fast_dev_run.

    It lies in the logger's folder of this run, default_root_dir/lightning_logs/version_N/checkpoints; a run whose logs lie
    elsewhere gets the next free version_N. No run writes into the folder of another. Ctrl-C and SIGTERM wait for the end of the
    step, from which the checkpoint goes on exactly; a second one does not wait. A file is replaced when the new one is complete.
    """

    def __init__(self, every: int = 1000):
        if every < 1:
            raise InputError(f"checkpoints.every must be at least 1 step, got {every}")
        self.every = every
        self.folder: Path | None = None
        self.saved: int | None = None  # step that was saved last, or gone on from
        self.stopped = 0  # number of the signal that stops the run

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Takes a folder, the same in all processes."""
        logs = trainer.log_dir  # which asks all processes
        if stage == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            taken = _take_folder(Path(trainer.default_root_dir), Path(logs or "")) if trainer.is_global_zero else None
            self.folder = trainer.strategy.broadcast(taken)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on signals wait for the end of a step; when the trainer ends, it puts their handlers back."""
        self.saved = trainer.global_step
        if self.folder and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = number
        if not int(os.environ.get("LOCAL_RANK", 0)):
            os.write(2, b"\nstopping after this step; once more: at once\n")  # print is not for handlers

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Saves where a step is complete and it is time."""
        step = trainer.global_step
        if self.folder is None or step == self.saved:  # the second: between the batches of a step
            return
        stopping = trainer.strategy.reduce_boolean_decision(bool(self.stopped), all=False)
        if step % self.every == 0 or step == trainer.max_steps or trainer.should_stop or stopping:
            self._save(trainer)
        if stopping:
            if trainer.is_global_zero:
                print(f"\nstopped after step {step}; --ckpt_path {shlex.quote(str(self.folder / NAME))} goes on", file=sys.stderr)
            # Lightning kills the others where one of them ends with anything but 0
            raise SystemExit(128 + (self.stopped or signal.SIGTERM) if trainer.is_global_zero else 0)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Saves what an epoch's end left unsaved, and says what can be done with it."""
        if self.folder is None:
            return
        if trainer.global_step != self.saved:
            self._save(trainer)
        if trainer.is_global_zero and self.saved:
            path = shlex.quote(str(self.folder / NAME))
            name = shlex.quote(f"my-{pl_module.tokenizer.name}")
            command = " ".join(["tokenizers-zoo", *map(shlex.quote, _imported()), "export"])
            print(f"step {self.saved}: {path}\nits weights: {command} {path} -o {name}")

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """What is refused before the first step leaves no folder behind."""
        if self.saved is None and trainer.is_global_zero:
            logs = [logger.log_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
            for folder in {*map(Path, logs), *([self.folder.parent] if self.folder else [])}:
                _remove_unused(folder)

    def _save(self, trainer: lightning.Trainer) -> None:
        """In all processes. A name of its own until it is complete: one that is killed leaves the file of before."""
        assert self.folder
        unfinished = self.folder / f".{NAME}"
        trainer.save_checkpoint(unfinished, weights_only=False)
        if trainer.is_global_zero:
            unfinished.replace(self.folder / NAME)
        self.saved = trainer.global_step


def _take_folder(root: Path, logs: Path) -> Path:
    """Makes the folder for the checkpoints of a run that logs to `logs`. That it is made here keeps other runs out."""
    near, far = (Path(os.path.abspath(path)) for path in (logs, root))
    if near != far and near.is_relative_to(far):
        with suppress(FileExistsError):
            (logs / FOLDER).mkdir(parents=True)
            return logs / FOLDER
    for number in count():
        with suppress(FileExistsError):
            version = root / "lightning_logs" / f"version_{number}"
            version.mkdir(parents=True)
            (version / FOLDER).mkdir()
            return version / FOLDER
    raise AssertionError  # numbers do not end


def _remove_unused(folder: Path) -> None:
    """Removes a run's folder where nothing but what one run begins with lies in it."""
    with suppress(OSError):  # not empty, or not there
        (folder / FOLDER).rmdir()
    with suppress(OSError):
        others = {path.name for path in folder.iterdir()} - {"config.yaml", "hparams.yaml"}
        if all(name.startswith("events.out.tfevents.") for name in others) and len(others) < 2:
            shutil.rmtree(folder)


def _imported() -> list[str]:
    """The --import MODULE of this command, which another command needs as well."""
    words, end = sys.argv[1:], 0
    while words[end : end + 1] == ["--import"]:
        end += 2
    return words[:end]
