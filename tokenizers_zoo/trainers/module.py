"""The one Lightning module: any tokenizer, any objective, with or without an adversary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
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

PLAIN = ("embed", "token", "position")  # parameters with these words in their name, and all vectors, get no weight decay


class TokenizerModule(lightning.LightningModule):
    """Generator and discriminator steps under manual optimisation.

    Both gradients of a batch are taken against the same discriminator; then both step. `global_step` counts generator steps
    alone: it is what the adversary's start, the schedules, `max_steps` and checkpoint names go by, and it survives a resume.
    Resuming also restores the random numbers of every process, so that a run with a break equals one without.

    name, license: of the weights that come out. objective: losses by name. optimizer, schedule: of the tokenizer;
    adversary_optimizer (default: as optimizer) of the adversary, whose schedule begins when it starts. ema: decay of the
    averaged weights that are validated and exported; None for none. clip: largest gradient norm of each side. accumulate:
    batches a step. frozen: parts of the tokenizer that do not learn, e.g. ["encoder", "quantizer"]. initial: a weight folder to
    start from.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        objective: Mapping[str, Term],
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
        self._random: Tensor | None = None
        self._commit = commit()  # what runs, whatever is changed while it runs
        self.train()  # Lightning keeps the modes that it finds

    def configure_model(self) -> None:
        """Under FSDP2 each process keeps a share of all that learns."""
        if self.device_mesh is None or isinstance(self.tokenizer, FSDPModule):
            return
        for part in (self.tokenizer, self.ema and self.ema.module, self.adversary and self.adversary.discriminator):
            if part is not None:
                shard(part, self.device_mesh["data_parallel"])
        self.strict_loading = False  # FSDP2 loads before `on_load_checkpoint` can add the objective's frozen parts

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

    def training_step(self, batch: Batch, index: int) -> dict[str, Any]:
        """One batch; every `accumulate` of them a step."""
        for part in self.tokenizer.modules():
            if isinstance(part, Quantizer):  # codebooks learn once a step
                part.step_ends = (index + 1) % self.accumulate == 0
        media, result = batch["media"], self(batch["media"], **_given(self.tokenizer, batch))
        terms = self.objective(result, batch)
        logs = {}
        if self.adversary and self.global_step >= self.adversary.start:
            if result.output is None:
                raise InputError(
                    f"{self.tokenizer.name} decodes nothing in training: an adversary has nothing to judge; leave it out"
                )
            judged = self.adversary.judge(result.output.float(), media)
            self._backward(judged, "discriminator's loss")
            logs["discriminator"] = judged.detach()
            terms |= self.adversary.terms(result.output.float(), media)
        total = torch.stack(list(terms.values())).sum()
        self._backward(total, "loss")
        if (index + 1) % self.accumulate == 0:
            self._step()
        logs |= {name: term.detach() for name, term in terms.items()} | {"total": total.detach()}
        self.log_dict({f"train/{name}": value for name, value in logs.items()}, batch_size=len(media))
        return {"result": result, **logs}

    def _backward(self, loss: Tensor, what: str) -> None:
        if not loss.isfinite():
            raise InputError(
                f"the {what} became {float(loss.detach())} at step {self.global_step}; lower the learning rate, or clip lower"
            )
        self.manual_backward(loss / self.accumulate)

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
        result: Reconstruction = self.averaged(batch["media"], **_given(self.averaged, batch))
        terms = self.objective(result, batch)
        logs = terms | {"total": torch.stack(list(terms.values())).sum()}
        self.log_dict({f"valid/{k}": v for k, v in logs.items()}, batch_size=len(batch["media"]), sync_dist=True)
        return {"result": result}

    test_step = validation_step

    def predict_step(self, batch: Batch, index: int) -> Tensor:
        """Codes (B, K, N) of the averaged weights; each item's tokens go to tokens/BATCH-ITEM.tok below the run's folder."""
        tokens = self.averaged.encode(batch["media"], **_given(self.averaged, batch))
        for number, item in enumerate(tokens):
            item.save(Path(self.trainer.default_root_dir) / f"tokens/{index:05d}-{number:03d}.tok")
        return tokens.codes

    def configure_optimizers(self) -> Any:
        """One optimizer a side, each with its schedule."""
        sides: list[tuple[nn.Module, OptimizerCallable]] = [(self.tokenizer, self.optimizer)]
        if self.adversary:
            sides.append((self.adversary, self.adversary_optimizer))
        optimizers = [optimizer(_groups(side)) for side, optimizer in sides]
        return optimizers, [self.schedule(optimizer) for optimizer in optimizers] if self.schedule else []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the assembly, how the run went, which `export` needs, and the random numbers; leaves frozen parts out."""
        left_out = self._left_out()
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith(left_out)}
        checkpoint["assembly"] = {"name": self.tokenizer.name, "license": self.tokenizer.license, **self.tokenizer.config}
        checkpoint["run"] = {"versions": versions(), "machine": machine(), "commit": self._commit, "seed": torch.initial_seed()}
        everyones: Any = self.all_gather(torch.get_rng_state().to(self.device))
        checkpoint["random"] = everyones.cpu()

    def _left_out(self) -> tuple[str, ...]:
        """Prefixes of what checkpoints do not hold: teachers and frozen helpers."""
        return ("objective.", *unsaved(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random numbers until the first batch: Lightning draws some before."""
        if "state_dict" in checkpoint:  # FSDP2 has loaded it
            left_out = self._left_out()
            checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if k.startswith(left_out)}
        states = checkpoint["random"].view(-1, len(torch.get_rng_state()))  # a row a process
        self._random = states[self.global_rank % len(states)].clone()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Goes on with the random numbers of the checkpoint."""
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None


def _given(tokenizer: Tokenizer, batch: Batch) -> dict[str, Any]:
    missing = [name for name in tokenizer.takes if name not in batch]
    if missing:
        raise InputError(f"{tokenizer.name} takes {', '.join(missing)}; a batch has {', '.join(batch)}: give data that has it")
    return {name: batch[name] for name in tokenizer.takes}


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Matrices and kernels with the optimizer's weight decay, vectors and embeddings without (TiTok, scripts/train_titok.py)."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    plain = [p for name, p in named if p.ndim < 2 or any(word in name for word in PLAIN)]
    decayed = [p for name, p in named if not (p.ndim < 2 or any(word in name for word in PLAIN))]
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
