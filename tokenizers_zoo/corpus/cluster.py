"""The engine beyond one machine: Ray Data, whose actors hold the tokenizer and write shards as the local engine does.

What Ray 2.60 does not promise is not asked of it. An actor that is killed has its block run again: a block is one shard, named by
its input and written by rename, so that twice is as good as once. Blocks come back in any order: rows are ordered within their
shard and shards by their names. What Ray would write is neither whole nor once: it writes nothing, and a shard that is there is
never sent to it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, TokenError, WeightsError
from ..tables import package
from ..tokenizer import Size, Tokenizer
from .local import encode_shards
from .plan import Done, Shard
from .shard import Origin

ATTEMPTS = 3  # to start Ray on this machine
WRONG = (InputError, TokenError, WeightsError, OSError, ImportError)  # what a user can mend


@dataclass(frozen=True)
class Work:
    """What every actor is told. load: gives the tokenizer on a device; folder: the corpus, on a file system that all share."""

    load: Callable[[str], Tokenizer]
    folder: Path
    origin: Origin
    size: Size = None
    batch_size: int | None = None
    workers: int = 4


def encode_on_ray(work: Work, shards: Sequence[Shard], concurrency: int | None = None, num_gpus: float = 0) -> Iterator[Done]:
    """Writes shards by `concurrency` actors (by default one a CPU, or as many as there is room for on the GPUs), each with one
    CPU and `num_gpus` GPUs, on the cluster of RAY_ADDRESS, or on one that is started on this machine.

    A shard is given as soon as it is done, in any order. Raises InputError without Ray, what an actor that cannot load
    the tokenizer or cannot write meets, and WeightsError for one that loads other weights than those of `work.origin`.
    """
    ray = package("ray", "ray")
    data = package("ray.data", "ray")
    if not shards:
        return
    if not ray.is_initialized():
        _start(ray)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    if concurrency is None:
        there = ray.cluster_resources()
        concurrency = max(1, int(there.get("GPU", 0) / num_gpus if num_gpus else there.get("CPU", 1)))
    tasks = data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    actors = data.ActorPoolStrategy(size=min(concurrency, len(shards)))
    done = tasks.map(_Actor, fn_constructor_args=(work, num_gpus), compute=actors, num_cpus=1, num_gpus=num_gpus)
    try:
        for row in done.iter_rows():
            if isinstance(row["done"], Exception):
                raise row["done"]
            yield row["done"]
    except ray.exceptions.RayError as error:
        raise InputError(f"Ray stopped: {str(error).strip().splitlines()[0]}; run again to go on") from error


def _start(ray: Any) -> None:
    """Ray gives its own processes 15 s to come up, whatever its settings: they load what they need while the first try fails."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)
            return
        except Exception as error:  # Ray raises Exception itself
            ray.shutdown()
            if attempt == ATTEMPTS:
                raise InputError(
                    f"Ray did not start ({str(error).strip().splitlines()[0]}): run again when this machine is less busy, or "
                    f"`ray start --head` a cluster and name it in RAY_ADDRESS"
                ) from error


class _Actor:
    """What is wrong comes back as a row: what an actor raises would reach the driver as a page of text, after other tries."""

    def __init__(self, work: Work, num_gpus: float):
        self.work = work
        try:
            self.tokenizer = work.load("cuda" if num_gpus else "cpu")
            with self._precision():
                theirs, mine = work.origin.identity, Origin.of(self.tokenizer, work.size).identity
            self.wrong: Exception | None = (
                None
                if theirs == mine
                else WeightsError(f"a worker of Ray loads {mine}, the driver {theirs}: give all machines the same weights")
            )
        except WRONG as error:
            self.wrong = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        work = self.work
        if self.wrong:
            return {"done": self.wrong}
        try:
            with self._precision():
                (done,) = encode_shards(self.tokenizer, [row["shard"]], work.folder, work.size, work.batch_size, work.workers)
            return {"done": done}
        except WRONG as error:
            return {"done": error}

    def _precision(self) -> torch.autocast:
        dtype = getattr(torch, self.work.origin.dtype)
        return torch.autocast(self.tokenizer.device.type, dtype, enabled=dtype != self.tokenizer.dtype)
