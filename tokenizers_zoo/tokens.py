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

from . import together, tokfile
from .errors import TokenError
from .files import atomic_path
from .spec import PAD, Parts, TokenSpec, is_integer

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
        self.lengths = torch.full((len(self),), self.codes.shape[-1]) if lengths is None else _integers("lengths", lengths).cpu()
        self._check_codes()
        self.text = _captions(text, len(self))
        self._check_conditions()

    def _check_codes(self) -> None:
        codes, sizes = self.codes, self.spec.codebook_sizes
        if codes.shape[1] != len(sizes):
            raise TokenError(f"{self.spec.name} here has {len(sizes)} codebooks, codes have {codes.shape[1]}")
        if self.lengths.shape != (len(codes),):
            raise TokenError(f"lengths must have one entry an item ({len(codes)}), got {tuple(self.lengths.shape)}")
        if self._is_whole_and_right():
            return
        if len(codes) and not (int(self.lengths.min()) >= 0 and int(self.lengths.max()) <= codes.shape[-1]):
            raise TokenError(f"lengths must lie in 0..{codes.shape[-1]}, got {short(self.lengths.tolist())}")
        valid = self.mask[:, None]
        limits = torch.tensor(sizes, device=codes.device)[:, None]
        outside, left = (codes < 0) | (codes >= limits), codes != PAD
        if not torch.where(valid, outside, left).any():  # a GPU is waited for once
            return
        if outside.logical_and(valid).any():
            low, high = int(codes.min()), int(codes.max())
            raise TokenError(f"codes of {self.spec.name} must lie in [0, size) of their codebook, got {low}..{high}")
        raise TokenError(f"positions past an item's length must hold {PAD}; pass the right lengths")

    def _is_whole_and_right(self) -> bool:
        """Whether these are whole items on the CPU with codes in range: the usual case, which numpy checks soonest."""
        if self.codes.device.type != "cpu" or not self.codes.numel() or {*self.lengths.tolist()} != {self.codes.shape[-1]}:
            return False
        codes, sizes = self.codes.numpy().view(np.uint64), self.spec.codebook_sizes  # negative ones are the largest
        return bool(codes.max() < min(sizes) or (codes.max(axis=(0, 2)) < sizes).all())

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
        samples = self.conditions.get("num_samples")
        if samples is None:
            return
        if samples.ndim != 1 or not _is_integral(samples) or (samples.numel() and int(samples.min()) < 0):
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
        return (self.spec, self.text) == (other.spec, other.text) and all(together.equal(a, b) for a, b in pairs)

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

        What does not decide decoding (causality, licence, ...) may differ and is that of the first. Weights that are unknown ("")
        go with any. Raises TokenError for tokens that do not belong together.
        """
        return Tokens._of(together.cat(_parts(batches)))

    @staticmethod
    def join(pieces: Sequence["Tokens"]) -> "Tokens":
        """Streams that continue through several Tokens, in time order (audio): item i of the result is item i of all pieces.

        `num_samples` add up, so each piece but an item's last must end with a whole frame. Text and other conditions must be the
        same in all pieces that have them. Raises TokenError otherwise.
        """
        return Tokens._of(together.join(_parts(pieces)))

    @staticmethod
    def combine(parts: Sequence["Tokens"]) -> "Tokens":
        """Different codebooks of the same items together, in the tokenizer's order: the reverse of `codebooks`, e.g. semantic
        codes and the acoustic ones that a language model predicted for them.

        Text and conditions must be the same in all parts that have them. Raises TokenError otherwise.
        """
        return Tokens._of(together.combine(_parts(parts)))

    @property
    def parts(self) -> Parts:
        """What these tokens consist of."""
        return Parts(self.codes, self.spec, self.lengths, self.text, self.conditions)

    @staticmethod
    def _of(parts: Parts) -> "Tokens":
        return Tokens(parts.codes, parts.spec, parts.lengths, parts.text, **parts.conditions)

    def to_bytes(self) -> bytes:
        """The `.tok` form: safetensors, codes packed at ceil(log2(size)) bits, CRC over the whole file."""
        return tokfile.to_bytes(self.parts)

    @staticmethod
    def from_bytes(data: bytes) -> "Tokens":
        """Inverse of `to_bytes`. Raises TokenError for damaged or foreign data."""
        return Tokens._of(tokfile.from_bytes(data))

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
    return value if value.dtype == torch.int64 else value.long()


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


def _parts(batches: Sequence[Tokens]) -> list[Parts]:
    batches = [] if isinstance(batches, Tokens) else list(batches)
    if not all(isinstance(t, Tokens) for t in batches):
        raise TokenError(f"only Tokens can be combined, got {short(batches)}")
    if not batches:
        raise TokenError("nothing to combine: give a list of Tokens, [a, b, ...]")
    return [t.parts for t in batches]
