"""Features of a frozen network in place of tokens: what tokens that follow it could say at most."""

from typing import Any

import torch
from torch import Tensor

from ..losses.perceptual import TimmNetwork
from ..media import Audio, Images
from ..teachers.vision import VisionTeacher
from ..weights import fingerprint
from .base import Item, System


class Features(System):
    """The map of a layer of any timm network, row by row. It has no bits, and nothing comes back.

    By default what the tiny recipes teach: EfficientNet-Lite0, the last layer at a 16th of 128 pixels. tap, size, mean, scale and
    weights as of `FrechetDistance`.
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
        colours = [mean / 255] * 3, [scale / 255] * 3
        self.network = VisionTeacher(TimmNetwork(name, weights), tap, size, *colours)
        self.name, self.weights = f"{name} {tap.removeprefix('network.')}", fingerprint(self.network.state_dict())

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images | None, Item]:
        """Nothing."""
        return None, {}

    @torch.no_grad()
    def latents(self, media: Audio | Images, item: Item) -> Tensor | None:
        """(places, channels)."""
        assert isinstance(media, Images)
        return self.network(media.pixels.to(self.device))[0].flatten(1).T.cpu()
