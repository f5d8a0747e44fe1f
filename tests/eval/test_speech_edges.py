"""Metrics of speech where there is little or much to hear: silence, short and long clips; a batch gives what clips alone give."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import DATA
from evaluations import Same, run, toy_plan
from torch import Tensor
from trainers.models import CONVOLUTIONS, SMALL

import tokenizers_zoo as tz
from tokenizers_zoo.eval import speech
from tokenizers_zoo.eval.speech import recognition
from tokenizers_zoo.manifest import Row
from tokenizers_zoo.teachers.windows import windows

ROW = Row(DATA / "sense_and_sensibility_0870.wav", "one two three")
RATE = 16000


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return tz.Audio.load(ROW.path).waveform[0, 0]


def noise(seconds: float, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("seconds", [0.0005, 0.02, 0.05, 0.3, 0.405])
def test_stoi_of_too_short_a_clip_is_no_number(extended: bool, seconds: float, clip: Tensor) -> None:
    cut = clip[20000 : 20000 + round(seconds * RATE)]
    with pytest.raises(tz.InputError, match=r"needs at least 0\.41 s"):
        speech.STOI(extended).item(cut, cut, ROW)


def test_stoi_of_little_speech_in_much_silence_is_no_number(clip: Tensor) -> None:
    """pystoi takes the silent frames out first, then warns and gives 1e-5."""
    little = torch.zeros(RATE)
    little[4000:8000] = clip[20000:24000]
    with pytest.raises(tz.InputError, match=r"less than 0\.41 s is louder than its silences"):
        speech.STOI().item(little, little, ROW)
    enough = clip[20000 : 20000 + round(0.42 * RATE)]
    assert speech.STOI().item(enough, enough, ROW)["stoi"] == pytest.approx(1)


@pytest.mark.parametrize(("extended", "key"), [(False, "stoi"), (True, "estoi")])
def test_silence_is_not_understood(extended: bool, key: str, clip: Tensor) -> None:
    metric = speech.STOI(extended)
    assert metric.silent(clip, ROW) == {key: 0.0}
    assert list(metric.item(clip, clip, ROW)) == [key]


def test_stoi_of_a_clip_is_the_same_beside_any_other(clip: Tensor) -> None:
    """pystoi's extended one draws random numbers, which count where a side has a pause of exact zeros."""
    paused = clip[:32000].clone()
    paused[12000:] = 0
    metric, rest = speech.STOI(extended=True), clip[:32000]
    np.random.seed(1)
    ((alone,), state) = metric.items([rest], [paused], [ROW]), np.random.get_state()
    _, beside = metric.items([clip, rest], [clip, paused], [ROW, ROW])
    assert alone == beside
    np.random.seed(1)
    assert np.array_equal(state[1], np.random.get_state()[1])  # and nobody else's numbers change


