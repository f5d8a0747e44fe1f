"""The contract: what every tokenizer does, for audio and for images."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .blocks.base import AudioDecoder, AudioEncoder, ImageDecoder, ImageEncoder
from .errors import InputError, TokenError
from .media import Audio, AudioSource, Images, ImageSource, as_audio, as_images
from .quantizers import Quantized, Quantizer
from .tokens import PAD, Tokens, TokenSpec
from .weights import plain_state, write_folder


@dataclass
class Reconstruction:
    """What losses need of one training batch.

    output: as the input, (B, C, S) audio or (B, 3, H, W) pixels. latents: what went into the quantizer, (B, N, D).
    quantized: codes and losses of the quantizer, None for a continuous autoencoder. features: named tensors of the model.
    """

    output: Tensor
    latents: Tensor
    quantized: Quantized | None = None
    features: dict[str, Tensor] = field(default_factory=dict)


class Tokenizer(nn.Module, ABC):
    """Media <-> Tokens, by an encoder, a quantizer and a decoder.

    name: the variant. config: the assembly that built it ({class_path, init_args}). license and weights: of the loaded weights
    (empty for fresh ones). The zoo sets these four.
    """

    encoder: nn.Module
    decoder: nn.Module
    quantizer: Quantizer | None
    name: str = "unnamed"
    license: str = ""
    weights: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}

    @property
    @abstractmethod
    def spec(self) -> TokenSpec:
        """What the tokens mean."""

    @abstractmethod
    def forward(self, batch: Tensor) -> Reconstruction:
        """One training pass over media tensors."""

    @abstractmethod
    def encode(self, source: Any) -> Tokens:
        """Tokens of media in any accepted form."""

    @abstractmethod
    def decode(self, tokens: Tokens) -> Any:
        """Audio or Images of tokens."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Writes config.json and model.safetensors, floating weights in `dtype` if given; `load(folder)` reads them."""
        config = {"name": self.name, "license": self.license, **self.config}
        write_folder(folder, config, plain_state(self), dtype)

    def push_to_hub(self, repo_id: str, private: bool = False) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face Hub; returns the commit's address."""
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))

    def discrete(self) -> Quantizer:
        """The quantizer. Raises TokenError for a continuous autoencoder, which has none."""
        if self.quantizer is None:
            raise TokenError(
                f"{self.name} is a continuous autoencoder: use encode_latents / decode_latents, or give it a quantizer "
                f"(create(name, quantizer=...))"
            )
        return self.quantizer

    def checked(self, tokens: Tokens) -> Tokens:
        """`tokens` on the model's device. Raises TokenError unless they are this tokenizer's."""
        if not isinstance(tokens, Tokens):
            raise TokenError(f"decode takes Tokens, got {type(tokens).__name__}; Tokens.load reads a .tok file")
        mine, theirs = self.spec, tokens.spec
        if (mine.name, mine.modality, mine.layout) != (theirs.name, theirs.modality, theirs.layout):
            raise TokenError(f"these tokens are of {theirs.name!r}, this tokenizer is {mine.name!r}: load {theirs.name!r}")
        if mine.weights and theirs.weights and mine.weights != theirs.weights:
            raise TokenError(
                f"these tokens were made by other weights of {mine.name!r} ({theirs.weights}, here {mine.weights}): "
                f"load the weights that encoded them"
            )
        count = len(theirs.codebook_sizes)
        if theirs.codebook_ids != tuple(range(count)) or theirs.codebook_sizes != mine.codebook_sizes[:count]:
            raise TokenError(f"{mine.name} decodes its first codebooks, these are {theirs.codebook_ids} of {theirs.name}")
        if count < len(mine.codebook_sizes) and not mine.codebook_prefixes:
            raise TokenError(f"{mine.name} needs all {len(mine.codebook_sizes)} codebooks, got {count}")
        if not len(tokens) or not int(tokens.lengths.min()):
            raise TokenError("there is nothing to decode: an item has no tokens")
        return tokens.to(self.device)


