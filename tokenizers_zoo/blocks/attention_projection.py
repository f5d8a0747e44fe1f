"""A change of width by attention: between a transformer's states and the latents of a quantizer."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class GatedPerceptron(nn.Module):
    """out(GELU(gate y) * value y) of y = norm(x), with tanh GELU; twice as wide inside."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.gate, self.value = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        x = self.norm(x)
        return self.out(F.gelu(self.gate(x), approximate="tanh") * self.value(x))


class AttentionProjection(nn.Module):
    """y = linear(norm(x)) + attention(norm(x)), then y + perceptron(norm(y)): widths `dim_in` -> `dim_out`.

    Heads are as wide as the narrower side. To become narrower their mean is taken, to become wider they stand side by side.
    causal: a position sees itself and those before it. Source: UniTok (arXiv 2502.20321), in the form of songweii/DualToken.
    """

    def __init__(self, dim_in: int, dim_out: int, causal: bool = False):
        super().__init__()
        head = min(dim_in, dim_out)
        self.heads, self.narrows, self.causal = max(dim_in, dim_out) // head, dim_in > dim_out, causal
        self.skip_norm, self.skip = nn.LayerNorm(dim_in), nn.Linear(dim_in, dim_out)
        self.attention_norm, self.in_proj = nn.LayerNorm(dim_in), nn.Linear(dim_in, 3 * self.heads * head)
        self.out_proj = nn.Linear(head if self.narrows else self.heads * head, dim_out)
        self.mlp_norm, self.mlp = nn.LayerNorm(dim_out), GatedPerceptron(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim_in) -> (B, N, dim_out)."""
        packed = self.in_proj(self.attention_norm(x))
        q, k, v = rearrange(packed, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        y = self.skip(self.skip_norm(x))
        y = y + self.out_proj(seen.mean(1) if self.narrows else rearrange(seen, "b h n d -> b n (h d)"))
        return y + self.mlp(self.mlp_norm(y))
