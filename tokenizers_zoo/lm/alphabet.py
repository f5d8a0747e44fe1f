"""The ids of one tokenizer: one for every codebook; fewer, each for several codebooks; or more, each a digit of a code."""

import math
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from .. import grouping
from ..errors import TokenError
from ..spec import TokenSpec, is_integer

LARGEST = 1 << 31  # ids of one alphabet


class Alphabet:
    """Codes (B, K, T) <-> words (B, L, T): what a position says in L lanes, word l in [0, sizes[l]), PAD past an item's end.

    A word's id is offsets[lane] + word, so that the ids of all lanes are 0 .. size - 1.

    most: codebooks of one role share a lane as long as the product of their sizes is at most this, the first the most
    significant: the 64 bits of a binary token are 4 lanes at 65,536. digits: levels whose product is the size of every codebook,
    the first counting fastest, as FSQ counts: a lane for each. shared: all lanes use the same ids from 0 on, for models that
    tell lanes by their place (MusicGen, Dia); by default each has its own.

    Raises TokenError for digits that do not make up a codebook, and for more than 2**31 ids.
    """

    def __init__(self, spec: TokenSpec, most: int | None = None, digits: Sequence[int] = (), shared: bool = False):
        self.spec, self.most, self.digits, self.shared = spec, most, tuple(digits), bool(shared)
        if (most is not None and not (is_integer(most) and most >= 2)) or (most and digits):
            raise TokenError(f"most is a number of ids from 2, and not given together with digits; got {most} and {digits}")
        if digits and any(math.prod(digits) != size for size in spec.codebook_sizes):
            raise TokenError(f"the digits {self.digits} make {math.prod(digits)} codes, {spec.name} has {spec.codebook_sizes}")
        self.runs = [(role, len(list(run))) for role, run in groupby(spec.roles)]  # codebooks next to each other, of one role
        lanes = [(role, size) for role, own in self._runs(spec.codebook_sizes) for size in self._lanes(own)]
        self.roles, self.sizes = (tuple(column) for column in zip(*lanes, strict=True))
        self.size = max(self.sizes) if shared else sum(self.sizes)
        self.offsets = tuple(0 for _ in lanes) if shared else tuple(accumulate((0, *self.sizes[:-1])))
        if self.size > LARGEST:
            raise TokenError(f"{spec.name} would have {self.size} ids; give the levels of its codes as digits")

    def _runs(self, rows: Sequence[Any]) -> list[tuple[str, Any]]:
        ends = list(accumulate(count for _, count in self.runs))
        return [(role, rows[end - count : end]) for (role, count), end in zip(self.runs, ends, strict=True)]

    def _lanes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the lanes of a run of codebooks."""
        if self.most:
            return [math.prod(group) for group in grouping.groups(sizes, self.most)]
        return list(self.digits) * len(sizes) if self.digits else list(sizes)

    def words(self, codes: Tensor) -> Tensor:
        """Codes, int64 (B, K, T) -> words, int64 (B, L, T)."""
        if self.digits:
            return torch.cat([_flipped(grouping.to_codes, code[:, None], self.digits) for code in codes.unbind(1)], dim=1)
        if not self.most:
            return codes
        rows = codes.split([count for _, count in self.runs], dim=1)
        sizes = [own for _, own in self._runs(self.spec.codebook_sizes)]
        return torch.cat([grouping.to_ids(row, own, self.most) for row, own in zip(rows, sizes, strict=True)], dim=1)

    def codes(self, words: Tensor) -> Tensor:
        """The reverse: words (B, L, T) -> codes (B, K, T)."""
        if self.digits:
            pieces = words.split(len(self.digits), dim=1)
            return torch.cat([_flipped(grouping.to_ids, piece, self.digits) for piece in pieces], dim=1)
        if not self.most:
            return words
        sizes = [own for _, own in self._runs(self.spec.codebook_sizes)]
        rows = words.split([len(self._lanes(own)) for own in sizes], dim=1)
        return torch.cat([grouping.to_codes(row, own, self.most) for row, own in zip(rows, sizes, strict=True)], dim=1)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"spec": self.spec.to_json(), "most": self.most, "digits": list(self.digits), "shared": self.shared}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Alphabet":
        """Inverse of `to_json`."""
        return cls(TokenSpec.from_json(data["spec"]), data["most"], data["digits"], data["shared"])


def _flipped(turn: Any, values: Tensor, digits: Sequence[int]) -> Tensor:
    """`turn` of grouping with digits of which the first counts fastest: there it is the last."""
    flipped = values if turn is grouping.to_codes else values.flip(1)
    result = turn(flipped, digits[::-1], math.prod(digits))
    return result.flip(1) if turn is grouping.to_codes else result
