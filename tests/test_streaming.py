"""Streamed is whole, for every kind of causal block; the rest says that it cannot."""

import pytest
import torch
from conftest import fill_codebooks, small

import tokenizers_zoo as tz
from tokenizers_zoo.streaming import decode_chunk, encode_chunk

STFT = {f"{part}.causal": True for part in ("encoder.semantic", "encoder.acoustic", "decoder", "auxiliary")}
SEANET = {
    f"{part}.{k}": v
    for part in ("encoder", "decoder")
    for k, v in {"filters": 4, "lstm": "none", "causal": True, "pad_mode": "constant"}.items()
}
DAC = {
    f"{part}.{k}": v
    for part in ("encoder.semantic", "encoder.acoustic", "decoder", "auxiliary")
    for k, v in {"filters": 2, "causal": True}.items()
}
CAUSAL = {"lm-spt-tiny": STFT, "dm-codec": SEANET, "lm-spt-12.5hz-24k": DAC}


@pytest.mark.parametrize("variant", CAUSAL)
def test_streamed_is_whole(variant: str) -> None:
    tokenizer = tz.create(variant, **CAUSAL[variant]).eval()
    fill_codebooks(tokenizer)
    wave = 0.2 * torch.randn(2, 1, 40 * tokenizer.hop + 123)
    whole = tokenizer.encode(wave)
    assert whole.spec.causal
    audio = tokenizer.decode(whole).waveform
    state, memory, pieces, sound = None, None, [], []
    cuts = [1, tokenizer.hop, 6 * tokenizer.hop + 17, 37 * tokenizer.hop + 17]
    for chunk in wave.tensor_split(cuts, dim=-1):
        tokens, state = encode_chunk(tokenizer, chunk, state)
        pieces.append(tokens)
    tokens, state = encode_chunk(tokenizer, wave[..., :0], state, last=True)
    pieces.append(tokens)
    assert torch.equal(torch.cat([piece.codes for piece in pieces], dim=-1), whole.codes)
    for tokens in pieces:
        if tokens.codes.shape[-1]:
            heard, memory = decode_chunk(tokenizer, tokens, memory)
            sound.append(heard.waveform)
    torch.testing.assert_close(torch.cat(sound, dim=-1), audio, rtol=0, atol=1e-4)
    assert state.samples.shape[-1] <= (tokenizer.encoder.receptive_field + 1) * tokenizer.hop  # memory stays bounded
    assert memory.shape[-1] <= tokenizer.decoder.receptive_field


def test_what_is_not_causal_says_so() -> None:
    tokenizer = small("dm-codec-tiny")
    with pytest.raises(tz.InputError, match="cannot stream"):
        encode_chunk(tokenizer, torch.zeros(1, 1, 100))
    with pytest.raises(tz.InputError, match="cannot stream"):
        decode_chunk(tokenizer, tokenizer.encode(torch.zeros(1, 1, 16000)))
