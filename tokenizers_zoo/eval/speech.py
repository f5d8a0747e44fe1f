"""Metrics of decoded speech. All take clips (S,) at 16 kHz."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..losses.spectral import LogMel
from ..manifest import Row
from ..teachers.base import RATE
from ..teachers.recognizer import SpeechRecognizer
from .base import LOUD, Item, Metric, interval, need


class STOI(Metric):
    """Short-time objective intelligibility, by pystoi; extended: the variant for strongly modulated distortions."""

    def __init__(self, extended: bool = False):
        self.stoi, self.extended = need("pystoi").stoi, extended

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 to 1."""
        _audible(original, row)
        return {"stoi": float(self.stoi(original.numpy(), decoded.numpy(), RATE, extended=self.extended))}


class PESQ(Metric):
    """ITU-T P.862.2 (wide band) or P.862 (narrow band, at 8 kHz), by the package pesq."""

    def __init__(self, band: str = "wb"):
        self.pesq, self.band = need("pesq", "eval-speech"), band

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """About 1 to 4.6."""
        _audible(original, row)
        if self.band == "nb":
            from torchaudio.functional import resample

            original, decoded = (resample(x, RATE, RATE // 2) for x in (original, decoded))
        rate = RATE if self.band == "wb" else RATE // 2
        try:
            return {f"pesq_{self.band}": float(self.pesq.pesq(rate, original.numpy(), decoded.numpy(), self.band))}
        except self.pesq.PesqError as error:
            raise InputError(f"{row.path}: PESQ finds no utterance ({error})") from error


class SISDR(Metric):
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508), both sides with zero mean."""

    unit = "dB"

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Any number; an exact copy gives about 140."""
        _audible(original, row)
        x, y = (wave.double() - wave.double().mean() for wave in (original, decoded))
        target = (x @ y) / (x @ x) * x
        return {"si_sdr": float(10 * torch.log10((target @ target + 1e-14) / ((y - target) @ (y - target) + 1e-14)))}


class MelDistance(Metric):
    """Mean absolute difference of natural-log mels: windows of 1024, hops of 256, 80 bands (HiFi-GAN's)."""

    better = "lower"

    def __init__(self) -> None:
        self.mel = LogMel(RATE, 1024, 256, 80)

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """0 is equal."""
        a, b = self.mel(original[None]), self.mel(decoded[None])
        return {"mel_distance": float((a - b).abs().mean())}


class F0Correlation(Metric):
    """Pearson correlation of the fundamental frequency over frames voiced on both sides, by librosa's pYIN (65 to 500 Hz)."""

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """-1 to 1."""
        pyin = need("librosa").pyin
        tracks = [pyin(wave.numpy(), fmin=65, fmax=500, sr=RATE, frame_length=1024)[0] for wave in (original, decoded)]
        both = ~np.isnan(tracks[0]) & ~np.isnan(tracks[1])
        if both.sum() < 10:
            raise InputError(f"{row.path}: fewer than 10 frames are voiced on both sides")
        return {"f0_correlation": float(np.corrcoef(tracks[0][both], tracks[1][both])[0, 1])}


class WER(Metric):
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

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Texts and counts; the decoded side alone is transcribed."""
        reference = self.normalise(row.text)
        if not reference:
            raise InputError(f"{row.path} has no transcript; fill the manifest's text column")
        heard = self.normalise(self.listen([decoded])[0])
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


class DistillMOS(Metric):
    """Predicted quality without a reference, 1 to 5, by Microsoft's distillmos (arXiv 2502.05356)."""

    def __init__(self) -> None:
        self.network = need("distillmos", "eval-speech").ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """1 to 5."""
        return {"distillmos": float(self.network(decoded[None]))}


class DNSMOS(Metric):
    """Predicted overall quality without a reference, ITU-T P.835, by speechmos."""

    def __init__(self) -> None:
        self.run = need("speechmos.dnsmos", "eval-speech").run

    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """1 to 5."""
        return {"dnsmos": float(self.run(decoded.clamp(-1, 1).numpy(), RATE)["ovrl_mos"])}


class SpeakerSimilarity(Metric):
    """Cosine of the two sides' speaker embeddings, by an x-vector model of transformers (microsoft/wavlm-base-plus-sv)."""

    def __init__(self, path: str = "microsoft/wavlm-base-plus-sv"):
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        from ..teachers.base import open_model

        self.network = open_model(AutoModelForAudioXVector, path).eval()
        self.extract = open_model(AutoFeatureExtractor, path)

    @torch.no_grad()
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """-1 to 1."""
        pair = self.extract([original.numpy(), decoded.numpy()], sampling_rate=RATE, return_tensors="pt", padding=True)
        a, b = torch.nn.functional.normalize(self.network(**pair).embeddings, dim=-1)
        return {"speaker_similarity": float(a @ b)}


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


def _audible(wave: Tensor, row: Row) -> None:
    if float(wave.square().mean().sqrt()) < LOUD:
        raise InputError(f"{row.path} is silent; leave it out of the manifest")
