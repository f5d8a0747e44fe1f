"""SigLIP's vision tower, which a semantic vocabulary follows."""

import torch
from torch import Tensor

from ..blocks.siglip import SigLIPTower, vision_state
from ..frozen import Frozen
from ..weights import load_strict, read_state


class SigLIPTeacher(Frozen):
    """Images (B, 3, S, S) in [0, 1] -> the states that enter the last layer (B, (S / patch_size)^2, width), and the pooled output
    (B, width), of a published SigLIP or SigLIP 2. The sizes are those of so400m/14 at 384 pixels.

    path: its model.safetensors (Hub: google/siglip2-so400m-patch14-384). None starts from random weights, for tests. Raises
    WeightsError for a file that holds something else.
    """

    def __init__(
        self,
        path: str | None,
        image_size: int = 384,
        patch_size: int = 14,
        width: int = 1152,
        depth: int = 27,
        heads: int = 16,
        hidden: int = 4304,
    ):
        super().__init__()
        self.tower = SigLIPTower(image_size, patch_size, width, depth, heads, hidden)
        if path is not None:
            load_strict(self.tower, vision_state(read_state(path)), f"a SigLIP of {depth} layers of {width}")
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, N, width), (B, width)."""
        states: tuple[Tensor, Tensor] = self.tower(images)
        return states
