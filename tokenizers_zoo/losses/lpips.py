"""LPIPS with VGG-16 (arXiv 1801.03924; richzhang/PerceptualSimilarity, and its copy in bytedance/1d-tokenizer)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..frozen import feature_maps
from ..weights import load_strict, read_state
from .perceptual import PerceptualDistance, located

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of inputs in [-1, 1]
TAPS = (3, 8, 15, 22, 29)  # the last ReLU of each of VGG's five stages
CHANNELS = (64, 128, 256, 512, 512)


def vgg16_layers(vgg: str | None = None, random: bool = False) -> nn.Sequential:
    """VGG-16 up to its last tap. vgg, random: as of `LPIPS`. Raises InputError where it cannot be had, or WeightsError."""
    from torchvision.models import vgg16

    state = None if random else _vgg16_state(vgg)
    with torch.device("meta"):  # the classifier on top, most of VGG, is never made
        layers = vgg16().features[: TAPS[-1] + 1]
    layers.to_empty(device="cpu")
    if state is None:
        for module in layers:
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    else:
        load_strict(layers, {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}, "VGG-16")
    for module in layers:
        if isinstance(module, nn.ReLU):
            module.inplace = False  # a map is read after the next layer has run
    return layers


def _vgg16_state(vgg: str | None) -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights

    if vgg is not None:
        return read_state(vgg)
    with located("VGG-16 of torchvision", "vgg"):
        return dict(VGG16_Weights.IMAGENET1K_V1.get_state_dict())


def vgg16_maps(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What leaves the five stages of `vgg16_layers` for normalised images, (B, C, h, w) each."""
    return feature_maps(layers, [str(tap) for tap in TAPS], x)


class LPIPS(PerceptualDistance):
    """Squared difference of unit-normalised VGG maps, weighted by channel, averaged over the picture, summed over five stages.

    vgg: a state dict of torchvision's vgg16 as a local file; None lets torchvision download ImageNet's. The channel weights
    (version 0.1) come with torchmetrics. random: no VGG weights are loaded, for tests.
    """

    def __init__(self, vgg: str | None = None, random: bool = False):
        super().__init__(SHIFT, SCALE)
        import torchmetrics

        self.features = vgg16_layers(vgg, random)
        heads = read_state(Path(torchmetrics.__file__).parent / "functional/image/lpips_models/vgg.pth")
        self.heads = nn.ParameterList(heads[f"lin{i}.model.1.weight"] for i in range(len(TAPS)))
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Unit-normalised maps of images in [0, 1], one a stage."""
        maps = vgg16_maps(self.features, self.normalised(2 * images - 1))
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in maps]

    def distances(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> the distance of each pair, (B,)."""
        pairs = zip(self.both_maps(output, target), self.heads, strict=True)
        return torch.stack([F.conv2d((a - b).square(), head).mean(dim=(1, 2, 3)) for (a, b), head in pairs]).sum(0)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> mean over the batch."""
        return self.distances(output, target).mean()
