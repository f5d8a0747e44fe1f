"""Metrics of two waves, without a network."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...losses.spectral import LogMel
from ...manifest import Row
from ...teachers.base import RATE
from ...teachers.windows import windows
from ..base import Item, Metric, is_silent, need


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
        long_enough(decoded, 0.41, "STOI", row)
        with warnings.catch_warnings(record=True) as remarks, _same_numbers():  # what is too short gives 1e-5 and a warning
            warnings.simplefilter("always")
            value = float(self.stoi(original.numpy(), decoded.numpy(), RATE, extended=self.extended))
        if any("Not enough STFT frames" in str(remark.message) for remark in remarks):
            raise InputError(f"{row.path}: less than 0.41 s is louder than its silences; STOI needs that much")
        return {self.key: value}

    def silent(self, original: Any, row: Row) -> Item:
        """Nothing is understood, where there is enough to understand."""
        self.item(original, torch.zeros_like(original), row)
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
        long_enough(decoded, 0.25, "PESQ", row)
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
        """The lowest score of each piece."""
        return self.item(original, torch.zeros_like(original), row)


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
        long_enough(decoded, 0.064, "the mel distance", row)
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
        long_enough(decoded, 0.16, "the correlation of pitch", row)
        tracks = [self.track(original) if isinstance(original, Tensor) else original, self.track(decoded)]
        both = ~np.isnan(tracks[0]) & ~np.isnan(tracks[1])
        if both.sum() < 10:
            raise InputError(f"{row.path}: fewer than 10 frames are voiced on both sides")
        a, b = (track[both] for track in tracks)
        if min(np.ptp(a), np.ptp(b)) == 0:
            raise InputError(f"{row.path}: a pitch that never moves has no correlation")
        return {"f0_correlation": float(np.corrcoef(a, b)[0, 1])}


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


def long_enough(wave: Tensor, seconds: float, what: str, row: Row) -> None:
    """Raises InputError for a clip (S,) that `what` cannot measure."""
    if len(wave) < seconds * RATE:
        raise InputError(f"{row.path} lasts {len(wave) / RATE:.3f} s; {what} needs at least {seconds:g} s")
