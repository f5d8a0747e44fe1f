"""Metrics of decoded images. All take pixels (3, H, W) that are multiples of 1/255, as a PNG keeps them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..losses.perceptual import FeatureDistance, TimmNetwork
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

    def __init__(self, name: str = "tf_efficientnet_lite0", weights: str | None = None, taps: Sequence[str] = TAPS):
        self.distance = FeatureDistance(TimmNetwork(name, weights), list(taps))

    @torch.no_grad()
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 is equal."""
        return {"perceptual": float(self.distance(decoded[None], original[None]))}


class LPIPS(Metric):
    """LPIPS with VGG-16, version 0.1. vgg: torchvision's state dict as a local file, or None to download it."""

    better = "lower"

    def __init__(self, vgg: str | None = None):
        from ..losses import lpips

        self.distance = lpips.LPIPS(vgg)

    @torch.no_grad()
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 is equal."""
        return {"lpips": float(self.distance.distances(decoded[None], original[None]))}


class FrechetDistance(Metric):
    """Frechet distance of Gaussians of the two sides' features (arXiv 1706.08500): a timm network's layer, averaged over the map.

    Only Inception's pool features make an FID; this one carries the name of its network, e.g. FID-effnet. Compare at equal
    numbers of images: the sampling bias grows with dim / n. tap: layer; size: side in pixels that images are resized to
    (bicubic); the network sees (255 * image - mean) / scale.
    """

    better = "lower"

    def __init__(
        self,
        name: str = "tf_efficientnet_lite0",
        weights: str | None = None,
        tap: str = "network.blocks.4",
        size: int = 128,
        mean: float = 127.0,
        scale: float = 128.0,
    ):
        self.network = TimmNetwork(name, weights).eval()
        self.tap, self.size, self.mean, self.scale = tap, size, mean, scale

    @torch.no_grad()
    def features(self, image: Tensor) -> np.ndarray[Any, Any]:
        """(dim,) of one image."""
        found: list[Tensor] = []
        hook = self.network.get_submodule(self.tap).register_forward_hook(lambda _m, _i, out: found.append(out))
        x = nn.functional.interpolate(image[None], (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        try:
            self.network((255 * x - self.mean) / self.scale)
        finally:
            hook.remove()
        return found[0].mean((0, 2, 3)).numpy()

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Features of both sides."""
        return {"fid_original": self.features(original), "fid_decoded": self.features(decoded)}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """One number for all images. Raises InputError for fewer than 2."""
        if len(items) < 2:
            raise InputError("a Frechet distance needs at least 2 images, better 2,000")
        sides = [np.stack([item[key] for item in items]) for key in ("fid_original", "fid_decoded")]
        return {"frechet": {"value": frechet(*(moments(side) for side in sides)), "images": len(items)}}


def moments(features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean (D,) and unbiased covariance (D, D) of (N, D), in float64."""
    features = features.astype(np.float64)
    return features.mean(0), np.cov(features, rowvar=False).reshape(features.shape[1], -1)


def frechet(a: tuple[Any, Any], b: tuple[Any, Any]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); the root's trace is the sum of roots of the eigenvalues of S1 S2."""
    eigenvalues = np.linalg.eigvals(a[1] @ b[1])
    root = np.sqrt(np.clip(eigenvalues.real, 0, None)).sum()
    return float(((a[0] - b[0]) ** 2).sum() + np.trace(a[1]) + np.trace(b[1]) - 2 * root)
