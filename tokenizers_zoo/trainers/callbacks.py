"""What a training run shows besides its losses: codebook use, reconstructions, speed."""

import time
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor

from ..pictures import grid, spectrogram
from ..tokenizer import Reconstruction
from .data import Batch

LISTED = 16  # codebooks that are logged one by one


class Bar(TQDMProgressBar):
    """Progress with the step, the loss, and the loss on validation."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """What stands behind the bar, besides what the module logs with `prog_bar`."""
        shown = {name: trainer.callback_metrics.get(f"{name}/total") for name in ("train", "valid")}
        losses = {f"{name}/total": f"{float(value):.4g}" for name, value in shown.items() if value is not None}
        return {"step": trainer.global_step, **losses, **trainer.progress_bar_metrics}


class CodebookMonitor(lightning.Callback):
    """Perplexity and usage of every codebook over the last `every` batches, as a fraction of its size, with an alarm on collapse.

    Of more than LISTED codebooks (bits, dimensions) the least and the mean are logged. alarm: a codebook whose perplexity is less
    than this fraction of the way from 1 to its size after `patience` steps is warned about, once per `every` batches.
    """

    def __init__(self, every: int = 100, alarm: float = 0.02, patience: int = 1000):
        self.every, self.alarm, self.patience = every, alarm, patience
        self.counts: list[Tensor] = []
        self.batches = 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Counts codes; every `every` batches logs and starts anew."""
        result: Reconstruction = outputs["result"]
        if result.quantized is None:
            return
        found = result.quantized.counts
        self.counts = [a + b for a, b in zip(self.counts, found, strict=True)] if self.counts else found
        self.batches += 1
        if self.batches == self.every:
            self._report(trainer, module)
            self.counts, self.batches = [], 0

    def _report(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        totals = torch.stack([count.sum() for count in self.counts]).clamp(min=1)
        shares = [count / total for count, total in zip(self.counts, totals, strict=True)]
        # no more entries than codes can be seen; of a large codebook a short count shows only its own length
        sizes = totals.clamp(max=torch.tensor([len(count) for count in self.counts], device=totals.device))
        perplexity = torch.stack([torch.special.entr(p).sum().exp() for p in shares])
        usage = torch.stack([(p > 0).sum() for p in shares])
        for name, values in (("perplexity", perplexity / sizes), ("usage", usage / sizes)):
            if len(values) > LISTED:
                module.log_dict({f"codebook/{name}_least": float(values.min()), f"codebook/{name}_mean": float(values.mean())})
            else:
                module.log_dict({f"codebook/{name}_{k}": value for k, value in enumerate(values.tolist())})
        low = (perplexity - 1 < self.alarm * (sizes - 1)).nonzero().flatten().tolist()
        if low and trainer.global_step >= self.patience:
            warnings.warn(
                f"codebook collapse at step {trainer.global_step}: perplexity of codebook {', '.join(map(str, low))} is below "
                f"{self.alarm:.0%} of its size; start it by k-means, revive dead codes, or use FSQ",
                stacklevel=2,
            )


class Throughput(lightning.Callback):
    """Steps and samples (clips or images) a second of this process, over every `every` batches, loading included."""

    def __init__(self, every: int = 50):
        self.every = every
        self.batches = self.samples = 0
        self.since = 0.0

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        """Starts the clock at the first batch."""
        self.since = self.since or time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Counts samples; every `every` batches logs and starts anew."""
        self.batches += 1
        self.samples += len(batch["media"])
        if self.batches == self.every:
            seconds = time.perf_counter() - self.since
            steps = self.every / getattr(module, "accumulate", 1)
            module.log_dict({"speed/samples": self.samples / seconds, "speed/steps": steps / seconds})
            self.batches = self.samples = 0
            self.since = time.perf_counter()


class Reconstructions(lightning.Callback):
    """Logs the first `items` of validation to TensorBoard: pairs of pictures, or audio with spectrogram pairs as a picture."""

    def __init__(self, items: int = 4):
        self.items = items

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Original above reconstruction."""
        writer: Any = getattr(trainer.logger, "experiment", None)
        decoded: Tensor | None = outputs["result"].output
        if batch_idx or not hasattr(writer, "add_image") or decoded is None or decoded.shape != batch["media"].shape:
            return  # TiTok's first stage gives logits
        media, output = (x[: self.items].detach().float().cpu() for x in (batch["media"], decoded))
        step = trainer.global_step
        if media.shape[1] == 3:
            writer.add_image("reconstructions", grid([media, output.clamp(0, 1)]), step)
            return
        rate = module.tokenizer.sample_rate
        writer.add_image("spectrograms", grid([spectrogram(media), spectrogram(output)]), step)
        for i, (original, copy) in enumerate(zip(media, output, strict=True)):
            writer.add_audio(f"clip_{i}/original", original, step, rate)
            writer.add_audio(f"clip_{i}/decoded", copy.clamp(-1, 1), step, rate)
