"""Convolutional encoder and decoder of an image as a grid of latents, with attention where the map is smallest.

Source: VQGAN (arXiv 2012.09841) as LlamaGen and TokenFlow have it (FoundationVision/LlamaGen, tokenizer_image/vq_model.py). Where
the grid times the stride is not the image's size, the image is resized on the way in and out, bicubic, without antialiasing.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ImageDecoder, ImageEncoder
from .conv2d import by_pixel, group_norm, silu
from .kl_autoencoder import ResidualConv, SpatialAttention, middle


class Level(nn.Module):
    """Residual blocks at one size, each with attention after it where that is wanted."""

    def __init__(self, in_channels: int, out_channels: int, count: int, attention: bool):
        super().__init__()
        widths = [in_channels] + [out_channels] * count
        self.blocks = nn.ModuleList(ResidualConv(a, b) for a, b in itertools.pairwise(widths))
        self.attention = nn.ModuleList(SpatialAttention(out_channels) for _ in range(count * attention))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        for block, attend in itertools.zip_longest(self.blocks, self.attention):
            x = block(x)
            x = attend(x) if attend else x
        return x


class ConvGridEncoder(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> latents (B, grid^2, dim), row by row.

    stride: pixels a latent, 2^(n-1) for n multipliers. hidden: channels of the map before the last projection.
    """

    layout = "grid"

    def __init__(
        self,
        dim: int,
        image_size: int,
        grid: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        hidden: int = 256,
    ):
        super().__init__()
        self.dim, self.image_size, self.positions = dim, image_size, grid**2
        self.side = grid * 2 ** (len(multipliers) - 1)
        widths = [channels * m for m in multipliers]
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(a, b, blocks, level == len(widths) - 1) for level, (a, b) in enumerate(itertools.pairwise([channels, *widths]))
        )
        self.downsample = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2) for width in widths[:-1])
        self.mid = middle(widths[-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], hidden, 3, padding=1)
        self.out_proj = nn.Linear(hidden, dim)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> the map before the projection, (B, hidden, grid, grid)."""
        x = self.conv_in(by_pixel(_resized(2 * images - 1, self.side)))
        for level, smooth in itertools.zip_longest(self.down, self.downsample):
            x = level(x)
            x = smooth(F.pad(x, (0, 1, 0, 1))) if smooth else x  # right and bottom alone, as published
        return self.conv_out(silu(self.norm_out(self.mid(x))))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, grid^2, dim)."""
        return self.out_proj(self.features(images).flatten(2).transpose(1, 2))


class ConvGridDecoder(ImageDecoder):
    """Latents (B, grid^2, dim) -> images (B, 3, S, S), unbounded; arguments as ConvGridEncoder's, `blocks` one more than there.

    TokenFlow's enhanced decoder has twice the channels, and 5 blocks.
    """

    def __init__(
        self,
        dim: int,
        image_size: int,
        grid: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 3,
        hidden: int = 256,
    ):
        super().__init__()
        self.dim, self.image_size, self.positions, self.grid = dim, image_size, grid**2, grid
        widths = [channels * m for m in multipliers][::-1]
        self.in_proj = nn.Linear(dim, hidden)
        self.conv_in = nn.Conv2d(hidden, widths[0], 3, padding=1)
        self.mid = middle(widths[0])
        self.up = nn.ModuleList(  # from the lowest resolution to the highest
            Level(a, b, blocks, not level) for level, (a, b) in enumerate(itertools.pairwise([widths[0], *widths]))
        )
        self.upsample = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[:-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, grid^2, dim) -> (B, 3, S, S)."""
        x = self.in_proj(latents).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        x = self.mid(self.conv_in(by_pixel(x)))
        for level, smooth in itertools.zip_longest(self.up, self.upsample):
            x = level(x)
            x = smooth(F.interpolate(x, scale_factor=2.0, mode="nearest")) if smooth else x
        return (_resized(self.conv_out(silu(self.norm_out(x))), self.image_size) + 1) / 2


def _resized(images: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) -> (B, 3, side, side)."""
    return images if images.shape[-1] == side else F.interpolate(images, (side, side), mode="bicubic")
