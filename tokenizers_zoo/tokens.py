"""Tokens, the one thing every tokenizer emits, and TokenSpec, what is known of them.

One layout for all systems: `codes` is int64 (B, K, T) = (item, codebook, position). A residual codec has K codebooks,
a 1D image tokenizer one, a binary token one codebook of size 2 per bit. Positions past an item's length hold -1.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import TokenError
from .files import atomic_path

PAD = -1


@dataclass(frozen=True)
class TokenSpec:
    """What a tokenizer's codes mean; rates and bits are computed from it.

    name: the variant. modality: "audio" or "image". codebook_sizes: entries of each codebook, any integer >= 2.
    roles: one word a codebook (semantic, acoustic, pixel). layout: how positions are arranged (time, sequence, grid, scales).
    codebook_ids: which of the tokenizer's codebooks these are (a selection keeps the original numbers).
    position_prefixes / codebook_prefixes: whether the first n positions / codebooks alone can be decoded.
    sample_rate (Hz) and hop (samples a position) describe audio; image_size (pixels a side) and positions (a fixed number
    of tokens an image) describe images. receptive_field: positions on each side of a position that can influence its
    codes (None: unbounded). license: of the weights. weights: fingerprint of the weights ("" for untrained ones).
    """

    name: str
    modality: Literal["audio", "image"]
    codebook_sizes: tuple[int, ...]
    roles: tuple[str, ...]
    layout: Literal["time", "sequence", "grid", "scales"]
    codebook_ids: tuple[int, ...] = ()
    position_prefixes: bool = False
    codebook_prefixes: bool = False
    sample_rate: int | None = None
    hop: int | None = None
    image_size: int | None = None
    positions: int | None = None
    causal: bool = False
    receptive_field: int | None = None
    license: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        for field in ("codebook_sizes", "roles", "codebook_ids"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.codebook_ids:
            object.__setattr__(self, "codebook_ids", tuple(range(len(self.codebook_sizes))))
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise TokenError(f"codebook sizes must be integers >= 2, got {self.codebook_sizes}")
        if not len(self.codebook_sizes) == len(self.roles) == len(self.codebook_ids):
            raise TokenError(
                f"{len(self.codebook_sizes)} codebook sizes need as many roles and ids, "
                f"got {len(self.roles)} and {len(self.codebook_ids)}"
            )

    @property
    def bits_per_position(self) -> float:
        """Nominal information of one position over all codebooks, in bits."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def frame_rate(self) -> float | None:
        """Positions a second; None for images."""
        return self.sample_rate / self.hop if self.sample_rate and self.hop else None

    @property
    def bits_per_second(self) -> float | None:
        """Nominal bit rate of the codes; None for images."""
        return self.frame_rate * self.bits_per_position if self.frame_rate else None

    @property
    def bits_per_image(self) -> float | None:
        """Nominal bits of an image's codes; None for audio."""
        return self.positions * self.bits_per_position if self.positions else None

    def select(self, indices: Sequence[int]) -> "TokenSpec":
        """The spec of these codebooks alone (indices into this spec)."""
        pick = {f: tuple(getattr(self, f)[i] for i in indices) for f in ("codebook_sizes", "roles", "codebook_ids")}
        return dataclasses.replace(self, **pick)  # type: ignore[arg-type]  # the three fields are tuples

    def to_json(self) -> dict[str, Any]:
        """Plain data; runs of equal entries are written as [entry, count] so that 64 binary codebooks stay short."""
        data: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        }
        for key in ("codebook_sizes", "roles"):
            data[key] = [[entry, len(list(run))] for entry, run in groupby(data[key])]
        if self.codebook_ids == tuple(range(len(self.codebook_sizes))):
            del data["codebook_ids"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TokenSpec":
        """Inverse of `to_json`. Raises TokenError for anything that is not a spec."""
        try:
            runs = {k: tuple(e for entry, n in data[k] for e in [entry] * n) for k in ("codebook_sizes", "roles")}
            return cls(**{**data, **runs})
        except (KeyError, TypeError, ValueError) as error:
            raise TokenError(f"this is not a token spec ({error}); encode the source again") from error


class Tokens:
    """Codes of a batch with everything a decoder needs.

    codes: int64 (B, K, T), in [0, size) up to an item's length and -1 after it.
    lengths: int64 (B,), valid positions of each item (default: T for all).
    conditions: named tensors (B, ...) that a decoder needs besides the codes; they count in the bits. Audio tokenizers
    store `num_samples`, int32 (B,), so that a decoded clip has exactly the length of the encoded one.
    """

    def __init__(self, codes: Tensor, spec: TokenSpec, lengths: Tensor | None = None, **conditions: Tensor):
        self.codes, self.spec, self.conditions = codes, spec, conditions
        self.lengths = torch.full((codes.shape[0],), codes.shape[-1]) if lengths is None else lengths.cpu().long()
        self._check()

    def _check(self) -> None:
        codes, sizes = self.codes, self.spec.codebook_sizes
        if codes.dtype != torch.int64 or codes.ndim != 3:
            raise TokenError(f"codes must be int64 (batch, codebook, position), got {codes.dtype} {tuple(codes.shape)}")
        if codes.shape[1] != len(sizes):
            raise TokenError(f"{self.spec.name} here has {len(sizes)} codebooks, codes have {codes.shape[1]}")
        if self.lengths.shape != (len(codes),):
            raise TokenError(f"lengths must have one entry an item ({len(codes)}), got {tuple(self.lengths.shape)}")
        if len(codes) and not (int(self.lengths.min()) >= 0 and int(self.lengths.max()) <= codes.shape[-1]):
            raise TokenError(f"lengths must lie in 0..{codes.shape[-1]}, got {self.lengths.tolist()}")
        for name, value in self.conditions.items():
            if not isinstance(value, Tensor) or len(value) != len(codes):
                raise TokenError(f"condition {name!r} must be a tensor with one entry an item ({len(codes)})")
        valid = self.mask[:, None]
        limits = torch.tensor(sizes, device=codes.device)[:, None]
        if ((codes < 0) | (codes >= limits)).logical_and(valid).any():
            low, high = int(codes.min()), int(codes.max())
            raise TokenError(f"codes of {self.spec.name} must lie in [0, size) of their codebook, got {low}..{high}")
        if (codes != PAD).logical_and(~valid).any():
            raise TokenError(f"positions past an item's length must hold {PAD}; pass the right lengths")

    @property
    def mask(self) -> Tensor:
        """Bool (B, T): which positions are valid."""
        return (torch.arange(self.codes.shape[-1]) < self.lengths[:, None]).to(self.codes.device)

    @property
    def bits(self) -> Tensor:
        """Float (B,): nominal bits of each item, conditions included."""
        side = sum(8 * v[0].numel() * v.element_size() for v in self.conditions.values()) if len(self) else 0
        return self.lengths * self.spec.bits_per_position + side

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator["Tokens"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int]) -> "Tokens":
        """Items of the batch, trimmed to the longest of them; an integer keeps the batch axis."""
        chosen = torch.arange(len(self))[[index] if isinstance(index, int) else index]
        lengths = self.lengths[chosen]
        longest = int(lengths.max()) if len(lengths) else 0
        conditions = {k: v[chosen.to(v.device)] for k, v in self.conditions.items()}
        codes = self.codes[chosen.to(self.codes.device), :, :longest]
        return Tokens(codes, self.spec, lengths, **conditions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens) or self.conditions.keys() != other.conditions.keys():
            return False
        pairs = [(self.codes, other.codes), (self.lengths, other.lengths)]
        pairs += [(v, other.conditions[k]) for k, v in self.conditions.items()]
        return self.spec == other.spec and all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # mutable tensors inside

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.codes.shape))
        return f"Tokens({self.spec.name}, {shape}, lengths={self.lengths.tolist()}, conditions={list(self.conditions)})"

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens with codes and conditions on `device`."""
        conditions = {k: v.to(device) for k, v in self.conditions.items()}
        return Tokens(self.codes.to(device), self.spec, self.lengths, **conditions)

    def prefix(self, n: int) -> "Tokens":
        """The first `n` positions of each item. Raises TokenError where the tokenizer cannot decode a prefix."""
        if not self.spec.position_prefixes:
            raise TokenError(f"{self.spec.name} needs all positions of an item; it has no prefix decoding")
        if n < 1:
            raise TokenError(f"a prefix has at least 1 position, got {n}")
        conditions = dict(self.conditions)
        if "num_samples" in conditions and self.spec.hop:
            conditions["num_samples"] = conditions["num_samples"].clamp(max=n * self.spec.hop)
        return Tokens(self.codes[..., :n], self.spec, self.lengths.clamp(max=n), **conditions)

    def codebooks(self, which: int | str) -> "Tokens":
        """The first `which` codebooks, or those with role `which` ("semantic", "acoustic", ...)."""
        count = len(self.spec.roles)
        if isinstance(which, str):
            indices = [i for i, role in enumerate(self.spec.roles) if role == which]
        else:
            indices = list(range(which)) if 1 <= which <= count else []
        if not indices:
            raise TokenError(f"{self.spec.name} here has {count} codebooks with roles {self.spec.roles}, not {which!r}")
        return Tokens(self.codes[:, indices], self.spec.select(indices), self.lengths, **self.conditions)

    @staticmethod
    def cat(batches: Sequence["Tokens"]) -> "Tokens":
        """All items of several batches of one tokenizer in one batch, padded to the longest."""
        _same_spec(batches)
        longest = max(t.codes.shape[-1] for t in batches)
        codes = [torch.nn.functional.pad(t.codes, (0, longest - t.codes.shape[-1]), value=PAD) for t in batches]
        conditions = {k: torch.cat([t.conditions[k] for t in batches]) for k in batches[0].conditions}
        return Tokens(torch.cat(codes), batches[0].spec, torch.cat([t.lengths for t in batches]), **conditions)

    @staticmethod
    def join(pieces: Sequence["Tokens"]) -> "Tokens":
        """One item that continues through several single-item Tokens, in time order (audio)."""
        _same_spec(pieces)
        if any(len(t) != 1 for t in pieces) or pieces[0].spec.layout != "time":
            raise TokenError("only single items with a time layout can be joined; use Tokens.cat for a batch")
        codes = torch.cat([t.codes[..., : int(t.lengths)] for t in pieces], dim=-1)
        conditions = {k: torch.stack([t.conditions[k] for t in pieces]).sum(0) for k in pieces[0].conditions}
        return Tokens(codes, pieces[0].spec, **conditions)

    def to_bytes(self) -> bytes:
        """The `.tok` form: safetensors, codes packed at ceil(log2(size)) bits, CRC over the whole file."""
        from .tokfile import to_bytes

        return to_bytes(self)

    @staticmethod
    def from_bytes(data: bytes) -> "Tokens":
        """Inverse of `to_bytes`. Raises TokenError for damaged or foreign data."""
        from .tokfile import from_bytes

        return from_bytes(data)

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


def _same_spec(batches: Sequence[Tokens]) -> None:
    if not batches:
        raise TokenError("nothing to combine: give at least one Tokens")
    for other in batches[1:]:
        if other.spec != batches[0].spec or other.conditions.keys() != batches[0].conditions.keys():
            raise TokenError(f"cannot combine tokens of {batches[0].spec.name} and {other.spec.name}: specs differ")
