"""Photos at the size of a tokenizer."""

from functools import lru_cache

import torch
from torch.utils.data import Dataset

from ..manifest import Row, of_split, read_manifest
from ..media import SUFFIXES, as_images
from .data import Batch, Draws, MediaData, seeded


class ImageData(MediaData):
    """Photos, the shorter side resized to `image_size`, cropped at a random place along the longer one, half of them mirrored.

    data: manifest or folder. A batch has `media` (B, 3, S, S) in [0, 1] and `text`, a list of captions or empty strings.
    Validation crops the centre. Every file comes once an epoch.
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
        super().__init__(batch_size, workers, seed, valid_items, max_unreadable)
        self.data, self.image_size = data, image_size

    def rows(self, split: str) -> list[Row]:
        """Files of a split; where no file is for validation, those of the test, and the other way round."""
        rows = read_manifest(self.data, self.suffixes)
        other = {"valid": "test", "test": "valid"}.get(split, split)
        return of_split(rows, split if any(row.split in {split, ""} for row in rows) else other)

    def draws(self) -> tuple[Dataset[Batch], int]:
        """All photos in a new order each epoch."""
        rows, seed = self.rows("train"), self.seed

        @lru_cache(maxsize=2)
        def order(epoch: int) -> torch.Tensor:
            return torch.randperm(len(rows), generator=seeded(seed, epoch))

        def choose(generator: torch.Generator, n: int) -> Row:
            return rows[int(order(n // len(rows) % (1 << 20))[n % len(rows)])]

        return Draws(choose, self._read, seed, self.max_unreadable), len(rows)

    def _read(self, row: Row, generator: torch.Generator) -> Batch:
        where, mirror = torch.rand(2, generator=generator).tolist()
        pixels = as_images(row.path, self.image_size, where).pixels[0]
        return {"media": pixels.flip(-1) if mirror < 0.5 else pixels, "text": row.draw(generator)}

    def read_fixed(self, row: Row, generator: torch.Generator) -> Batch:
        """The centre of a photo."""
        return {"media": as_images(row.path, self.image_size).pixels[0], "text": row.text}
