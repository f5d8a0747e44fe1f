"""What `tokenizers-zoo tokenize` wrote, row by row."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from ..spec import TokenSpec
from ..tokens import Tokens
from .shard import COLUMNS, read_head, read_rows
from .stream import TokenStream

KEPT = 1 << 29  # bytes of codes that a process keeps in memory: random access to a corpus of up to this size is fast

Transform = Callable[["TokenRow"], Any]


@dataclass(frozen=True, eq=False)
class TokenRow:
    """One row of a corpus.

    key: its source's path from the manifest's folder. codes: read-only unsigned integers (codebook, position), as stored.
    text: the first caption, "" for none; texts: all of them. conditions: what a decoder needs besides.
    """

    key: str
    codes: np.ndarray[Any, Any]
    spec: TokenSpec = field(repr=False)
    text: str
    texts: Sequence[str]
    speaker: str
    split: str
    label: str
    conditions: Mapping[str, Any]

    @cached_property
    def tokens(self) -> Tokens:
        """Tokens of one item, as `encode` gave them."""
        codes = torch.from_numpy(self.codes.astype(np.int64))
        conditions = {name: torch.from_numpy(np.asarray(value)[None]) for name, value in self.conditions.items()}
        return Tokens(codes[None], self.spec, text=[self.text] if "text" in self.spec.conditions else None, **conditions)


class TokenDataset(Dataset[Any]):
    """The rows of a corpus by number, in the manifest's order: for any DataLoader, sampler, or Trainer.

    folder: what `tokenizers-zoo tokenize -o` names. transform: makes of a TokenRow what the dataset gives, e.g. ids of a language
    model. Codes stay in memory up to 512 MB a process; what is larger is best read in the order of `stream`.

    Attributes: spec (of the tokens). Raises InputError for a folder without shards, or with those of several weights.
    """

    def __init__(self, folder: str | Path, transform: Transform | None = None):
        self.folder, self.transform = Path(folder), transform
        paths = sorted(self.folder.glob("[!.]*.parquet"))
        if not paths:
            raise InputError(f"{folder} holds no corpus; `tokenizers-zoo tokenize NAME --data MANIFEST -o {folder}` makes one")
        heads = [read_head(path) for path in paths]
        for path, head in zip(paths, heads, strict=True):
            if head.origin.identity != heads[0].origin.identity:
                raise InputError(f"{path} is of other weights or settings than {paths[0]}; tokenize into two folders")
        self.spec = heads[0].origin.spec
        # blocks are what is read at once: (file, its row group, rows)
        self.blocks = [
            (path, group, rows) for path, head in zip(paths, heads, strict=True) for group, rows in enumerate(head.groups)
        ]
        self._ends = list(accumulate(rows for _, _, rows in self.blocks))
        self._read: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        """A TokenRow, or what `transform` makes of it. Negative numbers count from the end; IndexError for what is not there."""
        place = range(len(self))[index]
        block = bisect_right(self._ends, place)
        return self.row(self._kept(block), place - self._ends[block] + self.blocks[block][2])

    def __iter__(self) -> Iterator[Any]:
        """All rows in order."""
        return iter(self.stream(rank=0, world=1))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_read": OrderedDict(), "_bytes": 0}  # a process of its own reads for itself

    def columns(self, block: int) -> Mapping[str, Any]:
        """Of a block, read now unless it is in memory."""
        return self._read.get(block) or read_rows(*self.blocks[block][:2])

    def row(self, columns: Mapping[str, Any], i: int) -> Any:
        """Row `i` of a block."""
        words = {name: columns[name][i] for name in COLUMNS if name != "length"}
        conditions = {name: column[i] for name, column in columns.items() if name not in COLUMNS}
        row = TokenRow(spec=self.spec, conditions=conditions, **words)
        return row if self.transform is None else self.transform(row)

    def stream(self, seed: int | None = None, rank: int | None = None, world: int | None = None) -> TokenStream:
        """The rows shared out among processes and workers, shuffled by `seed`, with a position that can be saved and resumed.

        rank and world: of this process among those that train; by default torch.distributed's.
        """
        return TokenStream(self, seed, rank, world)

    def _kept(self, block: int) -> Mapping[str, Any]:
        """The columns of a block, which stay in memory until others need the place."""
        if block not in self._read:
            self._read[block] = read_rows(*self.blocks[block][:2])
            self._bytes += _size(self._read[block])
            while self._bytes > KEPT and len(self._read) > 1:
                self._bytes -= _size(self._read.popitem(last=False)[1])
        self._read.move_to_end(block)
        return self._read[block]


def _size(columns: Mapping[str, Any]) -> int:
    return sum(matrix.nbytes for matrix in columns["codes"])
