"""Photos at the size of a tokenizer."""

from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from ..manifest import Row, of_split
from ..media import SUFFIXES, as_images
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


class ImageData(MediaData):
    """Photos, the shorter side resized to `image_size`, cropped at a random place along the longer one, half of them mirrored.

    data: manifest or folder. A batch has `media` (B, 3, S, S) in [0, 1] and `text`, a list of captions or empty strings.
    Validation crops the centre. Every file comes once an epoch. Under a trainer loaders bring bytes, a quarter of what floats
    take, which become floats again on the device.
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
    ):
        super().__init__(data, batch_size, workers, seed, valid_items, max_unreadable)
        self.image_size = image_size

    def rows(self, split: str) -> list[Row]:
        """Files of a split; where no file is for validation, those of the test, and the other way round."""
        there, other = {row.split for row in self.listed}, {"valid": "test", "test": "valid"}.get(split, split)
        return of_split(self.listed, other if not there & {split, ""} and other in there else split)

    def draws(self) -> tuple[Dataset[Batch], int]:
        """All photos in a new order each epoch."""
        order = Order(self.rows("train"), self.seed)
        return Draws(order.choose, self._read, self.seed, self.max_unreadable), len(order.rows)

    def _read(self, row: Row, generator: torch.Generator) -> Batch:
        where, mirror = torch.rand(2, generator=generator).tolist()
        pixels = as_images(row.path, self.image_size, where).pixels[0]
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


def _in_bytes(samples: list[Batch]) -> Batch:
    batch: Batch = default_collate(samples)
    return batch | {"media": (batch["media"] * 255).round().byte()}
