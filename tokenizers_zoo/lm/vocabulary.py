"""One range of ids for text and any number of tokenizers: no two things share an id.

0 .. text - 1                     the text tokenizer's
text .. text + 3                  <|zoo:pad|> <|zoo:mask|> <|zoo:begin|> <|zoo:end|>
3 for each part                   <|speech:begin|> <|speech:end|> and <|speech:mark|>, the mark of its pattern
then the codes of each part       arithmetic: nothing is added to the text tokenizer for them; after its codes those of its pairs
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import TokenError
from ..files import atomic_path, existing
from ..spec import TokenSpec, is_integer
from ..tokenizer import Tokenizer
from ..tokens import Tokens
from . import patterns
from .compress import AcousticBPE
from .embedding import enlarge, lane_vectors
from .patterns import Flatten, Pattern

FILE = "token_vocabulary.json"  # beside a Hugging Face tokenizer's own files
FORMAT = 1
SPECIALS = ("pad", "mask", "begin", "end")  # of the whole sequence
MARKERS = ("begin", "end", "mark")  # of a part
NAMED = 8192  # codes that may be tokens of the text tokenizer: loading it takes longer with each
IGNORED = -100  # the label of what is not to be learned, to torch and to transformers


class Example(NamedTuple):
    """input_ids and labels, int64 (S,); -100 where nothing is to be learned."""

    input_ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Part:
    """A tokenizer's share of a vocabulary: `begin`, `end` and `mark` are its markers, its codes start at `base`.

    pairs: what makes several codes one id; those come after the codes.
    """

    name: str
    pattern: Pattern
    begin: int
    base: int
    pairs: AcousticBPE | None = None

    @property
    def end(self) -> int:
        """The id after its last one."""
        return self.begin + 1

    @property
    def mark(self) -> int:
        """The pattern's mark."""
        return self.begin + 2

    @property
    def joined(self) -> Sequence[tuple[int, ...]]:
        """The codes that each id of several stands for; their ids are the last of the part's."""
        return self.pairs.meanings[self.pattern.end :] if self.pairs else ()

    @property
    def size(self) -> int:
        """Ids from `base` on."""
        return self.pattern.mark + len(self.joined)

    def write(self, tokens: Tokens) -> Tensor:
        """The ids of one item, int64 (S,), without its markers."""
        if self.pairs is None:
            return self.place(self.pattern.apply(tokens).ids.flatten().cpu())
        (ids,) = self.pairs.encode(tokens)
        return (ids + self.base - (ids > self.pattern.mark).long()).masked_fill(ids == self.pattern.mark, self.mark)

    def read(self, ids: Tensor, **conditions: Any) -> Tokens:
        """The reverse, also of ids that were cut. Raises TokenError for ids that no tokens have."""
        if self.pairs is None:
            return self.pattern.invert(self.local(ids)[None], **conditions)
        local = (ids - self.base).where((ids >= self.base) & (ids < self.base + self.size), -1)
        local = (local + (local >= self.pattern.mark).long()).masked_fill(ids == self.mark, self.pattern.mark)
        return self.pairs.decode([local], **conditions)

    def place(self, local: Tensor) -> Tensor:
        """Ids of the pattern -> ids of the vocabulary."""
        coded = local < self.pattern.mark
        return (local + self.base).where(coded, torch.where(local == self.pattern.mark, self.mark, self.end))

    def local(self, ids: Tensor) -> Tensor:
        """The reverse; -1 for ids of others, and for those of pairs."""
        codes = (ids - self.base).where((ids >= self.base) & (ids < self.base + self.pattern.mark), -1)
        return codes.masked_fill(ids == self.mark, self.pattern.mark).masked_fill(ids == self.end, self.pattern.end)


