"""Teachers on random models of every kind, alignment of text, the feature cache, recognisers."""

from pathlib import Path

import pytest
import torch
from conftest import DATA
from trainers.models import language_model, recognizer, speech_model
from trainers.runs import audio_data
from transformers import WhisperFeatureExtractor

import tokenizers_zoo as tz
from tokenizers_zoo.teachers.cache import FeatureCache
from tokenizers_zoo.teachers.recognizer import SpeechRecognizer
from tokenizers_zoo.teachers.speech import SpeechTeacher
from tokenizers_zoo.teachers.text import TextTeacher, spread, voiced

CLIP = DATA / "sense_and_sensibility_0880.wav"


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    return tz.Audio.load(CLIP).waveform[0, 0]


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "whisper"])
def test_speech_models_give_50_frames_a_second(kind: str, wave: torch.Tensor, tmp_path: Path) -> None:
    path = speech_model(tmp_path, kind)
    average, last, first = (SpeechTeacher(path, layer) for layer in ("average", -1, 0))
    features = average(wave)
    assert features.shape[1] == average.dim == 16
    assert features.shape[0] == pytest.approx(len(wave) / 320, abs=1.5)
    states = [SpeechTeacher(path, layer)(wave) for layer in range(3)]
    torch.testing.assert_close(features, torch.stack(states).mean(0))
    torch.testing.assert_close(last(wave), states[-1])
    torch.testing.assert_close(first(wave), states[0])
    assert not any(p.requires_grad for p in average.parameters())
    assert average.identity != last.identity


def test_whisper_hears_a_whole_window_as_transformers_does(tmp_path: Path) -> None:
    path = speech_model(tmp_path, "whisper")
    teacher, extractor = SpeechTeacher(path, -1), WhisperFeatureExtractor.from_pretrained(path)
    wave = torch.randn(30 * 16000) * 0.1
    mel = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    assert teacher.whisper is not None
    torch.testing.assert_close(teacher.whisper.mel(wave[None]), mel, rtol=0, atol=1e-4)
    torch.testing.assert_close(teacher(wave), teacher.whisper.encoder(mel).last_hidden_state[0], rtol=1e-3, atol=1e-3)
    with pytest.raises(tz.InputError, match="at most 30 s"):
        teacher.whisper(torch.zeros(1, 31 * 16000))


def test_text_is_spread_over_the_voiced_frames(tmp_path: Path) -> None:
    teacher = TextTeacher(language_model(tmp_path), -1)
    wave = torch.cat([torch.zeros(3200), torch.sin(torch.arange(16000) / 10), torch.zeros(3200)])
    assert voiced(wave, 70) == (10, 60)
    features = teacher(wave, "AB")
    assert features.shape == (70, 16)
    changes = [t for t in range(1, 70) if not torch.equal(features[t], features[t - 1])]
    assert changes == [10, 35, 60]  # before, "a", "##b", after
    with pytest.raises(tz.InputError, match="no text"):
        teacher(wave, " ")


def test_text_is_padded_as_published(tmp_path: Path) -> None:
    teacher = TextTeacher(language_model(tmp_path), -1, alignment="padded")
    features = teacher(torch.randn(16000), "ab")
    assert features.shape == (50, 16)
    inputs = teacher.words("ab", padding="max_length", max_length=50, return_tensors="pt")
    torch.testing.assert_close(features, teacher.model(**inputs).last_hidden_state[0])
    long = teacher(torch.randn(16000 * 12), "ab")  # 600 frames, the model has 512 positions
    assert torch.equal(long[511], long[599])


def test_letters_get_their_share() -> None:
    assert spread([1, 3], 1, 9, 10).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert spread([], 2, 4, 6).tolist() == [0, 0, 0, 0, 1, 1]


def test_a_teacher_runs_once_a_clip(tmp_path: Path) -> None:
    teacher = SpeechTeacher(speech_model(tmp_path / "model", "hubert"))
    cache, calls = FeatureCache(teacher, tmp_path / "cache"), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    clips = [(CLIP, "text"), (tmp_path / "missing.wav", "")]
    cache.fill(clips)
    cache.fill(clips)
    assert len(calls) == 1
    features = teacher(tz.Audio.load(CLIP).waveform[0, 0])
    crop = cache.crop(CLIP, "text", 1.0, 0.5)
    torch.testing.assert_close(crop, features[50:75], rtol=1e-3, atol=1e-3)
    past = cache.crop(CLIP, "text", 2.9, 0.5)
    assert torch.equal(past[-1], past[-2])
    assert cache.path(CLIP, "other text") != cache.path(CLIP, "text")


def test_batches_carry_features(tmp_path: Path) -> None:
    teacher = SpeechTeacher(speech_model(tmp_path / "model", "hubert"))
    data = audio_data(teachers={"speech": teacher}, cache=str(tmp_path / "cache"))
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["speech"].shape == (12, 25, 16)
    assert next(iter(data.val_dataloader()))["speech"].shape == (2, 50, 16)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_recognizers_write_text(wave: torch.Tensor, tmp_path: Path) -> None:
    texts = SpeechRecognizer(recognizer(tmp_path))([wave, wave[:16000]])
    assert len(texts) == 2
    assert all(set(text) <= set("abc <unk>") for text in texts)


def test_a_missing_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(tz.WeightsError, match="Hugging Face name or a local folder"):
        SpeechTeacher(str(tmp_path))
