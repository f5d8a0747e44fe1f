"""Distillation of a teacher's features into a codec's first codebook.

Sources: SpeechTokenizer (arXiv 2308.16692) and DM-Codec (arXiv 2410.15017), trainer.py. Student and teacher are (B, T, D)
and are cut to the shorter one: teachers give 149 frames for 3 s where the codec gives 150.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DAxisDistillation(nn.Module):
    """Mean over feature dimensions of -log sigmoid(cosine *over time* of student and teacher); 0.313 (equal) to 1.313.

    Means are not taken off, as published: where a teacher's dimensions have large ones, a student that stands still comes near
    the optimum.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, T, D), (B, T', D) -> scalar. Raises ValueError for a teacher without a time axis of its own."""
        student, teacher = _cut(student, teacher)
        return -F.logsigmoid(F.cosine_similarity(student, teacher, dim=1)).mean()


class TAxisDistillation(nn.Module):
    """Mean absolute difference + `weight` * mean of -log sigmoid(cosine over the features of each frame)."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, T, D), (B, T', D) -> scalar. Raises ValueError for a teacher without a time axis of its own."""
        student, teacher = _cut(student, teacher)
        similarity = -F.logsigmoid(F.cosine_similarity(student, teacher, dim=-1)).mean()
        return F.l1_loss(student, teacher) + self.weight * similarity


class CombinedDistillation(nn.Module):
    """Weighted sum of one distillation against several teachers: DM-Codec's LM + SM guidance.

    weights: by teacher; None takes the mean. parts: the student is as wide as all teachers together and has a part for each, in
    their order; otherwise it is compared as a whole with every teacher, as DM-Codec does.
    """

    def __init__(
        self,
        distance: DAxisDistillation | TAxisDistillation,
        weights: list[float] | None = None,
        parts: bool = False,
    ):
        super().__init__()
        self.distance, self.weights, self.parts = distance, weights, parts

    def forward(self, student: Tensor, *teachers: Tensor) -> Tensor:
        """(B, T, D) and one (B, T', D') a teacher -> scalar. Raises ValueError unless D is every D', of parts their sum."""
        weights = self.weights or [1 / len(teachers)] * len(teachers)
        sides = self._split(student, [t.shape[-1] for t in teachers]) if self.parts else [student] * len(teachers)
        terms = [w * self.distance(side, t) for w, side, t in zip(weights, sides, teachers, strict=True)]
        return torch.stack(terms).sum()

    def _split(self, student: Tensor, widths: list[int]) -> Sequence[Tensor]:
        if student.shape[-1] != sum(widths):
            raise ValueError(f"a part for each teacher of widths {widths} takes {sum(widths)} channels, got {student.shape[-1]}")
        return student.split(widths, dim=-1)


class PooledDistillation(nn.Module):
    """`distance` of a student and a teacher of a higher frame rate, averaged to the student's (as Mimi does with WavLM)."""

    def __init__(self, distance: nn.Module):
        super().__init__()
        self.distance = distance

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, T, D), (B, T', D) -> scalar."""
        pooled = F.adaptive_avg_pool1d(teacher.transpose(1, 2).float(), student.shape[1]).transpose(1, 2)
        return self.distance(student, pooled)


def _cut(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.ndim != 3 or teacher.ndim != 3 or student.shape[::2] != teacher.shape[::2]:
        raise ValueError(f"student and teacher must be (B, T, D), got {tuple(student.shape)} and {tuple(teacher.shape)}")
    frames = min(student.shape[1], teacher.shape[1])
    return student[:, :frames], teacher[:, :frames]
