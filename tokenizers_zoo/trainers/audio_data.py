"""Random seconds of speech, with the features of teachers."""

import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..manifest import Row, of_split
from ..media import SUFFIXES, Audio, AudioFile, read_audio
from ..teachers.base import Teacher
from ..teachers.cache import FeatureCache
from .data import Batch, Draws, MediaData

LONGEST = 1e6  # seconds beyond which a manifest is not believed
TRIES = 10_000  # draws in a row that may fall where a clip is said to go on and does not


class Clips:
    """Clips to draw crops of `crop` seconds from. lengths: of the rows in seconds, as they are stated; 0 leaves a clip out.

    A clip is drawn in proportion to the places where a crop of it can start, so that every instant of the corpus is equally
    likely to be heard. Where the clip is shorter than stated, some of these places are not there, and another one is drawn.
    """

    def __init__(self, rows: list[Row], lengths: list[float], crop: float):
        self.rows, self.crop = rows, crop
        self.ends = torch.tensor([self._places(length) for length in lengths], dtype=torch.float64).cumsum(0)
        self.measured: dict[int, float] = {}

    def choose(self, generator: torch.Generator, n: int) -> Row:
        """A row. Raises InputError where the stated lengths are far too long."""
        for _ in range(TRIES):
            at = torch.rand((), generator=generator, dtype=torch.float64) * self.ends[-1]
            index = int(torch.searchsorted(self.ends, at, right=True).clamp(max=len(self.rows) - 1))
            if self.ends[index] - at <= self._places(self._measure(index)):
                return self.rows[index]
        raise InputError(
            f"the manifest's seconds are far more than its files have: {self.rows[index].path} has {self.measured[index]:.1f}; "
            f"correct the column, or leave it out"
        )

    def _places(self, length: float) -> float:
        """Seconds over which the start of a crop is spread; as many as a crop has for a clip that is always heard whole."""
        return max(length, self.crop) if length else 0.0

    def _measure(self, index: int) -> float:
        if index not in self.measured:
            try:
                self.measured[index] = measure(self.rows[index])
            except (InputError, FileNotFoundError):
                self.measured[index] = LONGEST  # drawn as often as stated: reading it says what is wrong
        return self.measured[index]


def measure(row: Row) -> float:
    """Seconds of a clip. Raises InputError or FileNotFoundError for what cannot be read."""
    with AudioFile(row.path) as file:
        return file.frames / file.rate