class Vocabulary:
    """Ids of text, special tokens and codes.

    text: size of the text tokenizer, len(tokenizer); 0 without text. parts: by name, the pattern in which a tokenizer's codes are
    written; a TokenSpec stands for Flatten of it, an AcousticBPE for its pattern with pairs of codes as ids. named: code tokens
    get names, <|speech:LANE:WORD|> and <|speech:pair:N|>, in the text tokenizer, at most 8,192 of them, as some serving programs
    want.

    Attributes: pad, mask, begin, end (ids), parts, size. Raises TokenError for names or sizes that cannot be.
    """

    def __init__(self, text: int, parts: Mapping[str, Pattern | TokenSpec | AcousticBPE], named: bool = False):
        if not is_integer(text) or text < 0 or not parts:
            raise TokenError(f"a vocabulary needs the size of the text tokenizer, len(tokenizer), and parts; got {short(text)}")
        if bad := [name for name in parts if not isinstance(name, str) or not name.isidentifier() or name in ("text", "zoo")]:
            raise TokenError(f"parts are named by a word such as speech, other than text and zoo; got {bad[0]!r}")
        self.text, self.named = int(text), bool(named)
        self.pad, self.mask, self.begin, self.end = range(text, text + len(SPECIALS))
        self.parts: dict[str, Part] = {}
        marker = self.end + 1
        self.size = marker + len(MARKERS) * len(parts)
        for name, given in parts.items():
            pairs = given if isinstance(given, AcousticBPE) else None
            source = given.pattern if isinstance(given, AcousticBPE) else given
            pattern = source if isinstance(source, Pattern) else Flatten(source)
            part = self.parts[name] = Part(name, pattern, marker, self.size, pairs)
            if any(pattern.mark in codes for codes in part.joined):
                raise TokenError(f"the pairs of {name} join codes with marks, of which an item's end is told; train them anew")
            marker, self.size = marker + len(MARKERS), self.size + part.size
        if named and self.size - marker > NAMED:
            raise TokenError(f"{self.size - marker} codes are too many to be named, {NAMED} at most; leave named out")

    @property
    def names(self) -> list[str]:
        """Names of the ids from `text` on that the text tokenizer gets."""
        markers = [f"<|{name}:{marker}|>" for name in self.parts for marker in MARKERS]
        return [*(f"<|zoo:{name}|>" for name in SPECIALS), *markers, *(self._code_names() if self.named else ())]

    def _code_names(self) -> Iterator[str]:
        for name, part in self.parts.items():
            alphabet = part.pattern.alphabet
            lanes = [("", alphabet.size)] if alphabet.shared else [(f"{i}:", size) for i, size in enumerate(alphabet.sizes)]
            yield from (f"<|{name}:{lane}{word}|>" for lane, size in lanes for word in range(size))
            yield from (f"<|{name}:pair:{i}|>" for i in range(len(part.joined)))

    def sequence(self, pieces: Sequence[Sequence[int] | Tensor | Tokens], learn: Collection[str] | None = None) -> Example:
        """`begin`, the pieces in their order, `end`, with labels.

        pieces: ids of text, e.g. tokenizer(text).input_ids, and Tokens of one item; any number of both. learn: names of the
        parts, and "text", that are to be learned; by default the parts alone, so that text is what they depend on. A part is
        learned with its end, and with its beginning where text is: elsewhere the caller writes that. Raises TokenError.
        """
        learn = set(self.parts if learn is None else learn)
        if unknown := learn - {*self.parts, "text"}:
            raise TokenError(f"learn names {', '.join(self.parts)} or text, got {sorted(unknown)[0]!r}")
        said = "text" in learn
        written = [(torch.tensor([self.begin]), False), *self._written(pieces, learn), (torch.tensor([self.end]), said)]
        ids = torch.cat([part for part, _ in written])
        labels = torch.cat([part if learned else torch.full_like(part, IGNORED) for part, learned in written])
        return Example(ids, labels)

    def prompt(self, pieces: Sequence[Sequence[int] | Tensor | Tokens], part: str) -> Tensor:
        """The beginning of a sequence that a model is to go on with codes of `part`, int64 (1, S).

        To have it go on with a clip, cut what `sequence` makes of that before its end.
        """
        opened = torch.tensor([self._part(part).begin])
        return torch.cat([torch.tensor([self.begin]), *(ids for ids, _ in self._written(pieces, ())), opened])[None]

    def _written(self, pieces: Sequence[Any], learn: Collection[str]) -> Iterator[tuple[Tensor, bool]]:
        for piece in pieces:
            if not isinstance(piece, Tokens):
                yield self._text(piece), "text" in learn
                continue
            if len(piece) != 1:
                raise TokenError(f"a piece is one item, got Tokens of {len(piece)}; *tokens gives them one by one")
            part = self._of(piece)
            yield torch.tensor([part.begin]), "text" in learn
            yield torch.cat([part.write(piece), torch.tensor([part.end])]), part.name in learn

    def _text(self, piece: Any) -> Tensor:
        if isinstance(piece, str):
            raise TokenError(f"text is given as ids, tokenizer({short(piece)}, add_special_tokens=False).input_ids")
        ids = torch.as_tensor(piece).cpu()
        if ids.numel() and (ids.is_floating_point() or ids.ndim != 1 or not 0 <= int(ids.min()) <= int(ids.max()) < self.text):
            raise TokenError(f"ids of text are a list of 0 .. {self.text - 1}, got {short(piece)}")
        return ids.long().flatten()

    def _of(self, tokens: Tokens) -> Part:
        """The part that tokens belong to."""
        key = (tokens.spec.name, tokens.spec.codebook_ids)
        for part in self.parts.values():
            if (part.pattern.spec.name, part.pattern.spec.codebook_ids) == key:
                return part
        known = ", ".join(f"{name} ({part.pattern.spec.name})" for name, part in self.parts.items())
        raise TokenError(f"no part of this vocabulary is for these codebooks of {tokens.spec.name}; it has {known}")

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise TokenError(f"this vocabulary has no part {name!r}, only {', '.join(self.parts)}")
        return self.parts[name]

    def split(self, ids: Tensor | Sequence[int], conditions: Sequence[Mapping[str, Any]] = ()) -> list[list[int] | Tokens]:
        """The pieces of a sequence, int64 (S,): the inverse of `sequence`, and what a generated one means.

        Text comes back as lists of ids, never empty; pad, mask, begin and end are left out. A part that was cut ends with its
        last whole position. conditions: what travels beside, a mapping for each part in order. Raises TokenError for ids that
        mean nothing; under a Grammar a model writes none.
        """
        rest, beside = torch.as_tensor(ids).cpu().long().flatten(), iter(conditions)
        pieces: list[list[int] | Tokens] = []
        begins = {part.begin: part for part in self.parts.values()}
        openings = torch.isin(rest, torch.tensor(list(begins)))
        while len(rest):
            found = openings.nonzero()
            start = int(found[0]) if len(found) else len(rest)
            text = rest[:start]
            text = text[(text < self.pad) | (text > self.end)]
            if wrong := [i for i in text.tolist() if not 0 <= i < self.text]:
                raise TokenError(f"id {wrong[0]} stands outside of its part: parts begin with one of {list(begins)}")
            if len(text):
                pieces.append(text.tolist())
            if start == len(rest):
                break
            part = begins[int(rest[start])]
            ends = (rest[start + 1 :] == part.end).nonzero()
            stop = start + 1 + (int(ends[0]) if len(ends) else len(rest))
            pieces.append(part.read(rest[start + 1 : stop], **next(beside, {})))
            rest, openings = rest[stop + 1 :], openings[stop + 1 :]
        if next(beside, None) is not None:
            raise TokenError(f"conditions are given for {len(conditions)} parts, these ids have fewer")
        return pieces

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch for a model or a Trainer (data_collator): input_ids, labels and attention_mask, int64 (B, longest)."""
        longest = max(len(ids) for ids, _ in examples)
        batch = {
            "input_ids": [(ids, self.pad) for ids, _ in examples],
            "labels": [(labels, IGNORED) for _, labels in examples],
            "attention_mask": [(torch.ones_like(ids), 0) for ids, _ in examples],
        }
        pad = torch.nn.functional.pad
        return {k: torch.stack([pad(row, (0, longest - len(row)), value=fill) for row, fill in v]) for k, v in batch.items()}

    def add_to(self, tokenizer: Any, model: Any, codecs: Mapping[str, Tokenizer] | None = None, seed: int = 0) -> None:
        """Gives a Hugging Face tokenizer the named tokens, and a causal model rows for all ids. Both are changed in place.

        tokenizer: None where there is no text. codecs: by part, the tokenizer whose codebook vectors the new rows follow; rows of
        the others, and of pairs, are random. Old rows stay as they are, and all where both have been given theirs before. Raises
        TokenError for a tokenizer of another size.
        """
        if tokenizer is not None:
            names, known = self.names, len(tokenizer)
            if known == self.text:
                tokenizer.add_tokens(names, special_tokens=True)
            if tokenizer.convert_tokens_to_ids(names) != list(range(self.text, self.text + len(names))):
                raise TokenError(
                    f"this vocabulary is for a tokenizer of {self.text} ids, none named like {names[0]}; this has {known}: "
                    f"Vocabulary(len(tokenizer), ...) fits it"
                )
            if known > self.text and len(model.get_input_embeddings().weight) >= self.size:
                return
        lanes: list[tuple[int, Tensor]] = []
        for name, codec in (codecs or {}).items():
            part, alphabet = self._part(name), self._part(name).pattern.alphabet
            firsts = [part.base + offset for offset in alphabet.offsets]
            lanes += zip(firsts, lane_vectors(alphabet, codec), strict=False)
        enlarge(model, self.text, self.size, lanes, seed)

    def save(self, folder: str | Path) -> None:
        """Writes token_vocabulary.json, whole or not at all; beside what tokenizer.save_pretrained(folder) writes."""
        parts = {name: patterns.to_json(part.pattern) for name, part in self.parts.items()}
        for name, part in self.parts.items():
            parts[name] |= {"merges": part.pairs.merges} if part.pairs else {}
        data = {"format": FORMAT, "text": self.text, "named": self.named, "size": self.size, "parts": parts}
        with atomic_path(Path(folder) / FILE) as temporary:
            temporary.write_text(json.dumps(data, indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary":
        """Inverse of `save`. Raises TokenError, with the path, for a file that is none or does not give the same ids."""
        path = existing(Path(folder) / FILE)
        try:
            data = json.loads(path.read_text())
            if data["format"] != FORMAT:
                raise TokenError(f"format {data['format']} is not {FORMAT}; if a newer version wrote it, upgrade tokenizers-zoo")
            parts: dict[str, Any] = {name: patterns.from_json(part) for name, part in data["parts"].items()}
            pairs = {name: part["merges"] for name, part in data["parts"].items() if "merges" in part}
            parts |= {name: AcousticBPE(parts[name], merges) for name, merges in pairs.items()}
            vocabulary = cls(data["text"], parts, data["named"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenError(f"{path} is not a vocabulary ({error})") from error
        if vocabulary.size != data["size"]:
            raise TokenError(f"{path} is damaged: its parts make {vocabulary.size} ids, it says {short(data['size'])}")
        return vocabulary
