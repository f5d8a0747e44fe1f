"""Data modules: what a training run reads, in an order that depends on the seed and the position alone."""

import math
import os
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from ..errors import InputError
from ..manifest import Row, read_manifest

Batch = dict[str, Any]  # media (B, C, S) or (B, 3, H, W); text, a list; features (B, T, D) by the name of their teacher

SLOTS = 1 << 16  # for files that could not be read


class ResumableSampler(DistributedSampler[int]):
    """Running numbers of samples: epoch after epoch, this process's share of them, resumable in the middle of an epoch.

    skip: numbers of this process that the next pass leaves out. (A DistributedSampler, so that Lightning leaves it alone.)
    """

    def __init__(self, length: int, rank: int, world: int):
        self.length, self.rank, self.world = length, rank, world
        self.skip = self.epoch = 0

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length + self.rank
        numbers = range(start, start + len(self) * self.world, self.world)[self.skip :]
        self.skip = 0
        return iter(numbers)


class Draws(Dataset[Batch]):
    """Sample number n of endless random draws: file and crop follow from (seed, n), whatever the worker or the resume.

    choose: generator, n -> row. read: row, generator -> sample. A file that cannot be read is warned about and another drawn;
    after `limit` of them, or so many in a row, the run ends with InputError.
    """

    def __init__(
        self,
        choose: Callable[[torch.Generator, int], Row],
        read: Callable[[Row, torch.Generator], Batch],
        seed: int,
        limit: int,
    ):
        self.choose, self.read, self.seed, self.limit = choose, read, seed, limit
        self.failed = torch.zeros(SLOTS, dtype=torch.bool).share_memory_()  # by the file's name, in one place for all workers

    def __getitem__(self, n: int) -> Batch:
        generator = seeded(self.seed, n)
        for tries in range(1, self.limit + 2):
            row = self.choose(generator, n)
            try:
                return self.read(row, generator)
            except (InputError, FileNotFoundError) as error:
                slot = zlib.crc32(os.fsencode(row.path)) % SLOTS
                fresh, self.failed[slot] = not self.failed[slot], True
                count, last = int(self.failed.sum()), error
                if max(count, tries) > self.limit:
                    break
                if fresh:
                    warnings.warn(f"skipped ({count} of at most {self.limit}): {error}", stacklevel=2)
                n = int(torch.randint(1 << 40, (), generator=generator))
        what = f"{count} file{'s' * (count > 1)}" if count > self.limit else f"{tries} draws in a row"
        raise InputError(f"{what} could not be read, the limit is {self.limit}; the last: {last}") from last


def seeded(seed: int, n: int) -> torch.Generator:
    """Random numbers of (seed, n). Torch's generator looks at 32 bits of a seed, so runs are spread over them."""
    return torch.Generator().manual_seed((seed * 0x9E3779B1 + n) & 0xFFFFFFFF)


class Fixed(Dataset[Batch]):
    """The same samples every time, for validation: row n is read with a generator of seed n."""

    def __init__(self, rows: list[Row], read: Callable[[Row, torch.Generator], Batch]):
        self.rows, self.read = rows, read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, n: int) -> Batch:
        return self.read(self.rows[n], torch.Generator().manual_seed(n))


class Whole(Dataset[Batch]):
    """Every item once, with its share in a mean; number -1 is the first one again, which has none."""

    def __init__(self, rows: list[Row], read: Callable[[Row], Batch]):
        self.rows, self.read = rows, read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, n: int) -> Batch:
        return {**self.read(self.rows[max(n, 0)]), "share": (n >= 0) / len(self.rows)}


