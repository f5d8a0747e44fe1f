"""Encoding and decoding audio as it comes, for causal tokenizers with a finite receptive field.

What a stream must remember is a value that the caller keeps: nothing is hidden in the model, so one model serves any number of
streams. A chunk is run together with its receptive field; chunks that are long against it cost little more than the whole clip.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks.base import AudioDecoder, AudioEncoder
from .errors import InputError, TokenError
from .media import Audio
from .tokenizer import AudioTokenizer
from .tokens import Tokens


@dataclass(frozen=True)
class EncoderState:
    """What has been heard and is still needed: samples (B, 1, S), the first `frames` frames of which are encoded already."""

    samples: Tensor
    frames: int = 0


@torch.no_grad()
def encode_chunk(
    tokenizer: AudioTokenizer, chunk: Tensor, state: EncoderState | None = None, last: bool = False
) -> tuple[Tokens, EncoderState]:
    """Tokens of the frames that `chunk` completes, and the state for the next chunk.

    chunk: (B, 1, S), any S, at the tokenizer's sample rate; B streams that run side by side. last: an incomplete frame at the
    end is completed by zeros, as `encode` does. The tokens of all chunks, joined, are those of the whole. Raises InputError for
    a tokenizer that is not causal.
    """
    field, hop = _field(tokenizer.encoder, tokenizer.name), tokenizer.hop
    chunk = chunk.to(tokenizer.device, torch.float32)
    heard = torch.cat([state.samples, chunk], dim=-1) if state else chunk
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

    Raises InputError for a tokenizer that is not causal, TokenError for tokens of another one or of unequal lengths.
    """
    field, hop = _field(tokenizer.decoder, tokenizer.name), tokenizer.hop
    tokens = tokenizer.checked(tokens)
    if len(set(tokens.lengths.tolist())) > 1:
        raise TokenError(f"streams of a batch run side by side, these have {tokens.lengths.tolist()} frames: decode each alone")
    codes = tokens.codes if state is None else torch.cat([state, tokens.codes], dim=-1)
    done = codes.shape[-1] - tokens.codes.shape[-1]
    waveform = tokenizer.decode_latents(tokenizer.discrete().decode(codes))[..., done * hop :].float().cpu()
    samples = int(tokens.conditions["num_samples"].max()) if "num_samples" in tokens.conditions else waveform.shape[-1]
    return Audio(waveform[..., :samples], tokenizer.sample_rate), codes[..., max(0, codes.shape[-1] - field) :]


def _field(block: AudioEncoder | AudioDecoder, name: str) -> int:
    if not block.causal or block.receptive_field is None:
        raise InputError(f"{name} cannot stream: what it makes of a frame depends on later or on all frames; encode whole clips")
    return block.receptive_field
