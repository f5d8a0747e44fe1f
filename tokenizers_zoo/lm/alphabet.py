"""The ids of one tokenizer: one for every codebook; fewer, each for several codebooks; or more, each a digit of a code."""

import math
from collections.abc import Sequence
from itertools import accumulate, groupby
from reprlib import repr as short
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
        if most is not None and (digits or not is_integer(most) or most < 2):
            raise TokenError(f"most is a number of ids from 2, and not given together with digits; got {most} and {digits}")
        whole = all(is_integer(n) and n >= 2 for n in digits) and {math.prod(digits)} == set(spec.codebook_sizes)
        if digits and not whole:
            raise TokenError(f"the digits {self.digits} do not make up codebooks of {short(spec.codebook_sizes)} entries")
        books = groupby(zip(spec.roles, spec.codebook_sizes, strict=True), key=lambda book: book[0])
        runs = [(role, [size for _, size in run]) for role, run in books]  # codebooks of one role, next to each other
        self._runs = [sizes for _, sizes in runs]
        lanes = [(role, size) for role, sizes in runs for size in self._lanes(sizes)]
        self.roles, self.sizes = (tuple(column) for column in zip(*lanes, strict=True))
        self.size = max(self.sizes) if shared else sum(self.sizes)
        self.offsets = tuple(0 for _ in lanes) if shared else tuple(accumulate((0, *self.sizes[:-1])))
        if self.size > LARGEST:
            raise TokenError(f"{spec.name} would have {self.size} ids; give the levels of its codes as digits")

    def _lanes(self, sizes: Sequence[int]) -> list[int]:
        """Sizes of the lanes of a run of codebooks."""
        if self.most:
            return [math.prod(group) for group in grouping.groups(sizes, self.most)]
        return list(self.digits) * len(sizes) if self.digits else list(sizes)

    def words(self, codes: Tensor) -> Tensor:
        """Codes, int64 (B, K, T) -> words, int64 (B, L, T)."""
        if self.digits:  # of which `grouping` has the last count fastest
            size, levels = math.prod(self.digits), self.digits[::-1]
            return torch.cat([grouping.to_codes(code, levels, size).flip(1) for code in codes.split(1, dim=1)], dim=1)
        if not self.most:
            return codes
        rows = codes.split([len(sizes) for sizes in self._runs], dim=1)
        return torch.cat([grouping.to_ids(row, own, self.most) for row, own in zip(rows, self._runs, strict=True)], dim=1)

    def codes(self, words: Tensor) -> Tensor:
        """The reverse: words (B, L, T) -> codes (B, K, T)."""
        if self.digits:
            size, levels = math.prod(self.digits), self.digits[::-1]
            pieces = words.split(len(levels), dim=1)
            return torch.cat([grouping.to_ids(piece.flip(1), levels, size) for piece in pieces], dim=1)
        if not self.most:
            return words
        rows = words.split([len(self._lanes(sizes)) for sizes in self._runs], dim=1)
        return torch.cat([grouping.to_codes(row, own, self.most) for row, own in zip(rows, self._runs, strict=True)], dim=1)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"spec": self.spec.to_json(), "most": self.most, "digits": list(self.digits), "shared": self.shared}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Alphabet":
        """Inverse of `to_json`."""
        return cls(TokenSpec.from_json(data["spec"]), data["most"], data["digits"], data["shared"])
