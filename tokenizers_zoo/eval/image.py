"""Metrics of decoded images. All take pixels (3, H, W) that are multiples of 1/255, as a PNG keeps them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..losses.perceptual import FeatureDistance, PerceptualDistance, TimmNetwork
from ..manifest import Row
from .base import Item, Metric, need

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
        """-1 to 1."""
        _, full = self.ssim(decoded[None].double(), original[None].double(), data_range=1.0, return_full_image=True)
        return {"ssim": float(full[..., 5:-5, 5:-5].mean())}


class Perceptual(Metric):
    """Unit-normalised features of a timm network, squared difference summed over five taps: LPIPS without its weights.

    Not LPIPS: call it by the network's name. weights: a local safetensors file in timm's names, or None for timm's own.
    """

    better = "lower"
    key = "perceptual"

    def __init__(self, name: str = "tf_efficientnet_lite0", weights: str | None = None, taps: Sequence[str] = TAPS):
        self.distance: PerceptualDistance = FeatureDistance(TimmNetwork(name, weights), list(taps))

    @torch.no_grad()
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 is equal."""
        return {self.key: float(self.distance(decoded[None], original[None]))}


class LPIPS(Perceptual):
    """LPIPS with VGG-16, version 0.1. vgg: torchvision's state dict as a local file, or None to download it."""

    key = "lpips"

    def __init__(self, vgg: str | None = None):
        need("torchvision", "eval-image")
        from ..losses import lpips

        self.distance = lpips.LPIPS(vgg)


class DISTS(Perceptual):
    """DISTS with VGG-16: texture and structure (arXiv 2004.07728), at most 1 or so. vgg: as of `LPIPS`."""

    key = "dists"

    def __init__(self, vgg: str | None = None):
        need("torchvision", "eval-image")
        from ..losses import dists

        self.distance = dists.DISTS(vgg)
