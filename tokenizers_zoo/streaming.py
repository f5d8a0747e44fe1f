"""Encoding and decoding audio as it comes, for causal tokenizers with a finite receptive field.

What a stream must remember is a value that the caller keeps: nothing is hidden in the model, so one model serves any number of
streams. A chunk is run together with its receptive field; chunks that are long against it cost little more than the whole clip.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blocks.base import AudioDecoder, AudioEncoder
from .errors import InputError, TokenError
from .media import Audio, as_wave
from .tokenizer import AudioTokenizer
from .tokens import Tokens


@dataclass(frozen=True)
class EncoderState:
    """What has been heard and is still needed: samples (B, 1, S), the first `frames` frames of which are encoded already."""

    samples: Tensor
    frames: int = 0


@torch.no_grad()
def encode_chunk(
    tokenizer: AudioTokenizer, chunk: "Tensor | np.ndarray[Any, Any]", state: EncoderState | None = None, last: bool = False
) -> tuple[Tokens, EncoderState]:
    """Tokens of the frames that `chunk` completes, and the state for the next chunk.

    chunk: samples at the tokenizer's rate, an array or tensor as `encode` takes it, (S,), (channels, S) or (B, channels, S); S
    may be 0; B streams run side by side. last: an incomplete frame at the end is completed by zeros, as `encode` does. The
    tokens of all chunks, joined (`Tokens.join`), are those of the whole. Raises InputError for a tokenizer that is not causal,
    and for what `encode` refuses.
    """
    field, hop = _field(tokenizer, tokenizer.encoder), tokenizer.hop
    wave = as_wave(chunk, empty=True).to(tokenizer.device)
    if state and len(wave) != len(state.samples):
        raise InputError(
            f"this chunk is of {len(wave)} streams, those before were of {len(state.samples)}: keep a state for each"
        )
    heard = torch.cat([state.samples, wave], dim=-1) if state else wave
    done = state.frames if state else 0
    total = -(-heard.shape[-1] // hop) if last else heard.shape[-1] // hop
    used = heard[..., : total * hop]
    quantizer = tokenizer.discrete()
    if total > done:
        codes = quantizer.encode(tokenizer.encode_latents(used)[:, done:])
    else:
        codes = torch.empty(len(heard), len(quantizer.codebook_sizes), 0, dtype=torch.int64, device=heard.device)
    samples = torch.full((len(heard),), used.shape[-1] - done * hop, dtype=torch.int32)
    kept = min(field, total)
    return Tokens(codes, tokenizer.spec, num_samples=samples), EncoderState(heard[..., (total - kept) * hop :], kept)


@torch.no_grad()
def decode_chunk(tokenizer: AudioTokenizer, tokens: Tokens, state: Tensor | None = None) -> tuple[Audio, Tensor]:
    """Audio of `tokens`, and the state for the next ones: the last codes (B, K, frames) that those still depend on.

    Tokens without a frame, as short chunks give, are audio without a sample. Raises InputError for a tokenizer that is not
    causal, TokenError for tokens of another one or of unequal lengths.
    """
    field, hop = _field(tokenizer, tokenizer.decoder), tokenizer.hop
    tokens = tokenizer.checked(tokens, empty=True)
    if len(set(tokens.lengths.tolist())) > 1:
        raise TokenError(f"streams of a batch run side by side, these have {tokens.lengths.tolist()} frames: decode each alone")
    codes = tokens.codes[..., : int(tokens.lengths.max())]
    if state is not None and state.shape[:2] != codes.shape[:2]:
        raise TokenError(
            f"these tokens have {tuple(codes.shape[:2])} (streams, codebooks), those before had {tuple(state.shape[:2])}: "
            f"keep a state for each"
        )
    if not codes.shape[-1]:
        silence = Audio(torch.zeros(len(codes), 1, 0), tokenizer.sample_rate)
        return silence, codes if state is None else state
    codes = codes if state is None else torch.cat([state, codes], dim=-1)
    done = codes.shape[-1] - int(tokens.lengths.max())
    latents = tokenizer.latents(codes, tokens.spec.codebook_ids)
    waveform = tokenizer.decode_latents(latents.to(tokenizer.dtype))[..., done * hop :].float().cpu()
    samples = tokens.conditions.get("num_samples", tokens.lengths * hop).cpu().long().clamp(max=waveform.shape[-1])
    audio = Audio(waveform[..., : int(samples.max())], tokenizer.sample_rate, samples)
    return audio, codes[..., max(0, codes.shape[-1] - field) :]


def _field(tokenizer: AudioTokenizer, block: AudioEncoder | AudioDecoder) -> int:
    if not block.causal or block.receptive_field is None:
        raise InputError(
            f"{tokenizer.name} cannot stream: what it makes of a frame depends on later or on all frames; encode whole clips"
        )
    if tokenizer.takes or tokenizer.decoder.noise_shape:  # chunks would lose them
        raise InputError(f"{tokenizer.name} cannot stream: it takes more than samples and codes; encode and decode whole clips")
    return block.receptive_field
