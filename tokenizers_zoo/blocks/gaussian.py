"""The posterior of a KL autoencoder."""

import torch
from torch import Tensor

from ..part import Part


class GaussianPosterior(Part):
    """A diagonal Gaussian from its parameters (B, N, 2 * dim) = [mean, log variance]; has no weights.

    The log variance is clamped to [-30, 20] (bytedance/1d-tokenizer, modeling/quantizer).
    """

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (B, N, dim)."""
        mean, log_variance = parameters.chunk(2, dim=-1)
        return mean, log_variance.clamp(-30, 20)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw, (B, N, dim). A generator of the CPU gives the same one for parameters on any device."""
        mean, log_variance = self.split(parameters)
        where = mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, device=where, dtype=mean.dtype)
        return mean + (0.5 * log_variance).exp() * noise.to(mean.device)

    def kl(self, parameters: Tensor) -> Tensor:
        """KL divergence from the standard normal in nats, summed over channels: float32 (B, N).

        In bfloat16 what is left of exp(v) - 1 - v near the prior is rounding.
        """
        mean, log_variance = self.split(parameters.float())
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
