"""A Transformer whose frames see a stated number of neighbours, after a convolutional encoder (Mimi, arXiv 2410.00037)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .base import AudioEncoder, Count


class LocalAttention(nn.Module):
    """Multi-head self-attention with rotary positions (RoFormer, arXiv 2104.09864) over the frames that `mask` allows."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} must be a multiple of twice the number of heads {heads}")
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, rotation: Tensor) -> Tensor:
        """(B, T, width), bool (B or 1, 1, T, T), what `rotary` gives -> (B, T, width)."""
        q, k, v = rearrange(self.in_proj(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        y = F.scaled_dot_product_attention(rotated(q, rotation), rotated(k, rotation), v, attn_mask=mask)
        return self.out_proj(rearrange(y, "b h t d -> b t (h d)"))


def rotary(count: int, dim: int, device: torch.device) -> Tensor:
    """Cosine and sine of the angles t / 10000^(2 i / dim) by which frame t is turned, (2, count, dim / 2)."""
    speed = 10000.0 ** (-torch.arange(dim // 2, device=device) / (dim // 2))
    angle = torch.arange(count, device=device)[:, None] * speed
    return torch.stack([angle.cos(), angle.sin()])


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """(B, heads, T, D) with halves of D turned by what `rotary` gives: products then depend on distances in time."""
    (a, b), (cos, sin) = x.float().chunk(2, dim=-1), rotation
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


class LocalBlock(nn.Module):
    """x + scale * attention(norm(x)), then x + scale * mlp(norm(x)); scales start small (LayerScale, arXiv 2103.17239)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = LocalAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False))
        self.attention_scale, self.mlp_scale = (nn.Parameter(torch.full((width,), 0.01)) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor, rotation: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); mask, rotation: as of `LocalAttention`."""
        x = x + self.attention_scale * self.attention(self.attention_norm(x), mask, rotation)
        return x + self.mlp_scale * self.mlp(self.mlp_norm(x))


class TransformerEncoder(AudioEncoder):
    """A convolutional encoder, then `depth` Transformer blocks at its frame rate.

    context: frames before a frame, and unless `causal` as many after it, that one block lets it see; `depth` blocks see `depth`
    times as far.
    """

    def __init__(self, encoder: AudioEncoder, depth: int, heads: int, context: int, causal: bool = False):
        super().__init__()
        self.encoder, self.context, self.causal_attention = encoder, context, causal
        self.head_dim = encoder.dim // heads
        self.dim, self.hop, self.causal = encoder.dim, encoder.hop, causal and encoder.causal
        self.blocks = nn.ModuleList(LocalBlock(encoder.dim, heads) for _ in range(depth))
        below = encoder.receptive_field
        self.receptive_field = None if below is None else below + depth * context

    def frames(self, samples: Count) -> Count:
        """As the convolutional encoder's."""
        return self.encoder.frames(samples)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform (B, 1, S), lengths (B,) in samples -> (B, T, dim)."""
        x = self.encoder(waveform, lengths)
        mask = self._mask(x.shape[1], None if lengths is None else self.frames(lengths), x.device)
        rotation = rotary(x.shape[1], self.head_dim, x.device)
        for block in self.blocks:
            x = block(x, mask, rotation)
        return x

    def _mask(self, count: int, lengths: Tensor | None, device: torch.device) -> Tensor:
        """Bool (B or 1, 1, T, T): which frame (row) sees which."""
        time = torch.arange(count, device=device)
        ahead = time - time[:, None]
        seen = ahead.abs() <= self.context
        if self.causal_attention:
            seen = seen & (ahead <= 0)
        if lengths is None:
            return seen[None, None]
        inside = time < lengths[:, None]  # frames past the end see themselves, so that no row is empty
        return (seen & inside[:, None] | (ahead == 0))[:, None]
