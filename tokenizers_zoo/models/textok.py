"""TexTok: encoder and decoder lean on a caption, and tokens need not say what it says (arXiv 2412.05796; no official code)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.base import ImageDecoder, ImageEncoder
from ..blocks.gaussian import GaussianPosterior
from ..blocks.text import TextEncoder
from ..quantizers import Quantizer
from ..tokenizer import Reconstruction
from .ta_titok import TATiTok


class TexTok(TATiTok):
    """ViT encoder, quantizer or none, ViT decoder, and a frozen text encoder that both sides read.

    "" is a learned vector in the place of a caption's features. drop: share of captions that are "" in training, so that it is
    learned. nested: numbers of positions, for parts that are `ordered`; each training batch is decoded from the first so many,
    one of these numbers at random, and any prefix can be decoded. posterior: as TiTok's.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        decoder: ImageDecoder,
        text_encoder: TextEncoder,
        quantizer: Quantizer | None = None,
        posterior: GaussianPosterior | None = None,
        drop: float = 0.1,
        nested: Sequence[int] = (),
    ):
        super().__init__(encoder, decoder, text_encoder, quantizer, posterior)
        if not 0 <= drop <= 1 or not all(0 < count <= encoder.positions for count in nested):
            raise ValueError(f"drop must be from 0 to 1, nested from 1 to {encoder.positions}; got {drop} and {nested}")
        if encoder.ordered != bool(nested):
            raise ValueError(f"encoder.ordered = {encoder.ordered} and nested = {nested}: both or neither")
        self.drop, self.nested = drop, tuple(nested)
        self.null = nn.Parameter(torch.randn(text_encoder.dim) * text_encoder.dim**-0.5)

    def forward(self, media: Tensor, text: Sequence[str] | Tensor | None = None, **given: Any) -> Reconstruction:
        """As TiTok's; some captions are dropped, on both sides alike."""
        if self.training and text is not None and not isinstance(text, Tensor):
            text = ["" if dropped else caption for caption, dropped in zip(text, torch.rand(len(text)) < self.drop, strict=True)]
        return super().forward(media, text=text, **given)

    def decode_latents(self, latents: Tensor, text: Sequence[str] | Tensor | None = None, **how: Any) -> Tensor:
        """As TATiTok's; in training mode of a random number of the first positions, where `nested`."""
        if self.training and self.nested:
            latents = latents[:, : self.nested[int(torch.randint(len(self.nested), ()))]]
        return super().decode_latents(latents, text, **how)

    def rows(self, text: Sequence[str]) -> list[Tensor]:
        """Features (L, dim) of each caption, the null's (1, dim) for ""."""
        found = iter(self.text_encoder([caption for caption in text if caption], self.device))
        nothing = 0 * self.null  # has a gradient in every batch, as distributed training needs
        return [next(found) + nothing if caption else self.null[None] for caption in text]
