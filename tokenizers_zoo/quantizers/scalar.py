"""Finite scalar quantization: each dimension is rounded to a few levels, the grid is the codebook."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .base import Quantized, Quantizer

LARGEST = 1 << 24  # vector-quantize-pytorch keeps a table of all codes


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505), by vector-quantize-pytorch; latents have one dimension a level.

    levels: values of each dimension, 2 or more; their product is the size of the one codebook. Needs no losses and cannot
    collapse. Two levels are almost constant under the usual rounding: such dimensions are rounded symmetrically, to -1 and 1
    (arXiv 2411.19842, section 3.2), and are the last digits of the code; the others do not depend on them.
    """

    def __init__(self, levels: list[int]):
        super().__init__()
        import vector_quantize_pytorch  # 1.5 s of import, only when needed

        if min(levels, default=0) < 2:
            raise ValueError(f"FSQ needs at least 2 levels in each dimension, got {levels}")
        if math.prod(levels) > LARGEST:
            raise ValueError(f"the levels {levels} make more than {LARGEST} codes; use fewer, or several codebooks")
        self.dim, self.codebook_sizes = len(levels), (math.prod(levels),)
        wide, pairs = ([i for i, n in enumerate(levels) if (n == 2) == two] for two in (False, True))
        self.parts = [part for part in (wide, pairs) if part]
        parts_levels = [[levels[i] for i in part] for part in self.parts]
        where = torch.get_default_device()  # the library reads numbers off its tensors, which the meta device has not
        with torch.device("cpu" if where.type == "meta" else where):
            self.grids: Any = nn.ModuleList(vector_quantize_pytorch.FSQ(own, preserve_symmetry=2 in own) for own in parts_levels)
        self.sizes = [math.prod(own) for own in parts_levels]
        self.order = [(wide + pairs).index(i) for i in range(self.dim)]

    def forward(self, latents: Tensor) -> Quantized:
        dimensions, found, code = latents.unbind(-1), [], torch.zeros_like(latents[..., 0], dtype=torch.long)
        for part, grid, base in zip(self.parts, self.grids, (1, self.sizes[0]), strict=False):
            values, digits = grid(torch.stack([dimensions[i] for i in part], -1))
            found.append(values)
            code = code + base * digits
        quantized = self._in_order(found)
        return Quantized(quantized, code[:, None], self.codebook_sizes, {}, values=quantized)

    def encode(self, latents: Tensor) -> Tensor:
        return self.forward(latents).codes

    def decode(self, codes: Tensor) -> Tensor:
        code = codes[:, 0].clamp(min=0)
        digits = code % self.sizes[0], code // self.sizes[0]
        return self._in_order([grid.indices_to_codes(own) for grid, own in zip(self.grids, digits, strict=False)])

    def _in_order(self, found: list[Tensor]) -> Tensor:
        """(B, N, dimensions of a part) of each part -> (B, N, dim)."""
        values = [value for part in found for value in part.unbind(-1)]
        return torch.stack([values[i] for i in self.order], -1)
