"""Other sample rates: the same sound, at a cost that the rates do not set."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from recordings import SAMPLES

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.media import as_audio, resampling

USUAL = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)
ODD = (4001, 7919, 11_027, 15_999, 16_001, 22_051, 44_099, 47_999, 96_001, 191_999, 383_987)  # most are prime


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_in_pieces_is_resampling_at_once(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = torch.randn(1, 1, 2 * rate + 17) * 0.1
    whole = torchaudio.functional.resample(wave, rate, 16_000)
    monkeypatch.setattr(resampling, "PIECE", 0.3)
    pieces = Audio(wave, rate).resample(16_000)
    assert pieces.waveform.shape[-1] == math.ceil(wave.shape[-1] * 16_000 / rate)
    torch.testing.assert_close(pieces.waveform, whole, rtol=0, atol=2e-6)


def test_resampling_a_batch_is_resampling_each() -> None:
    clips = [torch.randn(n) for n in (4410, 1, 2000)]
    batch = as_audio(clips, 16_000, source_rate=44_100)
    assert batch.lengths.tolist() == [1600, 1, 726]
    for clip, item in zip(clips, batch, strict=True):
        assert torch.equal(as_audio(clip, 16_000, 44_100).waveform, item.waveform)


def test_no_torchaudio_is_needed_at_the_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    assert as_audio(SAMPLES, 16_000).sample_rate == 16_000
    with pytest.raises(ImportError, match="give audio at 16000 Hz"):
        as_audio(SAMPLES, 16_000, source_rate=8000)


@pytest.mark.parametrize("rate", [0, -8000, 8000.5, True, "8000", None])
def test_rates_are_positive_whole_numbers(rate: Any) -> None:
    with pytest.raises(InputError, match="positive whole number of Hz"):
        Audio(torch.zeros(1, 1, 10), 8000).resample(rate)
    if rate is not None:  # the tokenizer's
        with pytest.raises(InputError, match="positive whole number of Hz"):
            as_audio(SAMPLES, 16_000, source_rate=rate)


@pytest.mark.parametrize("new", [16_000, 24_000])
@pytest.mark.parametrize("old", USUAL)
def test_usual_rates_are_resampled_as_by_torchaudio(old: int, new: int) -> None:
    wave = torch.from_numpy(SAMPLES)[None, None]
    theirs = torchaudio.functional.resample(wave, old, new)
    whole = new % old == 0
    torch.testing.assert_close(Audio(wave, old).resample(new).waveform, theirs, rtol=0, atol=2e-6 if whole and new != old else 0)


@pytest.mark.parametrize("new", [16_000, 24_000, 44_100])
@pytest.mark.parametrize("old", ODD)
def test_odd_rates_keep_a_tone_and_its_length(old: int, new: int) -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(old // 2, dtype=torch.float64) / old).float()
    found = Audio(tone[None, None], old).resample(new).waveform[0, 0]
    assert len(found) == math.ceil(len(tone) * new / old)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(len(found), dtype=torch.float64) / new).float()
    inner = slice(len(found) // 8, -len(found) // 8)
    assert (found - expected)[inner].abs().max() < 1e-3


def test_two_filters_agree_on_speech(speech: Path) -> None:
    """The one for odd rates against the one for usual rates, where both can run: what differs lies above 6.7 kHz."""
    wave = Audio.load(speech).waveform
    usual, odd = (resample(wave, 15_900, 16_000) for resample in (resampling._by_sinc, resampling._by_soxr))
    assert 10 * math.log10(float(usual.square().mean() / (usual - odd).square().mean())) > 40


@pytest.mark.parametrize("new", [16_000, 24_000, 44_100, 48_000])
def test_no_rate_makes_a_large_kernel(new: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries of kernels are counted: 256 million of 16,001 to 16,000 Hz took 4.8 GB."""
    entries: list[int] = []
    original = resampling._kernel.__wrapped__

    def counted(*args: Any) -> tuple[torch.Tensor, int]:
        kernel, width = original(*args)
        entries.append(kernel.numel())
        return kernel, width

    monkeypatch.setattr(resampling, "_kernel", counted)
    for old in (*USUAL, *ODD, 4000, 384_000, 383_999, *range(15_990, 16_010)):
        if old != new:
            Audio(torch.zeros(1, 1, 100), old).resample(new)
    assert max(entries) < 400_000


@pytest.mark.parametrize("channels", [1, 8])
def test_pieces_of_many_channels_are_shorter(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "VALUES", 50_000)
    wave = torch.randn(1, channels, 48_000) * 0.1
    torch.testing.assert_close(
        resampling.resampled(wave, 48_000, 16_000), torchaudio.functional.resample(wave, 48_000, 16_000), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("old", "quality"), [(4001, "MQ"), (44_101, "HQ")])
def test_odd_rates_stay_in_the_cache(old: int, quality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a million samples took 1.5 times as long, and 4,001 to 16,000 Hz twice as long by the finer filter."""
    import soxr

    pieces: list[int] = []
    original = soxr.ResampleStream

    class Spy:
        def __init__(self, *args: Any, **options: Any):
            assert options == {"quality": quality}
            self.stream = original(*args, **options)

        def resample_chunk(self, piece: Any, last: bool) -> Any:
            result = self.stream.resample_chunk(piece, last=last)
            pieces.extend((len(piece), len(result)))
            return result

    monkeypatch.setattr(soxr, "ResampleStream", Spy)
    resampling.resampled(torch.zeros(1, 1, 10 * old), old, 16_000)
    assert max(pieces) <= 1 << 17


@pytest.mark.parametrize("rate", [1, 999, 768_001, 1_000_000_007])
def test_rates_that_no_sound_has(rate: int) -> None:
    for wave in (Audio(torch.zeros(1, 1, 100), rate), SAMPLES[:100]):
        with pytest.raises(InputError, match=rf"cannot resample {rate} to 16000 Hz: rates are from 1,000 to 768,000"):
            as_audio(wave, 16_000, rate)


def test_no_soxr_is_needed_between_usual_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "soxr", None)
    assert as_audio(SAMPLES, 16_000, 44_100).sample_rate == 16_000
    with pytest.raises(ImportError, match=r"16001 to 16000 Hz needs soxr.*give audio at 16000 Hz"):
        as_audio(SAMPLES, 16_000, 16_001)


def test_numpy_rates() -> None:
    for kind in (np.int16, np.uint16, np.int32, np.int64):
        rate = kind(16_000)
        assert type(Audio(torch.zeros(1, 1, 10), rate).sample_rate) is int
        assert as_audio(SAMPLES, rate, kind(8000)).sample_rate == 16_000
