"""Halving and doubling of a map's sides, a convolution beside a shortcut without weights (DC-AE, arXiv 2410.10733)."""

import torch.nn.functional as F
from torch import Tensor, nn


class DownBlock2d(nn.Module):
    """A 3x3 convolution of stride 2, plus the mean of each 2 x 2 square: (B, C, H, W) -> (B, C, H / 2, W / 2), even sides."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(x) + F.avg_pool2d(x, 2)


class UpBlock2d(nn.Module):
    """A 3x3 convolution to 4 C channels that become the pixels of 2 x 2 squares, plus the nearest neighbour."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 H, 2 W)."""
        return F.pixel_shuffle(self.conv(x), 2) + F.interpolate(x, scale_factor=2.0, mode="nearest")
