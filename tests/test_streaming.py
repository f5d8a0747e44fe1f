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


@pytest.fixture(scope="module")
def live() -> tz.AudioTokenizer:
    tokenizer = tz.create("lm-spt-tiny", **STFT).eval()
    fill_codebooks(tokenizer)
    return tokenizer


def test_chunks_shorter_than_a_frame_are_valid_on_both_sides(live: tz.AudioTokenizer) -> None:
    wave = 0.2 * torch.randn(1, 1, 4 * live.hop + 70)
    heard = spoken = None
    pieces, sound = [], []
    for chunk in [*wave.split(160, dim=-1), wave[..., :0]]:  # 10 ms; a frame has 40
        tokens, heard = encode_chunk(live, chunk, heard, last=not chunk.numel())
        audio, spoken = decode_chunk(live, tokens, spoken)
        pieces.append(tokens)
        sound.append(audio.waveform)
    assert not sound[0].numel()
    with pytest.raises(tz.InputError, match="no audio"):
        live.encode(tz.Audio(sound[0], 16_000))
    whole = live.encode(wave)
    assert tz.Tokens.join(pieces) == whole
    torch.testing.assert_close(torch.cat(sound, dim=-1), live.decode(whole).waveform, rtol=0, atol=1e-4)


def test_a_chunk_means_what_a_clip_means(live: tz.AudioTokenizer) -> None:
    wave = (0.2 * torch.randn(3 * live.hop) * 32768).round().clamp(-32768, 32767) / 32768
    expected = live.encode(wave).codes
    for same in (
        wave,
        wave.numpy(),
        wave.double(),
        wave[None],
        (wave * 32768).short(),
        (wave * 32768).short().numpy(),
        (wave * 32768 * 65536).to(torch.int32),
        torch.stack([wave + 0.125, wave - 0.125]),
    ):
        assert torch.equal(encode_chunk(live, same)[0].codes, expected)


@pytest.mark.parametrize("wrong", [torch.tensor([0.0, float("nan")]), torch.tensor([0.0, float("inf")]), torch.full((9,), 3e4)])
def test_a_chunk_is_checked_as_a_clip_is(live: tz.AudioTokenizer, wrong: torch.Tensor) -> None:
    with pytest.raises(tz.InputError) as whole:
        live.encode(wrong)
    with pytest.raises(tz.InputError) as streamed:
        encode_chunk(live, wrong)
    assert str(streamed.value) == str(whole.value)


def test_streams_keep_their_own_states(live: tz.AudioTokenizer) -> None:
    tokens, state = encode_chunk(live, torch.zeros(2, 1, 2 * live.hop))
    _, memory = decode_chunk(live, tokens)
    with pytest.raises(tz.InputError, match="keep a state for each"):
        encode_chunk(live, torch.zeros(1, 1, live.hop), state)
    with pytest.raises(tz.TokenError, match="keep a state for each"):
        decode_chunk(live, tokens[0], memory)


def test_the_semantic_codes_stream_alone(live: tz.AudioTokenizer) -> None:
    tokens = live.encode(0.2 * torch.randn(6 * live.hop)).codebooks("semantic")
    first, memory = decode_chunk(live, tokens.prefix(4))
    rest, _ = decode_chunk(live, tz.Tokens(tokens.codes[..., 4:], tokens.spec), memory)
    together = torch.cat([first.waveform, rest.waveform], dim=-1)
    torch.testing.assert_close(together, live.decode(tokens).waveform, rtol=0, atol=1e-4)


def test_captions_and_noise_are_refused_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tz.create("lm-spt-tiny", **STFT).eval()
    for part, name, value in ((tokenizer, "takes", ("text",)), (tokenizer.decoder, "noise_shape", (3,))):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, value)
            for run, chunk in ((encode_chunk, torch.zeros(16000)), (decode_chunk, None)):
                with pytest.raises(tz.InputError, match="whole clips"):
                    run(tokenizer, chunk)
