"""Long clips run in windows: the same codes where the receptive field is finite, bounded memory everywhere."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import fill_codebooks, small

import tokenizers_zoo as tz

# Weights, one second, then an hour; prints the growth of the peak resident memory in MiB.
HOUR = """
import sys, torch, tokenizers_zoo as tz
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024  # ru_maxrss would be the parent's
codec = tz.load(sys.argv[3])
codec.decode(codec.encode(torch.zeros(16000)))
before = peak()
audio = codec.decode(codec.encode(sys.argv[1]))
assert audio.waveform.shape[-1] == int(sys.argv[2]), audio.waveform.shape
print(peak() - before)
"""


def windowed(tokenizer: tz.AudioTokenizer, monkeypatch: pytest.MonkeyPatch, window: float, context: float) -> None:
    for key, value in {"whole": 0.5, "window": window, "context": context}.items():
        monkeypatch.setattr(tokenizer, key, value)


def seanet_without_lstm() -> tz.AudioTokenizer:
    tokenizer = tz.create(
        "dm-codec", **{f"{p}.{k}": v for p in ("encoder", "decoder") for k, v in {"filters": 4, "lstm": "none"}.items()}
    )
    fill_codebooks(tokenizer)
    return tokenizer.eval()


@pytest.mark.parametrize("window", [0.3, 0.77, 2.0])
@pytest.mark.parametrize(
    "make",
    [lambda: small("dm-codec-tiny"), lambda: small("lm-spt-tiny"), lambda: small("lm-spt-12.5hz-24k"), seanet_without_lstm],
    ids=["dm-codec-tiny", "lm-spt-tiny", "dac", "seanet"],
)
def test_windows_change_nothing_where_the_field_is_finite(make: object, window: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make()
    wave = torch.randn(1, 1, 5 * 16_000 + 123) * 0.2
    assert tokenizer.spec.receptive_field is not None
    tokens = tokenizer.encode(wave)
    audio = tokenizer.decode(tokens).waveform
    windowed(tokenizer, monkeypatch, window, context=0.0)
    assert tokenizer.encode(wave) == tokens
    torch.testing.assert_close(tokenizer.decode(tokens).waveform, audio, rtol=0, atol=1e-5)


def test_too_little_context_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = small("dm-codec-tiny")
    wave = torch.randn(1, 1, 5 * 16_000) * 0.2
    tokens = tokenizer.encode(wave)
    windowed(tokenizer, monkeypatch, 0.3, context=0.0)
    monkeypatch.setattr(tokenizer.encoder, "receptive_field", 1)
    assert tokenizer.encode(wave) != tokens


def test_long_batches_of_unequal_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = small("dm-codec-tiny")
    clips = [torch.randn(1, n) * 0.2 for n in (40_000, 500, 23_001)]
    whole = tokenizer.encode(clips)
    windowed(tokenizer, monkeypatch, 0.4, context=0.0)
    assert tokenizer.encode(clips) == whole
    assert [a.waveform.shape[-1] for a in tokenizer.decode(whole)] == [40_000, 500, 23_001]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dm-codec-tiny", "lm-spt-tiny"])
def test_an_hour_needs_less_than_1_gib(name: str, tmp_path: Path, speech: Path) -> None:
    clip = tz.Audio.load(speech).waveform
    hour = clip.repeat(1, 1, 3600 * 16_000 // clip.shape[-1] + 1)[..., : 3600 * 16_000]
    tz.Audio(hour, 16_000).save(tmp_path / "hour.wav")
    result = subprocess.run(
        [sys.executable, "-c", HOUR, tmp_path / "hour.wav", str(hour.shape[-1]), name], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    print(f"{name}: an hour takes {float(result.stdout):.0f} MiB above the weights")
    assert 200 < float(result.stdout) < 1024  # the waveform alone has 220 MiB
