"""DM-Codec and its ancestor SpeechTokenizer: residual codebooks, the first of which is taught by language and speech models.

Sources: arXiv 2410.15017 (mubtasimahasan/DM-Codec), arXiv 2308.16692 (ZhangXInFD/SpeechTokenizer). The two share one network;
they differ in what teaches the first codebook.
"""

from typing import Any

from torch import Tensor, nn

from ..blocks.base import AudioDecoder, AudioEncoder
from ..quantizers import Quantizer
from ..quantizers.base import straight_through
from ..tokenizer import AudioTokenizer, Reconstruction


class DMCodec(AudioTokenizer):
    """Encoder, residual quantizer, decoder, and a linear map from the first codebook's vectors to the teacher's features.

    semantic_dim: channels of the teacher's features (768 for BERT, HuBERT and wav2vec 2.0 base).
    """

    def __init__(
        self, encoder: AudioEncoder, quantizer: Quantizer, decoder: AudioDecoder, sample_rate: int, semantic_dim: int = 768
    ):
        super().__init__(encoder, quantizer, decoder, sample_rate)
        self.semantic_head = nn.Linear(encoder.dim, semantic_dim)

    @property
    def roles(self) -> tuple[str, ...]:
        """The first codebook is semantic."""
        return ("semantic", *super().roles[1:])

    def semantic_features(self, latents: Tensor, codes: Tensor) -> Tensor:
        """(B, T, semantic_dim) of latents (B, T, D) and their codes (B, K, T); only the first codebook is read."""
        first = self.discrete().decode(codes[:, :1])
        return self.semantic_head(straight_through(latents.to(first), first).to(self.dtype))

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """As AudioTokenizer's, with features["semantic"] (B, T, semantic_dim) for distillation.

        In training the first codebook's rows are read after this step's moving average.
        """
        result = super().forward(media, **given)
        assert result.quantized is not None
        result.features["semantic"] = self.semantic_features(result.latents, result.quantized.codes)
        return result
