"""TokenSpec, what is known of a tokenizer's codes, and Parts, what travels with it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice
from numbers import Integral
from reprlib import repr as short
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

from .errors import TokenError

Modality = Literal["audio", "image"]
Layout = Literal["time", "sequence", "grid", "scales"]

MOST = 4096  # codebooks: a count in a file must not be able to ask for memory
PAD = -1  # the code of positions past an item's length
RESERVED = ("codes", "spec", "lengths")  # arguments of Tokens, which cannot be names of conditions
OPTIONAL = "x-"  # what a file names so may be skipped by a reader that does not know it


class Computed(tuple):  # type: ignore[type-arg]
    """A default that follows from other fields: dataclasses.replace hands it on, and it is computed anew."""


@dataclass(frozen=True)
class TokenSpec:
    """What a tokenizer's codes mean; rates and bits are computed from it.

    name: the variant. modality: "audio" or "image". codebook_sizes: entries of each codebook, integers from 2 to 2**63 - 1, at
    most 4,096 of them. roles: one word a codebook (semantic, acoustic, pixel). layout: how positions are arranged (time,
    sequence, grid, scales). codebook_ids: which of the tokenizer's codebooks these are, increasing (a selection keeps the
    original numbers). position_prefixes / codebook_prefixes: whether the first n positions / codebooks alone can be decoded.
    sample_rate (Hz) and hop (samples a position) describe audio; image_size (pixels a side) and positions (tokens of an image)
    describe images. receptive_field: positions on each side of a position that can influence its codes (None: unbounded).
    license: of the weights. weights: fingerprint of the weights ("" for untrained ones). conditions: what may travel with the
    codes, "text" being captions; by default num_samples for audio. scales: sides of the square maps that make up a layout
    "scales". decodable: the sets of roles that decode; by default all together and, with codebook_prefixes, each leading run
    of roles; none where the first codebooks are missing.

    Numbers are integers (numpy's too) below 2**31. Raises TokenError for what is none of this.
    """

    name: str
    modality: Modality
    codebook_sizes: tuple[int, ...]
    roles: tuple[str, ...]
    layout: Layout
    codebook_ids: tuple[int, ...] = Computed()
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
    conditions: tuple[str, ...] = Computed()
    scales: tuple[int, ...] = ()
    decodable: tuple[tuple[str, ...], ...] = Computed()

    def __post_init__(self) -> None:
        _choice("modality", self.modality, get_args(Modality))
        _choice("layout", self.layout, get_args(Layout))
        _words("name, license and weights", (self.name, self.license, self.weights))
        for field in ("position_prefixes", "codebook_prefixes", "causal"):
            _choice(field, getattr(self, field), (False, True))
        for field in ("sample_rate", "hop", "image_size", "positions", "receptive_field"):
            value = getattr(self, field)
            self._set(field, value if value is None else _integers(field, [value], int(field != "receptive_field"))[0])
        self._set("scales", _integers("scales", self.scales, 1))
        if self.scales and (self.layout != "scales" or self.positions != sum(side**2 for side in self.scales)):
            raise TokenError(
                f'scales {self.scales} need the layout "scales" and {sum(side**2 for side in self.scales)} positions, '
                f"got {self.layout!r} and {self.positions}"
            )
        self._check_codebooks()
        conditions = self._or_default("conditions", _words)
        if len(set(conditions)) < len(conditions) or not all(conditions) or set(conditions) & set(RESERVED):
            raise TokenError(f"conditions need names of their own, other than {', '.join(RESERVED)}; got {short(conditions)}")
        decodable = self._or_default("decodable", lambda what, sets: tuple(_words(what, s) for s in _entries(what, sets)))
        if not all(roles and set(roles) <= set(self.roles) for roles in decodable):
            raise TokenError(f"decodable must list sets of the roles {short(self.roles)}, got {short(decodable)}")

    def _check_codebooks(self) -> None:
        self._set("codebook_sizes", _integers("codebook sizes", self.codebook_sizes, 2, 2**63))
        self._set("roles", _words("roles", self.roles))
        self._or_default("codebook_ids", lambda what, ids: _integers(what, ids, 0, MOST) or self.default(what))
        if not self.codebook_sizes or not all(self.roles):
            raise TokenError("a spec needs codebook sizes and a word for the role of each")
        if not len(self.codebook_sizes) == len(self.roles) == len(self.codebook_ids):
            raise TokenError(
                f"{len(self.codebook_sizes)} codebook sizes need as many roles and ids, "
                f"got {len(self.roles)} and {len(self.codebook_ids)}"
            )
        if list(self.codebook_ids) != sorted(set(self.codebook_ids)):
            raise TokenError(f"codebook ids must increase, got {short(self.codebook_ids)}")

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _or_default(self, field: str, check: Callable[[str, Any], tuple[Any, ...]]) -> tuple[Any, ...]:
        given = getattr(self, field)
        self._set(field, self.default(field) if isinstance(given, Computed) else check(field, given))
        return getattr(self, field)

    def default(self, field: str) -> Computed:
        """What codebook_ids, conditions and decodable are where nothing is said."""
        if field == "codebook_ids":
            return Computed(range(len(self.codebook_sizes)))
        if field == "conditions":
            return Computed(["num_samples"] if self.modality == "audio" else [])
        if self.codebook_ids != tuple(range(len(self.codebook_sizes))):
            return Computed()
        roles = tuple(dict.fromkeys(self.roles))
        runs = [roles[: i + 1] for i in range(len(roles))] if self.codebook_prefixes else [roles]
        return Computed(run for run in runs if self._leading(run))

    def _leading(self, roles: Sequence[str]) -> bool:
        """Whether the codebooks with these roles are the tokenizer's first ones."""
        ids = [i for i, role in zip(self.codebook_ids, self.roles, strict=True) if role in roles]
        return ids == list(range(len(ids)))

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

    @property
    def prefix_lengths(self) -> Sequence[int] | None:
        """How many positions a prefix may have, increasing: ends of scales, or 1 to `positions`; None for any number."""
        if not self.position_prefixes:
            return ()
        if self.scales:
            return tuple(accumulate(side**2 for side in self.scales))
        return range(1, self.positions + 1) if self.positions else None

    def prefix(self, n: int) -> "TokenSpec":
        """The spec of the first `n` positions. Raises TokenError, with the nearest that can be, where `n` cannot."""
        allowed = self.prefix_lengths
        if allowed is not None and not allowed:
            raise TokenError(f"{self.name} needs all positions of an item; it has no prefix decoding")
        if not is_integer(n) or n < 1:
            raise TokenError(f"a prefix has at least 1 position, a whole number; got {short(n)}")
        if allowed is not None and n not in allowed:
            nearest = min(allowed, key=lambda length: abs(length - n))
            raise TokenError(f"{self.name} has no prefix of {n} positions; the nearest has {nearest}")
        if allowed is None:
            return self
        scales = tuple(side for side, end in zip(self.scales, allowed, strict=False) if end <= n)
        return dataclasses.replace(self, positions=n, scales=scales)

    def select(self, indices: Sequence[int]) -> "TokenSpec":
        """The spec of these codebooks alone (indices into this spec, increasing)."""
        pick = {f: tuple(getattr(self, f)[i] for i in indices) for f in ("codebook_sizes", "roles", "codebook_ids")}
        chosen = dataclasses.replace(self, **pick, decodable=())  # type: ignore[arg-type]  # the three fields are tuples
        whole = set(self.roles) - {role for i, role in enumerate(self.roles) if i not in indices}
        decodable = tuple(
            roles
            for roles in self.decodable
            if set(roles) <= whole or (self.codebook_prefixes and set(roles) <= set(chosen.roles) and chosen._leading(roles))
        )
        return dataclasses.replace(chosen, decodable=decodable)

    def to_json(self) -> dict[str, Any]:
        """Plain data; runs of equal entries are written as [entry, count] so that 64 binary codebooks stay short."""
        data: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        }
        for key in ("codebook_ids", "conditions", "decodable"):
            if getattr(self, key) == self.default(key):
                data.pop(key, None)
            else:
                data[key] = getattr(self, key)
        for key in ("codebook_sizes", "roles"):
            data[key] = [[entry, len(list(run))] for entry, run in groupby(data[key])]
        return data

    @classmethod
    def from_json(cls, data: Any) -> "TokenSpec":
        """Inverse of `to_json`. Raises TokenError for anything that is not a spec."""
        known = [f.name for f in dataclasses.fields(cls)]
        try:
            fields = {name: value for name, value in data.items() if not name.startswith(OPTIONAL)}
            if unknown := [name for name in fields if name not in known]:
                raise TokenError(f"unknown field {unknown[0]!r}: if a newer version wrote it, upgrade tokenizers-zoo")
            for key in ("codebook_sizes", "roles"):
                counts = _integers(f"counts of {key}", [count for _, count in fields[key]], 1, MOST + 1)
                if sum(counts) > MOST:
                    raise TokenError(f"{sum(counts)} {key}, at most {MOST} are possible")
                fields[key] = [entry for (entry, _), count in zip(fields[key], counts, strict=True) for _ in range(count)]
            return cls(**fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenError(f"this is not a token spec ({error})") from error


class Parts(NamedTuple):
    """What `Tokens` consist of, unchecked: for the modules below it."""

    codes: Tensor
    spec: TokenSpec
    lengths: Tensor
    text: Sequence[str] | None
    conditions: dict[str, Tensor]


def is_integer(value: object) -> bool:
    """Whether it is an integer, numpy's included; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _choice(what: str, value: object, allowed: Sequence[object]) -> None:
    if not any(value is word or (isinstance(value, str) and value == word) for word in allowed):
        raise TokenError(f"{what} must be one of {', '.join(map(str, allowed))}, got {short(value)}")


def _entries(what: str, value: Any) -> tuple[Any, ...]:
    try:
        entries = None if isinstance(value, str | bytes | dict) else tuple(islice(value, MOST + 1))
    except TypeError:
        entries = None
    if entries is None or len(entries) > MOST:
        raise TokenError(f"{what} must be a sequence of at most {MOST} entries, got {short(value)}")
    return entries


def _integers(what: str, value: Any, low: int, high: int = 2**31) -> tuple[int, ...]:
    entries = _entries(what, value)
    if not all(is_integer(entry) and low <= entry < high for entry in entries):
        raise TokenError(f"{what} must be integers >= {low} and < {high}, got {short(value)}")
    return tuple(map(int, entries))


def _words(what: str, value: Any) -> tuple[str, ...]:
    entries = _entries(what, value)
    try:
        "".join(entries).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise TokenError(f"{what} must be text, got {short(value)}") from error
    return tuple(map(str, entries))
