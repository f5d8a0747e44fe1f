"""LM-SPT: semantic codes that an ASR encoder cannot tell from the speech they come from, and acoustic codes beside them.

Sources: arXiv 2506.16738 (16 kHz; 25, 12.5 and 6.25 Hz), kakao/lmspt (24 kHz, 12.5 Hz). The two are wired from different blocks:
models/lm_spt/README.md tells them apart.
"""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ..blocks.base import AudioDecoder
from ..blocks.dual import DualEncoder
from ..media import Audio
from ..part import agree
from ..quantizers import GroupedQuantizer
from ..tokenizer import AudioTokenizer, Reconstruction
from ..tokens import Tokens


class LMSPT(AudioTokenizer):
    """Two encoders, two quantizers; the decoder gets the sum of both halves, the auxiliary decoder the semantic half alone.

    auxiliary: a light decoder at `auxiliary_rate` Hz whose speech is compared by an ASR encoder (resynthesis distillation), heard
    by `decode(tokens, output="auxiliary")`; None lets the main decoder resynthesise. semantic_dim: channels of a linear map from
    the quantized semantic half to a teacher's features, for feature distillation; None for no map.
    """

    needs: Mapping[str, tuple[str, ...]] = MappingProxyType({"main": ("semantic",), "auxiliary": ("semantic",)})

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
        if auxiliary:
            wanted = self.hop * auxiliary_rate / sample_rate
            agree({"auxiliary.hop": auxiliary.hop, "encoder.hop * auxiliary_rate / sample_rate": wanted})
            agree({"decoder.dim": decoder.dim, "auxiliary.dim": auxiliary.dim})
        self.auxiliary, self.auxiliary_rate = auxiliary, auxiliary_rate
        self.semantic_head = nn.Linear(quantizer.dims["semantic"], semantic_dim) if semantic_dim else None

    def check_sizes(self) -> None:
        """The decoder takes the sum of the two halves: each half has its width."""
        encoders = {"semantic": self.encoder.semantic, "acoustic": self.encoder.acoustic or self.encoder.semantic}
        halves = {f"encoder.{role}.dim": half.dim for role, half in encoders.items()}
        halves |= {f"quantizer.{role}.dim": dim for role, dim in self.quantizer.dims.items()}
        agree(halves | {"decoder.dim": self.decoder.dim})

    @property
    def outputs(self) -> dict[str, nn.Module]:
        """The auxiliary decoder, if there is one."""
        return {"auxiliary": self.auxiliary} if self.auxiliary else {}

    def decode_latents(self, latents: Tensor, lengths: Tensor | None = None, output: str = "main", **how: Any) -> Tensor:
        """Both halves (B, T, 2 D), lengths (B,) in frames -> waveform (B, 1, T * hop of the output's decoder)."""
        halves = {role: half.to(self.dtype) for role, half in self.quantizer.split(latents).items()}
        if output == "auxiliary":
            assert self.auxiliary is not None
            return self.auxiliary(halves["semantic"], lengths, **how)
        return self.decoder(halves["semantic"] + halves["acoustic"], lengths, **how)

    def decode_semantic(self, tokens: Tokens) -> Audio:
        """`decode(tokens, output="auxiliary")` under its old name, which goes with the next release."""
        warnings.warn('decode_semantic(tokens) is decode(tokens, output="auxiliary")', DeprecationWarning, stacklevel=2)
        return self.decode(tokens, output="auxiliary")

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """As AudioTokenizer's, with features["resynthesis"] (B, 1, S at `auxiliary_rate`), and ["semantic"] of the map."""
        result = super().forward(media, **given)
        assert result.quantized is not None
        semantic = self.quantizer.split(result.quantized.latents)["semantic"].to(self.dtype)
        rate = self.auxiliary_rate if self.auxiliary else self.sample_rate
        resynthesis = (self.auxiliary or self.decoder)(semantic)
        result.features["resynthesis"] = resynthesis[..., : media.shape[-1] * rate // self.sample_rate]
        if self.semantic_head:
            result.features["semantic"] = self.semantic_head(semantic)
        return result
