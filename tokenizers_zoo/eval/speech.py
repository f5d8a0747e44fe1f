"""Metrics of decoded speech. All take clips (S,) at 16 kHz, both sides equally long.

Too short a clip has no value and says how long it has to be; of long ones all is heard, in pieces where a judge takes no more.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..frozen import stacked
from ..losses.spectral import LogMel
from ..manifest import Row
from ..teachers.base import RATE
from ..teachers.recognizer import SpeechRecognizer
from ..teachers.windows import windows
from .base import Item, Metric, interval, is_silent, need
from .batches import Batched


class STOI(Metric):
    """Short-time objective intelligibility, by pystoi; extended: the variant for strongly modulated distortions.

    pystoi adds numpy's random numbers to both sides of the extended one, which decide what a pause of exact zeros gets: they are
    the same for every clip.
    """

    def __init__(self, extended: bool = False):
        self.stoi, self.extended, self.key = need("pystoi").stoi, extended, "estoi" if extended else "stoi"

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 to 1, -1 to 1 extended. Raises InputError below 30 frames of 25.6 ms, 0.41 s, that the original fills with sound."""
        _audible(original, row)
        _long_enough(decoded, 0.41, "STOI", row)
        with warnings.catch_warnings(record=True) as remarks, _same_numbers():  # what is too short gives 1e-5 and a warning
            warnings.simplefilter("always")
            value = float(self.stoi(original.numpy(), decoded.numpy(), RATE, extended=self.extended))
        if any("Not enough STFT frames" in str(remark.message) for remark in remarks):
            raise InputError(f"{row.path}: less than 0.41 s is louder than its silences; STOI needs that much")
        return {self.key: value}

    def silent(self, original: Any, row: Row) -> Item:
        """Nothing is understood."""
        return {self.key: 0.0}


class PESQ(Metric):
    """ITU-T P.862.2 (wide band) or P.862 (narrow band, at 8 kHz), by the package pesq.

    Clips of more than 20 s are measured in pieces, and averaged: the package has room for 50 utterances, which are at least 0.4 s
    with their pauses, and ends the program at more.
    """

    def __init__(self, band: str = "wb"):
        self.pesq, self.band, self.key = need("pesq", "eval-speech"), band, f"pesq_{band}"

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """1 to 4.64 (4.55 in narrow band). Raises InputError below a quarter of a second, and where no utterance is found."""
        _audible(original, row)
        _long_enough(decoded, 0.25, "PESQ", row)
        sides = [(original[piece], decoded[piece]) for piece in windows(original, 20.0)]
        return {self.key: float(np.mean([self._piece(a, b, row) for a, b in sides if not is_silent(a)]))}

    def _piece(self, original: Tensor, decoded: Tensor, row: Row) -> float:
        if is_silent(decoded):
            return 1.0
        rate = RATE
        if self.band == "nb":
            from torchaudio.functional import resample

            rate = RATE // 2
            original, decoded = (resample(x, RATE, rate) for x in (original, decoded))
        try:
            return float(self.pesq.pesq(rate, original.numpy(), decoded.numpy(), self.band))
        except (self.pesq.PesqError, ValueError) as error:  # a ValueError where a level is not a number
            reason = str(error).strip("b'")  # the package's own are bytes
            raise InputError(f"{row.path}: PESQ has no value ({reason})") from error

    def silent(self, original: Any, row: Row) -> Item:
        """The lowest score."""
        return {self.key: 1.0}


class SISDR(Metric):
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508), both sides with zero mean."""

    unit = "dB"

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Any number; an exact copy gives 140 dB and more, by its energy. Raises InputError where a side is constant."""
        _audible(original, row)
        x, y = (wave.double() - wave.double().mean() for wave in (original, decoded))
        if min(float(x @ x), float(y @ y)) < 1e-14:
            raise InputError(f"{row.path}: one side is silent or constant, which has no SI-SDR")
        target = (x @ y) / (x @ x) * x
        return {"si_sdr": float(10 * torch.log10((target @ target + 1e-14) / ((y - target) @ (y - target) + 1e-14)))}


