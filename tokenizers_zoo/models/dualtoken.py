"""DualToken: a vocabulary of pixels and one of meaning from one vision transformer (arXiv 2503.14324; songweii/DualToken)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..blocks.base import ImageDecoder
from ..blocks.dual_vocabulary import DualVocabularyEncoder, SemanticHead
from ..part import agree
from ..quantizers import GroupedQuantizer
from ..tokenizer import ImageTokenizer, Reconstruction
from ..tokens import Tokens


class DualToken(ImageTokenizer):
    """Two latents a patch, a quantizer for each, `pixel` and `semantic`; the decoder reads the pixels', `head` the semantic ones.

    Pixel codes alone decode, also the first ones. `embed(tokens, "semantic")` gives the head's states (B, positions, width), in
    the space of the tower that it was trained to follow, and `embed(tokens, "pooled")` that tower's pooled output (B, width).
    """

    needs: Mapping[str, tuple[str, ...]] = MappingProxyType({"main": ("pixel",)})

    def __init__(
        self, encoder: DualVocabularyEncoder, quantizer: GroupedQuantizer | None, decoder: ImageDecoder, head: SemanticHead
    ):
        super().__init__(encoder, quantizer, decoder)
        agree({"encoder.dim / 2": encoder.dim / 2, "head.dim": head.dim})
        self.head = head

    def check_sizes(self) -> None:
        """Each vocabulary has its width."""
        halves = {"encoder.dim / 2": self.encoder.dim / 2, "decoder.dim": self.decoder.dim}
        dims = self.quantizer.dims if isinstance(self.quantizer, GroupedQuantizer) else {}
        agree(halves | {f"quantizer.{role}.dim": dim for role, dim in dims.items()})
        agree({"encoder.dim": self.encoder.dim, "quantizer.dim": getattr(self.quantizer, "dim", None)})

    def decode_latents(self, latents: Tensor, **how: Any) -> Tensor:
        """Latents of both vocabularies (B, positions, 2 D) -> pixels (B, 3, S, S), unbounded."""
        return super().decode_latents(latents.chunk(2, dim=-1)[0], **how)

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """As ImageTokenizer's, with features["semantic"] (B, positions, width) and features["pooled"] (B, width)."""
        result = super().forward(media, **given)
        assert result.quantized is not None
        states, pooled = self.head(result.quantized.latents.chunk(2, dim=-1)[1].to(self.dtype))
        result.features |= {"semantic": states, "pooled": pooled}
        return result

    @torch.no_grad()
    def embed(self, tokens: Tokens, role: str) -> Tensor:
        """Float32: "semantic" (B, positions, width) and "pooled" (B, width) as the head gives them, "pixel" (B, positions, D)."""
        if role not in ("semantic", "pooled"):
            return super().embed(tokens, role)
        states, pooled = self.head(super().embed(tokens, "semantic").to(self.dtype))
        return (states if role == "semantic" else pooled).float()
