"""Photos at the size of a tokenizer."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from ..errors import InputError
from ..manifest import Row, of_split
from ..media import SUFFIXES, as_images
from ..spec import is_integer
from .data import Batch, Draws, MediaData, seeded


class Order:
    """Every row once an epoch, in an order that depends on the seed and the epoch."""

    def __init__(self, rows: list[Row], seed: int):
        self.rows, self.seed = rows, seed

    def choose(self, generator: torch.Generator, n: int) -> Row:
        """The row of draw number n."""
        epoch, at = divmod(n, len(self.rows))
        return self.rows[int(_shuffled(len(self.rows), self.seed, epoch % (1 << 20))[at])]


@lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=seeded(seed, epoch))


class InTurn(Dataset[Batch]):
    """The same draws at several sizes, of which batches of `each` samples (those of all processes) have one after the other."""

    def __init__(self, draws: Sequence[Draws], length: int, each: int):
        self.draws, self.length, self.each = draws, length, each
        for other in draws[1:]:
            other.failed = draws[0].failed  # a file is bad at every size

    def __getitem__(self, n: int) -> Batch:
        epoch, at = divmod(n, self.length)
        batch = epoch * (self.length // self.each) + at // self.each
        return self.draws[batch % len(self.draws)][n]


class ImageData(MediaData):
    """Photos, the shorter side resized to `image_size`, cropped at a random place along the longer one, half of them mirrored.

    data: manifest or folder. A batch has `media` (B, 3, S, S) in [0, 1] and `text`, a list of captions or empty strings.
    Validation crops the centre. Every file comes once an epoch. Under a trainer loaders bring bytes, a quarter of what floats
    take, which become floats again on the device. sizes: those that training batches have in turn, a side or (height, width);
    listed twice it comes twice. By default all have `image_size`, as validation has.
    """

    suffixes = SUFFIXES["image"]

    def __init__(
        self,
        data: str,
        image_size: int,
        batch_size: int = 32,
        workers: int = 4,
        seed: int = 0,
        valid_items: int = 256,
        max_unreadable: int = 100,
        sizes: Sequence[int | tuple[int, int]] = (),
    ):
        super().__init__(data, batch_size, workers, seed, valid_items, max_unreadable)
        self.image_size, self.sizes = image_size, sizes or (image_size,)
        if not all(is_integer(side) and side > 0 for size in self.sizes for side in _sides(size)):
            raise InputError(f"data.sizes must be sides in pixels, or pairs (height, width), got {sizes!r:.80}")

    def rows(self, split: str) -> list[Row]:
        """Files of a split; where no file is for validation, those of the test, and the other way round."""
        there, other = {row.split for row in self.listed}, {"valid": "test", "test": "valid"}.get(split, split)
        return of_split(self.listed, other if not there & {split, ""} and other in there else split)

    def draws(self) -> tuple[Dataset[Batch], int]:
        """All photos in a new order each epoch."""
        order = Order(self.rows("train"), self.seed)
        draws = [Draws(order.choose, partial(self._read, size=size), self.seed, self.max_unreadable) for size in self.sizes]
        each = self.batch_size * self._place()[1]
        length = max(len(order.rows), each)
        return (draws[0] if len(draws) == 1 else InTurn(draws, length, each)), len(order.rows)

    def _read(self, row: Row, generator: torch.Generator, size: int | tuple[int, int] | None = None) -> Batch:
        where, mirror = torch.rand(2, generator=generator).tolist()
        pixels = as_images(row.path, size or self.image_size, where).pixels[0]
        return {"media": pixels.flip(-1) if mirror < 0.5 else pixels, "text": row.draw(generator)}

    def read_whole(self, row: Row) -> Batch:
        """The same: that is what is encoded of a photo."""
        return self.read_fixed(row, torch.Generator())

    def read_fixed(self, row: Row, generator: torch.Generator) -> Batch:
        """The centre of a photo."""
        return {"media": as_images(row.path, self.image_size).pixels[0], "text": row.text}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bytes to floats in [0, 1]; Lightning calls it on the device."""
        return batch | {"media": batch["media"] / 255} if batch["media"].dtype == torch.uint8 else batch

    def _options(self) -> dict[str, Any]:
        return super()._options() | ({"collate_fn": _in_bytes} if self.trainer else {})


def _sides(size: Any) -> Sequence[Any]:
    return size if isinstance(size, tuple | list) and len(size) == 2 else (size,)


def _in_bytes(samples: list[Batch]) -> Batch:
    batch: Batch = default_collate(samples)
    return batch | {"media": (batch["media"] * 255).round().byte()}
