"""Clips that are too long for a model, in pieces that are not."""

import math

import torch.nn.functional as F
from torch import Tensor

from .base import RATE

HOP, PAUSE = RATE // 100, RATE // 5  # where a cut may be, and what has to be quiet around it


def windows(waveform: Tensor, longest: float = 30.0) -> list[slice]:
    """Pieces of a clip (S,) at 16 kHz, one after the other, of at most `longest` seconds and at least a third of that.

    A clip that is no longer is one piece. Others are cut into about equal ones, at the quietest fifth of a second that is less
    than a twelfth of `longest` away from the exact place.
    """
    total, most = len(waveform), int(longest * RATE)
    if total <= most:
        return [slice(0, total)]
    reach = most // 12
    count = math.ceil(total / (most - 2 * reach))
    loudness = F.avg_pool1d(waveform.float().square()[None, None], PAUSE, HOP)[0, 0]
    margin = PAUSE // 2 // HOP  # a fifth of a second starts that many hops before its middle
    cuts = [0]
    for exact in (total * index // count for index in range(1, count)):
        first, last = math.ceil((exact - reach) / HOP), (exact + reach) // HOP
        quietest = first + int(loudness[first - margin : last - margin + 1].argmin())
        cuts.append(quietest * HOP)
    return [slice(start, end) for start, end in zip(cuts, [*cuts[1:], total], strict=True)]
