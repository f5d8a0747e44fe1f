"""The protocol of every quantizer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn


@dataclass
class Quantized:
    """What a quantizer returns in training.

    latents: (B, N, D), quantized, with gradients for the encoder (straight through where the quantizer is a look-up).
    codes: int64 (B, K, N), -1 where a codebook was dropped. losses: unweighted scalars by name (commitment, codebook,
    entropy); the objective weighs them. values: as latents, without the straight-through: a look-up's carries no gradient.
    """

    latents: Tensor
    codes: Tensor
    codebook_sizes: tuple[int, ...]
    losses: dict[str, Tensor]
    values: Tensor

    @property
    def perplexity(self) -> Tensor:
        """Float (K,): exp of the entropy of each codebook's use in this batch, 1..min(size, B * N)."""
        return torch.stack([torch.special.entr(p).sum().exp() for p in self._shares()])

    @property
    def usage(self) -> Tensor:
        """Float (K,): fraction of each codebook's entries that this batch uses, 0..1."""
        return torch.stack([(p > 0).float().mean() for p in self._shares()])

    def _shares(self) -> list[Tensor]:
        rows = [row[row >= 0] for row in self.codes.transpose(0, 1).flatten(1)]
        counts = [torch.bincount(row, minlength=n) for row, n in zip(rows, self.codebook_sizes, strict=True)]
        return [count.float() / count.sum().clamp(min=1) for count in counts]


class Quantizer(nn.Module, ABC):
    """Latents (B, N, dim) <-> codes (B, K, N). Computes in float32 whatever the autocast.

    codebook_sizes: entries of each of the K codebooks. codebook_prefixes: whether `decode` takes the first K' < K alone.
    """

    dim: int
    codebook_sizes: tuple[int, ...]
    codebook_prefixes: bool = False

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes (B, N, dim) with losses; in training mode also learns the codebook."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Codes, int64 (B, K, N), of latents (B, N, dim)."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, N, dim) of codes (B, K, N), or of (B, K' < K, N) where `codebook_prefixes`."""


F = TypeVar("F", bound=Callable[..., Any])


def full_precision(function: F) -> F:
    """Switches autocast off inside `function`: distances in bfloat16 choose other codes."""
    for device in ("cpu", "cuda"):
        function = torch.autocast(device, enabled=False)(function)
    return function


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized` with the gradient of `latents`; both (..., D)."""
    return latents + (quantized - latents).detach()


def nearest(latents: Tensor, codebook: Tensor, rows: int = 1 << 14) -> Tensor:
    """Index of the nearest row of `codebook` (K, D) by Euclidean distance, int64 (...,), for latents (..., D).

    Works through `rows` latents at a time, so that an hour of speech needs no (frames, K) table at once.
    """
    norms = codebook.square().sum(-1)
    pieces = latents.reshape(-1, latents.shape[-1]).split(rows)
    # ||z||^2 is the same for all codes and is left out
    found = [torch.addmm(norms, piece, codebook.T, alpha=-2).argmin(-1) for piece in pieces]
    return torch.cat(found).reshape(latents.shape[:-1])
