"""Causal transformer blocks, modulated by a condition at each position, with a cache of keys and values.

Source: TokenBridge (arXiv 2503.16430; YuqingWang1029/TokenBridge, models/tokenbridge.py); adaLN (arXiv 2212.09748).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

EPS = 1e-6  # of all norms


class Past:
    """Keys and values of the positions so far, (B, heads, n, d), of one layer. Whoever generates holds one for each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extended(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, with those of new positions."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class CausalAttention(nn.Module):
    """Multi-head self-attention to earlier positions, with LayerNorm on each head's queries and keys."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of the number of heads {heads}")
        self.heads = heads
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = (nn.LayerNorm(width // heads, EPS) for _ in range(2))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, N, width) -> (B, N, width); with `past`, x is the next position alone, N = 1."""
        q, k, v = rearrange(self.in_proj(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if past is not None:
            k, v = past.extended(k, v)
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v, is_causal=past is None), "b h n d -> b n (h d)"))


class CausalBlock(nn.Module):
    """Attention, then a perceptron; a condition shifts and scales what enters each, and gates what leaves it.

    The gates start at zero, as published.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.attention = CausalAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = zero(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, past: Past | None = None) -> Tensor:
        """x and condition (B, N, width) -> (B, N, width); `past` as of the attention."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(F.silu(condition)).chunk(6, dim=-1)
        x = x + gate * self.attention(self.attention_norm(x) * (1 + scale) + shift, past)
        return x + mlp_gate * self.mlp(self.mlp_norm(x) * (1 + mlp_scale) + mlp_shift)


def zero(layer: nn.Linear) -> nn.Linear:
    """The layer, started at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
