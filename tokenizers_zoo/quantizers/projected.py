"""A quantizer that works in another space than its neighbours."""

import dataclasses

from torch import Tensor, nn

from .base import Quantized, Quantizer


class ProjectedQuantizer(Quantizer):
    """`quantizer` between two linear maps, dim -> quantizer.dim -> dim. Losses are taken in the inner space."""

    def __init__(self, quantizer: Quantizer, dim: int):
        super().__init__()
        self.quantizer, self.dim = quantizer, dim
        self.codebook_sizes, self.codebook_prefixes = quantizer.codebook_sizes, quantizer.codebook_prefixes
        self.in_proj = nn.Linear(dim, quantizer.dim)
        self.out_proj = nn.Linear(quantizer.dim, dim)

    def forward(self, latents: Tensor) -> Quantized:
        inner = self.quantizer(self.in_proj(latents))
        quantized = self.out_proj(inner.latents)
        return dataclasses.replace(inner, latents=quantized, values=quantized)

    def encode(self, latents: Tensor) -> Tensor:
        return self.quantizer.encode(self.in_proj(latents))

    def decode(self, codes: Tensor) -> Tensor:
        return self.out_proj(self.quantizer.decode(codes))
