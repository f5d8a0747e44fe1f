"""Pre-LN transformer blocks with bidirectional attention. `mask`: which keys count, (B, 1, 1, N) booleans, or None for all."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one packed input projection (rows: query, key, value; bias: whether these have one)."""

    def __init__(self, width: int, heads: int, bias: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of the number of heads {heads}")
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width, bias=bias)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        q, k, v = rearrange(self.in_proj(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v, mask), "b h n d -> b n (h d)"))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the perceptron is 4 times as wide, with exact GELU.

    eps: of the norms. bias: of queries, keys and values.
    """

    def __init__(self, width: int, heads: int, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads, bias)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """LayerNorm, `depth` blocks, LayerNorm."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))

    def forward(self, x: Tensor, keep: slice, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) -> the positions `keep`, (B, M, width)."""
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm_out(x[:, keep])