class MelDistance(Metric):
    """Mean absolute difference of natural-log mels: windows of 1024, hops of 256, 80 bands (HiFi-GAN's)."""

    better = "lower"

    def __init__(self) -> None:
        self.mel = LogMel(RATE, 1024, 256, 80)

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 is equal. Raises InputError for less than a window, 64 ms."""
        _long_enough(decoded, 0.064, "the mel distance", row)
        a, b = (self.mel(side[None].to(self.device)) for side in (original, decoded))
        return {"mel_distance": float((a - b).abs().mean())}

    def silent(self, original: Any, row: Row) -> Item:
        """As of any other clip."""
        return self.item(original, torch.zeros_like(original), row)


class F0Correlation(Metric):
    """Pearson correlation of the fundamental frequency over frames voiced on both sides, by librosa's pYIN (65 to 500 Hz)."""

    def __init__(self) -> None:
        self.pyin = need("librosa").pyin

    def track(self, wave: Tensor) -> np.ndarray[Any, Any]:
        """Hz of each frame of 16 ms, nan where it is not voiced."""
        return self.pyin(wave.numpy(), fmin=65, fmax=500, sr=RATE, frame_length=1024)[0]

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        """Their tracks."""
        return [self.track(wave) for wave in originals]

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        """-1 to 1. Raises InputError for less than 0.16 s, or 10 frames voiced on both sides, and where a pitch never moves."""
        _long_enough(decoded, 0.16, "the correlation of pitch", row)
        tracks = [self.track(original) if isinstance(original, Tensor) else original, self.track(decoded)]
        both = ~np.isnan(tracks[0]) & ~np.isnan(tracks[1])
        if both.sum() < 10:
            raise InputError(f"{row.path}: fewer than 10 frames are voiced on both sides")
        a, b = (track[both] for track in tracks)
        if min(np.ptp(a), np.ptp(b)) == 0:
            raise InputError(f"{row.path}: a pitch that never moves has no correlation")
        return {"f0_correlation": float(np.corrcoef(a, b)[0, 1])}


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


class MOS(Batched):
    """A predicted mean opinion score of the decoded side alone, 1 to 5, of clips of at least half a second."""

    key: str

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for less than half a second."""
        _long_enough(decoded, 0.5, type(self).__name__, row)

    def silent(self, original: Any, row: Row) -> Item:
        """The lowest score; the networks give silence about 2."""
        return {self.key: 1.0}


class DistillMOS(MOS):
    """Predicted quality without a reference, 1 to 5, by Microsoft's distillmos (arXiv 2502.05356).

    It hears 7.68 s; longer clips are the mean of pieces a second apart, shorter ones are filled up with silence, which costs
    them: a second cut from clean speech has 3.4 where the clip has 4.5. Compare clips of like lengths alone.
    """

    key = "distillmos"
    size, hop = 122880, RATE  # samples of a piece and between two, as in the package

    def __init__(self) -> None:
        with redirect_stdout(sys.stderr):  # it says which weights it takes; a table may go where the output goes
            self.network = need("distillmos", "eval-speech").ConvTransformerSQAModel(segmenting_in_forward=False).eval()

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """The mean over the pieces of each."""
        pieces = [self.pieces(wave) for wave in decoded]
        scores = iter(stacked(lambda x: self.network(x.to(self.device)).flatten().tolist(), [x for one in pieces for x in one]))
        return [{self.key: float(np.mean([next(scores) for _ in one]))} for one in pieces]

    def pieces(self, wave: Tensor) -> list[Tensor]:
        """Pieces of 7.68 s from the first to the last sample, at most a second apart."""
        over = max(0, len(wave) - self.size)
        starts = np.linspace(0, 1, -(-over // self.hop) + 1) * over
        return [F.pad(wave, (0, max(0, self.size - len(wave))))[int(start) : int(start) + self.size] for start in starts]


class DNSMOS(MOS):
    """Predicted overall quality without a reference, ITU-T P.835, by speechmos. It hears 9 s; shorter clips are repeated."""

    key = "dnsmos"

    def __init__(self) -> None:
        self.run = need("speechmos.dnsmos", "eval-speech").run

    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item]:
        """1 to 5, one by one, on the CPU."""
        return [{self.key: float(self.run(wave.clamp(-1, 1).numpy(), RATE)["ovrl_mos"])} for wave in decoded]


class SpeakerSimilarity(Batched):
    """Cosine of the two sides' speaker embeddings, by an x-vector model of transformers (microsoft/wavlm-base-plus-sv).

    path: Hugging Face name or folder. A clip of more than 30 s has the mean embedding of its pieces.
    """

    def __init__(self, path: str = "microsoft/wavlm-base-plus-sv"):
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        from ..teachers.base import open_model

        self.network = open_model(AutoModelForAudioXVector, path).eval()
        self.extract = open_model(AutoFeatureExtractor, path)

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for less than half a second."""
        _long_enough(decoded, 0.5, "a voice", row)

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


@contextmanager
def _same_numbers() -> Iterator[None]:
    """numpy's random numbers are the same each time, and after it those that would have come without it."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _audible(wave: Tensor, row: Row) -> None:
    if is_silent(wave):
        raise InputError(f"{row.path} is silent; leave it out of the manifest")


def _long_enough(wave: Tensor, seconds: float, what: str, row: Row) -> None:
    if len(wave) < seconds * RATE:
        raise InputError(f"{row.path} lasts {len(wave) / RATE:.3f} s; {what} needs at least {seconds:g} s")
