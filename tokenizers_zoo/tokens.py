"""Tokens, the one thing every tokenizer emits.

One layout for all systems: `codes` is int64 (B, K, T) = (item, codebook, position). A residual codec has K codebooks,
a 1D image tokenizer one, a binary token one codebook of size 2 per bit. Positions past an item's length hold -1.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import tokfile
from .errors import TokenError
from .files import atomic_path
from .spec import TokenSpec, combined, common, is_integer
from .tokfile import PAD

__all__ = ["PAD", "TokenSpec", "Tokens"]

STORED = {torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64}
STORED |= {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64}  # what indexes, compares and saves
Numbers = Tensor | np.ndarray[Any, Any] | Sequence[Any]


class Tokens:
    """Codes of a batch with everything a decoder needs.

    codes: int64 (B, K, T), in [0, size) up to an item's length and -1 after it. Other integer dtypes and arrays are converted.
    lengths: int64 (B,), valid positions of each item (default: T for all).
    text: a caption an item, "" where there is none; None where no item has one.
    conditions: named tensors (B, ...) that a decoder needs besides; `spec.conditions` lists what the tokenizer knows. Audio
    tokenizers store `num_samples`, int32 (B,), so that a decoded clip has exactly the length of the encoded one.
    """

    def __init__(
        self,
        /,
        codes: Numbers,
        spec: TokenSpec,
        lengths: Numbers | None = None,
        text: Sequence[str] | None = None,
        **conditions: Tensor,
    ):
        if not isinstance(spec, TokenSpec):
            raise TokenError(f"spec must be a TokenSpec such as tokenizer.spec, got {type(spec).__name__}")
        self.spec, self.conditions = spec, conditions
        self.codes = _integers("codes", codes)
        if self.codes.ndim != 3:
            raise TokenError(f"codes must be int64 (batch, codebook, position), got shape {tuple(self.codes.shape)}")
        whole = torch.full((len(self),), self.codes.shape[-1])
        self.lengths = whole if lengths is None else _integers("lengths", lengths).cpu()
        self._check_codes()
        self.text = _captions(text, len(self))
        self._check_conditions()

    def _check_codes(self) -> None:
        codes, sizes = self.codes, self.spec.codebook_sizes
        if codes.shape[1] != len(sizes):
            raise TokenError(f"{self.spec.name} here has {len(sizes)} codebooks, codes have {codes.shape[1]}")
        if self.lengths.shape != (len(codes),):
            raise TokenError(f"lengths must have one entry an item ({len(codes)}), got {tuple(self.lengths.shape)}")
        if len(codes) and not (int(self.lengths.min()) >= 0 and int(self.lengths.max()) <= codes.shape[-1]):
            raise TokenError(f"lengths must lie in 0..{codes.shape[-1]}, got {short(self.lengths.tolist())}")
        valid = self.mask[:, None]
        limits = torch.tensor(sizes, device=codes.device)[:, None]
        if ((codes < 0) | (codes >= limits)).logical_and(valid).any():
            low, high = int(codes.min()), int(codes.max())
            raise TokenError(f"codes of {self.spec.name} must lie in [0, size) of their codebook, got {low}..{high}")
        if (codes != PAD).logical_and(~valid).any():
            raise TokenError(f"positions past an item's length must hold {PAD}; pass the right lengths")

    def _check_conditions(self) -> None:
        given = [*self.conditions, *(["text"] if self.text else [])]
        if unknown := [name for name in given if name not in self.spec.conditions]:
            known = ", ".join(self.spec.conditions) or "none"
            raise TokenError(f"{self.spec.name} has no condition {unknown[0]!r} (it knows: {known}); leave it out")
        for name, value in self.conditions.items():
            if not isinstance(value, Tensor):
                raise TokenError(f"condition {name!r} must be a tensor, got {type(value).__name__}; torch.tensor makes one")
            if value.dtype not in STORED or value.layout != torch.strided:
                raise TokenError(f"condition {name!r} must be a dense tensor of a common dtype, got {value.dtype}; convert it")
            if not value.ndim or len(value) != len(self):
                raise TokenError(
                    f"condition {name!r} must have one entry an item ({len(self)}), got shape {tuple(value.shape)}; "
                    f"repeat what is the same for all"
                )
        samples = self.conditions.get("num_samples", self.lengths)
        if samples.ndim != 1 or not _is_integral(samples) or (samples.long() < 0).any():
            raise TokenError("condition 'num_samples' must be integers >= 0, one an item; it counts samples")

    @property
    def mask(self) -> Tensor:
        """Bool (B, T): which positions are valid."""
        return (torch.arange(self.codes.shape[-1]) < self.lengths[:, None]).to(self.codes.device)

    @property
    def code_bits(self) -> Tensor:
        """Float (B,): nominal bits of each item's codes."""
        return self.lengths * self.spec.bits_per_position

    @property
    def bits(self) -> Tensor:
        """Float (B,): nominal bits of each item, with conditions and the UTF-8 bytes of its text."""
        side = sum(v[0].numel() * v.element_size() for v in self.conditions.values()) if len(self) else 0
        text = torch.tensor([len(caption.encode()) for caption in self.text or [""] * len(self)])
        return self.code_bits + 8 * (side + text)

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """The codes: np.asarray(tokens) is int64 (B, K, T)."""
        return np.array(self.codes.cpu().numpy(), dtype=dtype, copy=copy)

    def __iter__(self) -> Iterator["Tokens"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | Numbers) -> "Tokens":
        """Items of the batch, trimmed to the longest of them; an integer keeps the batch axis. As numpy: negative numbers count
        from the end, lists and masks choose, IndexError for what is not there."""
        array = np.arange(len(self))[index.cpu().numpy() if isinstance(index, Tensor) else index]
        if array.ndim > 1:
            raise IndexError(f"items of Tokens have one index, got {index!r}; for codebooks and positions index tokens.codes")
        chosen = torch.from_numpy(np.ascontiguousarray(np.atleast_1d(array)))
        lengths = self.lengths[chosen]
        longest = int(lengths.max()) if len(lengths) else 0
        codes = self.codes[chosen.to(self.codes.device), :, :longest]
        text = self.text and [self.text[i] for i in chosen]
        return Tokens(codes, self.spec, lengths, text, **{k: v[chosen.to(v.device)] for k, v in self.conditions.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens) or self.conditions.keys() != other.conditions.keys():
            return False
        pairs = [(self.codes, other.codes), (self.lengths, other.lengths)]
        pairs += [(v, other.conditions[k]) for k, v in self.conditions.items()]
        return (self.spec, self.text) == (other.spec, other.text) and all(_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # mutable tensors inside

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.codes.shape))
        side = [*(["text"] if self.text else []), *self.conditions]
        return f"Tokens({self.spec.name}, {shape}, lengths={self.lengths.tolist()}, conditions={side})"

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens with codes and conditions on `device`."""
        conditions = {k: v.to(device) for k, v in self.conditions.items()}
        return Tokens(self.codes.to(device), self.spec, self.lengths, self.text, **conditions)

    def prefix(self, n: int) -> "Tokens":
        """The first `n` positions of each item; an image's spec is then of `n` positions.

        Raises TokenError where the tokenizer cannot decode such a prefix (`spec.prefix_lengths`).
        """
        spec, n = self.spec.prefix(n), min(n, self.codes.shape[-1])
        conditions = dict(self.conditions)
        if "num_samples" in conditions and spec.hop:
            samples = conditions["num_samples"]
            conditions["num_samples"] = samples.long().clamp(max=n * spec.hop).to(samples.dtype)
        return Tokens(self.codes[..., :n], spec, self.lengths.clamp(max=n), self.text, **conditions)

    def codebooks(self, which: int | str) -> "Tokens":
        """The first `which` codebooks, or those with role `which` ("semantic", "acoustic", ...)."""
        count = len(self.spec.roles)
        if isinstance(which, str):
            indices = [i for i, role in enumerate(self.spec.roles) if role == which]
        else:
            indices = list(range(which)) if is_integer(which) and 1 <= which <= count else []
        if not indices:
            raise TokenError(f"{self.spec.name} here has {count} codebooks with roles {self.spec.roles}, not {which!r}")
        return Tokens(self.codes[:, indices], self.spec.select(indices), self.lengths, self.text, **self.conditions)

    @staticmethod
    def cat(batches: Sequence["Tokens"]) -> "Tokens":
        """All items of several batches of one tokenizer in one batch, padded to the longest; items without text get "".

        What does not decide decoding (causality, licence, ...) may differ and is that of the first.
        """
        spec = common([t.spec for t in _some(batches)])
        for other in batches[1:]:
            for name in batches[0].conditions.keys() | other.conditions.keys():
                first, second = (_form(t.conditions.get(name)) for t in (batches[0], other))
                if first != second:
                    raise TokenError(f"cannot combine tokens: condition {name!r} is {first} in one and {second} in another")
        longest = max(t.codes.shape[-1] for t in batches)
        codes = _cat([_padded(t.codes, longest) for t in batches])
        text = [caption for t in batches for caption in t.text or [""] * len(t)]
        conditions = {k: _cat([t.conditions[k] for t in batches]) for k in batches[0].conditions}
        return Tokens(codes, spec, torch.cat([t.lengths for t in batches]), text, **conditions)

    @staticmethod
    def join(pieces: Sequence["Tokens"]) -> "Tokens":
        """Streams that continue through several Tokens, in time order (audio): item i of the result is item i of all pieces.

        `num_samples` add up, so each piece but an item's last must end with a whole frame. Text and other conditions are the
        same in all pieces that have them. Raises TokenError otherwise.
        """
        spec = common([t.spec for t in _some(pieces)])
        if spec.layout != "time" or len({len(t) for t in pieces}) > 1:
            raise TokenError("only tokens with a time layout and equally many streams can be joined; use Tokens.cat for a batch")
        lengths = torch.stack([t.lengths for t in pieces])  # (pieces, B)
        ends = lengths.cumsum(0)
        codes = pieces[0].codes.new_full((*pieces[0].codes.shape[:2], max(ends[-1].tolist(), default=0)), PAD)
        for piece, piece_ends in zip(pieces, ends.tolist(), strict=True):
            for row, item, length, end in zip(codes, piece.codes, piece.lengths.tolist(), piece_ends, strict=True):
                row[:, end - length : end] = item[:, :length]
        text, conditions = _merged(pieces, apart="num_samples")
        if any("num_samples" in t.conditions for t in pieces):
            conditions["num_samples"] = _summed_samples(pieces, lengths)
        return Tokens(codes, spec, ends[-1], text, **conditions)

    @staticmethod
    def combine(parts: Sequence["Tokens"]) -> "Tokens":
        """Different codebooks of the same items together, in the tokenizer's order: the reverse of `codebooks`, e.g. of semantic
        codes and the acoustic ones that a language model predicted for them.

        Text and conditions are the same in all parts that have them. Raises TokenError otherwise.
        """
        spec = combined([t.spec for t in _some(parts)])
        if any(not torch.equal(t.lengths, parts[0].lengths) for t in parts):
            raise TokenError(f"parts of the same items have equal lengths, got {[t.lengths.tolist() for t in parts]}")
        longest = max(t.codes.shape[-1] for t in parts)
        ids = np.concatenate([t.spec.codebook_ids for t in parts])
        codes = _cat([_padded(t.codes, longest) for t in parts], dim=1)[:, ids.argsort()]
        text, conditions = _merged(parts)
        return Tokens(codes, spec, parts[0].lengths, text, **conditions)

    def to_bytes(self) -> bytes:
        """The `.tok` form: safetensors, codes packed at ceil(log2(size)) bits, CRC over the whole file."""
        return tokfile.to_bytes(tokfile.Parts(self.codes, self.spec, self.lengths, self.text, self.conditions))

    @staticmethod
    def from_bytes(data: bytes) -> "Tokens":
        """Inverse of `to_bytes`. Raises TokenError for damaged or foreign data."""
        parts = tokfile.from_bytes(data)
        return Tokens(parts.codes, parts.spec, parts.lengths, parts.text, **parts.conditions)

    def save(self, path: str | Path) -> None:
        """Writes a `.tok` file; it appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @staticmethod
    def load(path: str | Path) -> "Tokens":
        """Reads a `.tok` file. Raises TokenError (with the path) for damaged or foreign files."""
        try:
            return Tokens.from_bytes(Path(path).read_bytes())
        except TokenError as error:
            raise TokenError(f"{path}: {error}") from error


