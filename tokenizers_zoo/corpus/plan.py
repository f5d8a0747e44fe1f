"""Which rows of a manifest go into which shard, and what of it is there already.

A shard is named by its place and by the content of its input: the rows' words, and of each file its size and a few kilobytes from
its middle, which tell an edited file without reading a corpus twice. So finished shards are known by their names alone, whoever
wrote them and however often, and a manifest that grew leaves all but its last shard as they are.
"""

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..manifest import Row
from .shard import Origin, read_head

SAMPLE = 4096  # bytes of a file that its shard's name depends on


@dataclass(frozen=True)
class Shard:
    """Rows that become one file `name`, each with the key that its tokens have there."""

    name: str
    rows: tuple[tuple[str, Row], ...]


@dataclass(frozen=True)
class Done:
    """A shard that was worked through: of how many rows, and (key, reason) of those that failed.

    If all failed it is not written, and the next run tries it again.
    """

    name: str
    rows: int
    failed: tuple[tuple[str, str], ...]


def plan(rows: Sequence[Row], root: Path, size: int) -> list[Shard]:
    """Shards of `size` rows, the last of what is left. Keys are paths from `root`; one that comes again ends with #2, #3, ..."""
    keyed = tuple(zip(_keys(rows, root), rows, strict=True))
    parts = [keyed[start : start + size] for start in range(0, len(keyed), size)]
    return [Shard(f"{i:06d}-{_digest(part)}.parquet", part) for i, part in enumerate(parts)]


def missing(shards: Sequence[Shard], folder: Path, origin: Origin, overwrite: bool = False) -> tuple[list[Shard], list[Done]]:
    """(still to do, finished) of a plan. Files of other weights or other input are removed if `overwrite`, else an InputError."""
    planned = {shard.name for shard in shards}
    strange: list[Path] = []
    other: list[tuple[Path, str]] = []
    there: dict[str, Done] = {}
    for path in sorted(folder.glob("[!.]*.parquet")):
        head = read_head(path)  # an error for what is no shard, so that nothing else is ever removed
        if path.name not in planned:
            strange.append(path)
            continue
        theirs, mine = head.origin.identity, origin.identity
        if differing := [f"{name} {theirs[name]!r} instead of {mine[name]!r}" for name in mine if theirs[name] != mine[name]]:
            other.append((path, ", ".join(differing)))
        failed = tuple((str(key), str(reason)) for key, reason in head.failed)
        there[path.name] = Done(path.name, sum(head.groups) + len(failed), failed)
    if overwrite:
        for path in (*strange, *(path for path, _ in other)):
            path.unlink()
            there.pop(path.name, None)
    elif other:
        raise InputError(
            f"{other[0][0]} has {other[0][1]}, as have {len(other)} shards in all: give another folder, or --overwrite"
        )
    elif strange:
        raise InputError(
            f"{strange[0]} is of other input than this, as are {len(strange)} files in all: the manifest, its files or the size "
            f"of shards changed. Give another folder, or --overwrite, which keeps the shards that fit"
        )
    return [shard for shard in shards if shard.name not in there], list(there.values())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One run at a time writes into a folder; what a killed one left half-written is removed. Raises InputError for a second."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system gives it back when a process ends, however it does
        except BlockingIOError as error:
            raise InputError(f"another run is writing to {folder}; wait for it, or give another folder") from error
        for path in folder.glob(".*.parquet"):
            path.unlink()
        yield


def _keys(rows: Sequence[Row], root: Path) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for row in rows:
        key = os.path.relpath(row.path, root)
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key}#{seen[key]}"


def _digest(part: Sequence[tuple[str, Row]]) -> str:
    digest = hashlib.sha256()
    for key, row in part:
        words = [key, row.texts, row.speaker, row.split, row.label]
        digest.update(json.dumps(words).encode() + _sample(row.path))
    return digest.hexdigest()[:16]


def _sample(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, (size - SAMPLE) // 2))
            return b"%d " % size + file.read(SAMPLE)
    except OSError:
        return b"none"  # encoding it will say why
