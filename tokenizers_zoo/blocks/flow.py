"""Rectified flow: straight lines from data to noise.

Source: arXiv 2209.03003; apple/ml-flextok, flextok/flow_matching. At time t a sample is t * noise + (1 - t) * data; a network
says the velocity noise - data.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..part import Part

Times = Literal["logit_normal", "stratified", "uniform", "mode"]


def _stratified(u: Tensor) -> Tensor:
    """Item i of n takes the i-th n-th of a logit-normal distribution."""
    return _logit_normal((torch.arange(len(u), device=u.device) + u) / len(u))


def _logit_normal(u: Tensor) -> Tensor:
    return torch.special.ndtri(u).sigmoid()


def _mode(u: Tensor, scale: float = 1.29) -> Tensor:
    """Heavier in the middle (arXiv 2403.03206, section 3.1)."""
    return 1 - u - scale * ((math.pi / 2 * u).cos().square() - 1 + u)


TIMES: dict[Times, Callable[[Tensor], Tensor]] = {
    "logit_normal": _logit_normal,
    "stratified": _stratified,
    "uniform": lambda u: u,
    "mode": _mode,
}


class RectifiedFlow(Part):
    """What a flow is trained on. times: how training times are spread over (0, 1)."""

    def __init__(self, times: Times = "logit_normal"):
        super().__init__()
        if times not in TIMES:
            raise ValueError(f"times is one of {', '.join(TIMES)}, not {times!r}")
        self.times = times

    def draw(self, u: Tensor) -> Tensor:
        """Uniform numbers (B,) in [0, 1) -> times (B,)."""
        return TIMES[self.times](u)

    def noised(self, data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Data and noise (B, ...), times (B,) -> what the network sees, and the velocity that it is to say."""
        t = time.to(data).reshape(-1, *[1] * (data.ndim - 1))
        return t * noise + (1 - t) * data, noise - data


def euler(velocity: Callable[[Tensor, int], Tensor], noise: Tensor, steps: int) -> Tensor:
    """From noise to a sample by `steps` equal steps; `velocity` gets the sample so far and the number of the step."""
    sample = noise
    for step in range(steps):
        sample = sample - velocity(sample, step) / steps
    return sample


def euler_times(steps: int) -> Tensor:
    """The times of the steps, (steps,): from 1 down to 1 / steps."""
    return 1 - torch.arange(steps) / steps
