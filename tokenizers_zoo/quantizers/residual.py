"""Residual quantization: each level quantizes what the levels before it left over."""

import copy
import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from .base import Quantized, Quantizer, straight_through


class ResidualQuantizer(Quantizer):
    """`levels` copies of the one-codebook quantizer `stage`, in sequence (SoundStream, arXiv 2107.03312, section III-C).

    Of look-ups the residual carries no gradient of earlier levels and one straight-through goes around the sum, so that
    every level's commitment reaches the encoder (facebookresearch/encodec issue 25); stages with projections of their
    own are differentiated through the whole chain (DAC). Losses are means over the levels; a look-up's, of an item that does not
    use a level, are 0 there.
    dropout: share of a training batch, its first items, rounded down, that use a random number 1..levels of codebooks each (DAC,
    dac/nn/quantize.py; LM-SPT as released): a batch of one is never cut.
    """

    codebook_prefixes = True

    def __init__(self, stage: Quantizer, levels: int, dropout: float = 0.0):
        super().__init__()
        self.stages = nn.ModuleList(_anew(stage) for _ in range(levels))
        self.dim, self.dropout = stage.dim, dropout
        self.codebook_sizes = stage.codebook_sizes * levels

    def forward(self, latents: Tensor) -> Quantized:
        used = torch.arange(len(self.stages), device=latents.device)[:, None] < self._levels_in_use(latents)
        residual, total = latents, torch.zeros_like(latents)
        parts = []
        for stage, mine in zip(self.stages, used, strict=True):
            part = stage(residual)
            residual = residual - part.values
            total = total + part.values * mine[:, None, None]
            parts.append(part)
        by_item = {name: used * torch.stack([part.by_item[name] for part in parts]) for name in parts[0].by_item}
        losses = {name: torch.stack([part.losses[name] for part in parts]).mean() for name in parts[0].losses}
        losses |= {name: loss.mean() for name, loss in by_item.items()}
        codes = torch.cat([part.codes for part in parts], dim=1).masked_fill(~used.T[..., None], -1)
        quantized = total if total.requires_grad else straight_through(latents, total)
        return Quantized(quantized, codes, self.codebook_sizes, losses, values=total)

    def _levels_in_use(self, latents: Tensor) -> Tensor:
        levels, cut = len(self.stages), int(len(latents) * self.dropout) if self.training else 0
        everything = torch.full((len(latents) - cut,), levels, device=latents.device)
        return torch.cat([torch.randint(1, levels + 1, (cut,), device=latents.device), everything])

    def encode(self, latents: Tensor) -> Tensor:
        residual, codes = latents, []
        for stage in self._levels():
            codes.append(stage.encode(residual))
            residual = residual - stage.decode(codes[-1])
        return torch.cat(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        parts = [stage.decode(row[:, None]) for stage, row in zip(self._levels(), codes.unbind(1), strict=False)]
        return functools.reduce(torch.add, parts)

    def _levels(self) -> list[Quantizer]:
        return cast(list[Quantizer], list(self.stages))


def _anew(stage: Quantizer) -> Quantizer:
    """A copy with a random start of its own."""
    stage = copy.deepcopy(stage)
    for name, module in list(stage.named_modules()):
        if parametrize.is_parametrized(module, "weight"):  # copies share a class, and taking one's norm off would spoil the rest
            stage.set_submodule(name, weight_norm(nn.Linear(module.in_features, module.out_features)))
        elif isinstance(module, nn.Linear | nn.Embedding):
            module.reset_parameters()
    return stage
