"""Frozen vision models, by timm or Hugging Face, as teachers of patch features."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..frozen import Frozen, feature_maps
from ..losses.perceptual import IMAGENET_MEAN, IMAGENET_STD
from .base import open_model


class HubNetwork(nn.Module):
    """A vision model of transformers, e.g. facebook/dinov2-large, by its name on the Hub or a local folder.

    Its layers are called as there after `network.`: the tap "network.layernorm" of a DINOv2.
    """

    def __init__(self, path: str):
        super().__init__()
        from transformers import AutoModel

        self.network = open_model(AutoModel, path)

    def forward(self, x: Tensor) -> object:
        """Normalised images (B, 3, H, W) -> the model's output."""
        return self.network(pixel_values=x)


class VisionTeacher(Frozen):
    """Images (B, 3, H, W) in [0, 1] -> what the layer `tap` of a frozen network makes of them, a map (B, D, h, w).

    network: TimmNetwork, HubNetwork or any other; tap: name of a submodule that gives maps (B, D, h, w), or tokens (B, N, D) of a
    square image, of which those before the patches (class token, registers) are left out. image_size: a side to which images are
    resized first; None takes them as they are. mean, std: of each colour, taken off before.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        tap: str,
        image_size: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ):
        super().__init__()
        self.network, self.tap, self.image_size = network.eval().requires_grad_(False), tap, image_size
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, h, w). Raises InputError for a layer that gives something else."""
        if self.image_size:
            images = F.interpolate(images, (self.image_size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
        found = feature_maps(self.network, [self.tap], (images - self.mean) / self.std)[0]
        found = found[0] if isinstance(found, tuple) else found
        if found.ndim == 3:
            side = math.isqrt(found.shape[1])
            found = found[:, found.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))
        if found.ndim != 4:
            raise InputError(f"the layer {self.tap} gives {tuple(found.shape)}; choose one that gives maps or tokens")
        return found


class TokenTeacher(Frozen):
    """Images (B, 3, H, W) in [0, 1] -> the map of a VisionTeacher at `side` x `side` places, as tokens row by row (B, side^2, D),
    and its mean (B, D): what a semantic vocabulary follows where the network has no pooled output of its own.
    """

    def __init__(self, teacher: VisionTeacher, side: int):
        super().__init__()
        self.teacher, self.side = teacher, side

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, side^2, D), (B, D)."""
        found = self.teacher(images)
        resized = F.interpolate(found, (self.side, self.side), mode="bilinear", antialias=True)
        return resized.flatten(2).transpose(1, 2), found.mean((2, 3))
