"""Alignment of a generator's hidden states with a vision model (REPA, arXiv 2410.06940; sihyun-yu/REPA, loss.py)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..frozen import Frozen


class FeatureAlignment(Frozen):
    """Minus the cosine of projected hidden states and a frozen teacher's features, a mean over places: 1 to -1, which is equal.

    teacher: a VisionTeacher, or what else makes maps (B, D, h', w') of images; they are resized to the hidden states' places.
    """

    def __init__(self, teacher: nn.Module):
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)

    def forward(self, projected: Tensor, media: Tensor) -> Tensor:
        """Projected states (B, D, h, w) and images (B, 3, H, W) in [0, 1] -> scalar. Raises InputError for another D."""
        target: Tensor = self.teacher(media)
        if target.shape[1] != projected.shape[1]:
            raise InputError(
                f"the teacher's features have {target.shape[1]} dimensions, the projected states {projected.shape[1]}: set the "
                f"projector's dim to {target.shape[1]}"
            )
        if target.shape[2:] != projected.shape[2:]:
            target = F.interpolate(target, projected.shape[2:], mode="bilinear", antialias=True)
        return -(F.normalize(projected, dim=1) * F.normalize(target, dim=1)).sum(1).mean()
