"""What a language model may write next, so that whatever it writes decodes."""

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import TokenError
from ..spec import is_integer
from .patterns import Pattern
from .vocabulary import MARKERS, Part, Vocabulary

FRAMES = 4096  # positions of an item at most, unless told


class _Open(NamedTuple):
    """What an item that has not ended holds at each place, (places,): see Pattern."""

    kind: Tensor
    position: Tensor
    closes: Tensor  # bool: whether an item may end with what was written before


class Grammar:
    """A logits processor for `model.generate(..., logits_processor=[grammar])`: -inf for all ids that mean nothing here.

    Within a part, from its begin marker on, those that its pattern has in this place are allowed, and what ends the item where it
    may end; outside of parts text, begin markers and `end`. Something is always allowed. It looks at the ids alone, all rows at
    once, and so goes with beams, left padding and several parts in one sequence.

    most: positions of an item at most, for all parts or by name (default 4,096); images have their own number. Set it, and
    max_new_tokens to what it needs (`ids`), for generations that end by themselves. A clip has one position at least.
    """

    def __init__(self, vocabulary: Vocabulary, most: int | Mapping[str, int] = FRAMES):
        self.vocabulary, self.parts = vocabulary, list(vocabulary.parts.values())
        limits = [most.get(part.name, FRAMES) if isinstance(most, Mapping) else most for part in self.parts]
        if not all(is_integer(n) and n >= 1 for n in limits):
            raise TokenError(f"most counts positions, 1 or more, for all parts or by name; got {most}")
        self.most = [_longest(part.pattern, n) for n, part in zip(limits, self.parts, strict=True)]
        self._open = [_open(part.pattern, n) for part, n in zip(self.parts, self.most, strict=True)]
        self._bases = list(accumulate([1, *(2 * part.pattern.lanes + 2 for part in self.parts)]))  # first rows in the table
        self._tables: dict[tuple[torch.device, int], Tensor] = {}

    def ids(self, part: str) -> int:
        """Ids of the longest item of `part`, its end marker counted."""
        index = list(self.vocabulary.parts).index(part)
        return int(self.parts[index].pattern.count(torch.tensor(self.most[index]))) + 1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (B, S), scores (B, V) -> scores with -inf for what is not allowed."""
        return scores.masked_fill(~self.allowed(input_ids, scores.shape[-1]), -torch.inf)

    def prefix_allowed_tokens_fn(self, batch_id: int, input_ids: Tensor) -> list[int]:
        """The same for `generate(prefix_allowed_tokens_fn=...)` and programs that know this form: ids allowed after (S,)."""
        return self.allowed(input_ids[None], self.vocabulary.size)[0].nonzero().flatten().tolist()

    def allowed(self, input_ids: Tensor, size: int) -> Tensor:
        """Which of `size` ids may follow, bool (B, size)."""
        return self._table(input_ids.device, size)[self._states(input_ids)]

    def _states(self, ids: Tensor) -> Tensor:
        """The row of the table for each sequence, (B,)."""
        index = torch.arange(ids.shape[1], device=ids.device)
        first = self.parts[0].begin
        marker = (ids >= first) & (ids < first + len(MARKERS) * len(self.parts)) & ((ids - first) % len(MARKERS) < 2)
        last = index.where(marker, -1).amax(1) if ids.shape[1] else index.new_full((len(ids),), -1)
        opened = ids.gather(1, last.clamp(min=0)[:, None])[:, 0] if ids.shape[1] else last
        states = torch.zeros_like(last)
        for i, part in enumerate(self.parts):
            rows = ((last >= 0) & (opened == part.begin)).nonzero().flatten()
            if len(rows):
                states[rows] = self._bases[i] + self._within(i, ids[rows], last[rows])
        return states

    def _within(self, i: int, ids: Tensor, start: Tensor) -> Tensor:
        """For rows within part i that begin after `start`: a kind, or lanes + 2 + lane where the item may also end."""
        self._open[i] = _Open(*(table.to(ids.device) for table in self._open[i]))  # moves once
        part, (kind, position, closes) = self.parts[i], self._open[i]
        lanes, pattern = part.pattern.lanes, part.pattern
        offset = torch.arange(ids.shape[1], device=ids.device) - start[:, None] - 1  # (B, S): place within the item
        here = offset.clamp(0, len(kind) - 1)
        marks = (ids == part.mark) & (offset >= 0) & (kind[here] < lanes)
        ended, first = marks.any(1), marks.int().argmax(1, keepdim=True)
        length = position[here.gather(1, first)[:, 0]].where(ended, self.most[i])
        place = ids.shape[1] - 1 - start
        now = pattern.slots(place, length)[0]
        may_end = ~ended & (place < len(kind)) & closes[place.clamp(max=len(kind) - 1)]
        return torch.where(may_end & (now < lanes), lanes + 2 + now, now)

    def _table(self, device: torch.device, size: int) -> Tensor:
        """Bool (states, size): row 0 outside; then for each part lanes, mark, end, lanes or what closes an item."""
        if (device, size) not in self._tables:
            if size < self.vocabulary.size:
                raise TokenError(f"the model has {size} ids, the vocabulary {self.vocabulary.size}: vocabulary.add_to(...) first")
            outside = torch.zeros(1, size, dtype=torch.bool)
            outside[0, [*range(self.vocabulary.text), self.vocabulary.end, *(part.begin for part in self.parts)]] = True
            self._tables[device, size] = torch.cat([outside, *(_rows(part, size) for part in self.parts)]).to(device)
        return self._tables[device, size]


def _rows(part: Part, size: int) -> Tensor:
    """Bool (2 lanes + 2, size)."""
    alphabet, lanes = part.pattern.alphabet, part.pattern.lanes
    rows = torch.zeros(2 * lanes + 2, size, dtype=torch.bool)
    for lane, (offset, words) in enumerate(zip(alphabet.offsets, alphabet.sizes, strict=True)):
        rows[[lane, lanes + 2 + lane], part.base + offset : part.base + offset + words] = True
    rows[lanes, part.mark] = rows[lanes + 1, part.end] = True
    rows[lanes + 2 :, part.mark if _closes_by_mark(part) else part.end] = True
    return rows


def _closes_by_mark(part: Part) -> bool:
    """Whether an item of one position has a mark where a longer one goes on; else it ends there."""
    pattern, one = part.pattern, torch.tensor(1)
    index = torch.arange(int(pattern.count(one)))
    return bool((pattern.slots(index, one)[0] != pattern.slots(index, one + 1)[0]).any())


def _longest(pattern: Pattern, most: int) -> int:
    """The longest complete item of at most `most` positions, or the shortest there is."""
    if pattern.lengths is None:
        return most
    return max((n for n in pattern.lengths if n <= most), default=min(pattern.lengths))


def _open(pattern: Pattern, most: int) -> _Open:
    longest = torch.tensor(most)
    kind, position = pattern.slots(torch.arange(int(pattern.count(longest))), longest)
    before = torch.cat([position.new_full((1,), -1), position.cummax(0).values[:-1]])
    lengths = position if pattern.lengths is None else torch.tensor(pattern.lengths)
    return _Open(kind, position, (position > before) & (position > 0) & torch.isin(position, lengths))
