"""Our audio tokenizers as transformers' models for audio tokenization, for processors that take an `audio_tokenizer`."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForAudioTokenization, DacConfig, DacModel
from transformers.models.dac.modeling_dac import DacDecoderOutput, DacEncoderOutput

from .. import zoo
from ..errors import InputError
from ..media import Audio
from ..tokenizer import AudioTokenizer
from ..tokens import PAD, Tokens
from ..weights import MODEL_TYPE


class AudioTokenizerConfig(DacConfig):  # type: ignore[no-untyped-call]
    """What processors ask of an audio tokenizer: sampling_rate, hop_length, downsampling_ratios, n_codebooks, codebook_size."""

    model_type = MODEL_TYPE

    @classmethod
    def of(cls, tokenizer: AudioTokenizer) -> Self:
        """That of a tokenizer."""
        spec = tokenizer.spec
        return cls(
            sampling_rate=tokenizer.sample_rate,
            downsampling_ratios=[tokenizer.hop],
            n_codebooks=len(spec.codebook_sizes),
            codebook_size=max(spec.codebook_sizes),
        )


class AudioTokenizerModel(DacModel):  # type: ignore[no-untyped-call]
    """An audio tokenizer of ours behind `encode` and `decode` of transformers' audio tokenizers.

        codec = AudioTokenizerModel.from_pretrained("dm-codec-tiny")
        processor = DiaProcessor(DacFeatureExtractor(sampling_rate=16000, hop_length=codec.config.hop_length), words, codec)

    It is a DacModel by its class alone: transformers' processors take three classes by name (5.23).
    Once this module is imported, AutoModelForAudioTokenization opens folders that `save_pretrained` of a tokenizer wrote.
    """

    config_class = AudioTokenizerConfig

    def __init__(self, tokenizer: AudioTokenizer):
        if not isinstance(tokenizer, AudioTokenizer):
            raise InputError(f"{tokenizer.name} is no audio tokenizer, {type(tokenizer).__name__}")
        super(DacModel, self).__init__(AudioTokenizerConfig.of(tokenizer))  # without the layers of a DAC
        self.tokenizer = tokenizer
        self.name_or_path = tokenizer.name

    @classmethod
    def from_pretrained(cls, name: str | Path, *_: Any, **how: Any) -> Self:  # type: ignore[override]
        """A tokenizer by its name, folder or Hub id, as `load` takes them. device_map: a torch device; dtype: of its weights."""
        found = cls(zoo.load(name, how.get("device_map") or "cpu"))  # type: ignore[arg-type]  # which refuses others
        found.name_or_path = str(name)
        if isinstance(dtype := how.get("dtype"), torch.dtype):
            found.tokenizer.to(dtype)
        return found

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """The tokenizer's folder."""
        self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, input_values: Tensor, padding_mask: Tensor | None = None, **_: Any) -> DacEncoderOutput:
        """Waveforms (B, 1, S) or (B, S), and where they are not padding (B, S) or (B, 1, S) -> audio_codes (B, K, T).

        Frames past an item's end are 0.
        """
        waveform = input_values.reshape(len(input_values), 1, -1)
        full = torch.full((len(waveform),), waveform.shape[-1])
        lengths = full if padding_mask is None else padding_mask.reshape(len(waveform), -1).sum(-1).cpu()
        codes = self.tokenizer.encode(Audio(waveform.float(), self.tokenizer.sample_rate, lengths)).codes
        return DacEncoderOutput(audio_codes=codes.masked_fill(codes == PAD, 0).long())

    @torch.no_grad()
    def decode(self, audio_codes: Tensor, **_: Any) -> DacDecoderOutput:
        """Codes (B, K, T), or of the first codebooks alone -> audio_values (B, T * hop)."""
        spec = self.tokenizer.spec.select(range(audio_codes.shape[1]))
        lengths = torch.full((len(audio_codes),), audio_codes.shape[-1])
        return DacDecoderOutput(audio_values=self.tokenizer.decode(Tokens(audio_codes, spec, lengths)).waveform[:, 0])

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None, **_: Any) -> DacDecoderOutput:
        """`encode`, then `decode`."""
        return self.decode(self.encode(input_values, padding_mask)["audio_codes"])


AutoConfig.register(MODEL_TYPE, AudioTokenizerConfig)
AutoModelForAudioTokenization.register(AudioTokenizerConfig, AudioTokenizerModel)
