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


class _Place(NamedTuple):
    """Where sequences are within their item, each (B,): codes and marks before; positions of the item, or the most there are
    while it is open; bool, whether it may end here."""

    before: Tensor
    length: Tensor
    may_end: Tensor


class Grammar:
    """A logits processor for `model.generate(..., logits_processor=[grammar])`: -inf for all ids that mean nothing here.

    Within a part, from its begin marker on, those that its pattern has in this place are allowed, and what ends the item where it
    may end; outside of parts text, begin markers and `end`. Something is always allowed. It looks at the ids alone, all rows at
    once, and so goes with beams, left padding and several parts in one sequence. An id of several codes (AcousticBPE) is allowed
    where each of its codes is.

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
        self._spans, self._joined = (list(tables) for tables in zip(*(_spans(part) for part in self.parts), strict=True))
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
        ids, index = input_ids, torch.arange(input_ids.shape[1], device=input_ids.device)
        first = self.parts[0].begin
        marker = (ids >= first) & (ids < first + len(MARKERS) * len(self.parts)) & ((ids - first) % len(MARKERS) < 2)
        last = index.where(marker, -1).amax(1) if ids.shape[1] else index.new_full((len(ids),), -1)
        opened = ids.gather(1, last.clamp(min=0)[:, None])[:, 0] if ids.shape[1] else last
        states, joined = torch.zeros_like(last), []
        for i, part in enumerate(self.parts):
            rows = ((last >= 0) & (opened == part.begin)).nonzero().flatten()
            if len(rows):
                place = self._place(i, ids[rows], last[rows])
                states[rows] = self._bases[i] + self._state(i, place)
                joined += [(i, rows, place)] if part.pairs else []
        result = self._table(ids.device, size)[states]
        for i, rows, place in joined:
            start = self.parts[i].base + self.parts[i].pattern.mark
            result[rows, start : start + len(self.parts[i].joined)] = self._fitting(i, place)
        return result

    def _place(self, i: int, ids: Tensor, start: Tensor) -> _Place:
        """For rows within part i that begin after `start`."""
        self._open[i] = _Open(*(table.to(ids.device) for table in self._open[i]))  # moves once
        part, (kind, position, closes) = self.parts[i], self._open[i]
        within = torch.arange(ids.shape[1], device=ids.device) > start[:, None]  # (B, S)
        ends = (self._span(i, ids) * within).cumsum(1)
        offset = ends - 1  # of marks and codes alone, place within the item
        here = offset.clamp(0, len(kind) - 1)
        marks = (ids == part.mark) & within & (kind[here] < part.pattern.lanes)
        ended, first = marks.any(1), marks.int().argmax(1, keepdim=True)
        length = position[here.gather(1, first)[:, 0]].where(ended, self.most[i])
        place = ends[:, -1]
        may_end = ~ended & (place < len(kind)) & closes[place.clamp(max=len(kind) - 1)]
        return _Place(place, length, may_end)

    def _span(self, i: int, ids: Tensor) -> Tensor | int:
        """Codes and marks that each id stands for, like ids."""
        part = self.parts[i]
        if part.pairs is None:
            return 1
        self._spans[i] = self._spans[i].to(ids.device)
        local = ids - part.base - part.pattern.mark
        return self._spans[i][local.clamp(0, len(part.joined) - 1)].where((local >= 0) & (local < len(part.joined)), 1)

    def _state(self, i: int, place: _Place) -> Tensor:
        """A kind, or lanes + 2 + lane where the item may also end, (B,)."""
        pattern = self.parts[i].pattern
        now = pattern.slots(place.before, place.length)[0]
        return torch.where(place.may_end & (now < pattern.lanes), pattern.lanes + 2 + now, now)

    def _fitting(self, i: int, place: _Place) -> Tensor:
        """Which ids of several codes fit what the next places hold, bool (B, ids)."""
        alphabet, pattern = self.parts[i].pattern.alphabet, self.parts[i].pattern
        codes = self._joined[i] = self._joined[i].to(place.before.device)  # (ids, longest), -1 after the last
        ahead = torch.arange(codes.shape[1], device=codes.device)
        kind = pattern.slots(place.before[:, None] + ahead, place.length[:, None])[0]
        low = codes.new_tensor([*alphabet.offsets, 0, 0])[kind]  # nothing fits a mark, or what comes after the end
        high = codes.new_tensor([o + n for o, n in zip(alphabet.offsets, alphabet.sizes, strict=True)] + [0, 0])[kind]
        return ((codes < 0) | ((codes >= low[:, None]) & (codes < high[:, None]))).all(-1)

    def _table(self, device: torch.device, size: int) -> Tensor:
        """Bool (states, size): row 0 outside; then for each part lanes, mark, end, lanes or what closes an item."""
        if (device, size) not in self._tables:
            if size < self.vocabulary.size:
                raise TokenError(f"the model has {size} ids, the vocabulary {self.vocabulary.size}: vocabulary.add_to(...) first")
            outside = torch.zeros(1, size, dtype=torch.bool)
            outside[0, [*range(self.vocabulary.text), self.vocabulary.end, *(part.begin for part in self.parts)]] = True
            self._tables[device, size] = torch.cat([outside, *(_rows(part, size) for part in self.parts)]).to(device)
        return self._tables[device, size]


def _spans(part: Part) -> tuple[Tensor, Tensor]:
    """Of ids of several codes: how many, (ids,), and which, (ids, longest), -1 after the last."""
    rows = [torch.tensor(codes) for codes in part.joined] or [torch.zeros(0, dtype=torch.int64)]
    return torch.tensor([len(row) for row in rows]), torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


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
