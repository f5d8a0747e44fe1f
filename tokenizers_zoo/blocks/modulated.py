"""Transformer blocks without biases or affine norms, plain or modulated by a time, each group of tokens in its own way.

Source: FlexTok (apple/ml-flextok, flextok/model/layers): LayerNorm without weights, also of each head's queries and keys, whose
products are multiplied by 8 / width of a head (muP); SwiGLU; adaLN (arXiv 2212.09748).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .swiglu import SwiGLU

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values (B, heads, N, d) -> (B, heads, N, d)


def attention_to(bias: Tensor | None = None) -> Attend:
    """Attention of normalised queries and keys; bias: a mask (True: is seen), or what is added to the logits."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        added = bias if bias is None or bias.dtype == torch.bool else bias.to(query.dtype)  # which autocast may have lowered
        return F.scaled_dot_product_attention(query, key, value, added, scale=8 / query.shape[-1])

    return attend


def counting(x: Tensor, last: int) -> Attend:
    """Full attention over tokens (B, N, width) of which the last one counts as `last` equal ones."""
    if last == 1:
        return attention_to()
    bias = torch.zeros(1, x.shape[1], dtype=x.dtype, device=x.device)
    bias[:, -1] = math.log(last)
    return attention_to(bias)


def normed(x: Tensor) -> Tensor:
    """LayerNorm over the last axis without weights, computed in float32."""
    return F.layer_norm(x.float(), x.shape[-1:]).to(x.dtype)


class NormedAttention(nn.Module):
    """Multi-head self-attention with separate projections, and queries and keys of unit variance."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of the number of heads {heads}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        q, k, v = (rearrange(part(x), "b n (h d) -> b h n d", h=self.heads) for part in (self.query, self.key, self.value))
        return self.out(rearrange(attend(normed(q), normed(k), v), "b h n d -> b n (h d)"))


class NormedBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention, self.mlp = NormedAttention(width, heads), SwiGLU(width)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = x + self.attention(normed(x), attend)
        return x + self.mlp(normed(x))


class ModulatedBlock(NormedBlock):
    """The same; what enters each half is shifted and scaled, and what leaves it is gated, for each of two groups of tokens."""

    def forward(self, x: Tensor, attend: Attend, modulation: Tensor, groups: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, N, width), modulation (B or 1, 12, width), the group of each token (N,) -> (B, N, width)."""
        by_group = modulation.unflatten(1, (2, 6)).unbind(2)
        gate, mlp_gate, shift, scale, mlp_shift, mlp_scale = (part[:, groups] for part in by_group)
        x = x + gate * self.attention(normed(x) * (1 + scale) + shift, attend)
        return x + mlp_gate * self.mlp(normed(x) * (1 + mlp_scale) + mlp_shift)


class Modulation(nn.Sequential):
    """Embedded times (B, width) -> `count` vectors each, (B, count, width).

    They start small and not at zero, as published: a gate of zero lets no gradient reach what conditions a flow.
    """

    def __init__(self, width: int, count: int):
        super().__init__(nn.SiLU(), nn.Linear(width, count * width), nn.Unflatten(1, (count, width)))
        nn.init.normal_(self[1].weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(self[1].bias)  # type: ignore[arg-type]


def aligned(block: NormedBlock) -> NormedBlock:
    """The block, started so that equal tokens attend to each other: its keys are its queries."""
    with torch.no_grad():
        block.attention.key.weight.copy_(block.attention.query.weight)
    return block
