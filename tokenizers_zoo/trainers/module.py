"""The one Lightning module: any tokenizer, any objective, with or without an adversary."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..assembly import assembly_of
from ..errors import InputError
from ..provenance import commit, machine, versions
from ..quantizers import Quantizer
from ..tokenizer import Reconstruction, Tokenizer
from ..weights import load_plain, read_folder, unsaved
from .data import Batch
from .objective import Adversary, Objective, Term
from .sharding import shard

PRECISIONS = ("32-true", "bf16-mixed")

log = logging.getLogger(__name__)


class TokenizerModule(lightning.LightningModule):
    """Generator and discriminator steps under manual optimisation.

    Both gradients of a batch are taken against the same discriminator; then both step. `global_step` counts generator steps
    alone: it is what the adversary's start, the schedules, `max_steps` and checkpoint names go by, and it survives a resume.
    Every process draws random numbers (dropout, of codebooks too) of its own, as items of one batch do. Resuming restores them,
    so that a run with a break equals one without. Batches are counted over the ends of epochs, so that every step is of
    `accumulate` of them.

    name, license: of the weights that come out. objective: losses by name (or None). optimizer, schedule: of the tokenizer;
    adversary_optimizer (default: as optimizer) of the adversary, whose schedule begins when it starts. ema: decay of the
    averaged weights that are validated and exported; None for none. clip: largest gradient norm of each side. accumulate:
    batches a step. frozen: parts of the tokenizer that do not learn, e.g. ["encoder", "quantizer"]. initial: a weight folder to
    start from.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        objective: Mapping[str, Term | None],
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: LRSchedulerCallable | None = None,
        adversary: Adversary | None = None,
        adversary_optimizer: OptimizerCallable | None = None,
        ema: float | None = 0.999,
        clip: float | None = 1.0,
        accumulate: int = 1,
        frozen: tuple[str, ...] = (),
        initial: str | None = None,
        license: str = "",
    ):
        super().__init__()
        _check_options(tokenizer, ema, clip, accumulate, frozen)
        self.automatic_optimization = False
        self.tokenizer, self.objective, self.adversary = tokenizer, Objective(objective), adversary
        tokenizer.name, tokenizer.license = name, license
        assembly_of(tokenizer, name)  # refuses here, and not after the training, parts that `export` could not name
        self.optimizer, self.schedule = optimizer, schedule
        self.adversary_optimizer = adversary_optimizer or optimizer
        self.clip, self.accumulate, self.frozen = clip, accumulate, frozen
        if initial:
            load_plain(tokenizer, read_folder(initial)[1], name)
        for part in frozen:
            tokenizer.get_submodule(part).requires_grad_(False)
        self.ema = AveragedModel(tokenizer, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
        if self.ema:
            self.ema.requires_grad_(False)
            for helper in unsaved(tokenizer):  # not averaged: one of each is enough
                self.ema.module.set_submodule(helper.rstrip("."), tokenizer.get_submodule(helper.rstrip(".")))
        self.batches = 0  # that the steps so far and the next one have seen
        self._random: dict[str, Tensor] = {}
        self._commit = commit()  # what runs, whatever is changed while it runs
        self.train()  # Lightning keeps the modes that it finds

    def configure_model(self) -> None:
        """Under FSDP2 each process keeps a share of all that learns."""
        if self.device_mesh is None or isinstance(self.tokenizer, FSDPModule):
            return
        for part in (self.tokenizer, self.ema and self.ema.module, self.adversary and self.adversary.discriminator):
            if part is not None:
                shard(part, self.device_mesh["data_parallel"])
        self.strict_loading = (
            False  # FSDP2 loads before `on_load_checkpoint` can add the objective's frozen parts, and checks itself
        )

    @property
    def averaged(self) -> Tokenizer:
        """The tokenizer that is validated and exported."""
        return self.ema.module if self.ema and self.ema.n_averaged else self.tokenizer  # type: ignore[return-value]

    def train(self, mode: bool = True) -> "TokenizerModule":
        """Frozen parts and the average stay in evaluation mode."""
        super().train(mode)
        if self.ema:
            self.ema.eval()
            for helper in unsaved(self.tokenizer):  # the average's, too, but it is the tokenizer that is trained
                self.tokenizer.get_submodule(helper.rstrip(".")).train(mode)
        for part in self.frozen:
            self.tokenizer.get_submodule(part).eval()
        return self

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """The tokenizer's training pass."""
        return self.tokenizer(media, **given)

    def setup(self, stage: str) -> None:
        """Raises InputError, before the first step, where there is no loss, or two optimizers do not step as they should."""
        if not self.objective.terms:
            raise InputError("all terms of the objective are left out: nothing is learnt or measured; keep at least one")
        if stage == "fit" and self.trainer.precision not in PRECISIONS:
            raise InputError(
                f"training in precision {self.trainer.precision} is not supported: float16 would need its losses scaled for two "
                f"optimizers, and weights of 16 bits lose small steps; choose {' or '.join(PRECISIONS)}"
            )
        if stage == "fit" and self.trainer.precision == "bf16-mixed" and _emulates_bfloat16(self.trainer.strategy.root_device):
            log.warning("this CPU has no bfloat16 arithmetic: --trainer.precision 32-true is several times as fast")

    def on_train_start(self) -> None:
        """The weights have been drawn alike in all processes; from here on each draws for itself."""
        if self.global_rank:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: Batch, index: int) -> dict[str, Any]:
        """One batch; every `accumulate` of them a step."""
        self.batches += 1
        step_ends = self.batches % self.accumulate == 0
        for part in self.tokenizer.modules():
            if isinstance(part, Quantizer):  # codebooks learn once a step
                part.step_ends = step_ends
        media, result = batch["media"], self(batch["media"], **_given(self.tokenizer, batch))
        terms = self.objective(result, batch)
        losses, logs = {"loss": torch.stack(list(terms.values())).sum()}, {}
        if self.adversary and self.global_step >= self.adversary.start:
            if result.output is None:
                raise InputError(
                    f"{self.tokenizer.name} decodes nothing in training: an adversary has nothing to judge; leave it out"
                )
            judged = self.adversary.judge(result.output, media)
            if adaptive := self.adversary.adaptive:
                layer = self.tokenizer.get_parameter(adaptive.layer)
                judged = judged.scaled(adaptive(layer, terms, judged.generator / self.adversary.weight))
            losses = {"discriminator's loss": judged.discriminator, "loss": losses["loss"] + judged.generator}
            terms |= judged.terms
            logs["discriminator"] = judged.discriminator.detach()
        self._backward(losses, step_ends)
        if step_ends:
            self._step()
        logs |= {name: term.detach() for name, term in terms.items()} | {"total": losses["loss"].detach()}
        self.log_dict({f"train/{name}": value for name, value in logs.items()}, batch_size=len(media))
        return {"result": result, **logs}

    def _backward(self, losses: dict[str, Tensor], step_ends: bool) -> None:
        """One backward pass, because a process group averages all gradients in each; while they accumulate, in none."""
        values = torch.stack(list(losses.values()))
        self._check(values.detach(), list(losses))
        strategy = self.trainer.strategy
        gathering = isinstance(strategy, ParallelStrategy) and not step_ends
        with strategy.block_backward_sync() if gathering else nullcontext():  # type: ignore[attr-defined]
            self.manual_backward(values.sum() / self.accumulate)

    def _check(self, values: Tensor, names: list[str]) -> None:
        """Raises InputError, in all processes, where a loss is not finite in one of them; asks the device once."""
        wrong = (~values.isfinite()).any().float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(wrong)
        if wrong:
            found = [f"the {name} became {float(v)}" for name, v in zip(names, values, strict=True) if not v.isfinite()]
            what = " and ".join(found) or "a loss of another process became infinite or no number"
            raise InputError(f"{what} at step {self.global_step}; lower the learning rate, or clip lower")

    def _step(self) -> None:
        """Both sides step, each with its own schedule; Lightning hears of the generator's step alone, because it counts."""
        found, schedulers = self.optimizers(), self.lr_schedulers()
        optimizers: list[Any] = found if isinstance(found, list) else [found]
        schedules: list[Any] = schedulers if isinstance(schedulers, list) else [schedulers]
        learning = self.adversary is not None and self.global_step >= self.adversary.start
        for side in (1, 0) if learning else (0,):
            if self.clip:
                self.clip_gradients(optimizers[side], self.clip, "norm")
            (optimizers[side] if side == 0 else optimizers[side].optimizer).step()
            optimizers[side].zero_grad()
            if self.schedule:
                schedules[side].step()
        if self.ema:
            self.ema.update_parameters(self.tokenizer)

    def validation_step(self, batch: Batch, index: int) -> dict[str, Reconstruction]:
        """The objective of the averaged weights, without the adversary's terms."""
        result, logs = self._judge(batch)
        named = {f"valid/{name}": value for name, value in logs.items()}
        self.log_dict(named, batch_size=len(batch["media"]), sync_dist=True)
        return {"result": result}

    def test_step(self, batch: Batch, index: int) -> dict[str, Reconstruction]:
        """The same, a mean over all items of the test. (Lightning rounds the number of items a process has.)"""
        result, logs = self._judge(batch)
        share = batch["share"].float().sum()
        named = {f"test/{name}": value * share for name, value in logs.items()}
        self.log_dict(named, batch_size=1, reduce_fx="sum", sync_dist=True)
        return {"result": result}

    def _judge(self, batch: Batch) -> tuple[Reconstruction, dict[str, Tensor]]:
        result: Reconstruction = self.averaged(batch["media"], **_given(self.averaged, batch))
        terms = self.objective(result, batch)
        return result, terms | {"total": torch.stack(list(terms.values())).sum()}

    def configure_optimizers(self) -> Any:
        """One optimizer a side, each with its schedule."""
        sides: list[tuple[nn.Module, OptimizerCallable]] = [(self.tokenizer, self.optimizer)]
        if self.adversary:
            sides.append((self.adversary, self.adversary_optimizer))
        optimizers = [optimizer(parameter_groups(side)) for side, optimizer in sides]
        return optimizers, [self.schedule(optimizer) for optimizer in optimizers] if self.schedule else []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the assembly, how the run went, which `export` needs, and the random numbers; leaves frozen parts out."""
        checkpoint["state_dict"] = self.kept(checkpoint["state_dict"])
        checkpoint["assembly"] = {"name": self.tokenizer.name, "license": self.tokenizer.license, **self.tokenizer.config}
        checkpoint["run"] = {"versions": versions(), "machine": machine(), "commit": self._commit, "seed": torch.initial_seed()}
        checkpoint["batches"] = self.batches
        for name, state in self._random_states().items():
            everyones: Any = self.all_gather(state.to(self.device))
            checkpoint[name] = everyones.cpu()

    def _random_states(self) -> dict[str, Tensor]:
        """Of the generators that a step draws from: the host's, and that of this process' own GPU."""
        on_device = {"random_device": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        return {"random": torch.get_rng_state(), **on_device}

    def kept(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of the module's state dict a checkpoint holds."""
        left_out = self._left_out()
        return {k: v for k, v in state.items() if not k.startswith(left_out)}

    def _left_out(self) -> tuple[str, ...]:
        """Prefixes of what checkpoints do not hold: teachers and frozen helpers."""
        return ("objective.", *unsaved(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random numbers until the first batch: Lightning draws some before."""
        if "state_dict" in checkpoint:  # FSDP2 has loaded it
            left_out = self._left_out()
            checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if k.startswith(left_out)}
        self.batches = checkpoint.get("batches", 0)
        self.batches -= self.batches % self.accumulate  # the gradients of a step that was not whole are lost: it begins anew
        for name, own in self._random_states().items():
            if name in checkpoint:
                states = checkpoint[name].view(-1, len(own))  # a row a process
                if self.global_rank < len(states):  # more processes than wrote it begin with their own
                    self._random[name] = states[self.global_rank].clone()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Goes on with the random numbers of the checkpoint."""
        if "random" in self._random:
            torch.set_rng_state(self._random["random"])
        if "random_device" in self._random:
            torch.cuda.set_rng_state(self._random["random_device"], self.device)
        self._random = {}


def _check_options(tokenizer: Tokenizer, ema: float | None, clip: float | None, accumulate: int, frozen: Sequence[str]) -> None:
    if ema and not 0 < ema < 1:
        raise InputError(f"model.ema must be between 0 and 1, or null for no average, got {ema}")
    if clip and clip < 0:
        raise InputError(f"model.clip must be above 0, or null for none, got {clip}")
    if accumulate < 1:
        raise InputError(f"model.accumulate must be at least 1 batch a step, got {accumulate}")
    parts = dict(tokenizer.named_modules())
    if unknown := [part for part in frozen if part not in parts]:
        own = ", ".join(name for name, _ in tokenizer.named_children())
        raise InputError(f"model.frozen: {type(tokenizer).__name__} has no {', '.join(unknown)}; it has {own}, and parts of them")


def _given(tokenizer: Tokenizer, batch: Batch) -> dict[str, Any]:
    missing = [name for name in tokenizer.takes if name not in batch]
    if missing:
        raise InputError(f"{tokenizer.name} takes {', '.join(missing)}; a batch has {', '.join(batch)}: give data that has it")
    return {name: batch[name] for name in tokenizer.takes}


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Matrices and kernels with the optimizer's weight decay; vectors, embeddings, and what a part calls `undecayed`, without."""
    spared = {
        part.get_parameter(name)
        for part in module.modules()
        for name in (("weight",) if isinstance(part, nn.Embedding) else getattr(part, "undecayed", ()))
    }
    learning = [p for p in module.parameters() if p.requires_grad]
    plain = [p for p in learning if p.ndim < 2 or p in spared]
    return [{"params": [p for p in learning if p.ndim >= 2 and p not in spared]}, {"params": plain, "weight_decay": 0.0}]


def _emulates_bfloat16(device: torch.device) -> bool:
    """Whether a processor computes in bfloat16 by converting every operand."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
