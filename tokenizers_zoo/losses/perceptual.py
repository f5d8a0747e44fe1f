"""Distances between images as a classifier sees them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights import compare, load_strict, read_state

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LogitsDistance(nn.Module):
    """Mean squared difference of a frozen classifier's logits (bytedance/1d-tokenizer: ConvNeXt-S, ImageNet).

    Images in [0, 1] are resized to 224 x 224 without keeping their aspect ratio (bilinear, antialiased) and normalised by
    ImageNet's statistics; reconstructions are not clamped. Gradients reach the output, never the classifier.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "LogitsDistance":
        """The classifier stays in evaluation mode."""
        super().train(mode)
        self.classifier.eval()
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """What the classifier is fed, (B, 3, 224, 224)."""
        resized = F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False)
        return (resized - self.mean) / self.std

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar."""
        with torch.no_grad():
            wanted = self.classifier(self.prepare(target))
        return F.mse_loss(self.classifier(self.prepare(output)), wanted)


class FeatureDistance(nn.Module):
    """Squared difference of unit-normalised feature maps of a frozen network, summed over the layers `taps`.

    What LPIPS (arXiv 1801.03924) measures, without its learned channel weights. network: any module; taps: names of its
    submodules; mean, scale: the network sees (255 * image - mean) / scale.
    """

    def __init__(self, network: nn.Module, taps: list[str], mean: float = 127.0, scale: float = 128.0):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.taps, self.mean, self.scale = taps, mean, scale

    def train(self, mode: bool = True) -> "FeatureDistance":
        """The network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-normalised maps of the taps, (B, C, h, w) each."""
        maps: dict[str, Tensor] = {}
        hooks = [
            self.network.get_submodule(tap).register_forward_hook(lambda _m, _i, out, tap=tap: maps.update({tap: out}))
            for tap in self.taps
        ]
        try:
            self.network((255 * images - self.mean) / self.scale)
        finally:
            for hook in hooks:
                hook.remove()
        return [F.normalize(maps[tap], dim=1, eps=1e-6) for tap in self.taps]

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar."""
        with torch.no_grad():
            wanted = self.features(target)
        pairs = zip(self.features(output), wanted, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()


class TimmNetwork(nn.Module):
    """A classifier of timm as a frozen network: `name` with its published weights, or with those of a local safetensors file.

    Its layers are called as in timm after `network.`, e.g. the tap "network.blocks.4" of an EfficientNet.
    """

    def __init__(self, name: str, weights: str | None = None):
        super().__init__()
        import timm

        self.network = timm.create_model(name, pretrained=weights is None)
        if weights is not None:
            state = read_state(weights)
            wanted = {k: v for k, v in self.network.state_dict().items() if not k.endswith("num_batches_tracked")}
            compare({k: v.shape for k, v in wanted.items()}, {k: v.shape for k, v in state.items()}, name)
            self.network.load_state_dict(state, strict=False)

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

        self.network = torchvision.models.get_model(name, weights="DEFAULT" if weights is None else None)
        if weights is not None:
            load_strict(self.network, read_state(weights), name)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits."""
        return self.network(x)
