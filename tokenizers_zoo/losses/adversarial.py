"""Adversarial terms: on the logits and feature maps of discriminators.

A discriminator set gives a list of logits (one tensor a sub-discriminator) and, for each, a list of feature maps.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class LeastSquares(nn.Module):
    """LSGAN (arXiv 1611.04076) as in HiFi-GAN, DM-Codec and LM-SPT: sums over sub-discriminators of means."""

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Sum of mean (1 - D(x))^2 + mean D(x')^2."""
        return torch.stack([(1 - r).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]).sum()

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Sum of mean (1 - D(x'))^2."""
        return torch.stack([(1 - f).square().mean() for f in fake]).sum()


class Hinge(nn.Module):
    """Hinge loss (arXiv 1705.02894) as in VQGAN and TiTok: the discriminator's two halves are averaged.

    slope: what is left of the gradient past the margins (DualToken: 0.01, so that the loss can become negative).
    """

    def __init__(self, slope: float = 0.0):
        super().__init__()
        self.slope = slope

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Sum of (mean relu(1 - D(x)) + mean relu(1 + D(x'))) / 2."""
        return torch.stack([(self._past(1 - r) + self._past(1 + f)) / 2 for r, f in zip(real, fake, strict=True)]).sum()

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Sum of -mean D(x')."""
        return torch.stack([-f.mean() for f in fake]).sum()

    def _past(self, margin: Tensor) -> Tensor:
        return F.leaky_relu(margin, self.slope).mean()


class LeCam(nn.Module):
    """Regularisation towards running means of the logits (arXiv 2104.03310; bytedance/1d-tokenizer, losses.py).

    The means start at 0, have decay 0.999, and are read before they are updated. They are those of all processes' logits, and so
    is the loss: its gradient, averaged over processes, is that of one process with all their items.
    """

    running: Tensor

    def __init__(self, decay: float = 0.999):
        super().__init__()
        self.decay = decay
        self.register_buffer("running", torch.zeros(2))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits of any shape -> scalar; in training mode the running means move."""
        means = torch.stack([real.mean(), fake.mean()])
        shared = means.detach()
        if dist.is_available() and dist.is_initialized():
            shared = shared / dist.get_world_size()
            dist.all_reduce(shared)
            means = means + (shared - means).detach()
        loss = F.relu(means[0] - self.running[1]).square() + F.relu(self.running[0] - means[1]).square()
        if self.training:
            self.running.lerp_(shared, 1 - self.decay)
        return loss


class FeatureMatching(nn.Module):
    """Sum over sub-discriminators and layers of the mean absolute difference of feature maps (arXiv 1910.06711).

    The real side is a target: no gradient flows through it. DM-Codec multiplies by 2 and matches the logits of its
    multi-period and multi-scale discriminators too; LM-SPT matches no logits and its trainer multiplies by 2.
    """

    def forward(self, real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
        """Feature maps by sub-discriminator and layer -> scalar."""
        maps = [(a.detach(), b) for r, f in zip(real, fake, strict=True) for a, b in zip(r, f, strict=True)]
        return torch.stack([F.l1_loss(b, a) for a, b in maps]).sum()
