"""Discriminators that look at samples (HiFi-GAN, arXiv 2010.05646; DM-Codec, codec/discriminators.py)."""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from .base import Judgement, run

SLOPE = 0.1


class MultiPeriodDiscriminator(nn.Module):
    """One sub-discriminator a period: the waveform folded to (S / period, period), convolved along time only.

    width: channels of the first layer, times 4 a layer up to 32 times. Of waveforms that do not divide, the end is reflected.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), width: int = 32):
        super().__init__()
        self.periods = tuple(periods)
        widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.layers = nn.ModuleList(
            nn.ModuleList(
                weight_norm(nn.Conv2d(a, b, (5, 1), (3 if i < 4 else 1, 1), (2, 0)))
                for i, (a, b) in enumerate(itertools.pairwise(widths))
            )
            for _ in periods
        )
        self.last = nn.ModuleList(weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0))) for _ in periods)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Waveform (B, 1, S) -> one judgement a period."""
        judgements = []
        for period, layers, last in zip(self.periods, self.layers, self.last, strict=True):
            padded = F.pad(x, (0, -x.shape[-1] % period), mode="reflect")
            folded = padded.unflatten(-1, (-1, period))
            judgements.append(run(layers, last, folded, SLOPE))  # type: ignore[arg-type]  # a ModuleList of a ModuleList
        return judgements


class MultiScaleDiscriminator(nn.Module):
    """`scales` sub-discriminators, each on the waveform averaged down by 2 once more; the first is under spectral norm.

    width: channels of the first layer; published 128.
    """

    def __init__(self, scales: int = 3, width: int = 128):
        super().__init__()
        w = width
        plan = [  # inputs, outputs, kernel, stride, groups
            (1, w, 15, 1, 1),
            (w, w, 41, 2, 4),
            (w, 2 * w, 41, 2, 16),
            (2 * w, 4 * w, 41, 4, 16),
            (4 * w, 8 * w, 41, 4, 16),
            (8 * w, 8 * w, 41, 1, 16),
            (8 * w, 8 * w, 5, 1, 1),
        ]
        norms = [spectral_norm if scale == 0 else weight_norm for scale in range(scales)]
        self.layers = nn.ModuleList(
            nn.ModuleList(norm(nn.Conv1d(a, b, k, s, k // 2, groups=g)) for a, b, k, s, g in plan) for norm in norms
        )
        self.last = nn.ModuleList(norm(nn.Conv1d(8 * w, 1, 3, 1, 1)) for norm in norms)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Waveform (B, 1, S) -> one judgement a scale."""
        judgements = []
        for scale, (layers, last) in enumerate(zip(self.layers, self.last, strict=True)):
            x = F.avg_pool1d(x, 4, 2, 2) if scale else x
            judgements.append(run(layers, last, x, SLOPE))  # type: ignore[arg-type]  # a ModuleList of a ModuleList
        return judgements