class AudioData(MediaData):
    """Crops of `seconds`, every instant of the corpus equally likely, a clip's first and last as its middle.

    To that end a crop that reaches a clip's end goes on with its beginning: silence in its place would be a good part of what a
    network hears of short clips, and take codes. Shorter clips are always whole and end in silence.

    data: manifest or folder. sample_rate: Hz; other rates are resampled. loudness: dBFS (root mean square) that each crop is
    brought to, None leaves it. gain: each crop is made up to this many dB softer or louder; a peak never exceeds 1. teachers:
    by the name that their features have in a batch; they run once a clip, into the folder `cache`. A batch has `media` (B, 1,
    S), `text` (what is said), and (B, T, D) a teacher, which cannot have one of these names. Validation takes `valid_seconds`
    from the start of each clip; a test hears whole clips, one at a time.
    """

    suffixes = SUFFIXES["audio"]
    one_size = False

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
        super().__init__(data, batch_size, workers, seed, valid_items, max_unreadable)
        self.sample_rate, self.seconds, self.valid_seconds = sample_rate, seconds, valid_seconds
        for name, value in (("sample_rate", sample_rate), ("seconds", seconds), ("valid_seconds", valid_seconds)):
            if not value > 0:
                raise InputError(f"data.{name} must be above 0, got {value}")
        self.loudness, self.gain = loudness, gain
        if taken := {"media", "text"} & (teachers or {}).keys():
            raise InputError(f"a batch has {' and '.join(sorted(taken))} of its own; give the teacher another name (language)")
        folder = Path(cache).expanduser()
        self.caches = {name: FeatureCache(teacher, folder) for name, teacher in (teachers or {}).items()}

    def prepare_data(self) -> None:
        """Lets the teachers hear what they have not heard yet, where no trainer will (see `setup`)."""
        super().prepare_data()
        if self.caches and not self.trainer:
            self._fill("fit", "cpu", [(0, 1)])

    def setup(self, stage: str) -> None:
        """The same in a run: on its device, a share by each process. They are not needed in memory afterwards."""
        trainer = self.trainer
        if trainer and self.caches:
            # the second time each machine completes its own folder, if it is not that of all
            shares = dict.fromkeys([(trainer.global_rank, trainer.world_size), (trainer.local_rank, trainer.num_devices)])
            self._fill(stage, trainer.strategy.root_device, shares)

    def _fill(self, stage: str, device: torch.device | str, shares: Iterable[tuple[int, int]]) -> None:
        rows = self.rows("train") if stage == "fit" else []
        if stage == "test":
            rows = self.rows("test")
        elif not self.trainer or self.trainer.limit_val_batches:
            rows = rows + self.fixed_rows("valid")
        clips = list(dict.fromkeys((row.path, row.text) for row in rows))
        for rank, world in shares:
            for cache in self.caches.values():
                cache.fill(clips[rank::world], device)
            if self.trainer:
                self.trainer.strategy.barrier("features")

    def rows(self, split: str) -> list[Row]:
        """Files of a split; where no file is for validation, those of the test."""
        there = {row.split for row in self.listed}
        return of_split(self.listed, "test" if split == "valid" and not there & {"valid", ""} and "test" in there else split)

    def draws(self) -> tuple[Dataset[Batch], int]:
        """Endless crops; as many make an epoch as the corpus has times `seconds`."""
        rows = self.rows("train")
        lengths = [self._seconds(row) for row in rows]
        if not any(lengths):
            raise InputError(f"{self.data}: no file could be read")
        clips = Clips(rows, lengths, self.seconds)
        return Draws(clips.choose, self._read, self.seed, self.max_unreadable), int(sum(lengths) / self.seconds)

    def _seconds(self, row: Row) -> float:
        if 0 < row.seconds < LONGEST:
            return row.seconds
        try:
            return measure(row)
        except (InputError, FileNotFoundError) as error:
            warnings.warn(f"left out: {row.path} ({error})", stacklevel=2)
            return 0.0

    def _read(self, row: Row, generator: torch.Generator) -> Batch:
        wave, start = self._crop(row, float(torch.rand((), generator=generator)))
        db = 0.0 if self.loudness is None else self.loudness - 10 * float(wave.square().mean().clamp(min=1e-7).log10())
        db += self.gain * (2 * float(torch.rand((), generator=generator)) - 1)
        wave = wave * min(10 ** (db / 20), 1 / max(float(wave.abs().max()), 1e-4))
        return {"text": row.draw(generator), **self._sample(row, wave, start, self.seconds)}

    def read_whole(self, row: Row) -> Batch:
        """All of a clip."""
        with AudioFile(row.path) as file:
            seconds = file.frames / file.rate
            wave = self._part(file, 0, seconds)
        return {"text": row.text, **self._sample(row, wave, 0.0, seconds)}

    def read_fixed(self, row: Row, generator: torch.Generator) -> Batch:
        """The start of a clip."""
        with AudioFile(row.path) as file:
            wave = self._part(file, 0, self.valid_seconds)
        return {"text": row.text, **self._sample(row, wave, 0.0, self.valid_seconds)}

    def _sample(self, row: Row, wave: Tensor, start: float, seconds: float) -> Batch:
        features = {name: cache.crop(row.path, row.text, start, seconds) for name, cache in self.caches.items()}
        return {"media": wave, **features}

    def _crop(self, row: Row, where: float) -> tuple[Tensor, float]:
        """Samples (1, S) at our rate, and the second where they start, a share `where` below 1 of the clip."""
        with AudioFile(row.path) as file:
            loop = file.frames > round(self.seconds * file.rate)
            start = int(where * file.frames) if loop else 0
            return self._part(file, start, self.seconds, loop), start / file.rate

    def _part(self, file: AudioFile, start: int, seconds: float, loop: bool = False) -> Tensor:
        """`seconds` of a file from sample `start` on, at our rate (1, S), always as many; then its beginning, or zeros."""
        count = math.ceil(round(seconds * file.rate, 3))  # half a sample of a low rate may be a whole one of ours
        wave = read_audio(file, start=start, count=count).waveform
        if loop and (missing := count - wave.shape[-1]):
            wave = torch.cat([wave, read_audio(file, count=missing).waveform], -1)
        size = round(seconds * self.sample_rate)
        heard = Audio(wave, file.rate).resample(self.sample_rate).waveform[0, :, :size]
        return F.pad(heard, (0, size - heard.shape[-1]))
