"""Convolutional encoder and decoder of MaskGIT-VQGAN.

Source: MaskGIT (arXiv 2202.04200; bytedance/1d-tokenizer, modeling/modules/maskgit_vqgan.py). No attention; average pooling down,
nearest neighbour and a convolution up; convolutions of a residual block have no bias.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..part import Part


class ResidualBlock2d(nn.Module):
    """(GroupNorm, SiLU, convolution) twice, plus the skip.

    Quirk of the published weights: where the number of channels changes, the 1x1 shortcut is applied to the block's *output* and
    the input has no skip path at all.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1, self.norm2 = group_norm(in_channels), group_norm(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(out_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        y = self.conv1(silu(self.norm1(x)))
        y = self.conv2(silu(self.norm2(y)))
        return y + (self.shortcut(y) if self.shortcut else x)


class VQGANEncoder(Part):
    """Images (B, 3, H, W) in [0, 1] -> latents (B, dim, H / 2^(n-1), W / 2^(n-1)) for n multipliers."""

    def __init__(self, dim: int = 256, channels: int = 128, multipliers: Sequence[int] = (1, 1, 2, 2, 4), blocks: int = 2):
        super().__init__()
        self.dim = dim
        widths = [channels * m for m in multipliers]
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            _residual_blocks(before, width, blocks) for before, width in zip([channels, *widths], widths, strict=False)
        )
        self.mid = _residual_blocks(widths[-1], widths[-1], blocks)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim, h, w)."""
        x = self.conv_in(by_pixel(images))
        for level, blocks in enumerate(self.down):
            x = blocks(F.avg_pool2d(x, 2) if level else x)
        return self.conv_out(silu(self.norm_out(self.mid(x))))


class VQGANDecoder(Part):
    """Latents (B, dim, h, w) -> images (B, 3, h * 2^(n-1), w * 2^(n-1)), unbounded, for n multipliers."""

    def __init__(self, dim: int = 256, channels: int = 128, multipliers: Sequence[int] = (1, 1, 2, 2, 4), blocks: int = 2):
        super().__init__()
        self.dim, self.patch_size = dim, 2 ** (len(multipliers) - 1)
        widths = [channels * m for m in multipliers][::-1]
        self.conv_in = nn.Conv2d(dim, widths[0], 3, padding=1)
        self.mid = _residual_blocks(widths[0], widths[0], blocks)
        self.up = nn.ModuleList(  # from the lowest resolution to the highest
            _residual_blocks(before, width, blocks) for before, width in zip([widths[0], *widths], widths, strict=False)
        )
        self.upsample = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[:-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, h, w) -> (B, 3, H, W)."""
        x = self.up[0](self.mid(self.conv_in(by_pixel(x))))
        for smooth, blocks in zip(self.upsample, list(self.up)[1:], strict=True):
            x = blocks(smooth(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        return self.conv_out(silu(self.norm_out(x)))


def by_pixel(x: Tensor) -> Tensor:
    """`x` (B, C, H, W) with the channels of a pixel side by side in memory, in which all that convolutions make of it then stays.

    A CPU's convolutions of large maps would otherwise reorder each on its way in and out (benchmarks/since.md). Weights stay
    as they are.
    """
    return x.contiguous(memory_format=torch.channels_last)


def silu(x: Tensor) -> Tensor:
    """SiLU of what nobody else reads, without gradients in the same memory: a large map costs more to get than to compute."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def group_norm(channels: int) -> nn.GroupNorm:
    """The norm of all VQGAN-like networks: 32 groups, epsilon 1e-6."""
    return nn.GroupNorm(32, channels, eps=1e-6)


def _residual_blocks(in_channels: int, out_channels: int, count: int) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * count
    return nn.Sequential(*(ResidualBlock2d(a, b) for a, b in itertools.pairwise(widths)))