def _integers(what: str, value: Any) -> Tensor:
    """int64 of any integer tensor, array or list; an empty list counts."""
    try:
        value = value if isinstance(value, Tensor) else np.asarray(value)
        if isinstance(value, np.ndarray) and (value.dtype.kind in "iu" or not value.size):
            value = torch.from_numpy(value.astype(np.int64, order="C"))  # a copy: may be read-only, or of any byte order
    except (TypeError, ValueError) as error:
        raise TokenError(f"{what} must be int64 ({error})") from error
    if not isinstance(value, Tensor) or not _is_integral(value):
        raise TokenError(f"{what} must be int64 or other integers, got {value.dtype}; .long() converts a tensor")
    return value.long()


def _is_integral(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def _captions(text: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    """One string an item; None if all are empty."""
    if text is None:
        return None
    captions = tuple(text) if isinstance(text, Iterable) and not isinstance(text, str | bytes) else ()
    if len(captions) != count or not all(isinstance(caption, str) for caption in captions):
        raise TokenError(f'text must be a list with one string an item ({count}), "" for none; got {short(text)}')
    try:
        "".join(captions).encode()
    except UnicodeEncodeError as error:
        raise TokenError(f"text must be valid Unicode ({error})") from error
    return tuple(map(str, captions)) if any(captions) else None


def _some(batches: Sequence[Tokens]) -> Sequence[Tokens]:
    if not batches:
        raise TokenError("nothing to combine: give at least one Tokens")
    if isinstance(batches, Tokens) or not all(isinstance(t, Tokens) for t in batches):
        raise TokenError("give a list of Tokens, [a, b, ...]")
    return batches


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat([tensor.to(tensors[0].device) for tensor in tensors], dim)


def _padded(codes: Tensor, positions: int) -> Tensor:
    return torch.nn.functional.pad(codes, (0, positions - codes.shape[-1]), value=PAD)


def _form(condition: Tensor | None) -> str:
    return "missing" if condition is None else f"{condition.dtype} {tuple(condition.shape[1:])} an item"


def _merged(parts: Sequence[Tokens], apart: str = "") -> tuple[list[str], dict[str, Tensor]]:
    """Text and conditions, but for the one named `apart`, of tokens that belong to the same items."""
    text = []
    for captions in zip(*(t.text or [""] * len(t) for t in parts), strict=True):
        said = [*dict.fromkeys(filter(None, captions)), ""]
        if len(said) > 2:
            raise TokenError(f"the parts of an item have different texts, {said[0]!r} and {said[1]!r}; keep one")
        text.append(said[0])
    conditions: dict[str, Tensor] = {}
    for part in parts:
        for name, value in part.conditions.items():
            if name != apart and not _equal(conditions.setdefault(name, value), value):
                raise TokenError(f"the parts of an item have different values of condition {name!r}; keep one")
    return text, conditions


def _summed_samples(pieces: Sequence[Tokens], lengths: Tensor) -> Tensor:
    """num_samples (B,) of pieces with lengths (pieces, B), in the dtype that they have."""
    forms = {_form(t.conditions.get("num_samples")) for t in pieces}
    if len(forms) > 1:
        raise TokenError(f"cannot join pieces: condition 'num_samples' is {' and '.join(sorted(forms))}")
    given, hop = pieces[0].conditions["num_samples"], pieces[0].spec.hop
    samples = torch.stack([t.conditions["num_samples"].cpu().long() for t in pieces])
    following = lengths.flip(0).cumsum(0).flip(0) - lengths
    incomplete = (samples != lengths * hop) & ((following > 0) | (lengths == 0)) if hop else following < 0
    if incomplete.any():
        piece, item = incomplete.nonzero()[0].tolist()
        raise TokenError(
            f"piece {piece} has {samples[piece, item]} samples in {lengths[piece, item]} frames of {hop}: a piece that others "
            f"follow must end with a whole frame; cut the audio at multiples of {hop}, or decode the pieces one by one"
        )
    total = samples.sum(0)
    if (total > torch.iinfo(given.dtype).max).any():
        raise TokenError(f"{int(total.max())} samples do not fit into num_samples of {given.dtype}; join fewer pieces")
    return total.to(given)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
