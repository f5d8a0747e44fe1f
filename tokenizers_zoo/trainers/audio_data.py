"""Random seconds of speech, with the features of teachers."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..manifest import Row, of_split, read_manifest
from ..media import SUFFIXES, AudioFile, read_audio
from ..teachers.base import Teacher
from ..teachers.cache import FeatureCache
from .data import Batch, Draws, MediaData

LONGEST = 1e6  # seconds beyond which a manifest is not believed


class AudioData(MediaData):
    """Crops of `seconds`, every second of the corpus equally likely; clips that are shorter end in silence.

    data: manifest or folder. sample_rate: Hz; other rates are resampled. loudness: dBFS (root mean square) that each crop is
    brought to, None leaves it. gain: each crop is made up to this many dB softer or louder; a peak never exceeds 1. teachers:
    by the name that their features have in a batch; they run once a clip, into the folder `cache`. A batch has `media` (B, 1,
    S), `text` (what is said, unless a teacher has that name), and (B, T, D) a teacher. Validation takes `valid_seconds` from the
    start of each clip.
    """

    suffixes = SUFFIXES["audio"]

    def __init__(
        self,
        data: str,
        sample_rate: int,
        seconds: float = 1.0,
        batch_size: int = 16,
        workers: int = 4,
        seed: int = 0,
        loudness: float | None = None,
        gain: float = 0.0,
        teachers: Mapping[str, Teacher] | None = None,
        cache: str = "~/.cache/tokenizers-zoo/features",
        valid_seconds: float = 3.0,
        valid_items: int = 32,
        max_unreadable: int = 100,
    ):
        super().__init__(batch_size, workers, seed, valid_items, max_unreadable)
        self.data, self.sample_rate, self.seconds, self.valid_seconds = data, sample_rate, seconds, valid_seconds
        self.loudness, self.gain = loudness, gain
        folder = Path(cache).expanduser()
        self.caches = {name: FeatureCache(teacher, folder) for name, teacher in (teachers or {}).items()}

    def prepare_data(self) -> None:
        """Lets the teachers hear what they have not heard yet. They are not needed in memory afterwards."""
        if self.caches:
            rows = self.rows("train") + self.fixed_rows("valid")
            for cache in self.caches.values():
                cache.fill([(row.path, row.text) for row in rows])

    def rows(self, split: str) -> list[Row]:
        """Files of a split; where no file is for validation, those of the test."""
        rows = read_manifest(self.data, self.suffixes)
        if split == "valid" and not any(row.split in {"valid", ""} for row in rows):
            split = "test"
        return of_split(rows, split)

    def draws(self) -> tuple[Dataset[Batch], int]:
        """Endless crops; as many make an epoch as the corpus has times `seconds`."""
        rows = self.rows("train")
        ends = torch.tensor([self._seconds(row) for row in rows], dtype=torch.float64).cumsum(0)
        if not ends[-1]:
            raise InputError(f"{self.data}: no file could be read")

        def choose(generator: torch.Generator, n: int) -> Row:
            at = torch.rand((), generator=generator, dtype=torch.float64) * ends[-1]
            return rows[int(torch.searchsorted(ends, at, right=True).clamp(max=len(rows) - 1))]

        return Draws(choose, self._read, self.seed, self.max_unreadable), int(ends[-1] / self.seconds)

    def _seconds(self, row: Row) -> float:
        if 0 < row.seconds < LONGEST:
            return row.seconds
        try:
            with AudioFile(row.path) as file:
                return file.frames / file.rate
        except (InputError, FileNotFoundError) as error:
            warnings.warn(f"left out: {row.path} ({error})", stacklevel=2)
            return 0.0

    def _read(self, row: Row, generator: torch.Generator) -> Batch:
        wave, start = self._crop(row, self.seconds, float(torch.rand((), generator=generator)))
        db = 0.0 if self.loudness is None else self.loudness - 10 * float(wave.square().mean().clamp(min=1e-7).log10())
        db += self.gain * (2 * float(torch.rand((), generator=generator)) - 1)
        wave = wave * min(10 ** (db / 20), 1 / max(float(wave.abs().max()), 1e-4))
        return {"text": row.draw(generator), **self._sample(row, wave, start, self.seconds)}

    def read_fixed(self, row: Row, generator: torch.Generator) -> Batch:
        """The start of a clip."""
        wave, start = self._crop(row, self.valid_seconds, 0.0)
        return {"text": row.text, **self._sample(row, wave, start, self.valid_seconds)}

    def _sample(self, row: Row, wave: Tensor, start: float, seconds: float) -> Batch:
        features = {name: cache.crop(row.path, row.text, start, seconds) for name, cache in self.caches.items()}
        return {"media": wave, **features}

    def _crop(self, row: Row, seconds: float, where: float) -> tuple[Tensor, float]:
        """Samples (1, S) at our rate, and the second where they start; `where` in 0..1 goes from the first to the last crop."""
        with AudioFile(row.path) as file:
            wanted = round(seconds * file.rate)
            start = round(where * max(0, file.frames - wanted))
            wave = read_audio(file, start=start, count=wanted).resample(self.sample_rate).waveform[0]
        size = round(seconds * self.sample_rate)
        return F.pad(wave[:, :size], (0, max(0, size - wave.shape[-1]))), start / file.rate
