"""A corpus as it goes by: each row once an epoch, whoever reads how many at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import InputError
from ..spec import is_integer

MIXED = 16  # blocks whose rows are shuffled among each other


class Blocks(Protocol):
    """What a stream reads: blocks (file, row group, rows), their columns, and rows of these."""

    @property
    def blocks(self) -> Sequence[tuple[Any, int, int]]:
        """In the order of the corpus."""

    def columns(self, block: int) -> Any:
        """Of one block."""

    def row(self, columns: Any, i: int) -> Any:
        """One of its rows."""


class TokenStream(IterableDataset[Any]):
    """Rows of a TokenDataset for one process, or one DataLoader worker, of several.

    Blocks of neighbouring rows are dealt out in turn, so that every row goes to one reader. With a `seed` the blocks come in an
    order that depends on seed and epoch (`set_epoch`) alone, and rows are shuffled within 16 blocks at a time; without, as they
    are stored. Readers get almost, not exactly, the same number of rows.

    `state_dict()` is the position of this reader within its epoch; after `load_state_dict` iteration goes on with the next row.
    With workers, torchdata's StatefulDataLoader keeps the position of each.
    """

    def __init__(self, dataset: Blocks, seed: int | None = None, rank: int | None = None, world: int | None = None):
        known = distributed.is_available() and distributed.is_initialized()
        if seed is not None and not (is_integer(seed) and seed >= 0):
            raise InputError(f"seed must be an integer of at least 0, or None for the order of the files; got {seed!r}")
        self.dataset, self.seed = dataset, seed
        self.rank = (distributed.get_rank() if known else 0) if rank is None else rank
        self.world = (distributed.get_world_size() if known else 1) if world is None else world
        if not (is_integer(self.rank) and is_integer(self.world) and 0 <= self.rank < self.world):
            raise InputError(f"rank must be in 0 .. world - 1, got rank {self.rank!r} of {self.world!r}")
        self.epoch = self.position = 0
        self._resumed: dict[str, Any] | None = None

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of, from its beginning; as DistributedSampler has it."""
        if epoch != self.epoch:
            self.epoch, self.position, self._resumed = epoch, 0, None

    def __iter__(self) -> Iterator[Any]:
        reader, readers = self._reader()
        start = 0
        if self._resumed is not None:
            if (self._resumed["reader"], self._resumed["readers"]) != (reader, readers):
                raise InputError(
                    f"this position is of reader {self._resumed['reader']} of {self._resumed['readers']}, here is {reader} of "
                    f"{readers}: use as many processes and workers, and with workers torchdata's StatefulDataLoader"
                )
            start = self._resumed["position"]
        self._resumed, self.position = None, start
        for row in self._from(start, reader, readers):
            self.position += 1
            yield row
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: seed, epoch, rows that were given, and which reader of how many this is."""
        reader, readers = self._reader()
        position = self.position if self._resumed is None else self._resumed["position"]
        return {"seed": self.seed, "epoch": self.epoch, "position": position, "reader": reader, "readers": readers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was. Raises InputError for that of another seed."""
        if state["seed"] != self.seed:
            raise InputError(f"this position is of seed {state['seed']}, the stream has {self.seed}; give it that seed")
        self.epoch, self._resumed = state["epoch"], dict(state)

    def _reader(self) -> tuple[int, int]:
        """(which, of how many) of all workers of all processes."""
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        return self.rank * workers + (worker.id if worker else 0), self.world * workers

    def _from(self, start: int, reader: int, readers: int) -> Iterator[Any]:
        """The reader's rows but the first `start`; blocks that lie before are not read."""
        rows = [rows for _, _, rows in self.dataset.blocks]
        blocks, mixed = self._order(0, len(rows))[reader::readers], 1 if self.seed is None else MIXED
        for chosen in (blocks[first : first + mixed] for first in range(0, len(blocks), mixed)):
            places = [(block, i) for block in chosen for i in range(rows[block])]
            if start < len(places):
                columns = {block: self.dataset.columns(block) for block in chosen}
                for place in self._order(1 + chosen[0], len(places))[start:]:
                    block, i = places[place]
                    yield self.dataset.row(columns[block], i)
            start = max(0, start - len(places))

    def _order(self, draw: int, count: int) -> list[int]:
        """0 .. count - 1, in the order of a draw that depends on seed and epoch alone."""
        if self.seed is None:
            return list(range(count))
        return np.random.default_rng((self.seed, self.epoch, draw)).permutation(count).tolist()
