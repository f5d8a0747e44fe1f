"""Discriminators that judge patches of images."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Judgement


class BlurDownsample(nn.Module):
    """Binomial filter [1, 3, 3, 1] and stride 2, padded so that ceil(size / 2) rows and columns remain."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        down, right = (3 if size % 2 else 2 for size in x.shape[-2:])
        padded = F.pad(x, (1, right - 1, 1, down - 1))
        return F.conv2d(padded, self.kernel.expand(x.shape[1], -1, -1, -1), stride=2, groups=x.shape[1])


class BlurPatchDiscriminator(nn.Module):
    """TiTok's PatchGAN: blurred down-sampling, GroupNorm, and 16 x 16 logits whatever the size of the image.

    Source: bytedance/1d-tokenizer, modeling/modules/discriminator.py. Images in [0, 1]; smaller maps are repeated up.
    width: channels of the first stage; published 128.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        widths = [width, width, 2 * width, 4 * width]
        self.block_in = nn.Sequential(nn.Conv2d(3, width, 5, padding=2), nn.LeakyReLU(0.1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), BlurDownsample(), nn.GroupNorm(32, b), nn.LeakyReLU(0.1))
            for a, b in itertools.pairwise(widths)
        )
        self.to_logits = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 1), nn.LeakyReLU(0.1), nn.Conv2d(widths[-1], 1, 5, padding=2)
        )

    def forward(self, x: Tensor) -> list[Judgement]:
        """Images (B, 3, H, W) -> one judgement with logits (B, 1, 16, 16)."""
        features = [self.block_in(x)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return [Judgement(self.to_logits(F.adaptive_max_pool2d(features[-1], (16, 16))), features)]


class PatchDiscriminator(nn.Module):
    """pix2pix's PatchGAN with batch norm (arXiv 1611.07004), as VQGAN uses it: three strided layers, one logit a patch.

    width: channels of the first layer; published 64.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.ModuleList()
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            conv = nn.Conv2d(a, b, 4, 2 if i < 3 else 1, 1, bias=i == 0)  # batch norm has its own bias
            self.layers.append(nn.Sequential(conv, nn.BatchNorm2d(b) if i else nn.Identity(), nn.LeakyReLU(0.2)))
        self.last = nn.Conv2d(widths[-1], 1, 4, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Images (B, 3, H, W) -> one judgement with logits (B, 1, H / 8 - 2, W / 8 - 2)."""
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return [Judgement(self.last(x), features)]


class _ShortcutBlock(nn.Module):
    """GroupNorm, LeakyReLU, a 3x3 convolution, plus a 1x1 convolution of the input, resized (bilinear) where that shrinks."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, in_channels, eps=1e-6)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self.conv(F.leaky_relu(self.norm(x), 0.2))
        return y + self.shortcut(F.interpolate(x, y.shape[2:], mode="bilinear") if x.shape[2:] != y.shape[2:] else x)


class ResidualPatchDiscriminator(nn.Module):
    """DualToken's PatchGAN: group norm and shortcuts, no activation before the last convolution, one logit a patch.

    Source: songweii/DualToken, vqgan/discriminator.py. Images in [0, 1]. width: channels of the first layer; published 64.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            _ShortcutBlock(a, b, 2 if i < 2 else 1) for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Images (B, 3, H, W) -> one judgement with logits (B, 1, ceil(H / 8), ceil(W / 8))."""
        features = [F.leaky_relu(self.first(2 * x - 1), 0.2)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return [Judgement(self.last(features[-1]), features)]
