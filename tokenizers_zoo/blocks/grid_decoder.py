"""A convolutional decoder of a grid of tokens whose side need not be that of its smallest map.

Source: the decoder of RQ-VAE (arXiv 2203.01941; kakaobrain/rq-vae-transformer) behind the projections of songweii/DualToken.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention_projection import AttentionProjection
from .base import ImageDecoder
from .conv2d import by_pixel, group_norm, silu
from .kl_autoencoder import ResidualConv, SpatialAttention, middle


class NarrowingConv(ResidualConv):
    """A ResidualConv whose first convolution is 1x1."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1)


class GridDecoder(ImageDecoder):
    """Latents (B, positions, dim) of a grid of patches, row by row -> images (B, 3, S, S), unbounded.

    A causal attention projection widens them to `width`, the grid is resized (bilinear) to S / f a side, f = 2^(n-1) for n
    multipliers, and convolutions double it n - 1 times. At the smallest side, an attention follows each residual block.
    """

    def __init__(
        self,
        dim: int,
        image_size: int,
        patch_size: int,
        width: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 4, 4, 8),
        blocks: int = 3,
    ):
        super().__init__()
        self.dim, self.image_size = dim, image_size
        self.grid, self.side = image_size // patch_size, image_size // 2 ** (len(multipliers) - 1)
        self.positions = self.grid**2
        widths = [channels * m for m in multipliers][::-1]
        self.expand = AttentionProjection(dim, width, causal=True)
        self.narrow = NarrowingConv(width, widths[0])
        self.conv_in = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.mid = middle(widths[0])
        self.up = nn.ModuleList(  # from the lowest resolution to the highest
            _level([before] + [after] * blocks, attention=level == 0)
            for level, (before, after) in enumerate(itertools.pairwise([widths[0], *widths]))
        )
        self.upsample = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[:-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, positions, dim) -> (B, 3, image_size, image_size)."""
        grid = rearrange(self.expand(latents), "b (h w) c -> b c h w", h=self.grid)
        grid = F.interpolate(grid, (self.side, self.side), mode="bilinear")
        x = self.mid(self.conv_in(self.narrow(by_pixel(grid))))
        for blocks, smooth in itertools.zip_longest(self.up, self.upsample):
            x = blocks(x)
            x = smooth(F.interpolate(x, scale_factor=2.0, mode="nearest")) if smooth else x
        return (self.conv_out(silu(self.norm_out(x))) + 1) / 2


def _level(widths: Sequence[int], attention: bool) -> nn.Sequential:
    """Residual blocks from each width to the next, with an attention behind each."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(
        *(part for a, b in pairs for part in (ResidualConv(a, b), *([SpatialAttention(b)] if attention else [])))
    )