class Shares(Sampler[list[int]]):
    """Batches of `size` of `length` numbers, some for each process.

    All have equally many, as collective operations need: what is short of one gets -1 (see Whole).
    """

    def __init__(self, length: int, size: int, rank: int, world: int):
        batches = [list(range(first, min(first + size, length))) for first in range(0, length, size)]
        self.batches = (batches + [[-1]] * (-len(batches) % world))[rank::world]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class ResumableLoader(DataLoader[Batch]):
    """A loader over a ResumableSampler that goes on where a checkpoint was written; Lightning asks for the state."""

    batches_done = 0  # of this epoch

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            self.batches_done += 1
            yield batch
        self.batches_done = 0

    def state_dict(self) -> dict[str, int]:
        """How much of the epoch is done."""
        return {"batches_done": self.batches_done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leaves that much out of the next pass."""
        assert isinstance(self.sampler, ResumableSampler)
        assert self.batch_size is not None
        self.batches_done = state["batches_done"]
        self.sampler.skip = self.batches_done * self.batch_size


class MediaData(lightning.LightningDataModule, ABC):
    """What AudioData and ImageData share: the loaders.

    data: manifest or folder. batch_size: of one process. workers: loading processes. seed: of the draws. valid_items: how many
    files of the split `valid` (or else `test`) are validated on, spread evenly over it. max_unreadable: files.
    """

    suffixes: tuple[str, ...]
    one_size = True  # whether whole items are of one size, and make batches

    def __init__(self, data: str, batch_size: int, workers: int, seed: int, valid_items: int, max_unreadable: int):
        super().__init__()
        counts = {"batch_size": (batch_size, 1), "workers": (workers, 0), "valid_items": (valid_items, 1)}
        for name, (value, least) in (counts | {"max_unreadable": (max_unreadable, 0)}).items():
            if value < least:
                raise InputError(f"data.{name} must be at least {least}, got {value}")
        self.data = data
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.valid_items, self.max_unreadable = valid_items, max_unreadable

    def prepare_data(self) -> None:
        """Reads the manifest, so that one process of a machine unpacks a dataset of the Hub and the others find it."""
        _ = self.listed

    @abstractmethod
    def rows(self, split: str) -> list[Row]:
        """Files of a split."""

    @cached_property
    def listed(self) -> list[Row]:
        """All files; the manifest is read once."""
        return read_manifest(self.data, self.suffixes)

    def __getstate__(self) -> dict[str, Any]:
        """What loading processes need, however they are started."""
        return {k: v for k, v in self.__dict__.items() if k != "listed"} | {"trainer": None}

    @abstractmethod
    def draws(self) -> tuple[Dataset[Batch], int]:
        """Random training samples, and how many make an epoch."""

    @abstractmethod
    def read_whole(self, row: Row) -> Batch:
        """A test's sample."""

    @abstractmethod
    def read_fixed(self, row: Row, generator: torch.Generator) -> Batch:
        """A validation sample."""

    def train_dataloader(self) -> DataLoader[Batch]:
        """Endless draws, a share of them for each process."""
        dataset, length = self.draws()
        rank, world = self._place()
        length = max(length, self.batch_size * world)
        return ResumableLoader(dataset, sampler=ResumableSampler(length, rank, world), drop_last=True, **self._options())

    def val_dataloader(self) -> DataLoader[Batch]:
        """The fixed validation samples."""
        return DataLoader(Fixed(self.fixed_rows("valid"), self.read_fixed), **self._options())

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every file of the split `test`, whole, some for each process; `share` is what an item is of their mean."""
        rows, size = self.rows("test"), self.batch_size if self.one_size else 1
        options = self._options()
        del options["batch_size"]
        return DataLoader(Whole(rows, self.read_whole), batch_sampler=Shares(len(rows), size, *self._place()), **options)

    def fixed_rows(self, split: str) -> list[Row]:
        """At most `valid_items` files of a split, evenly spread over it. Raises InputError where there are none."""
        try:
            rows = self.rows(split)
        except InputError as error:
            raise InputError(f"{error}; a run without validation: --trainer.limit_val_batches 0") from error
        return rows[:: max(1, math.ceil(len(rows) / self.valid_items))]

    def _place(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "generator": torch.Generator(),  # its own: the loader must not move the model's random numbers
        }
