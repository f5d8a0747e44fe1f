"""The codes of a position, dimension by dimension: TokenBridge's head.

Source: arXiv 2503.16430; YuqingWang1029/TokenBridge, models/tokenbridge.py. A position of 16 dimensions at 64 levels has 64^16
values, too many for one softmax; here each dimension is said after the ones before it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks.causal import EPS, CausalBlock, Past, zero
from ...errors import InputError


class DimensionHead(nn.Module):
    """Features of positions (M, dim) -> their codes (M, dimensions), each in [0, levels).

    order: which dimension is said in each step; by default as they are. Codes and logits go in and come out in the tokenizer's
    own order.
    """

    order: Tensor
    back: Tensor

    def __init__(
        self, dim: int, dimensions: int, levels: int, width: int, depth: int, heads: int, order: Sequence[int] | None = None
    ):
        super().__init__()
        order = range(dimensions) if order is None else order
        if sorted(order) != list(range(dimensions)):
            raise InputError(f"order must name each of {dimensions} dimensions once, got {list(order)}")
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)
        self.in_proj = nn.Linear(dim, width)
        self.embeddings = nn.ModuleList(nn.Embedding(levels, width) for _ in range(dimensions - 1))
        self.step_embed, self.step_condition = (nn.Parameter(0.02 * torch.randn(dimensions, width)) for _ in range(2))
        self.blocks = nn.ModuleList(CausalBlock(width, heads) for _ in range(depth))
        self.norm_out, self.modulation = nn.LayerNorm(width, EPS), zero(nn.Linear(width, 2 * width))
        self.to_logits = nn.ModuleList(nn.Linear(width, levels) for _ in range(dimensions))

    def forward(self, features: Tensor, codes: Tensor, sampling: bool = False) -> Tensor:
        """Logits (M, dimensions, levels) of each dimension given the true codes (M, dimensions) of those before it.

        The reference trains on another sequence than it samples from: its first element is the projected features alone, where in
        sampling the first step's condition is added. sampling: the latter, which gives the logits that `sample` draws from.
        """
        first, ahead = self.in_proj(features), codes[:, self.order[:-1]]
        condition = first[:, None] + self.step_condition
        embedded = [embedding(ahead[:, i]) for i, embedding in enumerate(self.embeddings)]
        x = torch.stack([condition[:, 0] if sampling else first, *embedded], dim=1) + self.step_embed
        for block in self.blocks:
            x = block(x, condition)
        x = self._out(x, condition)
        return torch.stack([layer(x[:, i]) for i, layer in enumerate(self.to_logits)], dim=1)[:, self.back]

    def sample(self, features: Tensor, temperature: float, uniform: Tensor | None = None) -> Tensor:
        """Codes (M, dimensions) of features (M, dim). temperature: of the softmax; 0 takes the likeliest.

        uniform: numbers in [0, 1), (M, dimensions), one for each code in the order in which they are said; without a temperature
        none is needed.
        """
        condition = self.in_proj(features)[:, None] + self.step_condition
        pasts = [Past() for _ in self.blocks]
        found: list[Tensor] = []
        for step, layer in enumerate(self.to_logits):
            here = condition[:, step : step + 1]
            x = (self.embeddings[step - 1](found[-1])[:, None] if step else here) + self.step_embed[step]
            for block, past in zip(self.blocks, pasts, strict=True):
                x = block(x, here, past)
            logits = layer(self._out(x, here)[:, 0]).float()
            found.append(_drawn(logits, temperature, None if uniform is None else uniform[:, step]))
        return torch.stack(found, dim=1)[:, self.back]

    def _out(self, x: Tensor, condition: Tensor) -> Tensor:
        """(M, n, width) -> what the logits are read from: a norm, then another without weights, scaled and shifted."""
        scale, shift = self.modulation(F.silu(condition)).chunk(2, dim=-1)
        return F.layer_norm(self.norm_out(x), x.shape[-1:], eps=EPS) * (1 + scale) + shift


def _drawn(logits: Tensor, temperature: float, uniform: Tensor | None) -> Tensor:
    """Logits (M, levels) -> codes (M,)."""
    if not temperature:
        return logits.argmax(dim=-1)
    if uniform is None:
        raise ValueError("a temperature needs uniform numbers, one for each code")
    sums = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
    return torch.searchsorted(sums, (uniform[:, None] * sums[:, -1:]).contiguous(), right=True)[:, 0].clamp(
        max=logits.shape[-1] - 1
    )
