"""Batch = single where an item's length and the tensor's are not the same thing."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import small

import tokenizers_zoo as tz

AUDIO = ["dm-codec", "dm-codec-tiny", "lm-spt-tiny", "lm-spt-12.5hz-24k"]


@pytest.mark.parametrize("rest", [0.0, 0.3])
@pytest.mark.parametrize("name", AUDIO)
def test_equal_lengths_shorter_than_the_tensor(name: str, rest: float) -> None:
    tokenizer = small(name)
    wave = torch.randn(2, 1, 8000) * 0.2
    alone = tokenizer.encode(wave)
    longer = torch.cat([wave, rest * torch.randn(2, 1, 8000)], dim=-1)
    assert tokenizer.encode(tz.Audio(longer, tokenizer.sample_rate, torch.tensor([8000, 8000]))) == alone


@pytest.mark.parametrize("name", AUDIO)
def test_tokens_shorter_than_the_tensor(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(torch.randn(1, 1, 16000) * 0.2)
    half = tokens.codes.shape[-1] // 2
    padded = tokens.codes.clone()
    padded[..., half:] = -1
    short = tz.Tokens(padded, tokens.spec, torch.tensor([half]))
    expected = tokenizer.decode(tz.Tokens(tokens.codes[..., :half], tokens.spec))
    assert torch.equal(tokenizer.decode(short).waveform, expected.waveform)


def test_one_long_clip_leaves_the_others_together(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = small("dm-codec-tiny")
    clips = [torch.randn(1, n) * 0.2 for n in (9000, 3000, 20000, 5000)]
    whole = tokenizer.encode(clips)
    decoded = tokenizer.decode(whole)
    passes = []
    monkeypatch.setattr(tokenizer, "whole", 0.6)
    monkeypatch.setattr(tokenizer, "window", 0.5)
    encode_latents = tokenizer.encode_latents
    monkeypatch.setattr(tokenizer, "encode_latents", lambda x, *a, **k: passes.append(len(x)) or encode_latents(x, *a, **k))
    assert tokenizer.encode(clips) == whole
    assert passes[0] == 3  # those of at most 0.6 s in one pass
    assert set(passes[1:]) == {1}
    torch.testing.assert_close(tokenizer.decode(whole).waveform, decoded.waveform, rtol=0, atol=1e-5)


def test_what_a_tokenizer_takes_goes_with_its_item(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, seen = copy.deepcopy(small("dm-codec-tiny")), []
    encode_latents, decode_latents = tokenizer.encode_latents, tokenizer.decode_latents

    def said(run: Callable[..., torch.Tensor], x: torch.Tensor, lengths: torch.Tensor | None, **given: Any) -> torch.Tensor:
        seen.append((given["text"], given["speaker"].tolist() if "speaker" in given else None))
        return run(x, lengths)

    monkeypatch.setattr(tokenizer, "takes", ("text", "speaker"))
    monkeypatch.setattr(tokenizer, "encode_latents", partial(said, encode_latents))
    monkeypatch.setattr(tokenizer, "decode_latents", partial(said, decode_latents))
    monkeypatch.setattr(tokenizer, "whole", 0.6)
    monkeypatch.setattr(tokenizer, "window", 5.0)
    clips = [torch.randn(1, n) * 0.2 for n in (16000, 3000)]
    tokens = tokenizer.encode(clips, text=["long", "short"], speaker=torch.tensor([7, 8]))
    assert tokens.text == ("long", "short")
    assert tokens.conditions["speaker"].tolist() == [7, 8]
    tokenizer.decode(tokens)
    assert [(list(text), speaker) for text, speaker in seen] == 2 * [(["short"], [8]), (["long"], [7])]
    assert "speaker" not in tokenizer.encode(clips).conditions
