"""TA-TiTok: TiTok whose decoder also reads the caption (arXiv 2501.07730; bytedance/1d-tokenizer, modeling/tatitok.py)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..blocks.base import ImageDecoder, ImageEncoder
from ..blocks.gaussian import GaussianPosterior
from ..blocks.text import TextEncoder, TextFeatures, side_by_side
from ..part import agree
from ..quantizers import Quantizer
from .titok import TiTok


class TATiTok(TiTok):
    """ViT encoder, quantizer, ViT decoder, and a frozen text encoder for the sides that have a part `text`.

    `text` is one string an item, or features (B, L, dim) that the text encoder gave before. "" is what the text encoder makes of
    an empty caption. posterior: as TiTok's.
    """

    takes = ("text",)

    def __init__(
        self,
        encoder: ImageEncoder,
        decoder: ImageDecoder,
        text_encoder: TextEncoder,
        quantizer: Quantizer | None = None,
        posterior: GaussianPosterior | None = None,
    ):
        super().__init__(encoder, decoder, quantizer, posterior)
        parts = {"encoder.text": getattr(encoder, "text", None), "decoder.text": getattr(decoder, "text", None)}
        parts["text_encoder"] = self.text_encoder = text_encoder
        for size in ("dim", "length"):
            agree({f"{name}.{size}": getattr(part, size, None) for name, part in parts.items()})

    def encode_latents(self, media: Tensor, *args: Any, text: Sequence[str] | Tensor | None = None, **given: Any) -> Tensor:
        """As TiTok's, with captions. Raises InputError for one that is too long, whether the encoder reads it or not."""
        if getattr(self.encoder, "text", None):
            given["text"] = self.features(text, len(media))
        elif not (text is None or isinstance(text, Tensor)):
            self.text_encoder.ids([caption for caption in text if caption])
        return super().encode_latents(media, *args, **given)

    def decode_latents(self, latents: Tensor, text: Sequence[str] | Tensor | None = None, **how: Any) -> Tensor:
        """Latents (B, positions, D) and captions -> pixels (B, 3, S, S), unbounded."""
        if getattr(self.decoder, "text", None):
            how["text"] = self.features(text, len(latents))
        return super().decode_latents(latents, **how)

    def features(self, text: Sequence[str] | Tensor | None, count: int) -> TextFeatures:
        """What both sides read of `count` captions."""
        if isinstance(text, Tensor):
            return TextFeatures(text.to(self.device, self.dtype))
        rows = self.rows([""] * count if text is None else text)
        return side_by_side([row.to(self.dtype) for row in rows])

    def rows(self, text: Sequence[str]) -> list[Tensor]:
        """Features (L, dim) of each caption."""
        return self.text_encoder(text, self.device)
