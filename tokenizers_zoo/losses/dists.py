"""DISTS with VGG-16 (Ding et al. 2020, arXiv 2004.07728; dingkeyan93/DISTS)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights import read_state
from .lpips import CHANNELS, vgg16_layers, vgg16_maps
from .perceptual import PerceptualDistance

SMALL = 1e-6  # keeps the ratios of empty maps at 1


class RootMeanPool(nn.Module):
    """Root of a Hann-weighted mean of squares in place of VGG's maximum, stride 2."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(hann, hann), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        window = self.window.expand(x.shape[1], 1, -1, -1)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class DISTS(PerceptualDistance):
    """1 minus the weighted similarity of means (texture) and of correlations (structure) of the picture and five VGG stages.

    VGG pools by `RootMeanPool`. vgg: a state dict of torchvision's vgg16
    as a local file; None lets torchvision download ImageNet's. The weights of the channels come with torchmetrics. random: no
    VGG weights are loaded, for tests.
    """

    def __init__(self, vgg: str | None = None, random: bool = False):
        super().__init__()
        import torchmetrics

        self.layers = vgg16_layers(vgg, random)
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.MaxPool2d):
                self.layers[index] = RootMeanPool()
        state = read_state(Path(torchmetrics.__file__).parent / "functional/image/dists_models/weights.pt")
        total = sum(float(w.sum()) for w in state.values())
        self.textures, self.structures = (
            nn.ParameterList(w.flatten().div(total).split((3, *CHANNELS))) for w in (state["alpha"], state["beta"])
        )
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The images in [0, 1] themselves, and the maps of the five stages."""
        return [images, *vgg16_maps(self.layers, self.normalised(images))]

    def distances(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> the distance of each pair, (B,), 0 for equal ones."""
        similarity = torch.zeros(len(output), device=output.device)
        for (a, b), texture, structure in zip(self.both_maps(output, target), self.textures, self.structures, strict=True):
            ma, mb = a.mean((2, 3)), b.mean((2, 3))
            spread = a.var((2, 3), correction=0) + b.var((2, 3), correction=0)
            shared = (a * b).mean((2, 3)) - ma * mb
            similarity = similarity + (2 * ma * mb + SMALL) / (ma**2 + mb**2 + SMALL) @ texture
            similarity = similarity + (2 * shared + SMALL) / (spread + SMALL) @ structure
        return 1 - similarity

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> mean over the batch."""
        return self.distances(output, target).mean()
