"""Small training runs on the test media: what the tests of this folder share."""

from pathlib import Path
from typing import Any

import lightning
import torch
from conftest import DATA
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import tokenizers_zoo as tz
from tokenizers_zoo.discriminators.patch import PatchDiscriminator
from tokenizers_zoo.discriminators.spectrum import MultiScaleSTFTDiscriminator
from tokenizers_zoo.losses.adversarial import Hinge, LeastSquares
from tokenizers_zoo.trainers.audio_data import AudioData
from tokenizers_zoo.trainers.image_data import ImageData
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.trainers.objective import Adversary, Term
from tokenizers_zoo.trainers.schedule import WarmupCosine

NARROW = {"encoder.width": 32, "encoder.depth": 1, "decoder.width": 32, "decoder.depth": 1, "quantizer.quantizer.levels": 3}
TINY = {
    **NARROW,
    "quantizer.quantizer.stage": {"class_path": "EMAVectorQuantizer", "init_args": {"codebook_size": 32, "dim": 24}},
}


def audio_module(**options: Any) -> TokenizerModule:
    """A narrow dm-codec-tiny with quantizer dropout, and an adversary that starts at step 2."""
    torch.manual_seed(0)
    objective = {"samples": Term(nn.L1Loss()), "commitment": Term(nn.Identity(), 0.25, ("commitment",))}
    adversary = Adversary(MultiScaleSTFTDiscriminator([256], 4), LeastSquares(), 0.1, 0.1, start=2, window=2000)
    options = {"ema": 0.9, "adversary": adversary, "objective": objective} | options
    return TokenizerModule("dm-codec-tiny", tz.create("dm-codec-tiny", **TINY), schedule=schedule, optimizer=adam, **options)


def image_module(**options: Any) -> TokenizerModule:
    """A narrow titok-tiny with a hinge adversary from the start."""
    torch.manual_seed(0)
    sizes = {f"{side}.{key}": value for side in ("encoder", "decoder") for key, value in (("depth", 1), ("width", 48))}
    tokenizer = tz.create("titok-tiny", **sizes, **{"decoder.head.width": 48})
    adversary = Adversary(PatchDiscriminator(8), Hinge(), 0.01, lecam=0.001)
    options = {"adversary": adversary, "objective": {"squared": Term(nn.MSELoss())}} | options
    return TokenizerModule("titok-tiny", tokenizer, schedule=schedule, optimizer=adam, **options)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, 1e-3)


def schedule(optimizer: torch.optim.Optimizer) -> WarmupCosine:
    return WarmupCosine(optimizer, 100, warmup=2)


def audio_data(**options: Any) -> AudioData:
    """Crops of 0.5 s; 2 batches an epoch, so that runs cross its end."""
    return AudioData(str(DATA), 16000, seconds=0.5, batch_size=12, workers=0, valid_items=2, valid_seconds=1.0, **options)


def image_data(**options: Any) -> ImageData:
    return ImageData(str(DATA), 64, batch_size=2, workers=0, valid_items=2, **options)


class Losses(lightning.Callback):
    """Keeps what each step logged."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append({k: float(v.detach()) for k, v in outputs.items() if k != "result"})


def fit(
    module: TokenizerModule, data: Any, steps: int, folder: Path, resume: Path | None = None, **options: Any
) -> list[dict[str, float]]:
    """Trains to `steps` on one process in float32; returns the losses of each batch. Leaves `folder`/last.ckpt."""
    losses = Losses()
    save = ModelCheckpoint(folder, "last", every_n_train_steps=1, enable_version_counter=False)
    callbacks = [losses, save, *options.pop("callbacks", [])]
    options = {"limit_val_batches": 0, "logger": False} | options
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=None,
        default_root_dir=folder,
        callbacks=callbacks,
        **options,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True if resume else None)
    return losses.steps
