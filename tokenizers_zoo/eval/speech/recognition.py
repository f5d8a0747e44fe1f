"""Who speaks, and what is said: by recognisers of speech and of speakers."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from ...frozen import stacked
from ...manifest import Row
from ...teachers.base import RATE
from ...teachers.recognizer import SpeechRecognizer
from ...teachers.windows import windows
from ..base import Item, interval, need
from ..batches import Batched
from .signals import long_enough


class WER(Batched):
    """Word and character error rate and word information lost of a speech recogniser, against the manifest's text, by jiwer.

    recognizer: Hugging Face name or folder; greedy decoding. normaliser: of both texts: Whisper's English one (numbers as
    digits, contractions spelled out, and British as American spelling where the recogniser brings Whisper's table), its
    language-independent one, or "plain": lower case; letters, digits and apostrophes alone. Rates are of all words together;
    the interval resamples clips.
    """

    better = "lower"

    def __init__(self, recognizer: str, language: str = "en", normaliser: str = "whisper-english"):
        self.jiwer, self.listen = need("jiwer"), SpeechRecognizer(recognizer, language)
        tokenizer = getattr(self.listen.processor, "tokenizer", None)
        self.normalise = text_normaliser(normaliser, getattr(tokenizer, "english_spelling_normalizer", None))

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError where there is no transcript."""
        if not self.normalise(row.text):
            raise InputError(f"{row.path} has no transcript; fill the manifest's text column")

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """Texts and counts; the decoded side alone is transcribed."""
        return [self.counts(row.text, heard) for row, heard in zip(rows, self.listen(decoded), strict=True)]

    def silent(self, original: Any, row: Row) -> Item:
        """Counts of the empty transcript: recognisers write words where there is nothing."""
        self.check(torch.empty(0), row)
        return self.counts(row.text, "")

    def counts(self, said: str, heard: str) -> Item:
        """Both texts as they are compared; words and letters, and errors in them."""
        reference, heard = self.normalise(said), self.normalise(heard)
        words, letters = self.jiwer.process_words(reference, heard), self.jiwer.process_characters(reference, heard)
        counts = {
            "words": words.hits + words.substitutions + words.deletions,
            "errors": words.substitutions + words.deletions + words.insertions,
            "hits": words.hits,
            "heard_words": words.hits + words.substitutions + words.insertions,
            "letters": letters.hits + letters.substitutions + letters.deletions,
            "letter_errors": letters.substitutions + letters.deletions + letters.insertions,
        }
        return {"text": reference, "heard": heard, **counts}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """Each rate is the sum of all clips' errors over the sum of their words or letters."""
        names = ("words", "errors", "hits", "heard_words", "letters", "letter_errors")
        table = [[item[name] for name in names] for item in items]

        def lost(rows: Any) -> float:
            n, _, hits, heard = rows.sum(0)[:4]
            return 1 - (hits / n) * (hits / max(heard, 1))

        return {
            "wer": interval(table, lambda rows: rows[:, 1].sum() / rows[:, 0].sum()),
            "cer": interval(table, lambda rows: rows[:, 5].sum() / rows[:, 4].sum()),
            "wil": interval(table, lost),
        }


def text_normaliser(name: str, spelling: dict[str, str] | None = None) -> Callable[[str], str]:
    """What makes texts comparable: "whisper-english" (with a table of spellings), "whisper-basic" or "plain", see `WER`.

    Raises InputError for others.
    """
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    known: dict[str, Callable[[], Any]] = {
        "whisper-english": lambda: EnglishTextNormalizer(spelling or {}),  # type: ignore[no-untyped-call]
        "whisper-basic": BasicTextNormalizer,
        "plain": lambda: plain,
    }
    if name not in known:
        raise InputError(f"normaliser must be one of {', '.join(known)}, got {name!r}")
    return known[name]()


def plain(text: str) -> str:
    """Lower case; what is neither letter, digit nor apostrophe separates words."""
    return " ".join(re.findall(r"(?:[^\W_]|')+", text.lower().replace("\u2019", "'")))


class SpeakerSimilarity(Batched):
    """Cosine of the two sides' speaker embeddings, by an x-vector model of transformers (microsoft/wavlm-base-plus-sv).

    path: Hugging Face name or folder. A clip of more than 30 s has the mean embedding of its pieces.
    """

    def __init__(self, path: str = "microsoft/wavlm-base-plus-sv"):
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        from ...teachers.base import open_model

        self.network = open_model(AutoModelForAudioXVector, path).eval()
        self.extract = open_model(AutoFeatureExtractor, path)

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for less than half a second."""
        long_enough(decoded, 0.5, "a voice", row)

    def embeddings(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """(dim,) of each clip, of length 1."""
        pieces = [[self.samples(wave[piece]) for piece in windows(wave)] for wave in waves]
        found = iter(stacked(lambda x: self.network(x.to(self.device)).embeddings.cpu(), [x for one in pieces for x in one]))
        return [F.normalize(torch.stack([next(found) for _ in one]).mean(0), dim=0) for one in pieces]

    def samples(self, wave: Tensor) -> Tensor:
        """What the network gets of a clip."""
        return self.extract(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_values[0]

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        """Their embeddings; those that are too short are filled up, and `check` refuses them."""
        return self.embeddings([F.pad(wave, (0, max(0, RATE // 2 - len(wave)))) for wave in originals])

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """-1 to 1."""
        return [{"speaker_similarity": float(a @ b)} for a, b in zip(prepared, self.embeddings(decoded), strict=True)]
