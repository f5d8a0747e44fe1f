"""What every pattern is: a rule that says which code stands where in the sequence of a language model.

A pattern states one thing, `slot(index, length)`: what place `index` of an item of `length` positions holds, the code of a lane
at a position or a mark. All else follows from it: the way there, the way back, also from a sequence that was cut or has not
ended, and what a grammar may allow next.

How an item's length is read off its ids: while it goes on, the slots are those of the longest item. The first of them that holds
a code of position n is where an item of n positions differs: it has a mark there, or ends.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ... import together
from ...errors import TokenError
from ...spec import PAD, TokenSpec
from ...tokens import Tokens
from ..alphabet import Alphabet

UNBOUNDED = 1 << 40  # positions of an item of which no end is known


class Arranged(NamedTuple):
    """ids, int64 (B, S) or (B, steps, lanes). mask: bool, which of them belong to the item; what follows holds `pattern.end`.

    positions: int64, of which position of the item an id is a code; -1 for marks and past the end.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor


class Frames(NamedTuple):
    """Positions of each item, int64 (B,): those of which every code is there, and those that lack some, which are dropped."""

    whole: Tensor
    dropped: Tensor


class Pattern(ABC):
    """Tokens <-> ids of a sequence.

    source: a TokenSpec, or an Alphabet where codebooks share ids, or are split into digits. Ids are local: 0 .. alphabet.size - 1
    are codes, then come `mark` (a line ends, a stage ends, a lane is silent) and `end`; a Vocabulary gives them their place
    among text and other tokenizers. lengths: positions that a complete item may have, increasing; None for any number.

    Raises TokenError for a tokenizer whose layout the pattern does not know.
    """

    layouts: tuple[str, ...]
    stepwise: ClassVar[bool] = False  # ids are (B, steps, lanes): a step has an id of each lane

    def __init__(self, source: TokenSpec | Alphabet):
        self.alphabet = source if isinstance(source, Alphabet) else Alphabet(source)
        self.spec, self.lanes = self.alphabet.spec, len(self.alphabet.sizes)
        self.mark, self.end = self.alphabet.size, self.alphabet.size + 1
        if why := self.refuses():
            raise TokenError(f"{type(self).__name__} does not arrange tokens of {self.spec.name}: {why}")
        fixed = self.spec.positions if self.spec.modality == "image" else None
        self.most = fixed or UNBOUNDED
        self.lengths: Sequence[int] | None = (fixed,) if fixed else None

    def refuses(self) -> str:
        """Why this pattern is none for `self.spec`; "" where it is."""
        return "" if self.spec.layout in self.layouts else f"its layout is {self.spec.layout!r}, not {' or '.join(self.layouts)}"

    @property
    def options(self) -> dict[str, Any]:
        """Arguments besides `source`, as plain data."""
        return {}

    @abstractmethod
    def slot(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Kind and position of place `index` in items of `length`; kind: a lane, or `lanes` for a mark, whose position is -1."""

    @abstractmethod
    def count(self, length: Tensor) -> Tensor:
        """Ids of items of `length` positions, without `end`."""

    def slots(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`slot`, with kind `lanes + 1` and position -1 from the item's end on; both broadcast."""
        kind, position = self.slot(index, length)
        past = index >= self.count(length)
        return kind.masked_fill(past, self.lanes + 1), position.masked_fill(past, -1)

    def kept(self, whole: Tensor) -> Tensor:
        """How many of so many whole positions make an item."""
        return whole

    def apply(self, tokens: Tokens) -> Arranged:
        """The ids of each item. Raises TokenError for tokens of another tokenizer."""
        together.common([self.spec, tokens.spec])
        words, lengths = self.alphabet.words(tokens.codes), tokens.lengths.to(tokens.codes.device)
        count = self.count(lengths)
        index = torch.arange(int(count.max()) if len(count) else 0, device=count.device)
        kind, position = self.slots(index, lengths[:, None])  # (B, S)
        lane, offsets = kind.clamp(max=self.lanes - 1), count.new_tensor(self.alphabet.offsets)
        rows = torch.nn.functional.pad(words, (0, 1)).flatten(1)  # a place to look at for an item of no positions
        ids = rows.gather(1, lane * (words.shape[-1] + 1) + position.clamp(min=0)) + offsets[lane]
        ids = ids.where(kind < self.lanes, kind + self.mark - self.lanes)
        shape = (len(ids), ids.shape[1] // self.lanes, self.lanes) if self.stepwise else ids.shape
        return Arranged(ids.view(shape), (kind <= self.lanes).view(shape), position.view(shape))

    def invert(self, ids: Tensor, text: Sequence[str] | None = None, **conditions: Tensor) -> Tokens:
        """The tokens of ids (B, S), or (B, steps, lanes), up to each item's first `end`.

        They may be cut anywhere: positions that are not whole are dropped (`frames` counts them). Text and conditions travel
        beside the ids; without `num_samples` a clip has the samples of its frames. Raises TokenError, with the item and the
        place, for ids that no tokens have.
        """
        words, (whole, _) = self._read(ids)
        longest = int(whole.max()) if len(whole) else 0
        words = words[..., :longest]
        ended = torch.arange(longest, device=words.device) >= whole[:, None]
        codes = self.alphabet.codes(words.masked_fill(ended[:, None], PAD))
        if self.spec.hop and "num_samples" in self.spec.conditions:
            least = (whole * self.spec.hop).cpu()
            given = conditions.get("num_samples", least.int())
            conditions["num_samples"] = given.minimum(least.to(given))
        return Tokens(codes, self.spec, whole, text, **conditions)

    def frames(self, ids: Tensor) -> Frames:
        """What of ids, as `invert` takes them, is whole and what is dropped."""
        return self._read(ids)[1]

    def _read(self, ids: Tensor) -> tuple[Tensor, Frames]:
        """Words (B, lanes, positions), PAD where there are none, and what of them is whole."""
        if ids.is_floating_point() or ids.ndim not in (2, 2 + self.stepwise):
            raise TokenError(f"ids must be integers (items, ids), got {ids.dtype} {tuple(ids.shape)}")
        ids = ids.long().flatten(1)
        index = torch.arange(ids.shape[1], device=ids.device)
        within = (ids == self.end).cumsum(1) == 0
        kind, position = self.slots(index, self._closed(ids, within)[:, None])
        lane = kind.clamp(max=self.lanes - 1)
        words = ids - ids.new_tensor(self.alphabet.offsets)[lane]
        fits = (words >= 0) & (words < ids.new_tensor(self.alphabet.sizes)[lane])
        wrong = within & ~fits.where(kind < self.lanes, (kind == self.lanes) & (ids == self.mark))
        if wrong.any():
            item, place = wrong.nonzero()[0].tolist()
            raise TokenError(self._complaint(item, place, int(ids[item, place]), int(kind[item, place])))
        code = within & (kind < self.lanes)
        wide = int(position.max()) + 1 if position.numel() else 0
        table = ids.new_full((len(ids), self.lanes * wide + 1), PAD)  # the last column takes what is no code
        table.scatter_(1, (lane * wide + position).where(code, self.lanes * wide), words.where(code, PAD))
        table = table[:, :-1].unflatten(1, (self.lanes, wide))
        whole = self.kept((table >= 0).all(1).long().cumprod(1).sum(1))
        return table, Frames(whole, (table >= 0).any(1).sum(1) - whole)

    def _closed(self, ids: Tensor, within: Tensor) -> Tensor:
        """Positions of each item, (B,), as far as a mark in the place of a code tells; else `most`."""
        index = torch.arange(ids.shape[1], device=ids.device)
        kind, position = self.slots(index, torch.full_like(index, self.most))
        marks = within & (ids == self.mark) & (kind < self.lanes)
        first = marks & (marks.cumsum(1) == 1)
        place, length = ((value * first).sum(1) for value in (index, position))
        closes = marks.any(1) & (self.slots(place, length)[0] == self.lanes)
        return length.where(closes, self.most)

    def _complaint(self, item: int, place: int, found: int, kind: int) -> str:
        if kind > self.lanes:
            return f"item {item} goes on at id {place} ({found}) after its last position; {self.end} ends it"
        low = self.alphabet.offsets[kind] if kind < self.lanes else self.mark
        high = low + self.alphabet.sizes[kind] - 1 if kind < self.lanes else self.mark
        what = f"lane {kind}" if kind < self.lanes else "a mark"
        return f"id {place} of item {item} must be of {what} ({low}..{high}), got {found}; a Grammar lets a model write no other"
