"""Image tokenizers whose encoder may be that of a KL autoencoder."""

from typing import Any

import torch
from torch import Tensor

from ..blocks.base import ImageDecoder, ImageEncoder
from ..blocks.gaussian import GaussianPosterior
from ..errors import InputError
from ..quantizers import Quantizer
from .base import Reconstruction
from .image import ImageTokenizer


class VariationalTokenizer(ImageTokenizer):
    """Encoder, quantizer or none, decoder.

    posterior: of an encoder that emits mean and log variance (2 * decoder.dim channels). Published code decodes a *sample* even
    in evaluation; here the latents are the mean, `encode_latents(images, generator)` draws a sample, and
    `encode_latents(images, moments=True)` gives mean and log variance. A quantizer gets the mean.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        decoder: ImageDecoder,
        quantizer: Quantizer | None = None,
        posterior: GaussianPosterior | None = None,
    ):
        super().__init__(encoder, quantizer, decoder, moments=posterior is not None)
        self.posterior = posterior

    def encode_latents(
        self, media: Tensor, generator: torch.Generator | None = None, moments: bool = False, **given: Any
    ) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> (B, positions, D): the posterior's mean, or with `generator` a sample of it.

        moments: mean and log variance side by side, (B, positions, 2 D). Raises InputError where there is no posterior.
        """
        if moments and self.posterior is None:
            raise InputError(f"{self.name} has no posterior and so no moments; encode_latents(images) gives its latents")
        latents = super().encode_latents(media, **given)
        if self.posterior is None or moments:
            return latents
        return self.posterior.sample(latents, generator) if generator else self.posterior.split(latents)[0]

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """As ImageTokenizer's; without quantizer latents are decoded, of a posterior in training a sample, else the mean.

        features["kl"], (B, positions), where there is a posterior and no quantizer.
        """
        if self.quantizer is not None:
            return super().forward(media, **given)
        extent = self._trained_extent(media)
        features: dict[str, Tensor] = {}
        latents = self.encode_latents(media, moments=self.posterior is not None, **given)
        if self.posterior is not None:
            features["kl"] = self.posterior.kl(latents)
            latents = self.posterior.sample(latents) if self.training else self.posterior.split(latents)[0]
        return Reconstruction(self.decode_latents(latents, **given, **extent), latents, features=features)