@pytest.mark.parametrize("make", [speech.STOI, speech.PESQ, speech.MelDistance, speech.DistillMOS])
def test_silence_of_too_short_a_clip_is_no_number_either(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the system that gave silence would be measured on more items than the others."""
    for package in ("pesq", "distillmos"):
        monkeypatch.setitem(sys.modules, package, SimpleNamespace(PesqError=PesqError, ConvTransformerSQAModel=Level))
    tz.Audio(noise(0.05)[None, None], RATE).save(tmp_path / "short.wav")
    tz.Audio(noise(1)[None, None], RATE).save(tmp_path / "long.wav")
    rows = [Row(tmp_path / "short.wav"), Row(tmp_path / "long.wav")]
    (quiet,) = run([Same("quiet", dict.fromkeys(range(-80, 81), 0.0))], toy_plan(rows, judge=make()), rows, tmp_path / "out")
    ((left, reason),) = [(failure["path"], failure["judge"]) for failure in quiet["failures"]]
    assert left == "short.wav"
    assert "needs at least" in reason


class PesqError(RuntimeError):
    pass


@pytest.fixture
def pesq(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A package `pesq` that keeps what it is given, and does as `answers` say: values, or errors."""
    package = SimpleNamespace(PesqError=PesqError, given=[], answers=[])

    def measure(rate: int, original: Any, decoded: Any, band: str) -> float:
        package.given.append((rate, original, decoded, band))
        answer = package.answers.pop(0) if package.answers else 3.0
        if isinstance(answer, Exception):
            raise answer
        return answer

    package.pesq = measure
    monkeypatch.setitem(sys.modules, "pesq", package)
    return package


def test_pesq_gives_reasons_not_errors(pesq: SimpleNamespace, clip: Tensor) -> None:
    metric = speech.PESQ()
    assert metric.silent(clip, ROW) == metric.item(clip, torch.zeros_like(clip), ROW) == {"pesq_wb": 1.0}
    assert not pesq.given
    with pytest.raises(tz.InputError, match=r"lasts 0\.200 s; PESQ needs at least 0\.25 s"):
        metric.item(clip[:3200], clip[:3200], ROW)
    pesq.answers = [ValueError("cannot convert float NaN to integer"), PesqError(b"No utterances detected")]
    for reason in ("float NaN", "No utterances detected"):
        with pytest.raises(tz.InputError, match=f"PESQ has no value .*{reason}"):
            metric.item(clip, clip, ROW)
    with pytest.raises(tz.InputError, match="is silent"):
        metric.item(torch.zeros_like(clip), clip, ROW)


def test_pesq_hears_long_clips_in_pieces(pesq: SimpleNamespace) -> None:
    """The package ends the program where a clip has more than 50 utterances."""
    original, decoded = noise(45), noise(45, 1)
    original[: 15 * RATE] = 0
    decoded[30 * RATE :] = 0
    pesq.answers = [4.0]
    pieces = windows(original, 20.0)
    assert len(pieces) == 3
    assert speech.PESQ().item(original, decoded, ROW) == {"pesq_wb": 2.5}  # nothing to hear, 4.0, silence came back
    ((rate, first, second, band),) = pesq.given
    assert (rate, band, len(first)) == (RATE, "wb", len(second))
    assert np.array_equal(first, original[pieces[1]])
    assert np.array_equal(second, decoded[pieces[1]])
    speech.PESQ("nb").item(noise(1), noise(1), ROW)
    assert (pesq.given[1][0], len(pesq.given[1][1]), pesq.given[1][3]) == (8000, 8000, "nb")


def test_real_pesq_on_what_it_cannot_measure(clip: Tensor) -> None:
    pytest.importorskip("pesq")
    metric = speech.PESQ()
    with pytest.raises(tz.InputError, match=r"needs at least 0\.25 s"):
        metric.item(clip[:3999], clip[:3999], ROW)
    bursts = torch.cat([clip[16000:19520], torch.zeros(3520)]).repeat(140)  # 62 s: a crash when measured whole
    assert metric.item(bursts, bursts, ROW)["pesq_wb"] == pytest.approx(4.64, abs=0.01)


def test_si_sdr_of_known_signals() -> None:
    time = torch.arange(RATE) / RATE
    tone, other = torch.sin(2 * torch.pi * 100 * time), torch.cos(2 * torch.pi * 100 * time)
    value = speech.SISDR().item
    assert value(tone, tone + 0.1 * other, ROW)["si_sdr"] == pytest.approx(20, abs=1e-4)
    assert value(tone, 0.5 * (tone + 0.1 * other) + 0.3, ROW)["si_sdr"] == pytest.approx(20, abs=1e-4)  # neither scale nor offset
    assert value(0.01 * tone + 0.2, tone + 10 * other, ROW)["si_sdr"] == pytest.approx(-20, abs=1e-4)
    assert value(tone, tone, ROW)["si_sdr"] > 140
    for pair in ((tone, torch.zeros(RATE)), (tone, torch.full((RATE,), 0.5)), (torch.full((RATE,), 0.5), tone), (tone[:1],) * 2):
        with pytest.raises(tz.InputError, match=r"silent or constant|is silent"):
            value(*pair, ROW)
    with pytest.raises(tz.InputError, match="came back silent"):
        speech.SISDR().silent(tone, ROW)


def test_mel_distance_of_known_signals(clip: Tensor) -> None:
    metric, loud = speech.MelDistance(), noise(1)
    assert metric.item(loud, np.e * loud, ROW)["mel_distance"] == pytest.approx(1, abs=1e-3)  # in natural logarithms
    assert metric.silent(clip, ROW) == metric.item(clip, torch.zeros_like(clip), ROW)
    assert metric.silent(clip, ROW)["mel_distance"] > 3
    with pytest.raises(tz.InputError, match=r"lasts 0\.064 s; the mel distance needs at least 0\.064 s"):
        metric.item(loud[:1023], loud[:1023], ROW)
    metric.item(loud[:1024], loud[:1024], ROW)


def test_mel_distance_agrees_with_torchaudio(clip: Tensor) -> None:
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(RATE, 1024, hop_length=256, n_mels=80, power=1, norm="slaney", center=False)
    sides = [torch.nn.functional.pad(x[None], (384, 384), mode="reflect") for x in (clip, clip + noise(len(clip) / RATE))]
    a, b = (mel(side).clamp(min=1e-5).log() for side in sides)
    found = speech.MelDistance().item(clip, clip + noise(len(clip) / RATE), ROW)["mel_distance"]
    assert found == pytest.approx(float((a - b).abs().mean()), abs=1e-3)


def test_pitch_is_compared_where_both_are_voiced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    tracks: list[Any] = []

    def pyin(wave: Any, **options: Any) -> Any:
        calls.append(options)
        return tracks[int(wave[0])], None, None

    metric = speech.F0Correlation()
    metric.pyin = pyin
    random = np.random.default_rng(0)
    a, b = random.uniform(65, 500, 40), random.uniform(65, 500, 40)
    a[:5], b[-7:] = np.nan, np.nan
    tracks += [a, b, np.full(40, np.nan), np.full(40, 200.0)]
    waves = [torch.full((RATE,), float(i)) for i in range(4)]
    x, y = (track[5:33] - track[5:33].mean() for track in (a, b))
    prepared = metric.prepare(waves[:1])
    wanted = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
    assert metric.item(prepared[0], waves[1], ROW)["f0_correlation"] == pytest.approx(wanted)
    assert len(calls) == 2  # the original's once
    assert calls[0] == {"fmin": 65, "fmax": 500, "sr": RATE, "frame_length": 1024}
    assert metric.item(waves[0], waves[1], ROW)["f0_correlation"] == pytest.approx(wanted)
    tracks += [np.where(np.arange(40) < 5 + count, b, np.nan) for count in (9, 10)]
    waves += [torch.full((RATE,), 4.0), torch.full((RATE,), 5.0)]
    assert -1 <= metric.item(a, waves[5], ROW)["f0_correlation"] <= 1
    for index, reason in ((2, "fewer than 10 frames"), (3, "never moves"), (4, "fewer than 10 frames")):
        with pytest.raises(tz.InputError, match=reason):
            metric.item(a, waves[index], ROW)
    with pytest.raises(tz.InputError, match=r"needs at least 0\.16 s"):
        metric.item(a, waves[1][:2000], ROW)
    with pytest.raises(tz.InputError, match="came back silent, which has no F0Correlation"):
        metric.silent(a, ROW)


class Listener(speech.WER):
    """Writes as many words as a clip has samples."""

    def __init__(self) -> None:
        self.jiwer, self.normalise, self.calls = recognition.need("jiwer"), recognition.text_normaliser("plain"), []
        self.listen = self.hear  # type: ignore[assignment]

    def hear(self, clips: list[Tensor]) -> list[str]:
        self.calls.append(len(clips))
        return [" ".join(["one"] * len(clip)) for clip in clips]


def test_texts_are_compared_by_whispers_english_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another normaliser is asked for; with the recogniser's table of spellings, in English unless said otherwise."""
    given: list[tuple[str, str]] = []

    def recogniser(path: str, language: str) -> Any:
        given.append((path, language))
        tokenizer = SimpleNamespace(english_spelling_normalizer={"colour": "color"})
        return SimpleNamespace(processor=SimpleNamespace(tokenizer=tokenizer))

    monkeypatch.setattr(recognition, "SpeechRecognizer", recogniser)
    assert speech.WER("base").normalise("He'd 'colour' it") == "he would color it"
    assert speech.WER("base", "de", "plain").normalise("He'd colour it") == "he'd colour it"
    assert given == [("base", "en"), ("base", "de")]


def test_a_silent_clip_has_the_empty_transcript() -> None:
    metric = Listener()
    silent = metric.silent(torch.ones(1), ROW)
    assert (silent["heard"], silent["errors"], silent["words"], silent["letter_errors"], silent["letters"]) == ("", 3, 3, 13, 13)
    assert not metric.calls
    found = metric.summary([silent])
    assert [found[key]["value"] for key in ("wer", "cer", "wil")] == [1, 1, 1]
    with pytest.raises(tz.InputError, match="has no transcript"):
        metric.silent(torch.ones(1), Row(ROW.path))


def test_a_batch_of_clips_is_heard_at_once() -> None:
    metric = Listener()
    rows = [ROW, Row(ROW.path), Row(ROW.path, "one")]
    clips = [torch.ones(n) for n in (2, 1, 1)]
    found = metric.items([None] * 3, clips, rows)
    assert metric.calls == [2]  # without the one that has no transcript
    assert isinstance(found[1], tz.InputError)
    assert [found[0], found[2]] == [metric.item(None, clips[i], rows[i]) for i in (0, 2)]
    assert [found[i]["errors"] for i in (0, 2)] == [2, 0]  # type: ignore[call-overload]


class Level(torch.nn.Module):
    """A "network" that gives the mean of each piece."""

    def __init__(self, segmenting_in_forward: bool = True):
        super().__init__()
        assert not segmenting_in_forward
        print("which weights it takes")
        self.shapes: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x.mean(1, keepdim=True)


def test_distillmos_hears_all_of_a_clip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "distillmos", SimpleNamespace(ConvTransformerSQAModel=Level))
    metric, size = speech.DistillMOS(), 122880
    clips = [torch.arange(n).float() for n in (size, 8000, size + 40000)]
    found = metric.items([None] * 3, clips, [ROW] * 3)
    assert found == [metric.item(None, clip, ROW) for clip in clips]
    assert found[0]["distillmos"] == pytest.approx(clips[0].mean())  # type: ignore[call-overload]
    assert found[1]["distillmos"] == pytest.approx(clips[1].sum() / size)  # type: ignore[call-overload]
    starts = [0, 13333, 26666, 40000]  # not more than a second apart, from the first to the last sample
    assert [float(piece[0]) for piece in metric.pieces(clips[2])] == starts
    assert found[2]["distillmos"] == pytest.approx(np.mean([clips[2][s : s + size].mean() for s in starts]))  # type: ignore[call-overload]
    assert set(metric.network.shapes) == {(6, size), (1, size), (4, size)}  # type: ignore[arg-type]
    assert metric.silent(None, ROW) == {"distillmos": 1.0}
    assert capsys.readouterr().out == ""  # where the table goes
    with pytest.raises(tz.InputError, match=r"lasts 0\.400 s; DistillMOS needs at least 0\.5 s"):
        metric.item(None, clips[0][:6400], ROW)


