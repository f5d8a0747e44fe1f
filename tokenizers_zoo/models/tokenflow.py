"""TokenFlow: one code for what a place of an image means and what it looks like (arXiv 2412.03069; ByteVisionLab/TokenFlow)."""

from typing import Any

import torch
from torch import Tensor

from ..blocks.base import ImageDecoder
from ..blocks.semantic import SemanticDecoder, SemanticPixelEncoder
from ..part import agree
from ..quantizers import Quantizer
from ..tokenizer import ImageTokenizer, Reconstruction
from ..tokens import Tokens


class TokenFlow(ImageTokenizer):
    """Two encoders, one quantizer of both halves side by side, a pixel decoder, and a semantic decoder.

    The pixel half is decoded to an image, the semantic half to a teacher's features: `embed(tokens, "semantic")`.
    """

    role = "semantic"

    encoder: SemanticPixelEncoder

    def __init__(
        self, encoder: SemanticPixelEncoder, quantizer: Quantizer, decoder: ImageDecoder, semantic_decoder: SemanticDecoder
    ):
        super().__init__(encoder, quantizer, decoder)
        agree({"encoder.semantic_dim": encoder.dims["semantic"], "semantic_decoder.dim": semantic_decoder.dim})
        agree({"encoder.positions": encoder.positions, "semantic_decoder.positions": semantic_decoder.positions})
        self.semantic_decoder = semantic_decoder

    def check_sizes(self) -> None:
        """The decoder takes the pixel half alone; a quantizer's last scale is the encoder's grid."""
        quantizer = self.discrete()
        agree({"encoder.dim": self.encoder.dim, "quantizer.dim": quantizer.dim})
        agree({"encoder.pixel.dim": self.encoder.dims["pixel"], "decoder.dim": self.decoder.dim})
        if quantizer.scales:
            agree({"encoder.positions": self.encoder.positions, "the square of the last scale": quantizer.scales[-1] ** 2})

    def decode_latents(self, latents: Tensor, **how: Any) -> Tensor:
        """Both halves (B, positions, D) -> pixels (B, 3, S, S), unbounded."""
        return super().decode_latents(self.encoder.split(latents)["pixel"], **how)

    def semantic_features(self, latents: Tensor) -> Tensor:
        """Both halves (B, positions, D), quantized -> features in the teacher's space (B, positions, D')."""
        return self.semantic_decoder(self.encoder.split(latents)["semantic"].to(self.dtype))

    @torch.no_grad()
    def embed(self, tokens: Tokens, role: str) -> Tensor:
        """Features in the teacher's space for "semantic", (B, positions, D'), the quantized half for "pixel"; else as ever.

        A prefix has features of all positions, too.
        """
        if role not in self.encoder.dims:
            return super().embed(tokens, role)
        tokens = self._own(tokens).to(self.device)
        latents = self.latents(tokens.codes, tokens.spec.codebook_ids)
        features = self.semantic_features(latents).float() if role == "semantic" else self.encoder.split(latents)[role]
        return features if tokens.spec.scales else features * tokens.mask[..., None]  # the positions of scales are no latents

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """As ImageTokenizer's, with features["semantic"] (B, D', grid, grid), in the teacher's space."""
        result = super().forward(media, **given)
        assert result.quantized is not None
        features = self.semantic_features(result.quantized.latents)
        result.features["semantic"] = features.transpose(1, 2).unflatten(2, (self.semantic_decoder.grid,) * 2)
        return result
