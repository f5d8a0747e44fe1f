"""Whether tokens know a photo again that was cropped, mirrored and coloured."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from ..media import Audio, Images
from .base import Item, System
from .probe import Pooled

ROWS = 1000  # of photos that are looked up at once


class Retrieval(Pooled):
    """Share of photos that are nearest of all to a copy of themselves (`changed`), by the cosine of standardised vectors.

    Compare at equal numbers of photos. Where another one is as near, e.g. because all tokens are the same, it is a miss.
    """

    word = "recall_at_1"

    def items(
        self, system: System, media: Sequence[Audio | Images], found: Sequence[Item], rows: Sequence[Row], seeds: Sequence[int]
    ) -> list[Item | None]:
        """Vectors of photos and of their changed copies."""
        items = super().items(system, media, found, rows, seeds)
        if all(item is None for item in items):
            return items
        copies = [changed(one, seed) for one, seed in zip(media, seeds, strict=True)]
        for item, copy, outcome in zip(items, copies, system.roundtrips(copies, rows, seeds), strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            latents = system.latents(copy, outcome[1])
            if item is not None and latents is not None:
                item["copy"] = self.pooled(latents)
        return items

    def item(self, latents: Tensor, row: Row) -> Item:
        """The photo's own vector."""
        return {"latents": self.pooled(latents)}

    def together(self, items: Sequence[Item]) -> list[Item]:
        """Of each photo 1 where it is nearest to its copy, else 0. Raises InputError for one photo, which always is."""
        if len(items) < 2:
            raise InputError("retrieval needs at least 2 photos, better 1,000")
        photos, copies = (torch.from_numpy(np.stack([item[side] for item in items])).float() for side in ("latents", "copy"))
        mean, deviation = photos.mean(0), photos.std(0)
        deviation[deviation == 0] = 1.0
        photos, copies = (F.normalize((side - mean) / deviation, dim=1) for side in (photos, copies))
        hits: list[bool] = []
        for start in range(0, len(copies), ROWS):
            near = copies[start : start + ROWS] @ photos.T
            own = near.diagonal(start).clone()
            near.diagonal(start).fill_(-torch.inf)
            hits += (own > near.max(1).values).tolist()
        return [{self.key: float(hit)} for hit in hits]


def changed(media: Audio | Images, seed: int) -> Images:
    """One photo in [0, 1], differently with each seed: a crop of 70 to 100 % of both sides, in half of the cases mirrored, each
    colour 0.7 to 1.3 times as bright, and a contrast of 0.7 to 1.3. Raises InputError for audio.
    """
    if not isinstance(media, Images):
        raise InputError("retrieval is of photos; leave it out of a suite for audio")
    random = np.random.default_rng(seed)
    pixels = media.pixels
    sides = pixels.shape[-2:]
    part = [round(side * random.uniform(0.7, 1.0)) for side in sides]
    top, left = (int(random.integers(side - size + 1)) for side, size in zip(sides, part, strict=True))
    pixels = pixels[..., top : top + part[0], left : left + part[1]]
    pixels = F.interpolate(pixels, tuple(sides), mode="bicubic", antialias=True)
    pixels = pixels.flip(-1) if random.random() < 0.5 else pixels
    pixels = pixels * torch.tensor(random.uniform(0.7, 1.3, (3, 1, 1)), dtype=pixels.dtype)
    mean = pixels.mean()
    return Images((mean + (pixels - mean) * random.uniform(0.7, 1.3)).clamp(0, 1))
