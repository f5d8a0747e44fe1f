"""Residual quantization whose levels share one codebook, learned by moving averages."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Quantized, Quantizer, errors, nearest, straight_through
from .moving_average import MovingAverageCodebook


class SharedResidualQuantizer(Quantizer):
    """`levels` look-ups in one table, each of what those before it left over (RQ-VAE, arXiv 2203.01941; songweii/DualToken).

    The gradient goes straight through around the sum; commitment is the mean over the levels of the squared error of the sum so
    far. A row of which less than `restart` vectors a step are left on average becomes a random one of those that are learnt, and
    counts as `restart` of them; 0 for no restart. decay: of the averages, a step.
    learns: when the rows move, and by what. "step": once a step, by what all levels looked up. "level": after each level, by what
    it looked up, so that the next one searches other rows (DualToken's pixels); of accumulated batches, in the last one, by what
    all of them looked up there. "rest": once a step, by what the last level left over, for the codes of every level: so does
    DualToken's code for the semantics, whose vectors are overwritten before they are learnt.
    """

    codebook_prefixes = True

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        levels: int,
        decay: float = 0.99,
        restart: float = 1.0,
        learns: Literal["step", "level", "rest"] = "step",
    ):
        super().__init__()
        if learns not in ("step", "level", "rest"):
            raise ValueError(f'learns is "step", "level" or "rest", got {learns!r}')
        self.dim, self.levels, self.learns = dim, levels, learns
        self.codebook_sizes = (codebook_size,) * levels
        self.learner = MovingAverageCodebook(codebook_size, dim, decay, revive_below=1.0, revived=restart)

    @property
    def codebook(self) -> Tensor:
        """The rows of all levels, float32 (codebook_size, dim)."""
        return self.learner.embed[0]

    def forward(self, latents: Tensor) -> Quantized:
        left = latents.detach()
        if self.training and not self.learner.started:
            self.learner.start(left.flatten(0, 1))
        total = torch.zeros_like(left)
        sought, codes, commitments = [], [], []
        for level in range(self.levels):
            sought.append(left.flatten(0, 1))
            codes.append(nearest(left, self.codebook))
            rows = F.embedding(codes[-1], self.codebook)
            if self.training and self.learns == "level":
                self.learner.learn(sought[-1], codes[-1].flatten(), self.step_ends, level)
            total, left = total + rows, left - rows
            commitments.append(errors(latents, total))
        if self.training and self.learns != "level":
            if self.learns == "rest":
                sought = [left.flatten(0, 1)] * self.levels
            self.learner.learn(torch.cat(sought), torch.cat([level.flatten() for level in codes]), self.step_ends)
        by_item = {"commitment": torch.stack(commitments).mean(0)}
        losses = {name: loss.mean() for name, loss in by_item.items()}
        quantized = straight_through(latents, total)
        return Quantized(quantized, torch.stack(codes, 1), self.codebook_sizes, losses, total, by_item)

    def encode(self, latents: Tensor) -> Tensor:
        codes = []
        for _ in range(self.levels):
            codes.append(nearest(latents, self.codebook))
            latents = latents - F.embedding(codes[-1], self.codebook)
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        return (F.embedding(codes.clamp(min=0), self.codebook) * (codes >= 0)[..., None]).sum(1)
