"""The convolutional KL autoencoder of latent diffusion: what Stable Diffusion, FlexTok and MAR stand on.

Source: arXiv 2112.10752 (CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py; huggingface/diffusers, AutoencoderKL).
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..part import Part
from .base import ImageDecoder, ImageEncoder
from .conv2d import by_pixel, group_norm, silu


class ResidualConv(nn.Module):
    """(GroupNorm, SiLU, 3x3 convolution) twice, plus the input, through a 1x1 convolution where the channels change."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1, self.norm2 = group_norm(in_channels), group_norm(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        y = self.conv1(silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(silu(self.norm2(y)))


class SpatialAttention(nn.Module):
    """x + attention of all places to all, with one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same."""
        y = self.norm(x).flatten(2).transpose(1, 2)
        y = self.out(F.scaled_dot_product_attention(self.query(y), self.key(y), self.value(y)))
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class KLEncoder(Part):
    """Images (B, 3, H, W) in [0, 1] -> mean and log variance (B, 2 * dim, H / f, W / f), f = patch_size * 2^(n-1), n multipliers.

    attention: whether each block of the lowest level attends to all places. patch_size: squares of so many pixels a side are one
    place from the start (a cheap network; 1 in all published ones).
    """

    def __init__(
        self,
        dim: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        attention: bool = False,
        patch_size: int = 1,
    ):
        super().__init__()
        widths = [channels * m for m in multipliers]
        self.patch_size = patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, channels, 3, padding=1)
        pairs = enumerate(itertools.pairwise([channels, *widths]), 1)
        self.down = nn.ModuleList(_level(a, b, 2, attention and level == len(widths)) for level, (a, b) in pairs)
        self.downsample = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2) for width in widths[:-1])
        self.mid = middle(widths[-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], 2 * dim, 3, padding=1)
        self.moments = nn.Conv2d(2 * dim, 2 * dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2 * dim, h, w)."""
        x = self.conv_in(by_pixel(F.pixel_unshuffle(2 * images - 1, self.patch_size)))
        for blocks, smooth in itertools.zip_longest(self.down, self.downsample):
            x = blocks(x)
            x = smooth(F.pad(x, (0, 1, 0, 1))) if smooth else x  # right and bottom alone, as published
        return self.moments(self.conv_out(silu(self.norm_out(self.mid(x)))))


class KLDecoder(Part):
    """Latents (B, dim, h, w) -> images (B, 3, h * f, w * f), unbounded; f as KLEncoder's."""

    def __init__(self, dim: int, channels: int = 128, multipliers: Sequence[int] = (1, 2, 4, 4), patch_size: int = 1):
        super().__init__()
        self.patch_size = patch_size
        widths = [channels * m for m in multipliers][::-1]
        self.latents = nn.Conv2d(dim, dim, 1)
        self.conv_in = nn.Conv2d(dim, widths[0], 3, padding=1)
        self.mid = middle(widths[0])
        self.up = nn.ModuleList(_level(a, b, 3) for a, b in itertools.pairwise([widths[0], *widths]))
        self.upsample = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[:-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], 3 * patch_size**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, dim, h, w) -> (B, 3, H, W)."""
        x = self.mid(self.conv_in(self.latents(by_pixel(latents))))
        for blocks, smooth in itertools.zip_longest(self.up, self.upsample):
            x = blocks(x)
            x = smooth(F.interpolate(x, scale_factor=2.0, mode="nearest")) if smooth else x
        return (F.pixel_shuffle(self.conv_out(silu(self.norm_out(x))), self.patch_size) + 1) / 2


class KLAutoencoder(Part):
    """Both halves; its latents are the mean times `scale`, which brings them near unit variance.

    stride: pixels a latent, 2^(n-1) for n multipliers.
    """

    def __init__(self, dim: int, channels: int = 128, multipliers: Sequence[int] = (1, 2, 4, 4), scale: float = 1.0):
        super().__init__()
        self.dim, self.stride, self.scale = dim, 2 ** (len(multipliers) - 1), scale
        self.encoder, self.decoder = KLEncoder(dim, channels, multipliers), KLDecoder(dim, channels, multipliers)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latents (B, dim, H / stride, W / stride)."""
        return self.encoder(images).chunk(2, dim=1)[0] * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> (B, 3, H, W), unbounded."""
        return self.decoder(latents / self.scale)


class KLGridEncoder(ImageEncoder):
    """KLEncoder of square images; a position is a place of the map, row by row.

    dim: of a latent; its own `dim` is twice that, of mean and log variance.
    """

    layout = "grid"

    def __init__(
        self,
        dim: int,
        image_size: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        attention: bool = False,
        patch_size: int = 1,
    ):
        super().__init__()
        self.dim, self.image_size = 2 * dim, image_size
        self.positions = _side(image_size, multipliers, patch_size) ** 2
        self.map = KLEncoder(dim, channels, multipliers, attention, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, positions, 2 * dim)."""
        return self.map(images).flatten(2).transpose(1, 2)


class KLGridDecoder(ImageDecoder):
    """KLDecoder of a square map, row by row."""

    def __init__(
        self,
        dim: int,
        image_size: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        patch_size: int = 1,
    ):
        super().__init__()
        self.dim, self.image_size = dim, image_size
        self.side = _side(image_size, multipliers, patch_size)
        self.positions = self.side**2
        self.map = KLDecoder(dim, channels, multipliers, patch_size)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, positions, dim) -> (B, 3, image_size, image_size), unbounded."""
        return self.map(latents.transpose(1, 2).unflatten(2, (self.side, self.side)))


def _side(image_size: int, multipliers: Sequence[int], patch_size: int) -> int:
    """Places a side. Raises ValueError where halving does not end on a whole number."""
    stride = patch_size * 2 ** (len(multipliers) - 1)
    if image_size % stride:
        raise ValueError(f"image_size must be a multiple of {stride}, got {image_size}")
    return image_size // stride


def _level(in_channels: int, out_channels: int, count: int, attention: bool = False) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * count
    blocks = (ResidualConv(a, b) for a, b in itertools.pairwise(widths))
    return nn.Sequential(*(nn.Sequential(block, SpatialAttention(out_channels)) if attention else block for block in blocks))


def middle(channels: int) -> nn.Sequential:
    """What stands where the map is smallest, (B, channels, H, W) -> the same."""
    return nn.Sequential(ResidualConv(channels, channels), SpatialAttention(channels), ResidualConv(channels, channels))
