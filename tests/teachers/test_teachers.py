"""Teachers on random models of every kind, alignment of text, the feature cache, recognisers."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import DATA
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from trainers.models import language_model, recognizer, speech_model
from trainers.runs import audio_data
from transformers import AutoModel, AutoModelForCTC, WhisperFeatureExtractor

import tokenizers_zoo as tz
from tokenizers_zoo.teachers.cache import FeatureCache
from tokenizers_zoo.teachers.recognizer import SpeechRecognizer
from tokenizers_zoo.teachers.speech import SpeechTeacher
from tokenizers_zoo.teachers.text import TextTeacher, spread, voiced
from tokenizers_zoo.teachers.whisper import WhisperEncoder
from tokenizers_zoo.trainers.audio_data import AudioData

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
    wave = torch.randn(30 * 16000) * torch.logspace(-7, -1, 30).repeat_interleave(16000)  # down to below the floor
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
    torch.testing.assert_close(past[-1], features[145 + 24 - len(features)], rtol=1e-3, atol=1e-3)
    assert cache.path(CLIP, "other text") != cache.path(CLIP, "text")
    copy, again = tmp_path / "copy.wav", tmp_path / "again.wav"
    for path in (copy, again):
        path.write_bytes(CLIP.read_bytes())
        os.utime(path, ns=(1, 1))
    assert cache.path(copy, "") != cache.path(again, "")
    first = cache.path(copy, "")
    os.utime(copy, ns=(2, 2))
    changed = cache.path(copy, "")
    copy.write_bytes(CLIP.read_bytes() + b"longer")
    os.utime(copy, ns=(2, 2))
    assert len({first, changed, cache.path(copy, "")}) == 3


@pytest.mark.parametrize("kind", ["hubert", "large", "whisper"])
def test_clips_side_by_side_are_as_alone(kind: str, tmp_path: Path) -> None:
    teacher = SpeechTeacher(speech_model(tmp_path, kind), -1)
    assert teacher.masked == (kind != "hubert")
    waves = [torch.randn(samples) * 0.1 for samples in (16000, 9876, 16000, 12810, 200)]
    passes = []
    counted = teacher.whisper.encoder.layers[0] if teacher.whisper else teacher.model
    counted.register_forward_pre_hook(lambda *_: passes.append(1))
    for together, wave in zip(teacher.batch(waves, [""] * 5), waves, strict=True):
        alone = teacher(wave)
        assert together.shape == alone.shape
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert len(passes) == 5 + (5 if kind == "hubert" else 1)


def test_texts_side_by_side_are_as_alone(tmp_path: Path) -> None:
    waves = [torch.randn(samples) for samples in (16000, 9876, 30000)]
    for alignment in ("spread", "padded"):
        teacher = TextTeacher(language_model(tmp_path), alignment=alignment)
        texts = ["one", "a longer text", "x"]
        for together, wave, text in zip(teacher.batch(waves, texts), waves, texts, strict=True):
            torch.testing.assert_close(together, teacher(wave, text), rtol=1e-4, atol=1e-5)
        assert teacher.cut == 0


def test_a_text_beyond_the_model_is_cut_and_counted(tmp_path: Path) -> None:
    teacher = TextTeacher(language_model(tmp_path / "model"), -1)
    assert teacher(torch.randn(16000), "a " * 600).shape == (50, 16)  # the model has 512 places
    assert teacher.cut == 1
    teacher.cut = 0
    with pytest.warns(UserWarning, match="1 of 2 texts were longer than their teacher takes"):
        FeatureCache(teacher, tmp_path / "cache").fill([(CLIP, "a " * 600), (CLIP, "a")])


def test_a_clip_without_a_text_is_named_before_any_is_heard(tmp_path: Path) -> None:
    cache = FeatureCache(TextTeacher(language_model(tmp_path / "model"), -1), tmp_path / "cache")
    with pytest.raises(tz.InputError, match=rf"{CLIP.name} has no text \(clips without: 2\).*leave such clips out"):
        cache.fill([(CLIP, "a"), (CLIP, " "), (CLIP, ""), (tmp_path / "gone.wav", "")])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
@pytest.mark.parametrize("seconds", [30, 31, 75.013])
def test_long_clips_are_heard_in_windows(kind: str, seconds: float, tmp_path: Path) -> None:
    teacher = SpeechTeacher(speech_model(tmp_path, kind), -1)
    wave = torch.randn(round(seconds * 16000)) * 0.1
    features = teacher(wave)
    assert len(features) == (-(len(wave) // 160 // -2) if kind == "whisper" else (len(wave) - 400) // 320 + 1)
    whole = [teacher(wave[start : start + 480_000 + (80 if kind == "hubert" else 0)]) for start in range(0, len(wave), 480_000)]
    torch.testing.assert_close(features, torch.cat(whole)[: len(features)], rtol=1e-4, atol=1e-4)


def test_identities_follow_from_content(tmp_path: Path) -> None:
    """The same model elsewhere is the same teacher; one that was replaced in place is another, as is another tokenizer."""
    first = SpeechTeacher(speech_model(tmp_path / "a", "hubert"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert SpeechTeacher(str(tmp_path / "b")).identity == first.identity
    weights = load_file(tmp_path / "a/model.safetensors")
    name = next(name for name in weights if name.endswith("layer_norm.weight"))
    weights[name][0] += 0.01
    save_file(weights, tmp_path / "a/model.safetensors", {"format": "pt"})
    assert SpeechTeacher(str(tmp_path / "a")).identity != first.identity
    options = tmp_path / "b/preprocessor_config.json"
    options.write_text(options.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    assert SpeechTeacher(str(tmp_path / "b")).identity != first.identity
    texts = TextTeacher(language_model(tmp_path / "c"))
    words = tmp_path / "c/tokenizer.json"
    words.write_text(words.read_text().replace('"x": 28', '"x": 27').replace('"w": 27', '"w": 28'))
    assert TextTeacher(str(tmp_path / "c")).identity != texts.identity
    assert TextTeacher(str(tmp_path / "c"), alignment="padded").identity != TextTeacher(str(tmp_path / "c")).identity


@pytest.mark.parametrize("option", [{"model_max_length": 8}, {"pad_token": "[MASK]"}])
def test_options_of_a_tokenizer_that_change_features_change_the_identity(option: dict[str, object], tmp_path: Path) -> None:
    """They do not stand in tokenizer.json."""
    first = TextTeacher(language_model(tmp_path), alignment="padded")
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | option))
    second = TextTeacher(str(tmp_path), alignment="padded")
    texts = ["a", "a text of more words"]
    waves = [torch.ones(16000)] * 2
    features = zip(first.batch(waves, texts), second.batch(waves, texts), strict=True)
    assert not all(torch.equal(a, b) for a, b in features)
    assert second.identity != first.identity


def test_texts_are_filled_and_cut_at_their_end(tmp_path: Path) -> None:
    """Whatever side a tokenizer was saved with."""
    wave, texts = torch.ones(16000), ["a", "a text of more words"]
    first = TextTeacher(language_model(tmp_path))
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left", "truncation_side": "left"}))
    second = TextTeacher(str(tmp_path))
    assert second.identity == first.identity
    for texts in (["a", "a text of more words"], ["a b " * 300, "a"]):
        for a, b in zip(first.batch([wave] * 2, texts), second.batch([wave] * 2, texts), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["hubert", "whisper", "text", "recognizer"])
def test_models_saved_in_half_precision_teach_in_float32(kind: str, tmp_path: Path, wave: torch.Tensor) -> None:
    """As Whisper large-v3 is published."""
    make = {"text": language_model, "recognizer": recognizer}.get(kind, lambda folder: speech_model(folder, kind))
    path = make(tmp_path / "model")
    auto = AutoModelForCTC if kind == "recognizer" else AutoModel
    auto.from_pretrained(path).half().save_pretrained(path)
    assert load_file(Path(path) / "model.safetensors").popitem()[1].dtype == torch.float16
    if kind == "recognizer":
        assert isinstance(SpeechRecognizer(path)([wave])[0], str)
        return
    teacher = TextTeacher(path) if kind == "text" else SpeechTeacher(path)
    assert teacher(wave, "text").dtype == torch.float32
    if kind == "whisper":
        assert WhisperEncoder(path)(wave[None]).dtype == torch.float32


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_is_not_there_is_said_so(layer: int, tmp_path: Path, wave: torch.Tensor) -> None:
    teacher = SpeechTeacher(speech_model(tmp_path, "hubert"), layer)
    with pytest.raises(tz.InputError, match=rf"layer is {layer}, its model has 0 to 2"):
        teacher(wave)


def test_replaced_weights_give_new_features(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(CLIP.read_bytes())

    def features() -> torch.Tensor:
        cache = FeatureCache(SpeechTeacher(str(tmp_path / "model")), tmp_path / "cache")
        cache.fill([(tmp_path / "a.wav", "")])
        return cache.crop(tmp_path / "a.wav", "", 0.0, 1.0)

    speech_model(tmp_path / "model", "hubert")
    before = features()
    assert torch.equal(features(), before)
    weights = {k: v + 0.1 for k, v in load_file(tmp_path / "model/model.safetensors").items()}
    save_file(weights, tmp_path / "model/model.safetensors", {"format": "pt"})
    assert not torch.equal(features(), before)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_crop_reads_its_own_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(SpeechTeacher(speech_model(tmp_path / "model", "hubert")), tmp_path / "cache")
    cache.fill([(CLIP, "")])
    whole = load_file(cache.path(CLIP, ""))["features"].float()
    for start, seconds in ((0.0, 0.5), (1.23, 0.5), (2.8, 0.5), (0.0, 4.0)):
        index = torch.arange(round(start * 50), round(start * 50) + round(seconds * 50))
        index = index % len(whole) if start else index.clamp(max=len(whole) - 1)  # a loop, or the last repeats
        assert torch.equal(cache.crop(CLIP, "", start, seconds), whole[index])
    read = []

    class Slice:
        def __init__(self, stored: Any):
            self.stored = stored

        def get_shape(self) -> list[int]:
            return self.stored.get_shape()

        def __getitem__(self, part: slice) -> torch.Tensor:
            read.append(part)
            return self.stored[part]

    class Opened(contextlib.ExitStack):
        def __init__(self, *args: Any):
            super().__init__()
            self.file = self.enter_context(safe_open(*args))

        def get_slice(self, name: str) -> Slice:
            return Slice(self.file.get_slice(name))

    monkeypatch.setattr("tokenizers_zoo.teachers.cache.safe_open", Opened)
    cache.crop(CLIP, "", 1.0, 0.5)
    assert read == [slice(50, 75)]
    cache.path(CLIP, "").write_bytes(b"torn")
    with pytest.raises(tz.InputError, match=r"is damaged .* remove it"):
        cache.crop(CLIP, "", 0.0, 0.5)
    with pytest.raises(tz.InputError, match=r"0880\.wav: a teacher could not hear all of it"):
        cache.crop(CLIP, "other", 0.0, 0.5)


def test_teachers_run_where_training_does_and_processes_share_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of one machine, then one of each of two machines that have a folder of their own."""
    teacher = SpeechTeacher(speech_model(tmp_path / "model", "hubert"))
    for name in "abcde":
        (tmp_path / f"{name}.wav").write_bytes(CLIP.read_bytes())
    filled: list[tuple[int, set[str], str]] = []
    monkeypatch.setattr(
        FeatureCache, "fill", lambda self, clips, device: filled.append((rank, {clip.stem for clip, _ in clips}, str(device)))
    )
    for devices in (2, 1):
        filled.clear()
        for rank in (0, 1):
            data = AudioData(str(tmp_path), 16000, teachers={"speech": teacher}, cache=str(tmp_path / "cache"))
            barriers: list[str] = []
            strategy = SimpleNamespace(root_device=torch.device("meta"), barrier=barriers.append)
            local = rank if devices == 2 else 0
            data.trainer = SimpleNamespace(
                global_rank=rank, world_size=2, local_rank=local, num_devices=devices, strategy=strategy, limit_val_batches=1.0
            )
            data.prepare_data()
            data.setup("fit")
            assert len(barriers) == 3 - devices
        shares = {0: set("ace"), 1: set("bd")}
        whole = [] if devices == 2 else [set("abcde")]
        assert filled == [(rank, part, "meta") for rank in (0, 1) for part in [shares[rank], *whole]]


def test_teachers_have_names_of_their_own() -> None:
    for name in ("text", "media"):
        with pytest.raises(tz.InputError, match=f"a batch has {name} of its own; give the teacher another name"):
            AudioData(str(DATA), 16000, teachers={name: torch.nn.Identity()})  # type: ignore[dict-item]


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
