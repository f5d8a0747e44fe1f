"""Finite scalar quantization: each dimension is rounded to a few levels, the grid is the codebook."""

import math

from torch import Tensor

from .base import Quantized, Quantizer, full_precision

LARGEST = 1 << 24  # vector-quantize-pytorch keeps a table of all codes


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505), by vector-quantize-pytorch; latents have one dimension a level.

    levels: values of each dimension; their product is the size of the one codebook. Needs no losses and cannot collapse.
    A level of 2 is almost constant under the usual rounding and is taken symmetrically, as is every other level then.
    """

    def __init__(self, levels: list[int]):
        super().__init__()
        import vector_quantize_pytorch  # 1.5 s of import, only when needed

        if math.prod(levels) > LARGEST:
            raise ValueError(f"the levels {levels} make more than {LARGEST} codes; use fewer, or several codebooks")
        self.dim, self.codebook_sizes = len(levels), (math.prod(levels),)
        self.grid = vector_quantize_pytorch.FSQ(levels, preserve_symmetry=2 in levels)

    @full_precision
    def forward(self, latents: Tensor) -> Quantized:
        quantized, codes = self.grid(latents.float())
        return Quantized(quantized, codes.long()[:, None], self.codebook_sizes, {}, values=quantized)

    def encode(self, latents: Tensor) -> Tensor:
        return self.forward(latents).codes

    def decode(self, codes: Tensor) -> Tensor:
        return self.grid.indices_to_codes(codes[:, 0])
