"""Metrics of a set of images as a whole: distances of two sides' features, and the Inception score.

All take pixels (3, H, W) that are multiples of 1/255, so that 255 times them is a PNG's uint8.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, WeightsError
from ..frozen import feature_maps
from ..losses.perceptual import TimmNetwork
from ..manifest import Row
from ..weights import read_state
from .base import Item, Metric, need


class Gaussians(Metric):
    """Frechet distance of Gaussians fitted to the two sides' features (arXiv 1706.08500).

    Compare at equal numbers of images: the sampling bias grows with dim / n. key: of the value in the results.
    """

    better = "lower"
    key = "frechet"

    @abstractmethod
    def features(self, image: Tensor) -> np.ndarray[Any, Any]:
        """(dim,) of one image."""

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Features of both sides."""
        return {f"{self.key}_original": self.features(original), f"{self.key}_decoded": self.features(decoded)}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """One number for all images. Raises InputError for fewer than 2."""
        if len(items) < 2:
            raise InputError("a Frechet distance needs at least 2 images, better 2,000")
        sides = [np.stack([item[f"{self.key}_{side}"] for item in items]) for side in ("original", "decoded")]
        return {self.key: {"value": frechet(*(moments(side) for side in sides)), "images": len(items)}}


class FrechetDistance(Gaussians):
    """On a layer of any timm network, averaged over the map.

    Only Inception's pool features make an FID; this one carries the name of its network, e.g. FID-effnet. tap: layer; size:
    side in pixels that images are resized to (bicubic); the network sees (255 * image - mean) / scale.
    """

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
        x = nn.functional.interpolate(image[None], (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        (maps,) = feature_maps(self.network, [self.tap], (255 * x - self.mean) / self.scale)
        return maps.mean((0, 2, 3)).numpy()


class FID(Gaussians):
    """Frechet Inception distance (arXiv 1706.08500): 2,048 pool features of FID's own Inception, by torch-fidelity.

    Between decoded and original images it is what papers call rFID; they take 50,000. The network gets uint8 and resizes to
    299 pixels as TensorFlow 1 did. weights: torch-fidelity's file, or None to download it.
    """

    key = "fid"

    def __init__(self, weights: str | None = None):
        self.network = inception(weights)

    def features(self, image: Tensor) -> np.ndarray[Any, Any]:
        """(2048,) of one image."""
        return seen(self.network, image)[0]


class InceptionScore(Metric):
    """exp of the mean divergence of an image's class from all images' classes (arXiv 1606.03498), of the decoded side alone.

    Unbiased logits of FID's Inception, by torch-fidelity. splits: shuffled parts that are scored apart and averaged; 10 is
    the convention at 50,000 images. weights: as of `FID`.
    """

    def __init__(self, weights: str | None = None, splits: int = 10):
        self.network, self.splits = inception(weights), splits

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Logits of the decoded image, (1008,)."""
        return {"logits": seen(self.network, decoded)[1]}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """1 to 1008; deviation: of the parts. Raises InputError for fewer images than parts."""
        if len(items) < self.splits:
            raise InputError(f"an Inception score of {self.splits} splits needs at least as many images, got {len(items)}")
        logits = torch.from_numpy(np.stack([item["logits"] for item in items])).double()
        order = np.random.default_rng(0).permutation(len(items))
        scores = []
        for part in np.array_split(order, self.splits):
            logs = logits[part].log_softmax(1)
            scores.append(float((logs.exp() * (logs - logs.exp().mean(0).log())).sum(1).mean().exp()))
        return {"inception_score": {"value": float(np.mean(scores)), "deviation": float(np.std(scores)), "images": len(items)}}


@cache
def inception(weights: str | None) -> nn.Module:
    """FID's Inception with pool features and unbiased logits. Raises InputError that says which file is needed."""
    source = need("torch_fidelity.feature_extractor_inceptionv3", "eval-image")
    try:
        if weights is not None:
            read_state(weights)  # refuses what is no plain state dict, before torch-fidelity unpickles it
        return source.FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], weights)
    except (OSError, RuntimeError, WeightsError) as error:
        raise InputError(
            f"FID and the Inception score need {source.URL_INCEPTION_V3} as a local file, weights=FILE ({str(error)[:200]})"
        ) from error


@torch.no_grad()
def seen(network: nn.Module, image: Tensor) -> list[np.ndarray[Any, Any]]:
    """Pool features (2048,) and logits (1008,) of one image (3, H, W)."""
    return [out[0].numpy() for out in network((255 * image[None]).round().byte())]


def moments(features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean (D,) and unbiased covariance (D, D) of (N, D), in float64."""
    features = features.astype(np.float64)
    return features.mean(0), np.cov(features, rowvar=False).reshape(features.shape[1], -1)


def frechet(a: tuple[Any, Any], b: tuple[Any, Any]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); the root's trace is the sum of roots of the eigenvalues of S1 S2."""
    eigenvalues = np.linalg.eigvals(a[1] @ b[1])
    root = np.sqrt(np.clip(eigenvalues.real, 0, None)).sum()
    return float(((a[0] - b[0]) ** 2).sum() + np.trace(a[1]) + np.trace(b[1]) - 2 * root)
