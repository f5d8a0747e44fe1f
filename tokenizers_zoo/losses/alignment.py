"""Alignment of hidden states with a frozen vision model."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..frozen import Frozen


class FeatureAlignment(Frozen):
    """Minus the cosine of projected hidden states and a frozen teacher's features, a mean over places: 1 to -1, which is equal
    (REPA, arXiv 2410.06940; sihyun-yu/REPA, loss.py).

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


class SquaredCosine(nn.Module):
    """Mean squared difference minus the mean cosine of the vectors of student and teacher; -1 where they are equal."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(..., D), (..., D) -> scalar. Raises InputError for two shapes."""
        if student.shape != teacher.shape:
            raise InputError(f"student and teacher must be of one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}")
        return F.mse_loss(student, teacher) - F.cosine_similarity(student, teacher, dim=-1).mean()


class TowerDistillation(Frozen):
    """`states` x the distance of the states from a frozen tower's, plus `pooled` x that of its pooled output (DualToken: 5 and 1;
    arXiv 2503.14324, songweii/DualToken, train.py).

    teacher: makes (B, N, D) and (B, D) of images, e.g. a SigLIPTeacher.
    """

    def __init__(self, teacher: nn.Module, states: float = 5.0, pooled: float = 1.0):
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.weights, self.distance = (states, pooled), SquaredCosine()

    def forward(self, states: Tensor, pooled: Tensor, media: Tensor) -> Tensor:
        """States (B, N, D), pooled output (B, D), and images (B, 3, H, W) in [0, 1] that the teacher sees -> scalar."""
        sides = zip(self.weights, (states, pooled), self.teacher(media), strict=True)
        return sum((weight * self.distance(mine, theirs) for weight, mine, theirs in sides), media.new_zeros(()))
