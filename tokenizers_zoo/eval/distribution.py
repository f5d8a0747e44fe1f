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
from ..frozen import feature_maps, stacked
from ..losses.perceptual import TimmNetwork
from ..manifest import Row
from ..weights import read_state
from .base import Item, need
from .batches import Batched

RESAMPLES = 200  # draws of a Frechet distance's interval
WIDEST = 512  # features up to which it has one: each draw costs as much as the distance itself


class Gaussians(Batched):
    """Frechet distance of Gaussians fitted to the two sides' features (arXiv 1706.08500).

    Compare at equal numbers of images: the sampling bias grows with dim / n. key: of the value in the results.
    """

    better = "lower"
    key = "frechet"

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim)."""

    def seen(self, images: list[Tensor]) -> list[np.ndarray[Any, Any]]:
        """Features (dim,) of each image."""
        return stacked(lambda x: self.features(x.to(self.device)).cpu().numpy(), images)

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        """Their features."""
        return self.seen(originals)

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """Features of both sides."""
        sides = zip(prepared, self.seen(decoded), strict=True)
        return [{f"{self.key}_original": a, f"{self.key}_decoded": b} for a, b in sides]

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """One number for all images, and for up to 512 features an interval (`spread`). Raises InputError for one image."""
        if len(items) < 2:
            raise InputError("a Frechet distance needs at least 2 images, better 2,000")
        original, decoded = (np.stack([item[f"{self.key}_{side}"] for item in items]) for side in ("original", "decoded"))
        value = frechet(moments(original), moments(decoded))
        ends = spread(original, decoded, value) if original.shape[1] <= WIDEST else {}
        return {self.key: {"value": value, **ends, "items": len(items)}}


class FrechetDistance(Gaussians):
    """On a layer of any timm network, averaged over the map.

    Only Inception's pool features make an FID; this one carries the name of its network: FID-effnet2, `fid_effnet2`, for
    EfficientNet-Lite2, which no recipe trains on. Its tap is the last layer at a 16th of the size: 2,000 photos of Tiny ImageNet
    are 10 away from 2,000 others, and 60 (149) with JPEG of quality 50 (10), 193 (482) with a blur of 1 (2) pixels; later layers
    drown in the bias of 2,000 samples (benchmarks/judges.md).

    tap: layer; size: side in pixels that images are resized to (bicubic); the network sees (255 * image - mean) / scale. weights:
    a local safetensors file in timm's names (eval/effnet_lite.py makes it of a package), or None to download timm's own.
    """

    def __init__(
        self,
        name: str = "tf_efficientnet_lite2",
        weights: str | None = None,
        tap: str = "network.blocks.4",
        size: int = 128,
        mean: float = 127.0,
        scale: float = 128.0,
        key: str = "fid_effnet2",
    ):
        self.network, self.key = TimmNetwork(name, weights).eval(), key
        self.tap, self.size, self.mean, self.scale = tap, size, mean, scale

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim)."""
        x = nn.functional.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        (maps,) = feature_maps(self.network, [self.tap], (255 * x - self.mean) / self.scale)
        return maps.mean((2, 3))


class FID(Gaussians):
    """Frechet Inception distance (arXiv 1706.08500): 2,048 pool features of FID's own Inception, by torch-fidelity.

    Between decoded and original images it is what papers call rFID; they take 50,000. The network gets uint8 and resizes to
    299 pixels as TensorFlow 1 did. weights: torch-fidelity's file, or None to download it.
    """

    key = "fid"

    def __init__(self, weights: str | None = None):
        self.network = inception(weights)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2048)."""
        return self.network((255 * images).round().byte())[0]


class InceptionScore(Batched):
    """exp of the mean divergence of an image's class from all images' classes (arXiv 1606.03498), of the decoded side alone.

    Unbiased logits of FID's Inception, by torch-fidelity. splits: shuffled parts that are scored apart and averaged; 10 is
    the convention at 50,000 images. weights: as of `FID`.
    """

    def __init__(self, weights: str | None = None, splits: int = 10):
        self.network, self.splits = inception(weights), splits

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """Logits of the decoded images, (1008,)."""
        logits = stacked(lambda x: self.network((255 * x.to(self.device)).round().byte())[1].cpu().numpy(), decoded)
        return [{"logits": one} for one in logits]

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """1 to 1008; deviation: of the parts. Raises InputError for parts of one image, whose score is always 1."""
        least = 2 * self.splits
        if len(items) < least:
            raise InputError(f"an Inception score of {self.splits} splits needs at least {least} images, got {len(items)}")
        logits = torch.from_numpy(np.stack([item["logits"] for item in items])).double()
        order = np.random.default_rng(0).permutation(len(items))
        scores = []
        for part in np.array_split(order, self.splits):
            logs = logits[part].log_softmax(1)
            overall = logs.logsumexp(0) - np.log(len(part))  # of the mean, finite where all are sure that it is another class
            scores.append(float((logs.exp() * (logs - overall)).sum(1).mean().exp()))
        return {"inception_score": {"value": float(np.mean(scores)), "deviation": float(np.std(scores)), "items": len(items)}}


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


def moments(features: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean (D,) and unbiased covariance (D, D) of (N, D), in float64."""
    features = features.astype(np.float64)
    return features.mean(0), np.cov(features, rowvar=False).reshape(features.shape[1], -1)


def frechet(a: tuple[Any, Any], b: tuple[Any, Any]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); S1 S2 has the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2)."""
    values, vectors = np.linalg.eigh(a[1])
    half = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    root = np.sqrt(np.linalg.eigvalsh(half @ b[1] @ half).clip(0)).sum()
    return max(0.0, float(((a[0] - b[0]) ** 2).sum() + np.trace(a[1]) + np.trace(b[1]) - 2 * root))


def spread(original: np.ndarray[Any, Any], decoded: np.ndarray[Any, Any], value: float) -> dict[str, float]:
    """Ends of the 95 % interval around a distance of features (N, D): images are drawn anew 200 times, the same for both sides.

    Fewer different images raise the distance, and so do draws: by their mean they are put back to the value.
    """
    random = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        rows = random.integers(len(original), size=len(original))
        draws.append(frechet(moments(original[rows]), moments(decoded[rows])))
    low, high = np.quantile(draws, [0.025, 0.975]) - np.mean(draws) + value
    return {"low": max(0.0, float(low)), "high": float(high)}
