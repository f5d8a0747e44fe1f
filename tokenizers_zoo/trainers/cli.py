"""The training verbs: fit, validate and test (Lightning's)."""

import importlib
import inspect
import logging
import os
import pkgutil
import re
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ..assembly import choices, registry
from ..errors import InputError
from .callbacks import Bar, CodebookMonitor, Reconstructions, Throughput
from .checkpoints import Checkpoints, last_checkpoint
from .data import MediaData
from .module import TokenizerModule
from .resume import Resume

PACKAGES = ("losses", "discriminators", "teachers", "trainers")
HARMLESS = (  # remarks on what is meant so, most of them Lightning's
    "LightningCLI's args parameter",  # that the process has options of its own: the same ones, which it starts others with
    *(".*LeafSpec", ".*all_gather is deprecated"),  # by torch, used by Lightning
    ".*in eval mode at the start of training",  # averaged weights, frozen parts, teachers
    "Using ModelCheckpoint with manual optimization",  # that its checkpoints hold what a step made
    ".*does not have many workers",
    ".*smaller than the logging interval",
    ".*Grad strides do not match bucket view",  # DDP's, of kernels of 1 by 1
    ".*returned a view tensor",  # FSDP2's, of the output, which nothing changes in place
)
IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker.*^[\w.]+: (.*?)\s*", re.DOTALL | re.MULTILINE)  # with its traceback
LIGHTNINGS = ("best", "hpc", "registry")  # words for a checkpoint that Lightning finds
DEFAULTS = {
    "use_distributed_sampler": False,  # our own shares the draws among processes
    "check_val_every_n_epoch": None,  # validation goes by steps
    "log_every_n_steps": 20,
    "enable_model_summary": False,
}


class Parser(LightningArgumentParser):
    """A mistake is answered without the usage, which is of 60 lines: what is wrong, the names that would do, where to read on."""

    def print_usage(self, file: Any = None) -> None:
        """Prints nothing."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the program with the message."""
        wrong = re.findall(r"Expected a dot import path string: (\w+)", message)
        part = re.findall(r"class_path '[\w.]*?(\w+)':\s+Parser key \"(\w+)\"", message)
        if wrong:
            key = re.findall(r'[Kk]ey "([\w.]+)"', message)[-1]
            message = f"{message.rstrip()}\n  {(choices(*part[-1]) if part else '') or _alternatives(wrong[-1], key)}"
        super().error(message, ex)


def _alternatives(wrong: str, key: str) -> str:
    """What could stand in place of a wrong class name: all of the room that the key is named after, or else what is like it."""
    rooms = {room: sorted(classes(room)) for room in PACKAGES}
    room = next((room for room in PACKAGES for step in key.split(".") if room.startswith(step.rstrip("s"))), None)
    if room:
        return f"choose one of {', '.join(rooms[room])}, or a class by its import path, as torch.nn.L1Loss"
    known = {*registry(), *chain(*rooms.values()), *(name for name, _ in inspect.getmembers(torch.optim, inspect.isclass))}
    near = get_close_matches(wrong, sorted(known), 3, 0.5)
    return f"{wrong} is no class; did you mean {' or '.join(near)}?" if near else f"{wrong} is no class; give its import path"


def classes(room: str) -> set[str]:
    """Names of the public classes that are defined in the modules of a package of ours."""
    package = importlib.import_module(f"tokenizers_zoo.{room}")
    modules = [importlib.import_module(info.name) for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    found = {name: cls for module in modules for name, cls in inspect.getmembers(module, inspect.isclass)}
    return {name for name, cls in found.items() if cls.__module__.startswith(package.__name__) and not inspect.isabstract(cls)}


def run(argv: Sequence[str]) -> None:
    """Runs a training verb: no checkpoint is unpickled, harmless remarks are left out, CPUs use plain attention."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # a checkpoint to resume from is never unpickled
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's to mend
    if not torch.cuda.is_available():
        plain_attention()
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
    try:
        cli(argv)
    except MisconfigurationException as error:  # Lightning's answer to options that do not go together
        raise InputError(str(error)) from error
    except (InputError, OSError) as error:
        if told := IN_WORKER.fullmatch(str(error)):
            raise InputError(told[1]) from None
        raise
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning makes an exit code of 1
            raise end.__context__ from None
        raise


def plain_attention() -> None:
    """Attention by products in the precision of its inputs: on CPUs faster in bfloat16 than the flash kernel (benchmarks)."""
    torch.backends.cuda.enable_flash_sdp(False)  # these switches act on CPUs, too
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


class TrainingCLI(LightningCLI):
    """Lightning's verbs with our callbacks; a folder as --ckpt_path stands for the newest last.ckpt below it.

    Terms of an objective are left out by `null`, or by weight 0.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds --checkpoints.every."""
        parser.add_class_arguments(Checkpoints, "checkpoints")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Finds the checkpoint; "last" is that of the newest run below trainer.default_root_dir."""
        super().parse_arguments(parser, args)
        options = self.config.get(str(self.config.get("subcommand")), {})
        path = options.get("ckpt_path")
        if path and path not in LIGHTNINGS:
            options.ckpt_path = str(last_checkpoint((options.trainer.default_root_dir or ".") if path == "last" else path))

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Adds callbacks of this run alone."""
        options = self._get(self.config_init, "trainer")
        path = self._get(self.config_init, "ckpt_path")
        checkpoint = Path(path) if path and path not in LIGHTNINGS else None
        callbacks = [CodebookMonitor(), Throughput(), Reconstructions(), Resume(checkpoint)]
        if options.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in options.callbacks or ()):
            callbacks.append(Bar())
        if options.enable_checkpointing is not False:
            callbacks.append(self._get(self.config_init, "checkpoints"))
        if options.gradient_clip_val:
            raise InputError("--trainer.gradient_clip_val does not know two optimizers; --model.clip is for both")
        if options.accumulate_grad_batches > 1:
            raise InputError("--trainer.accumulate_grad_batches does not know two optimizers; --model.accumulate is for both")
        try:
            return super().instantiate_trainer(callbacks=[*(options.callbacks or ()), *callbacks], **kwargs)
        except ValueError as error:
            raise InputError(f"the trainer's options: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Forgets terms that are left out, so that no network of theirs is built or downloaded."""
        terms = self._get(self.config, "model").objective
        terms.update({name: None for name, term in terms.items() if term is None or not term.weight})

    def instantiate_classes(self) -> None:
        """Raises what went wrong as it is: the parser wraps what happens inside a term that may be null."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException = error
            while type(cause) is ValueError and cause.__cause__:
                cause = cause.__cause__
            raise cause from None


def cli(argv: Sequence[str], run: bool = True) -> LightningCLI:
    """The verb `argv[0]` with its options; without `run` only the options of `fit`, and everything built by them."""
    registry()
    for room in PACKAGES:  # what is imported can be named
        classes(room)
    return TrainingCLI(
        TokenizerModule,
        MediaData,
        subclass_mode_data=True,
        parser_class=Parser,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults=DEFAULTS,
        save_config_kwargs={"overwrite": True},
        args=list(argv),
        run=run,
    )
