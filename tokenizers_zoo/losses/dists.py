"""DISTS with VGG-16 (Ding et al. 2020, arXiv 2004.07728; dingkeyan93/DISTS)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights import read_state
from .lpips import CHANNELS, TAPS, vgg16_layers
from .perceptual import IMAGENET_MEAN, IMAGENET_STD

SMALL = 1e-6  # keeps the ratios of empty maps at 1


class DISTS(nn.Module):
    """1 minus the weighted similarity of means (texture) and of correlations (structure) of the picture and five VGG stages.

    VGG's maximum pooling is replaced by the root of a Hann-weighted mean of squares. vgg: a state dict of torchvision's vgg16
    as a local file; None lets torchvision download ImageNet's. The weights of the channels come with torchmetrics. random: no
    VGG weights are loaded, for tests.
    """

    mean: Tensor
    std: Tensor
    window: Tensor

    def __init__(self, vgg: str | None = None, random: bool = False):
        super().__init__()
        import torchmetrics

        self.layers = vgg16_layers(vgg, random)
        state = read_state(Path(torchmetrics.__file__).parent / "functional/image/dists_models/weights.pt")
        total, sizes = sum(float(w.sum()) for w in state.values()), (3, *CHANNELS)
        self.textures, self.structures = (
            nn.ParameterList(w.flatten().div(total).split(sizes)) for w in (state["alpha"], state["beta"])
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(hann, hann), persistent=False)
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The images in [0, 1] themselves, and the maps of the five stages."""
        x, found = (images - self.mean) / self.std, [images]
        for index, layer in enumerate(self.layers):
            x = self._pool(x) if isinstance(layer, nn.MaxPool2d) else layer(x)
            if index in TAPS:
                found.append(x)
        return found

    def _pool(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], 1, -1, -1)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()

    def distances(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> the distance of each pair, (B,), 0 for equal ones."""
        with torch.no_grad():
            wanted = self.maps(target)
        similarity = torch.zeros(len(output), device=output.device)
        for a, b, texture, structure in zip(self.maps(output), wanted, self.textures, self.structures, strict=True):
            ma, mb = a.mean((2, 3)), b.mean((2, 3))
            spread = a.var((2, 3), correction=0) + b.var((2, 3), correction=0)
            shared = (a * b).mean((2, 3)) - ma * mb
            similarity = similarity + (2 * ma * mb + SMALL) / (ma**2 + mb**2 + SMALL) @ texture
            similarity = similarity + (2 * shared + SMALL) / (spread + SMALL) @ structure
        return 1 - similarity

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> mean over the batch."""
        return self.distances(output, target).mean()
