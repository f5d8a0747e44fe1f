"""What every audio tokenizer does."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..blocks.base import AudioDecoder, AudioEncoder
from ..blocks.conv1d import zero_past
from ..errors import InputError
from ..media import Audio, AudioSource, as_audio
from ..part import agree
from ..quantizers import Quantizer
from ..tokens import PAD, Tokens, TokenSpec
from .base import Reconstruction, Tokenizer, as_seeds


class AudioTokenizer(Tokenizer):
    """Mono waveforms at `sample_rate` <-> one frame of codes per `hop` samples.

    Clips longer than `whole` seconds run in windows of `window` seconds with `context` seconds
    on both sides. With a finite receptive field the context is computed, and windows change nothing; without (an LSTM),
    codes near the cuts may flip, at the rate that the card states.
    """

    whole, window, context = 120.0, 60.0, 10.0
    modality = "audio"
    role = "acoustic"

    encoder: AudioEncoder
    decoder: AudioDecoder

    def __init__(self, encoder: AudioEncoder, quantizer: Quantizer | None, decoder: AudioDecoder, sample_rate: int):
        super().__init__()
        agree({"encoder.hop": encoder.hop, "decoder.hop": decoder.hop})
        self.encoder, self.quantizer, self.decoder, self.sample_rate = encoder, quantizer, decoder, sample_rate
        self.hop = encoder.hop
        self.check_sizes()

    @property
    def spec(self) -> TokenSpec:
        """What the tokens mean."""
        quantizer = self.discrete()
        return TokenSpec(
            name=self.name,
            modality=self.modality,
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
            conditions=("num_samples", *self.takes),
            **self._decodable(),
        )

    def encode_latents(self, media: Tensor, lengths: Tensor | None = None, **given: Any) -> Tensor:
        """Waveform (B, 1, S), lengths (B,) in samples -> latents before the quantizer, (B, ceil(S / hop), D)."""
        return self.encoder(media, lengths, **given)

    def decode_latents(self, latents: Tensor, lengths: Tensor | None = None, **how: Any) -> Tensor:
        """Latents (B, T, D), lengths (B,) in frames -> waveform (B, 1, T * hop)."""
        return self.decoder(latents.to(self.dtype), lengths, **how)

    @torch.no_grad()
    def encode(self, source: AudioSource, sample_rate: int | None = None, **given: Any) -> Tokens:
        """Tokens of a path, array, tensor, Audio, or a list of them.

        `sample_rate` (Hz) is that of arrays and tensors, by default the tokenizer's own. Channels are averaged.
        Raises InputError for what cannot be encoded.
        """
        self.discrete()  # or an error, before anything is read
        audio = as_audio(source, self.sample_rate, sample_rate)
        given = self.accepted(given, len(audio))
        frames = self.encoder.frames(audio.lengths)
        if not int(frames.min()):
            raise InputError(f"{self.name} needs {self.hop} samples for a frame, an item has {int(audio.lengths.min())}")
        groups = self._apart(frames)
        if len(groups) == 1:  # as it is: an hour need not stand twice in memory
            return self._encode(audio.waveform, audio.lengths, given)
        parts = []
        for group in groups:
            some = {k: v[group] if isinstance(v, Tensor) else [v[i] for i in group] for k, v in given.items()}
            parts.append(self._encode(audio.waveform[group], audio.lengths[group], some))
        return Tokens.cat(parts)[_places(groups)]

    def _encode(self, waveform: Tensor, lengths: Tensor, given: dict[str, Any]) -> Tokens:
        """Tokens of waveforms (B, 1, S) in one pass, or in windows."""
        waveform = waveform[..., : int(lengths.max())]  # what no item reaches could change padding at the end
        ragged = lengths.to(self.device) if int(lengths.min()) < waveform.shape[-1] else None
        frames = self.encoder.frames(lengths)
        pieces = []
        for start, first, last, stop in self._spans(int(frames.max()), self.encoder.receptive_field):
            end = stop * self.hop if stop < int(frames.max()) else None  # the last may be longer than its frames
            latents = self.encode_latents(waveform[..., start * self.hop : end].to(self.device), ragged, **given)
            pieces.append(self.discrete().encode(latents[:, first - start : last - start]))
        codes = torch.cat(pieces, dim=-1)
        valid = torch.arange(codes.shape[-1], device=codes.device) < frames[:, None].to(codes.device)
        codes = codes.masked_fill(~valid[:, None], PAD)
        samples = torch.minimum(lengths, self.decoder.samples(frames))
        return Tokens(codes, self.spec, frames, num_samples=samples.to(torch.int32), **given)

    @torch.no_grad()
    def decode(self, tokens: Tokens, output: str = "main", seed: int | Sequence[int] = 0, **options: Any) -> Audio:
        """Audio of tokens; each item has as many samples as its source at the tokenizer's rate.

        Another output has the rate of its decoder. Raises TokenError for tokens that are not this tokenizer's.
        """
        tokens, seeds = self.checked(tokens, output), as_seeds(seed, len(tokens))
        groups = self._apart(tokens.lengths)
        parts = []
        for group in groups:
            some = tokens[group]
            parts.append(self._decode(some, output, self._how(some, output, [seeds[i] for i in group], options)))
        if len(parts) == 1:
            return parts[0]
        audio, places = Audio.stack(parts), _places(groups)
        return Audio(audio.waveform[places], audio.sample_rate, audio.lengths[places])

    def _decode(self, tokens: Tokens, output: str, how: dict[str, Any]) -> Audio:
        """Audio of tokens in one pass, or in windows."""
        decoder = {"main": self.decoder, **self.outputs}[output]
        assert isinstance(decoder, AudioDecoder)
        rate = self.sample_rate * decoder.hop // self.hop
        frames = int(tokens.lengths.max())
        ragged = tokens.lengths.to(self.device) if int(tokens.lengths.min()) < frames else None
        samples = tokens.conditions.get("num_samples", tokens.lengths * self.hop).cpu().long()
        samples = torch.minimum(samples * rate // self.sample_rate, decoder.samples(tokens.lengths))
        waveform = torch.zeros(len(tokens), 1, int(samples.max()))  # filled piece by piece, so that nothing this long is copied
        for start, first, last, stop in self._spans(frames, decoder.receptive_field):
            latents = self.latents(tokens.codes[..., start:stop], tokens.spec.codebook_ids)
            piece = self.decode_latents(latents.to(self.dtype), ragged, **how)
            piece = piece[..., (first - start) * decoder.hop : (last - start) * decoder.hop].float().cpu()
            room = waveform[..., first * decoder.hop :][..., : piece.shape[-1]]
            room.copy_(piece[..., : room.shape[-1]])
        return Audio(zero_past(waveform, samples if int(samples.min()) < waveform.shape[-1] else None), rate, samples)

    def _apart(self, frames: Tensor) -> list[list[int]]:
        """Items of a batch in groups that run together: those that need no windows, and each longer one alone."""
        long = (frames > self.whole * self.sample_rate / self.hop).tolist()
        short = [i for i, alone in enumerate(long) if not alone]
        return [group for group in (short, *([i] for i, alone in enumerate(long) if alone)) if group]

    def _spans(self, frames: int, receptive_field: int | None) -> list[tuple[int, int, int, int]]:
        """Windows over `frames`: (start of context, first frame, end of frames, end of context)."""
        rate = self.sample_rate / self.hop
        if frames <= self.whole * rate:
            return [(0, 0, frames, frames)]
        size = int(self.window * rate)
        context = int(self.context * rate) if receptive_field is None else receptive_field
        starts = range(0, frames, size)
        return [(max(0, s - context), s, min(s + size, frames), min(s + size + context, frames)) for s in starts]

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """One training pass over waveforms (B, 1, S); the output is cut to S samples."""
        latents = self.encode_latents(media, **given)
        quantized = self.discrete()(latents)
        how = given | self._noise(len(media))
        output = self.decode_latents(quantized.latents.to(self.dtype), **how)[..., : media.shape[-1]]
        return Reconstruction(output, latents, quantized)


def _places(groups: list[list[int]]) -> list[int]:
    """Where each item of the batch stands after its groups, one behind the other."""
    order = [item for group in groups for item in group]
    return sorted(range(len(order)), key=order.__getitem__)
