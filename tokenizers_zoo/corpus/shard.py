"""A shard of a corpus: one Parquet file with the tokens of some rows of a manifest, which appears whole or not at all.

Columns: `key`, the source's path from the manifest's folder; `text`, its first caption, and `texts`, all of them; `speaker`,
`split`, `label`; `length`, its positions; `codes`, a list a codebook with `length` codes each, unsigned integers no wider than
the largest codebook needs; and a column for each condition that a decoder needs (`num_samples`, ...).

Metadata of the schema: one entry, JSON with the `format`, the `origin` (spec, weights, what decides codes besides) and `failed`,
[key, reason] of the rows that could not be encoded and are not in the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, TokenError
from ..files import atomic_path
from ..manifest import Row
from ..spec import TokenSpec
from ..tables import package
from ..tokenizer import Tokenizer
from ..tokens import Tokens
from ..weights import fingerprint, plain_state

FORMAT, ENTRY = 1, b"tokenizers_zoo"
GROUP = 128  # rows that are read at once
COLUMNS = ("key", "text", "texts", "speaker", "split", "label", "length", "codes")
MOST = 2**31 - 1  # codes in a shard: Arrow counts a list's values in 32 bits
ROOM, RAGGED = 1 << 24, 64  # values, or bytes, of a column at a time: at most so many, or so many times the bytes that it takes


@dataclass(frozen=True)
class Origin:
    """What decides codes besides media: tokenizer and weights (`spec`), precision, size of images ("" for the default)."""

    spec: TokenSpec
    dtype: str = "float32"
    size: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer, size: object = None) -> "Origin":
        """Of this tokenizer under the autocast that is active now; untrained weights get a fingerprint, too."""
        kind = tokenizer.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokenizer.dtype
        weights = tokenizer.spec.weights or fingerprint(plain_state(tokenizer), tokenizer.config)
        return cls(replace(tokenizer.spec, weights=weights), str(dtype).removeprefix("torch."), "" if size is None else str(size))

    @property
    def identity(self) -> dict[str, str]:
        """What must be equal in all shards of a corpus."""
        return {"tokenizer": self.spec.name, "weights": self.spec.weights, "dtype": self.dtype, "size": self.size}


@dataclass(frozen=True)
class Head:
    """What a shard says of itself: its origin, rows of each row group, and [key, reason] of the rows that are missing from it."""

    origin: Origin
    groups: Sequence[int]
    failed: Sequence[Sequence[str]]


def write_shard(path: Path, origin: Origin, found: Sequence[tuple[str, Row, Tokens]], failed: Sequence[tuple[str, str]]) -> None:
    """Writes (key, row, tokens of one item), at least one of them, and why others failed."""
    arrow, parquet = package("pyarrow", "corpus"), package("pyarrow.parquet", "corpus")
    tokens = [item for _, _, item in found]
    words = {
        name: arrow.array([getattr(row, name) for _, row, _ in found], "string") for name in ("text", "speaker", "split", "label")
    }
    columns = {
        "key": arrow.array([key for key, _, _ in found], "string"),
        "text": words["text"],
        "texts": arrow.array([list(row.texts) for _, row, _ in found], arrow.list_(arrow.string())),
        **{name: words[name] for name in ("speaker", "split", "label")},
        "length": arrow.array([int(item.lengths[0]) for item in tokens], "int32"),
        "codes": _lists(tokens, arrow),
        **{name: _condition(name, tokens, arrow) for name in tokens[0].conditions},
    }
    about = {"format": FORMAT, "origin": {**vars(origin), "spec": origin.spec.to_json()}, "failed": failed}
    table = arrow.table(columns, metadata={ENTRY: json.dumps(about)})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", row_group_size=GROUP)


def read_head(path: Path) -> Head:
    """What is said of a shard. Raises InputError for files that are none, or are damaged."""
    arrow, parquet = package("pyarrow", "corpus"), package("pyarrow.parquet", "corpus")
    try:
        with parquet.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole Parquet file ({error}); remove it and tokenize again") from error
    try:
        about = json.loads(metadata[ENTRY])
        if not isinstance(about["failed"], list) or not all(_is_pair(entry) for entry in about["failed"]):
            raise ValueError("`failed` lists no keys and reasons")
        if about["format"] != FORMAT:
            raise InputError(f"{path} has format {about['format']}, this version knows {FORMAT}; upgrade tokenizers-zoo")
        origin = about["origin"]
        spec = TokenSpec.from_json(origin["spec"])
        return Head(Origin(spec, str(origin["dtype"]), str(origin["size"])), groups, about["failed"])
    except (KeyError, TypeError, ValueError, RecursionError, TokenError) as error:
        raise InputError(f"{path} is no shard of a corpus ({error}); keep other files elsewhere") from error


def read_rows(path: Path, group: int) -> Mapping[str, Any]:
    """The columns of one row group: lists of words, `codes` as int arrays (K, T), conditions as arrays with one entry a row.

    Raises InputError for a file that is damaged or holds something else.
    """
    arrow, parquet = package("pyarrow", "corpus"), package("pyarrow.parquet", "corpus")
    try:
        with parquet.ParquetFile(path) as file:
            _check_room(file.metadata.row_group(group))
            table = file.read_row_group(group, use_threads=False)
        return _columns(table, arrow.types)
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and tokenize again") from error


def _is_pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)


def _check_room(group: Any) -> None:
    """Raises ValueError for a few bytes that say they are many."""
    for column in (group.column(i) for i in range(group.num_columns)):
        sizes = (column.num_values, ROOM), (column.total_uncompressed_size, ROOM // max(1, group.num_rows))
        if wrong := [size for size, room in sizes if size > max(room, RAGGED * column.total_compressed_size)]:
            raise ValueError(f"{column.total_compressed_size} bytes of {column.path_in_schema} would become {wrong[0]}")


def _columns(table: Any, types: Any) -> dict[str, Any]:
    if wrong := [name for name in COLUMNS if table.column_names.count(name) != 1]:
        raise ValueError(f"it has no column {wrong[0]!r}, or several")
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if column.null_count:
            raise ValueError(f"values of {name!r} are missing")
        if name == "codes":
            columns[name] = _matrices(column, table["length"].to_numpy())
        elif name in COLUMNS:
            columns[name] = column.to_pylist()
        else:
            columns[name] = _numbers(name, column, types)
    words = [name for name in COLUMNS if name not in ("texts", "length", "codes")]
    if not all(isinstance(word, str) for name in words for word in columns[name]):
        raise ValueError(f"{', '.join(words)} must be strings")
    if not all(isinstance(word, str) for texts in columns["texts"] for word in texts):
        raise ValueError("texts must be lists of strings")
    return columns


def _numbers(name: str, column: Any, types: Any) -> np.ndarray[Any, Any]:
    """A condition, one entry a row."""
    kind = column.type
    while types.is_list(kind):
        kind = kind.value_type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise ValueError(f"{name!r} must be numbers, not {kind}")
    return np.array(column.to_pylist(), kind.to_pandas_dtype())


def _lists(tokens: Sequence[Tokens], arrow: Any) -> Any:
    """list<list<uint>>: of each item its codebooks, of each codebook its codes."""
    codes = [item.codes[0].numpy() for item in tokens]
    books = len(codes[0])
    lengths = np.repeat([matrix.shape[1] for matrix in codes], books)
    if lengths.sum() > MOST:
        raise InputError(f"a shard of {len(tokens)} rows with {lengths.sum()} codes is too large; give it fewer rows")
    width = np.min_scalar_type(max(tokens[0].spec.codebook_sizes) - 1)
    values = np.concatenate([matrix.ravel() for matrix in codes]).astype(width)
    inner = arrow.ListArray.from_arrays(arrow.array(_offsets(lengths)), arrow.array(values))
    return arrow.ListArray.from_arrays(arrow.array(_offsets(np.full(len(codes), books))), inner)


def _offsets(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _matrices(column: Any, lengths: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The reverse of `_lists`, without a copy. Raises ValueError for codebooks that are not as long as their row says."""
    inner = column.values
    ends, bounds = column.offsets.to_numpy(), inner.offsets.to_numpy()
    books, values = np.diff(ends), inner.values.to_numpy()
    if values.dtype.kind != "u" or (books < 1).any() or not np.array_equal(np.diff(bounds), np.repeat(lengths, books)):
        raise ValueError("its codes are no unsigned integers, a list a codebook with `length` of them each")
    starts = bounds[ends]
    return [values[a:b].reshape(k, -1) for k, a, b in zip(books, starts[:-1], starts[1:], strict=True)]


def _condition(name: str, tokens: Sequence[Tokens], arrow: Any) -> Any:
    """One entry a row, nested as deep as the condition has axes."""
    if name in COLUMNS:
        raise InputError(f"a condition cannot be called {name!r}, which is a column of a corpus")
    values = torch.cat([item.conditions[name] for item in tokens]).numpy()
    kind = arrow.from_numpy_dtype(values.dtype)
    for _ in range(values.ndim - 1):
        kind = arrow.list_(kind)
    return arrow.array(values.tolist(), kind)
