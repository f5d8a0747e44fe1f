"""Metrics of decoded images. All take pixels (3, H, W) that are multiples of 1/255, as a PNG keeps them, of one size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..frozen import stacked
from ..losses import dists, lpips
from ..losses.perceptual import FeatureDistance, TimmNetwork
from ..manifest import Row
from .base import Item, Metric, need
from .batches import Batched

TAPS = ("network.blocks.0", "network.blocks.1", "network.blocks.2", "network.blocks.4", "network.blocks.6")


class PSNR(Metric):
    """Peak signal-to-noise ratio of each image, peak 1; the mean is over images, not over squared errors."""

    unit = "dB"

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """An exact copy counts as 100 dB."""
        error = float((original.double() - decoded.double()).square().mean())
        return {"psnr": float(-10 * np.log10(max(error, 1e-10)))}


class SSIM(Metric):
    """Structural similarity (Wang et al. 2004): Gaussian window of deviation 1.5, data range 1; by torchmetrics.

    Where the window of 11 pixels leaves the picture there is no value; torchmetrics' own mean has mirrored borders there.
    """

    def __init__(self) -> None:
        self.ssim = need("torchmetrics.functional.image").structural_similarity_index_measure

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """-1 to 1. Raises InputError for images that are smaller than the window."""
        _large_enough(decoded, 11, "SSIM's window", row)
        _, full = self.ssim(decoded[None].double(), original[None].double(), data_range=1.0, return_full_image=True)
        return {"ssim": float(full[..., 5:-5, 5:-5].mean())}


class Perceptual(Batched):
    """Unit-normalised features of a timm network, squared difference summed over five taps: LPIPS without its weights.

    Not LPIPS: call it by the network's name. EfficientNet-Lite2, which no recipe trains on, by its last layers at a half, a
    quarter, an eighth, a 16th and a 32nd of the size. benchmarks/judges.md has what known damage costs. weights: a local
    safetensors file in timm's names (eval/effnet_lite.py makes it of a package), or None to download timm's own.
    """

    better = "lower"
    key = "perceptual"
    least = 32  # pixels: the stride of the last tap

    def __init__(self, name: str = "tf_efficientnet_lite2", weights: str | None = None, taps: Sequence[str] = TAPS):
        self.distance: FeatureDistance | lpips.LPIPS | dists.DISTS = FeatureDistance(TimmNetwork(name, weights), list(taps))

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for images that are smaller than the network's stride."""
        _large_enough(decoded, self.least, "the network's stride", row)

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """0 is equal."""
        pairs = [torch.stack(pair) for pair in zip(decoded, prepared, strict=True)]
        return [{self.key: value} for value in stacked(self._distances, pairs, 8)]  # VGG at 256 pixels: 60 MB an image

    def _distances(self, pairs: Tensor) -> list[float]:
        """(B, 2, 3, H, W) -> B distances."""
        output, target = pairs.to(self.device).unbind(1)
        return self.distance.distances(output, target).tolist()


class LPIPS(Perceptual):
    """LPIPS with VGG-16, version 0.1. vgg: torchvision's state dict as a local file, or None to download it."""

    key = "lpips"
    least = 16

    def __init__(self, vgg: str | None = None):
        need("torchvision", "eval-image")
        self.distance = lpips.LPIPS(vgg)


class DISTS(Perceptual):
    """DISTS with VGG-16: texture and structure (arXiv 2004.07728), at most 1 or so. vgg: as of `LPIPS`."""

    key = "dists"
    least = 16

    def __init__(self, vgg: str | None = None):
        need("torchvision", "eval-image")
        self.distance = dists.DISTS(vgg)


def _large_enough(image: Tensor, least: int, what: str, row: Row) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < least:
        raise InputError(f"{row.path} is measured at {width} x {height} pixels; {what} needs at least {least} on each side")