class AudioTokenizer(Tokenizer):
    """Mono waveforms at `sample_rate` <-> one frame of codes per `hop` samples.

    Clips longer than `whole` seconds run in windows of `window` seconds with `context` seconds
    on both sides. With a finite receptive field the context is computed, and windows change nothing; without (an LSTM),
    codes near the cuts may flip, at the rate that the card states.
    """

    whole, window, context = 120.0, 60.0, 10.0

    encoder: AudioEncoder
    decoder: AudioDecoder

    def __init__(self, encoder: AudioEncoder, quantizer: Quantizer | None, decoder: AudioDecoder, sample_rate: int):
        super().__init__()
        if encoder.hop != decoder.hop:
            raise ValueError(f"encoder and decoder need one hop, got {encoder.hop} and {decoder.hop} samples")
        self.encoder, self.quantizer, self.decoder, self.sample_rate = encoder, quantizer, decoder, sample_rate
        self.hop = encoder.hop

    @property
    def spec(self) -> TokenSpec:
        """What the tokens mean."""
        quantizer = self.discrete()
        return TokenSpec(
            name=self.name,
            modality="audio",
            codebook_sizes=quantizer.codebook_sizes,
            roles=self.roles,
            layout="time",
            position_prefixes=True,
            codebook_prefixes=quantizer.codebook_prefixes,
            sample_rate=self.sample_rate,
            hop=self.hop,
            causal=self.encoder.causal,
            receptive_field=self.encoder.receptive_field,
            license=self.license,
            weights=self.weights,
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """One word for each codebook."""
        return ("acoustic",) * len(self.discrete().codebook_sizes)

    def encode_latents(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveform (B, 1, S), lengths (B,) in samples -> latents before the quantizer, (B, ceil(S / hop), D)."""
        return self.encoder(waveform, lengths)

    def decode_latents(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Latents (B, T, D), lengths (B,) in frames -> waveform (B, 1, T * hop)."""
        return self.decoder(latents, lengths)

    @torch.no_grad()
    def encode(self, source: AudioSource, sample_rate: int | None = None) -> Tokens:
        """Tokens of a path, array, tensor, Audio, or a list of them.

        `sample_rate` (Hz) is that of arrays and tensors, by default the tokenizer's own. Channels are averaged.
        Raises InputError for what cannot be encoded.
        """
        audio, quantizer = as_audio(source, self.sample_rate, sample_rate), self.discrete()
        if len(audio) > 1 and audio.waveform.shape[-1] > self.whole * self.sample_rate:
            return Tokens.cat([self.encode(item) for item in audio])
        waveform, frames = audio.waveform, self.encoder.frames(audio.lengths)
        if not int(frames.min()):
            raise InputError(f"{self.name} needs {self.hop} samples for a frame, an item has {int(audio.lengths.min())}")
        ragged = len(set(audio.lengths.tolist())) > 1
        spans = self._spans(int(frames.max()), self.encoder.receptive_field)
        pieces = []
        for start, first, last, stop in spans:
            end = stop * self.hop if stop < int(frames.max()) else None  # the last may be longer than its frames
            piece = waveform[..., start * self.hop : end].to(self.device)
            latents = self.encode_latents(piece, audio.lengths.to(self.device) if ragged else None)
            pieces.append(quantizer.encode(latents[:, first - start : last - start]))
        codes = torch.cat(pieces, dim=-1)
        valid = torch.arange(codes.shape[-1], device=codes.device) < frames[:, None].to(codes.device)
        codes = codes.masked_fill(~valid[:, None], PAD)
        samples = torch.minimum(audio.lengths, self.decoder.samples(frames))
        return Tokens(codes, self.spec, frames, num_samples=samples.to(torch.int32))

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Audio:
        """Audio of tokens; each item has as many samples as its source at the tokenizer's rate.

        Raises TokenError for tokens that are not this tokenizer's.
        """
        return self._decode(tokens, self.decode_latents, self.decoder, self.sample_rate)

    def _decode(
        self, tokens: Tokens, run: Callable[[Tensor, Tensor | None], Tensor], decoder: AudioDecoder, sample_rate: int
    ) -> Audio:
        """Audio at `sample_rate` of what `run` makes of latents (B, T, D) with `decoder`."""
        tokens = self.checked(tokens)
        if len(tokens) > 1 and tokens.codes.shape[-1] * self.hop > self.whole * self.sample_rate:
            return Audio.stack([self._decode(item, run, decoder, sample_rate) for item in tokens])
        ragged = len(set(tokens.lengths.tolist())) > 1
        lengths, spans = tokens.lengths.to(self.device), self._spans(tokens.codes.shape[-1], decoder.receptive_field)
        pieces = []
        for start, first, last, stop in spans:
            latents = self.discrete().decode(tokens.codes[..., start:stop].clamp(min=0))
            piece = run(latents, lengths if ragged else None)
            pieces.append(piece[..., (first - start) * decoder.hop : (last - start) * decoder.hop].float().cpu())
        samples = tokens.conditions.get("num_samples", tokens.lengths * self.hop).cpu().long()
        samples = torch.minimum(samples * sample_rate // self.sample_rate, decoder.samples(tokens.lengths))
        waveform = torch.cat(pieces, dim=-1)[..., : int(samples.max())]
        waveform = waveform * (torch.arange(waveform.shape[-1]) < samples[:, None])[:, None]
        return Audio(waveform, sample_rate, samples)

    def _spans(self, frames: int, receptive_field: int | None) -> list[tuple[int, int, int, int]]:
        """Windows over `frames`: (start of context, first frame, end of frames, end of context)."""
        rate = self.sample_rate / self.hop
        if frames <= self.whole * rate:
            return [(0, 0, frames, frames)]
        size = int(self.window * rate)
        context = int(self.context * rate) if receptive_field is None else receptive_field
        starts = range(0, frames, size)
        return [(max(0, s - context), s, min(s + size, frames), min(s + size + context, frames)) for s in starts]

    def forward(self, batch: Tensor) -> Reconstruction:
        """One training pass over waveforms (B, 1, S); the output is cut to S samples."""
        latents = self.encode_latents(batch)
        quantized = self.discrete()(latents)
        output = self.decode_latents(quantized.latents)[..., : batch.shape[-1]]
        return Reconstruction(output, latents, quantized)


class ImageTokenizer(Tokenizer):
    """Square RGB images of `image_size` <-> a fixed number of `positions`.

    Other sizes are resized (shorter side, bicubic, antialiased) and centre-cropped.
    """

    layout = "sequence"

    encoder: ImageEncoder
    decoder: ImageDecoder

    def __init__(self, encoder: ImageEncoder, quantizer: Quantizer | None, decoder: ImageDecoder):
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.image_size = encoder.image_size

    @property
    def spec(self) -> TokenSpec:
        """What the tokens mean."""
        quantizer = self.discrete()
        return TokenSpec(
            name=self.name,
            modality="image",
            codebook_sizes=quantizer.codebook_sizes,
            roles=("pixel",) * len(quantizer.codebook_sizes),
            layout=self.layout,  # type: ignore[arg-type]  # one of TokenSpec's words
            codebook_prefixes=quantizer.codebook_prefixes,
            image_size=self.image_size,
            positions=self.encoder.positions,
            license=self.license,
            weights=self.weights,
        )

    def encode_latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> latents before the quantizer, (B, positions, D)."""
        return self.encoder(images)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, positions, D) -> pixels (B, 3, S, S), unbounded."""
        return self.decoder(latents)

    @torch.no_grad()
    def encode(self, source: ImageSource) -> Tokens:
        """Tokens of a path, array, tensor, PIL image, Images, or a list of them. Raises InputError for what cannot be encoded."""
        quantizer = self.discrete()
        images = as_images(source, self.image_size)
        return Tokens(quantizer.encode(self.encode_latents(images.pixels.to(self.device))), self.spec)

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Images:
        """Images of tokens, clamped to [0, 1]. Raises TokenError for tokens that are not this tokenizer's."""
        tokens = self.checked(tokens)
        if tokens.codes.shape[-1] != self.encoder.positions:
            raise TokenError(f"{self.name} decodes {self.encoder.positions} positions an image, got {tokens.codes.shape[-1]}")
        return Images(self.decode_latents(self.discrete().decode(tokens.codes)).float().clamp(0, 1).cpu())

    def forward(self, batch: Tensor) -> Reconstruction:
        """One training pass over images (B, 3, S, S) in [0, 1]."""
        if batch.shape[-2:] != (self.image_size, self.image_size):
            raise InputError(f"{self.name} trains on {self.image_size} x {self.image_size} images, got {batch.shape}")
        latents = self.encode_latents(batch)
        quantized = self.discrete()(latents)
        return Reconstruction(self.decode_latents(quantized.latents), latents, quantized)
