"""Vector quantization: one codebook, the nearest row wins."""

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .base import Quantized, Quantizer, errors, nearest, straight_through
from .moving_average import MovingAverageCodebook


def look_up(latents: Tensor, rows: Tensor, codes: Tensor, by_item: dict[str, Tensor], sizes: tuple[int, ...]) -> Quantized:
    """Result of a look-up: (B, N) codes chose `rows` for `latents`, both (B, N, D)."""
    losses = {name: loss.mean() for name, loss in by_item.items()}
    return Quantized(straight_through(latents, rows), codes[:, None], sizes, losses, rows.detach(), by_item)


class VectorQuantizer(Quantizer):
    """A codebook learned by gradient (VQ-VAE, arXiv 1711.00937; TiTok, modeling/quantizer).

    l2_norm: latents and rows are normalised before the distance, and the normalised rows are what the decoder gets
    (ViT-VQGAN, arXiv 2110.04627). A random start collapses in small models: prefer EMAVectorQuantizer there.
    """

    def __init__(self, codebook_size: int, dim: int, l2_norm: bool = False):
        super().__init__()
        self.dim, self.codebook_sizes, self.l2_norm = dim, (codebook_size,), l2_norm
        self.embedding = nn.Embedding(codebook_size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    @property
    def codebook(self) -> Tensor:
        """The rows the decoder gets, float32 (codebook_size, dim)."""
        return self._normalise(self.embedding.weight)

    def _normalise(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.l2_norm else x

    def forward(self, latents: Tensor) -> Quantized:
        latents, codebook = self._normalise(latents), self.codebook
        codes = nearest(latents.detach(), codebook.detach())
        quantized = F.embedding(codes, codebook)
        by_item = {"commitment": errors(latents, quantized.detach()), "codebook": errors(quantized, latents.detach())}
        return look_up(latents, quantized, codes, by_item, self.codebook_sizes)

    def encode(self, latents: Tensor) -> Tensor:
        return nearest(self._normalise(latents), self.codebook)[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes[:, 0].clamp(min=0), self.codebook)


class EMAVectorQuantizer(Quantizer):
    """A Euclidean codebook learned by moving averages; k-means start and revival of dead codes.

    Rules as in Mimi (kyutai-labs/moshi, quantization/core_vq.py): an entry is dead when its average use falls below
    `revive_below` times the uniform share, so that the rule does not depend on the batch size, and a revived entry starts with
    the uniform share. decay: of the moving averages, per step of the optimizer (`step_ends`).
    """

    def __init__(self, codebook_size: int, dim: int, decay: float = 0.99, revive_below: float = 0.1):
        super().__init__()
        self.dim, self.codebook_sizes = dim, (codebook_size,)
        self.learner = MovingAverageCodebook(codebook_size, dim, decay, revive_below)

    @property
    def codebook(self) -> Tensor:
        """The rows, float32 (codebook_size, dim)."""
        return self.learner.embed[0]

    def forward(self, latents: Tensor) -> Quantized:
        vectors = latents.detach().flatten(0, 1)
        if self.training and not self.learner.started:
            self.learner.start(vectors)
        codes = nearest(latents.detach(), self.codebook)
        quantized = F.embedding(codes, self.codebook)
        if self.training:
            self.learner.learn(vectors, codes.flatten(), self.step_ends)
        return look_up(latents, quantized, codes, {"commitment": errors(latents, quantized)}, self.codebook_sizes)

    def encode(self, latents: Tensor) -> Tensor:
        return nearest(latents, self.codebook)[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes[:, 0].clamp(min=0), self.codebook)


class FactorizedVectorQuantizer(Quantizer):
    """A look-up in a small space: project to `codebook_dim`, compare directions, project back (DAC, arXiv 2306.06546).

    Look-up normalises both sides; the decoder gets the unnormalised row, projected (descript-audio-codec,
    dac/nn/quantize.py). Learned by gradient; weight norm on both projections.
    """

    def __init__(self, codebook_size: int, dim: int, codebook_dim: int = 8):
        super().__init__()
        self.dim, self.codebook_sizes = dim, (codebook_size,)
        self.in_proj = weight_norm(nn.Linear(dim, codebook_dim))
        self.out_proj = weight_norm(nn.Linear(codebook_dim, dim))
        self.embedding = nn.Embedding(codebook_size, codebook_dim)

    def forward(self, latents: Tensor) -> Quantized:
        projected = self.in_proj(latents)
        codes = self._look_up(projected)
        rows = self.embedding(codes)
        by_item = {"commitment": errors(projected, rows.detach()), "codebook": errors(rows, projected.detach())}
        inner = look_up(projected, rows, codes, by_item, self.codebook_sizes)
        quantized = self.out_proj(inner.latents)
        return dataclasses.replace(inner, latents=quantized, values=quantized)

    def _look_up(self, projected: Tensor) -> Tensor:
        return nearest(F.normalize(projected, dim=-1), F.normalize(self.embedding.weight, dim=-1))

    def encode(self, latents: Tensor) -> Tensor:
        return self._look_up(self.in_proj(latents))[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return self.out_proj(self.embedding(codes[:, 0].clamp(min=0)))
