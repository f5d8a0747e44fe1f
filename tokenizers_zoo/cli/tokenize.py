"""The verb that makes a corpus: a manifest -> Parquet shards."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..corpus import Done, Origin, Shard, Work, alone, encode_on_ray, encode_shards, missing, plan
from ..manifest import read_manifest
from ..media import SUFFIXES
from ..tokenizer import Size, Tokenizer
from .convert import size_of
from .files import root_of
from .verbs import load, loaded


def tokenize(args: argparse.Namespace) -> int:
    """A manifest's or folder's rows to shards in a folder; finished ones are kept."""
    tokenizer = loaded(args)
    size, rows = size_of(args.size), read_manifest(args.data, SUFFIXES[tokenizer.spec.modality])
    shards = plan(rows, Path(root_of(args.data, rows)), args.shard_size)
    with alone(args.output):
        todo, finished = missing(shards, args.output, Origin.of(tokenizer, size), args.overwrite)
        if finished:
            print(f"{len(finished)} of {len(shards)} shards exist already and are kept", file=sys.stderr)
        failed = _watch(_engine(args, tokenizer, size)(todo), finished, len(rows))
    if before := [done.name for done in finished if done.failed]:
        failed += sum(len(done.failed) for done in finished)
        print(f"of {before[0]} and {len(before)} kept shards in all some rows failed; remove them to try again", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(rows)} rows failed", file=sys.stderr)
    return 1 if failed else 0


def _engine(args: argparse.Namespace, tokenizer: Tokenizer, size: Size) -> Callable[[Sequence[Shard]], Iterator[Done]]:
    """What works through shards: this process, or actors of Ray, which load the tokenizer themselves."""
    options = (size, args.batch_size, args.workers)
    if args.engine == "local":
        return lambda todo: encode_shards(tokenizer, todo, args.output, *options)
    work = Work(
        partial(load, args.name, dtype=args.dtype, compile=args.compile),
        args.output.resolve(),
        Origin.of(tokenizer, size),
        *options,
    )
    return lambda todo: encode_on_ray(work, todo, args.concurrency, args.num_gpus)


def _watch(running: Iterator[Done], finished: Sequence[Done], total: int) -> int:
    """Follows the shards; says and counts the rows that fail. Raises KeyboardInterrupt that says how far it came."""
    failed, before = 0, sum(done.rows for done in finished)
    with closing(running), tqdm(total=total, initial=before, desc="tokenize", unit="row", disable=None) as bar:  # type: ignore[type-var]
        try:
            for done in running:
                for key, reason in done.failed:
                    tqdm.write(f"error: {key}: {reason}", file=sys.stderr)
                failed += len(done.failed)
                bar.update(done.rows)
        except KeyboardInterrupt as stop:
            raise type(stop)(f"; {bar.n} of {total} rows done, run again to go on") from stop
    return failed
