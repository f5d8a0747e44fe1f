"""Recognisers: clips of any length to their end, whatever else is in the batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import DATA
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from trainers.models import recognizer

import tokenizers_zoo as tz
from tokenizers_zoo.teachers.recognizer import TEMPERATURES, SpeechRecognizer, repetitive
from tokenizers_zoo.teachers.windows import windows

RATE = 16000
SPECIAL = ["<pad>", "<s>", "</s>", "<|startoftranscript|>", "<|notimestamps|>"]


def noise(seconds: float, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seconds", [0.01, 29.9, 30, 30.01, 40, 59.99, 95])
def test_pieces_are_the_whole_clip(seconds: float) -> None:
    clip = noise(seconds)
    pieces = windows(clip)
    assert torch.equal(torch.cat([clip[piece] for piece in pieces]), clip)
    sizes = [piece.stop - piece.start for piece in pieces]
    assert max(sizes) <= 30 * RATE
    assert len(pieces) == 1 if seconds <= 30 else min(sizes) >= 10 * RATE
    assert len(pieces) <= 1 + seconds // 25


@pytest.mark.parametrize("pause", [18.2, 20.0, 21.7])
def test_a_clip_is_cut_where_it_is_quiet(pause: float) -> None:
    clip = noise(40)
    clip[round((pause - 0.15) * RATE) : round((pause + 0.15) * RATE)] *= 0.01
    clip[10 * RATE : 11 * RATE] = 0  # too far from the middle
    first, _ = windows(clip)
    assert first.stop / RATE == pytest.approx(pause, abs=0.06)


def whisper(folder: Path) -> str:
    """A Whisper of width 16 with random weights, whose words are letters."""
    torch.manual_seed(1)
    words = {word: i for i, word in enumerate([*"abcdefghijklmnop", *SPECIAL])}  # what follows the last one would be a time
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": len(words)}
    ids = {"pad_token_id": 16, "bos_token_id": 17, "eos_token_id": 18, "decoder_start_token_id": 19}
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**sizes, **ids, init_std=0.5))
    model.generation_config = transformers.GenerationConfig(**ids, no_timestamps_token_id=20, is_multilingual=False)
    model.save_pretrained(folder)
    spelled = Tokenizer(WordLevel(words, unk_token="<pad>"))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": SPECIAL[3:]}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=spelled, **names)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["ctc", "whisper"])
def listen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechRecognizer]:
    """Random weights never end a text: it is cut after 8 tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizers_zoo.teachers.recognizer.TOKENS", 8)
        yield SpeechRecognizer(whisper(folder) if request.param == "whisper" else recognizer(folder))


@pytest.fixture(scope="module")
def clips() -> list[Tensor]:
    speech = tz.Audio.load(DATA / "sense_and_sensibility_0870.wav").waveform[0, 0]
    return [speech, speech[:RATE], noise(40), speech[RATE : 2 * RATE], speech[:200]]


def test_a_text_does_not_depend_on_the_batch(listen: SpeechRecognizer, clips: list[Tensor]) -> None:
    texts = listen(clips)
    assert texts == [listen([clip])[0] for clip in clips]
    assert len(set(texts)) > 2


def test_a_clip_of_40_s_is_heard_to_its_end(listen: SpeechRecognizer, clips: list[Tensor]) -> None:
    pieces = windows(clips[2])
    assert len(pieces) == 2
    assert listen([clips[2]])[0] == " ".join(filter(None, listen([clips[2][piece] for piece in pieces])))


def test_a_multilingual_whisper_is_told_the_language(tmp_path: Path) -> None:
    folder = whisper(tmp_path)
    assert SpeechRecognizer(folder).options == {}
    config = tmp_path / "generation_config.json"
    config.write_text(config.read_text().replace('"is_multilingual": false', '"is_multilingual": true'))
    assert SpeechRecognizer(folder, "de").options == {"language": "de", "task": "transcribe"}


class Repeating(SpeechRecognizer):
    """Says "ha" 60 times to every input whose first value is above 0, until the third temperature."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.generates = self.whisper = True
        self.model: Any = torch.nn.Linear(1, 1)
        self.model.device = torch.device("cpu")
        self.drawn: list[tuple[float, float]] = []

    def _input(self, piece: Tensor) -> Tensor:
        return piece[:3]

    def _written(self, inputs: Tensor, temperature: float = 0.0) -> list[str]:
        if temperature:
            self.drawn.append((temperature, float(torch.rand(1))))
        stuck = temperature < TEMPERATURES[2]
        return ["ha " * 60 if x[0] > 0 and stuck else f"at {temperature}" for x in inputs]


def test_what_repeats_itself_is_heard_again_alone() -> None:
    listen, state = Repeating(), torch.random.get_rng_state()
    texts = listen([torch.ones(9), -torch.ones(9), torch.ones(9)])
    assert texts == ["at 0.6", "at 0.0", "at 0.6"]
    assert [temperature for temperature, _ in listen.drawn] == [0.2, 0.4, 0.6] * 2
    assert listen.drawn[:3] == listen.drawn[3:]  # each with the same random numbers
    assert torch.equal(state, torch.random.get_rng_state())
    assert repetitive("ha " * 60)
    assert not repetitive("He was not an ill-disposed young man, unless to be rather cold hearted is to be ill-disposed.")
    assert not repetitive("")