def test_distillmos_agrees_with_the_packages_own_pieces(clip: Tensor) -> None:
    package = pytest.importorskip("distillmos")
    metric, whole = speech.DistillMOS(), package.ConvTransformerSQAModel().eval()
    for wave in (clip[:RATE], clip, clip.repeat(2)):
        with torch.no_grad():
            assert metric.item(wave, wave, ROW)["distillmos"] == pytest.approx(float(whole(wave[None])), abs=1e-4)


def test_dnsmos(monkeypatch: pytest.MonkeyPatch) -> None:
    run = lambda wave, rate: {"ovrl_mos": float(np.abs(wave).max()) + rate, "sig_mos": 9.0}  # noqa: E731
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", SimpleNamespace(run=run))
    monkeypatch.setitem(sys.modules, "speechmos", SimpleNamespace())
    metric = speech.DNSMOS()
    assert metric.item(None, torch.full((8000,), -1.5), ROW) == {"dnsmos": 16001.0}
    assert metric.silent(None, ROW) == {"dnsmos": 1.0}
    with pytest.raises(tz.InputError, match=r"DNSMOS needs at least 0\.5 s"):
        metric.item(None, torch.ones(7999), ROW)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> speech.SpeakerSimilarity:
    """A WavLM of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("voices")
    sizes = {"tdnn_dim": [16] * 5, "xvector_output_dim": 8, "tdnn_kernel": [5, 3, 3, 1, 1], "tdnn_dilation": [1, 2, 3, 1, 1]}
    transformers.WavLMForXVector(transformers.WavLMConfig(**SMALL, **CONVOLUTIONS, **sizes)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return speech.SpeakerSimilarity(str(folder))


def test_voices(voices: speech.SpeakerSimilarity, clip: Tensor) -> None:
    originals = [clip[:RATE], clip[RATE : 3 * RATE], clip[: RATE // 4], clip[2 * RATE : 3 * RATE]]
    decoded = [wave + noise(len(wave) / RATE, seed) for seed, wave in enumerate(originals)]
    prepared = voices.prepare(originals)
    found = voices.items(prepared, decoded, [ROW] * 4)
    assert isinstance(found[2], tz.InputError)
    for index in (0, 1, 3):
        pair = voices.extract([originals[index].numpy(), decoded[index].numpy()], sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            a, b = voices.network(**pair).embeddings.double()
        wanted = float(a @ b / (a @ a * (b @ b)).sqrt())
        assert found[index] == {"speaker_similarity": pytest.approx(wanted, abs=1e-5)}
    assert voices.item(clip, clip, ROW)["speaker_similarity"] == pytest.approx(1, abs=1e-5)
    with pytest.raises(tz.InputError, match="came back silent"):
        voices.silent(prepared[0], ROW)


def test_a_long_voice_is_the_mean_of_its_pieces(voices: speech.SpeakerSimilarity) -> None:
    long = noise(31)
    first, second = windows(long)
    inputs = [voices.samples(long[piece])[None] for piece in (first, second)]
    with torch.no_grad():
        mean = torch.stack([voices.network(x).embeddings[0] for x in inputs]).mean(0)
    torch.testing.assert_close(voices.embeddings([long])[0], mean / mean.norm())
