"""The local engine: one process, whose threads read ahead and run batches; also what each of Ray's workers does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..many import encode_many
from ..tokenizer import Size, Tokenizer
from .plan import Done, Shard
from .shard import Origin, write_shard


def encode_shards(
    tokenizer: Tokenizer,
    shards: Sequence[Shard],
    folder: Path,
    size: Size = None,
    batch_size: int | None = None,
    workers: int = 4,
) -> Iterator[Done]:
    """Writes shards as they are complete; batches reach over their borders. The rest of the arguments is as in `encode_many`.

    A row's place in its shard is that in the manifest, whatever order batches finish in.
    """
    origin = Origin.of(tokenizer, size)
    sources = (((s, r), row) for s, shard in enumerate(shards) for r, (_, row) in enumerate(shard.rows))
    found: dict[int, dict[int, Any]] = {}
    for (s, r), tokens in encode_many(tokenizer, sources, batch_size=batch_size, workers=workers, size=size):
        found.setdefault(s, {})[r] = tokens
        if len(found[s]) == len(shards[s].rows):
            yield _finish(shards[s], found.pop(s), folder, origin)


def _finish(shard: Shard, found: dict[int, Any], folder: Path, origin: Origin) -> Done:
    rows = [(key, row, found[r]) for r, (key, row) in enumerate(shard.rows)]
    failed = tuple((key, _reason(error)) for key, _, error in rows if isinstance(error, Exception))
    good = [row for row in rows if not isinstance(row[2], Exception)]
    if good:
        write_shard(folder / shard.name, origin, good, failed)
    return Done(shard.name, len(rows), failed)


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return text or type(error).__name__
