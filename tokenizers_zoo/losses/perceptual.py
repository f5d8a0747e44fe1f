"""Distances between images as a classifier sees them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..frozen import Frozen, feature_maps
from ..hub import without_retries
from ..weights import compare, read_state

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualDistance(Frozen, ABC):
    """Distance of images as a frozen network sees them: gradients reach the output, never the network or the target.

    mean, std: of each colour, taken off what the network sees.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) without mean and deviation of the colours."""
        return (images - self.mean) / self.std

    @abstractmethod
    def maps(self, images: Tensor) -> list[Tensor]:
        """What the network makes of images (B, 3, H, W) in [0, 1]: one tensor (B, ...) or several."""

    def both_maps(self, output: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The maps of both sides in pairs, those of the target without gradient."""
        with torch.no_grad():
            fixed = self.maps(target)
        return list(zip(self.maps(output), fixed, strict=True))

    @abstractmethod
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar, the mean over the batch; 0 for equal ones."""


class LogitsDistance(PerceptualDistance):
    """Mean squared difference of a frozen classifier's logits (bytedance/1d-tokenizer: ConvNeXt-S, ImageNet).

    Images in [0, 1] are resized to 224 x 224 without keeping their aspect ratio (bilinear, antialiased) and normalised by
    ImageNet's statistics; reconstructions are not clamped.
    """

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)

    def prepare(self, images: Tensor) -> Tensor:
        """What the classifier is fed, (B, 3, 224, 224)."""
        return self.normalised(F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The logits (B, classes)."""
        return [self.classifier(self.prepare(images))]

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar."""
        return F.mse_loss(*self.both_maps(output, target)[0])


class FeatureDistance(PerceptualDistance):
    """Squared difference of unit-normalised feature maps of a frozen network, summed over the layers `taps`.

    What LPIPS (arXiv 1801.03924) measures, without its learned channel weights. network: any module; taps: names of its
    submodules; mean, scale: the network sees (255 * image - mean) / scale.
    """

    def __init__(self, network: nn.Module, taps: list[str], mean: float = 127.0, scale: float = 128.0):
        super().__init__([mean], [scale])
        self.network = network.eval().requires_grad_(False)
        self.taps = taps

    def maps(self, images: Tensor) -> list[Tensor]:
        """Unit-normalised maps of the taps, (B, C, h, w) each."""
        maps = feature_maps(self.network, self.taps, self.normalised(255 * images))
        return [F.normalize(x, dim=1, eps=1e-6) for x in maps]

    def distances(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> the distance of each pair, (B,)."""
        pairs = self.both_maps(output, target)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar."""
        return self.distances(output, target).mean()


@contextmanager
def located(name: str, option: str) -> Iterator[None]:
    """Raises InputError that names the network and the option for a local file, where a network cannot be had."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"cannot get the network {name} ({reason}); {option}=FILE takes a local file") from error


def load_local(network: nn.Module, weights: str, name: str) -> None:
    """Puts a state dict of timm's or torchvision's into `network`, or that of a checkpoint that timm's training wrote.

    What counts batches is no weight: files have it or not. Raises WeightsError for a file that holds something else.
    """
    state: Mapping[str, Any] = read_state(weights)
    state = state.get("state_dict_ema", state.get("state_dict", state))
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wanted = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    compare(wanted, {key: value.shape for key, value in state.items()}, name)
    network.load_state_dict(state, strict=False)


class TimmNetwork(nn.Module):
    """A classifier of timm as a frozen network: `name` with its published weights, or with those of a local file of timm's.

    Its layers are called as in timm after `network.`, e.g. the tap "network.blocks.4" of an EfficientNet.
    """

    def __init__(self, name: str, weights: str | None = None):
        super().__init__()
        import timm

        with located(name, "weights"), nullcontext() if weights else without_retries():
            self.network = timm.create_model(name, pretrained=weights is None)
        if weights is not None:
            load_local(self.network, weights, name)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits."""
        return self.network(x)


class TorchvisionNetwork(nn.Module):
    """A classifier of torchvision as a frozen network: `name` with its ImageNet weights, or with those of a local file.

    TiTok's perceptual loss takes the logits of convnext_small.
    """

    def __init__(self, name: str, weights: str | None = None):
        super().__init__()
        import torchvision

        with located(name, "weights"):
            self.network = torchvision.models.get_model(name, weights="DEFAULT" if weights is None else None)
        if weights is not None:
            load_local(self.network, weights, name)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits."""
        return self.network(x)
