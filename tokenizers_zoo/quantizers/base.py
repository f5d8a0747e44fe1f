"""The protocol of every quantizer."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..part import Part

TABLE = 1 << 26  # largest number of distances that `nearest` holds at once: 256 MB


@dataclass
class Quantized:
    """What a quantizer returns in training.

    latents: (B, N, D), quantized, with gradients for the encoder (straight through where the quantizer is a look-up).
    codes: int64 (B, K, N), -1 where a codebook was dropped. losses: unweighted scalars by name (commitment, codebook,
    entropy); the objective weighs them. values: as latents, without the straight-through: a look-up's carries no gradient.
    by_item: of the losses that are means over the items, each item's, (B,).
    """

    latents: Tensor
    codes: Tensor
    codebook_sizes: tuple[int, ...]
    losses: dict[str, Tensor]
    values: Tensor
    by_item: dict[str, Tensor] = field(default_factory=dict)

    @property
    def perplexity(self) -> Tensor:
        """Float (K,): exp of the entropy of each codebook's use in this batch, 1..min(size, B * N)."""
        return torch.stack([torch.special.entr(n / n.sum().clamp(min=1)).sum().exp() for n in self.counts])

    @property
    def usage(self) -> Tensor:
        """Float (K,): fraction of each codebook's entries that this batch uses, 0..1."""
        return torch.stack([(n > 0).float().mean() for n in self.counts])

    @property
    def counts(self) -> list[Tensor]:
        """For each codebook, int64 (size,): how often each entry was chosen."""
        rows = self.codes.transpose(0, 1).flatten(1) + 1  # a dropped code counts at 0
        tables = [row.new_zeros(size + 1) for row, size in zip(rows, self.codebook_sizes, strict=True)]
        return [table.index_add_(0, row, torch.ones_like(row))[1:] for table, row in zip(tables, rows, strict=True)]


class Quantizer(Part, ABC):
    """Latents (B, N, dim) <-> codes (B, K, N).

    Computes in float32 whatever the autocast, the type of the latents, and `half()`, `bfloat16()` or `double()` of this module or
    of one around it: other distances choose other codes. Subclasses get this, and the rule for -1 in `decode`, from here.

    codebook_sizes: entries of each of the K codebooks. codebook_prefixes: whether `decode` takes the first K' < K alone.
    scales: sides of the square maps, coarse to fine, whose positions its codes are; () where they are those of the latents.
    step_ends: whether the next training pass is the last before the optimizer steps. Codebooks that learn without gradients
    gather while it is False and learn once when it is True; who accumulates gradients sets it before each pass.
    """

    dim: int
    codebook_sizes: tuple[int, ...]
    codebook_prefixes: bool = False
    scales: tuple[int, ...] = ()
    step_ends: bool = True

    @property
    def roles(self) -> tuple[str, ...]:
        """One word a codebook; () where the quantizer knows none."""
        return ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, wrap in (("forward", _full_precision), ("encode", _full_precision), ("decode", _absent_is_zero)):
            if name in vars(cls):
                setattr(cls, name, wrap(vars(cls)[name]))

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes (B, N, dim) with losses; in training mode also learns the codebook."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Codes, int64 (B, K, N), of latents (B, N, dim)."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, N, dim) of codes (B, K, N), or of (B, K' < K, N) where `codebook_prefixes`; 0 where all codes are -1."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Quantizer":
        """What `to`, `cuda`, `half`, ... of this module and of all around it call: moves, but never casts."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if not moved.is_floating_point() or moved.dtype == torch.float32:
                return moved
            return tensor.to(moved.device, torch.float32)  # of the tensor as it was: a cast and back would round it

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]


def _full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that takes floating tensors as float32 and runs without autocast."""

    def cast(x: Any) -> Any:
        return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x

    @functools.wraps(function)
    def run(self: Quantizer, *args: Any, **kwargs: Any) -> Any:
        return function(self, *map(cast, args), **{name: cast(x) for name, x in kwargs.items()})

    for device in ("cpu", "cuda"):
        run = torch.autocast(device, enabled=False)(run)
    return run


def _absent_is_zero(decode: Callable[..., Any]) -> Callable[..., Any]:
    """`decode` that gives zeros where all codes of a position are -1: a group of codebooks is absent, or the item has ended."""

    @functools.wraps(decode)
    def run(self: Quantizer, codes: Tensor) -> Tensor:
        latents = decode(self, codes)
        if self.scales:  # their positions are not those of the latents
            return latents
        return latents.masked_fill((codes < 0).all(1)[..., None], 0)

    return _full_precision(run)


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized` with the gradient of `latents`; both (..., D)."""
    return latents + (quantized - latents).detach()


def errors(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each item, (B,), of two (B, N, D)."""
    return (a - b).square().mean(dim=(1, 2))


def nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` (K, D) by Euclidean distance, int64 (...,), for latents (..., D).

    Works through so many latents at a time that no more than TABLE distances are held, whatever K and however long the audio.
    """
    norms = codebook.square().sum(-1)
    pieces = latents.reshape(-1, latents.shape[-1]).split(max(1, TABLE // len(codebook)))
    # ||z||^2 is the same for all codes and is left out
    found = [_first_least(torch.addmm(norms, piece, codebook.T, alpha=-2)) for piece in pieces]
    return torch.cat(found).reshape(latents.shape[:-1])


def _first_least(distances: Tensor) -> Tensor:
    """`argmin` over the last axis; on a CPU by numpy, ten times as fast as torch, which takes longer than the distances do."""
    if distances.device.type == "cpu" and distances.dtype == torch.float32 and not distances.requires_grad:
        return torch.from_numpy(distances.numpy().argmin(-1))
    return distances.argmin(-1)
