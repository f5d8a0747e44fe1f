"""Two quantizers for two streams of latents, side by side."""

import torch
from torch import Tensor

from .base import Quantized, Quantizer, full_precision


class SplitQuantizer(Quantizer):
    """Latents (B, N, semantic.dim + acoustic.dim): each half has its own quantizer, codebooks are listed semantic first.

    subtract: the acoustic half is what the quantized semantic half leaves of it (LM-SPT as released; kakao/lmspt, after
    jiaqili3/DualCodec); the gradient passes. Otherwise the two are independent (Mimi, arXiv 2410.00037). Losses are named after
    the half: semantic_commitment, acoustic_commitment, ... Without its codes the acoustic half decodes to zeros; alone:
    probability that it is zeros for an item in training, so that the decoder learns to do without.
    """

    codebook_prefixes = True

    def __init__(self, semantic: Quantizer, acoustic: Quantizer, subtract: bool = False, alone: float = 0.0):
        super().__init__()
        if subtract and semantic.dim != acoustic.dim:
            raise ValueError(f"only latents of one width can be subtracted, got {semantic.dim} and {acoustic.dim}")
        self.semantic, self.acoustic, self.subtract, self.alone = semantic, acoustic, subtract, alone
        self.dim = semantic.dim + acoustic.dim
        self.codebook_sizes = semantic.codebook_sizes + acoustic.codebook_sizes

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of semantic and acoustic codebooks."""
        return len(self.semantic.codebook_sizes), len(self.acoustic.codebook_sizes)

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        semantic, acoustic = latents.float().split([self.semantic.dim, self.acoustic.dim], dim=-1)
        return semantic, acoustic

    @full_precision
    def forward(self, latents: Tensor) -> Quantized:
        semantic, acoustic = self._split(latents)
        first = self.semantic(semantic)
        second = self.acoustic(acoustic - first.latents if self.subtract else acoustic)
        losses = {f"semantic_{name}": loss for name, loss in first.losses.items()}
        losses |= {f"acoustic_{name}": loss for name, loss in second.losses.items()}
        drop = torch.rand(len(latents), 1, 1, device=latents.device) < (self.alone if self.training else 0.0)
        quantized = torch.cat([first.latents, second.latents.masked_fill(drop, 0)], dim=-1)
        values = torch.cat([first.values, second.values.masked_fill(drop, 0)], dim=-1)
        codes = torch.cat([first.codes, second.codes.masked_fill(drop, -1)], dim=1)
        return Quantized(quantized, codes, self.codebook_sizes, losses, values)

    @full_precision
    def encode(self, latents: Tensor) -> Tensor:
        semantic, acoustic = self._split(latents)
        codes = self.semantic.encode(semantic)
        if self.subtract:
            acoustic = acoustic - self.semantic.decode(codes)
        return torch.cat([codes, self.acoustic.encode(acoustic)], dim=1)

    @full_precision
    def decode(self, codes: Tensor) -> Tensor:
        first, rest = codes.tensor_split([self.counts[0]], dim=1)
        semantic = self.semantic.decode(first)
        empty = semantic.new_zeros(*semantic.shape[:-1], self.acoustic.dim)
        return torch.cat([semantic, self.acoustic.decode(rest) if rest.shape[1] else empty], dim=-1)
