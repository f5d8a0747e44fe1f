"""LM-SPT: semantic codes that an ASR encoder cannot tell from the speech they come from, and acoustic codes beside them.

Sources: arXiv 2506.16738 (16 kHz; 25, 12.5 and 6.25 Hz), kakao/lmspt (24 kHz, 12.5 Hz). The two are wired from different blocks:
models/lm_spt/README.md tells them apart.
"""

from torch import Tensor, nn

from ..blocks.base import AudioDecoder
from ..blocks.dual import DualEncoder
from ..errors import TokenError
from ..media import Audio
from ..quantizers import GroupedQuantizer
from ..tokenizer import AudioTokenizer, Reconstruction
from ..tokens import Tokens


class LMSPT(AudioTokenizer):
    """Two encoders, two quantizers; the decoder gets the sum of both halves, the auxiliary decoder the semantic half alone.

    auxiliary: a light decoder at `auxiliary_rate` Hz whose speech is compared by an ASR encoder (resynthesis distillation);
    None lets the main decoder resynthesise. semantic_dim: channels of a linear map from the quantized semantic half to a
    teacher's features, for feature distillation; None for no map.
    """

    encoder: DualEncoder
    quantizer: GroupedQuantizer

    def __init__(
        self,
        encoder: DualEncoder,
        quantizer: GroupedQuantizer,
        decoder: AudioDecoder,
        sample_rate: int,
        auxiliary: AudioDecoder | None = None,
        auxiliary_rate: int = 16000,
        semantic_dim: int | None = None,
    ):
        super().__init__(encoder, quantizer, decoder, sample_rate)
        if auxiliary and auxiliary.hop * sample_rate != self.hop * auxiliary_rate:
            raise ValueError(f"the auxiliary decoder needs {self.hop * auxiliary_rate / sample_rate:g} samples a frame")
        self.auxiliary, self.auxiliary_rate = auxiliary, auxiliary_rate
        self.semantic_head = nn.Linear(quantizer.dims["semantic"], semantic_dim) if semantic_dim else None

    @property
    def roles(self) -> tuple[str, ...]:
        """Semantic codebooks first."""
        return self.quantizer.roles

    def decode_latents(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Both halves (B, T, 2 D), lengths (B,) in frames -> waveform (B, 1, T * hop)."""
        halves = self.quantizer.split(latents)
        return self.decoder(halves["semantic"] + halves["acoustic"], lengths)

    def resynthesise(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The semantic half of (B, T, 2 D) through the auxiliary decoder -> (B, 1, samples) at `auxiliary_rate`."""
        return (self.auxiliary or self.decoder)(self.quantizer.split(latents)["semantic"], lengths)

    def decode_semantic(self, tokens: Tokens) -> Audio:
        """Audio of the semantic codes alone through the auxiliary decoder, at `auxiliary_rate`.

        `decode(tokens.codebooks("semantic"))` is the same through the main one. Raises TokenError for tokens of another
        tokenizer, and where there is no auxiliary decoder.
        """
        if self.auxiliary is None:
            raise TokenError(f'{self.name} has no auxiliary decoder: use decode(tokens.codebooks("semantic"))')
        return self._decode(tokens, self.resynthesise, self.auxiliary, self.auxiliary_rate)

    def forward(self, batch: Tensor) -> Reconstruction:
        """As AudioTokenizer's, with features["resynthesis"] (B, 1, S at `auxiliary_rate`), and ["semantic"] of the map."""
        result = super().forward(batch)
        assert result.quantized is not None
        rate = self.auxiliary_rate if self.auxiliary else self.sample_rate
        resynthesis = self.resynthesise(result.quantized.latents)
        result.features["resynthesis"] = resynthesis[..., : batch.shape[-1] * rate // self.sample_rate]
        if self.semantic_head:
            result.features["semantic"] = self.semantic_head(self.quantizer.split(result.quantized.latents)["semantic"])
        return result
