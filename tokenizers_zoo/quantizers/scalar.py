"""Finite scalar quantization: each dimension is rounded to a few levels, the grid is the codebook."""

import math

import torch
from torch import Tensor

from .base import Quantized, Quantizer, straight_through

LARGEST = 1 << 24  # codes of one codebook: a language model has a row for each
MARGIN = 1e-3  # the outermost levels lie so far within what tanh reaches


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505, appendix A.1); latents have one dimension a level.

    levels: values of each dimension, 2 or more; their product is the size of the one codebook. Needs no losses and cannot
    collapse. Two levels are almost constant under the usual rounding: such dimensions are rounded symmetrically, to -1 and 1
    (arXiv 2411.19842, section 3.2), and are the last digits of the code; the others do not depend on them.
    """

    levels: Tensor
    bases: Tensor
    pairs: Tensor
    middle: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(self, levels: list[int]):
        super().__init__()
        if min(levels, default=0) < 2:
            raise ValueError(f"FSQ needs at least 2 levels in each dimension, got {levels}")
        if math.prod(levels) > LARGEST:
            raise ValueError(f"the levels {levels} make more than {LARGEST} codes; use fewer, or several codebooks")
        self.dim, self.codebook_sizes = len(levels), (math.prod(levels),)
        bases, base = [1] * self.dim, 1
        for place in sorted(range(self.dim), key=lambda i: levels[i] == 2):
            bases[place], base = base, base * levels[place]
        count = torch.tensor(levels, dtype=torch.int32)
        reach, offset = (count - 1) * (1 + MARGIN) / 2, torch.where(count % 2 == 0, 0.5, 0.0)
        shift = torch.where(count == 2, 0.0, (offset / reach).atanh())
        tables = {"levels": count, "bases": torch.tensor(bases, dtype=torch.int32), "pairs": count == 2, "middle": count // 2}
        for name, table in (tables | {"reach": reach, "offset": offset, "shift": shift}).items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, latents: Tensor) -> Quantized:
        squashed = (latents + self.shift).tanh()
        bounded = torch.where(self.pairs, (squashed + 1) / 2 + 0.5, squashed * self.reach - self.offset)
        rounded = torch.where(self.pairs, bounded.floor(), bounded.round())
        near = straight_through(bounded, rounded)
        values = torch.where(self.pairs, 2 * near - 1, near / self.middle)
        digits = rounded.long() + torch.where(self.pairs, 0, self.middle)
        return Quantized(values, (digits * self.bases).sum(-1)[:, None], self.codebook_sizes, {}, values=values)

    def encode(self, latents: Tensor) -> Tensor:
        return self.forward(latents).codes

    def decode(self, codes: Tensor) -> Tensor:
        digits = codes[:, 0].clamp(min=0)[..., None] // self.bases % self.levels
        return torch.where(self.pairs, 2 * digits - 1.0, (digits - self.middle) / self.middle)
