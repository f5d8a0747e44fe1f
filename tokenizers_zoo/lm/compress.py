"""Codes that often follow each other become one id: acoustic byte pair encoding (arXiv 2310.14580), exactly undone."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TokenError
from ..files import atomic_path, existing
from ..tokens import Tokens
from . import patterns
from .patterns import Pattern

FIRST = 0x4E00  # the character of id 0; spaces and marks, which programs treat in ways of their own, are below
SURROGATES = range(0xD800, 0xE000)  # no characters
LARGEST = 0x110000 - len(SURROGATES) - FIRST
FORMAT = 1


class AcousticBPE:
    """Tokens <-> ids 0 .. size - 1: first those of a pattern, its mark counted, then one for each merge.

    merges: pairs of ids that become the next new one, in the order in which they are applied; `train` finds them. Ids of an item
    never depend on its neighbours. Needs the package tokenizers, which comes with transformers.
    """

    def __init__(self, pattern: Pattern, merges: Sequence[tuple[int, int]]):
        if pattern.end > LARGEST:
            raise TokenError(f"{pattern.end} ids are too many for pairs, {LARGEST} at most; give the levels of codes as digits")
        self.pattern, self.merges = pattern, [(int(left), int(right)) for left, right in merges]
        meanings: dict[tuple[int, ...], int] = {(code,): code for code in range(pattern.end)}
        self.meanings = list(meanings)  # what each id stands for
        for pair in self.merges:
            if not all(0 <= i < len(self.meanings) for i in pair):
                raise TokenError(f"a merge joins ids {pair}, there are {len(self.meanings)} before it")
            joined = self.meanings[pair[0]] + self.meanings[pair[1]]
            if meanings.setdefault(joined, len(meanings)) == len(self.meanings):  # two merges may make the same
                self.meanings.append(joined)
        self.size = len(self.meanings)
        words = [_written(codes) for codes in self.meanings]
        library = _library()
        pairs = [(words[left], words[right]) for left, right in self.merges]
        self._bpe = library.Tokenizer(library.models.BPE({word: i for i, word in enumerate(words)}, pairs))

    @classmethod
    def train(cls, corpus: Iterable[Tokens], pattern: Pattern, size: int, longest: int | None = None) -> "AcousticBPE":
        """Learns merges until there are `size` ids, or no pair is left that occurs twice; longest: codes of one id at most.

        Marks stay alone: an item's end is told by them.
        Raises TokenError for a size that leaves nothing to learn.
        """
        if size <= pattern.end:
            raise TokenError(f"{size} ids leave nothing to learn: the codes alone have {pattern.end}")
        library = _library()
        bpe = library.Tokenizer(library.models.BPE())
        bpe.pre_tokenizer = library.pre_tokenizers.Split(_written([pattern.mark]), "isolated")
        alphabet = [_written([i]) for i in range(pattern.end)]
        limit = {} if longest is None else {"max_token_length": longest + 1}  # of the library, one more than it makes
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False, special_tokens=[], **limit
        )
        bpe.train_from_iterator((_written(item) for tokens in corpus for item in _items(pattern, tokens)), trainer)
        model = json.loads(bpe.to_str())["model"]
        return cls(pattern, [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]])

    def encode(self, tokens: Tokens) -> list[Tensor]:
        """The ids of each item, int64 (S,). Raises TokenError for tokens of another tokenizer."""
        written = [_written(item) for item in _items(self.pattern, tokens)]
        return [torch.tensor(found.ids, dtype=torch.int64) for found in self._bpe.encode_batch(written)]

    def decode(self, items: Sequence[Tensor | Sequence[int]], text: Sequence[str] | None = None, **conditions: Tensor) -> Tokens:
        """The reverse, as `Pattern.invert`: also of ids that were cut. Raises TokenError for ids that no tokens have."""
        rows = [torch.as_tensor(item).tolist() for item in items]
        if wrong := [i for row in rows for i in row if not 0 <= i < self.size]:
            raise TokenError(f"ids are 0 .. {self.size - 1}, got {wrong[0]}")
        codes = [torch.tensor([c for i in row for c in self.meanings[i]], dtype=torch.int64) for row in rows]
        if not codes:
            return self.pattern.invert(torch.zeros(0, 0, dtype=torch.int64), text, **conditions)
        padded = torch.nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=self.pattern.end)
        return self.pattern.invert(padded, text, **conditions)

    def save(self, path: str | Path) -> None:
        """Writes a JSON file, whole or not at all."""
        data = {"format": FORMAT, "pattern": patterns.to_json(self.pattern), "merges": self.merges}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(data))

    @classmethod
    def load(cls, path: str | Path) -> "AcousticBPE":
        """Inverse of `save`. Raises TokenError, with the path, for a file that is none."""
        try:
            data = json.loads(existing(path).read_text())
            if data["format"] != FORMAT:
                raise TokenError(f"format {data['format']} is not {FORMAT}; if a newer version wrote it, upgrade tokenizers-zoo")
            return cls(patterns.from_json(data["pattern"]), data["merges"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenError(f"{path} holds no merges ({error})") from error


def _items(pattern: Pattern, tokens: Tokens) -> list[list[int]]:
    """The pattern's ids of each item."""
    arranged = pattern.apply(tokens)
    return [ids[mask].tolist() for ids, mask in zip(arranged.ids.flatten(1), arranged.mask.flatten(1), strict=True)]


def _written(ids: Sequence[int]) -> str:
    """A character for each id, none of them a surrogate."""
    return "".join(chr(FIRST + i + (len(SURROGATES) if FIRST + i >= SURROGATES.start else 0)) for i in ids)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(f"pairs need the package tokenizers ({error}); install tokenizers-zoo[train]") from error
    return tokenizers
