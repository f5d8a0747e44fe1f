"""Classifier-free guidance of a velocity, plain and with adaptive projection."""

import torch
from torch import Tensor


class ProjectedGuidance:
    """Adaptive projected guidance (arXiv 2410.02416) on a rectified flow's velocity, over the steps of one sampling.

    As apple/ml-flextok, flextok/flow_matching/cfg_utils.py, has it: of velocity - unconditional velocity a sum with momentum -0.5
    is kept; its norm is limited to 2.5 an item, and only what is orthogonal to the velocity is added.
    """

    def __init__(self, momentum: float = -0.5, limit: float = 2.5):
        self.momentum, self.limit, self.running = momentum, limit, torch.zeros(())

    def __call__(self, velocity: Tensor, null: Tensor, weight: float) -> Tensor:
        """Velocities (B, ...), with and without the condition -> the guided one."""
        axes = tuple(range(1, velocity.ndim))
        self.running = velocity - null + self.momentum * self.running
        length = torch.linalg.vector_norm(self.running, dim=axes, keepdim=True)
        update = (self.running * (self.limit / length).clamp(max=1)).double()
        along = velocity.double()
        along = along / torch.linalg.vector_norm(along, dim=axes, keepdim=True).clamp(min=1e-12)
        rest = update - (update * along).sum(axes, keepdim=True) * along
        return velocity + (weight - 1) * rest.to(velocity)


def guided(velocity: Tensor, null: Tensor, weight: float) -> Tensor:
    """Plain guidance: away from the unconditional velocity by `weight`."""
    return null + weight * (velocity - null)
