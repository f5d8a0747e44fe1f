"""Metrics against independent implementations, on real clips and photos."""

import jiwer
import numpy as np
import pytest
import torch
from conftest import DATA
from pystoi import stoi
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

import tokenizers_zoo as tz
from tokenizers_zoo.eval import image, speech
from tokenizers_zoo.eval.base import interval
from tokenizers_zoo.eval.speech.recognition import plain, text_normaliser
from tokenizers_zoo.manifest import Row

ROW = Row(DATA / "sense_and_sensibility_0870.wav", "One, two three")


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    clip = tz.Audio.load(ROW.path).waveform[0, 0]
    return clip, clip + 0.02 * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photos() -> tuple[Tensor, Tensor]:
    pixels = (tz.Images.load(DATA / "chelsea.jpg").resize_crop(64).pixels[0] * 255).round() / 255
    noisy = pixels + 0.05 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return pixels, (noisy.clamp(0, 1) * 255).round() / 255


def test_speech_metrics_agree_with_direct_calls(pair: tuple[Tensor, Tensor]) -> None:
    clip, noisy = pair
    assert speech.STOI().item(*pair, ROW)["stoi"] == stoi(clip.numpy(), noisy.numpy(), 16000)
    wanted = scale_invariant_signal_distortion_ratio(noisy.double(), clip.double(), zero_mean=True)
    assert speech.SISDR().item(*pair, ROW)["si_sdr"] == pytest.approx(float(wanted), abs=1e-4)
    assert speech.MelDistance().item(clip, clip, ROW)["mel_distance"] == 0.0
    assert speech.F0Correlation().item(clip[:32000], clip[:32000], ROW)["f0_correlation"] == pytest.approx(1.0)


def test_pesq_agrees_with_a_direct_call(pair: tuple[Tensor, Tensor]) -> None:
    pesq = pytest.importorskip("pesq")
    clip, noisy = pair
    assert speech.PESQ().item(*pair, ROW)["pesq_wb"] == pytest.approx(pesq.pesq(16000, clip.numpy(), noisy.numpy(), "wb"))


def test_silence_is_said_not_measured() -> None:
    with pytest.raises(tz.InputError, match="is silent"):
        speech.STOI().item(torch.zeros(16000), torch.zeros(16000), ROW)


class Listener(speech.WER):
    """Hears what it is told."""

    def __init__(self, heard: str, normaliser: str = "whisper-english") -> None:
        self.jiwer, self.normalise, self.listen = (
            jiwer,
            text_normaliser(normaliser, {"colour": "color"}),
            lambda clips: [heard],
        )


@pytest.mark.parametrize(("normaliser", "errors"), [("whisper-english", 0), ("whisper-basic", 4), ("plain", 5)])
def test_normalisers_decide_what_an_error_is(normaliser: str, errors: int) -> None:
    row = Row(ROW.path, "He'd NOT seen the colour, twenty-one times.")
    found = Listener("he would not seen the color 21 times", normaliser).item(torch.ones(1), torch.ones(1), row)
    assert found["errors"] == errors


def test_plain_text() -> None:
    assert plain("\u201cDon\u2019t,\u201d she said \u2014 to R_2 Zo\u00eb\u2026") == "don't she said to r 2 zoë"
    with pytest.raises(tz.InputError, match="must be one of whisper-english, whisper-basic, plain"):
        text_normaliser("none")


def test_word_errors_agree_with_jiwer() -> None:
    pairs = {"one two three": "one too three four", "he was not ill": "he was ill", "a young man": "young men ran"}
    items = []
    for text, heard in pairs.items():
        items.append(Listener(heard).item(torch.ones(1), torch.ones(1), Row(ROW.path, text)))
    found = Listener("").summary(items)
    texts, heard = [item["text"] for item in items], [item["heard"] for item in items]
    assert found["wer"]["value"] == pytest.approx(jiwer.wer(texts, heard))
    assert found["cer"]["value"] == pytest.approx(jiwer.cer(texts, heard))
    assert found["wil"]["value"] == pytest.approx(jiwer.wil(texts, heard))
    assert found["wer"]["low"] < found["wer"]["value"] < found["wer"]["high"]
    with pytest.raises(tz.InputError, match="no transcript"):
        Listener("").item(torch.ones(1), torch.ones(1), Row(ROW.path))


def test_image_metrics(photos: tuple[Tensor, Tensor]) -> None:
    original, decoded = photos
    error = np.mean((original.numpy().astype(np.float64) - decoded.numpy()) ** 2)
    assert image.PSNR().item(*photos, ROW)["psnr"] == pytest.approx(-10 * np.log10(error))
    assert image.PSNR().item(original, original, ROW)["psnr"] == 100.0
    assert image.SSIM().item(original, original, ROW)["ssim"] == pytest.approx(1.0)


def test_ssim_agrees_with_scikit_image(photos: tuple[Tensor, Tensor]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    sides = [side.double().numpy() for side in photos]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    assert image.SSIM().item(*photos, ROW)["ssim"] == pytest.approx(metrics.structural_similarity(*sides, **options), abs=1e-9)


def test_bootstrap_interval_covers_the_mean() -> None:
    values = np.random.default_rng(1).normal(5, 1, 400)
    found = interval(list(values))
    assert found["value"] == pytest.approx(values.mean())
    assert found["low"] < 5 < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert found == interval(list(values))
    assert interval([2.5]) == interval([[1.0, 2.5]], lambda rows: rows[:, 1].sum()) == {"value": 2.5}
