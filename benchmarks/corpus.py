"""A corpus against single files: `python benchmarks/corpus.py`; with --ray also two of Ray's actors against one.

Clips of 1 to 3 s, cut by seed from tests/data. Overhead: processor time of the local engine for naming and writing shards,
beside the rest, which is encode_many's. Rows a second: TokenDataset in order, at random and as a shuffled stream,
each row as Tokens and as codes alone, beside Tokens.load of one .tok file a clip; medians of the rounds. Ray: seconds from
the first shard to the last, one thread an actor, and whether the shards are those of the local engine; wants a quiet machine.
"""

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from many import cut

import tokenizers_zoo as tz
from tokenizers_zoo.cli.verbs import load
from tokenizers_zoo.corpus import Origin, Work, encode_on_ray, local, plan
from tokenizers_zoo.manifest import read_manifest


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="dm-codec-tiny")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = tz.load(args.name)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cut(work / "clips", args.clips)
        overhead(codec, work, args.rounds)
        reading(codec, work, args.rounds)
        if args.ray:
            cluster(args.name, codec, work)


def overhead(codec: tz.Tokenizer, work: Path, rounds: int) -> None:
    """What a corpus costs beside encoding: the names of its shards, and writing them. Whole runs differ by more."""
    extra, write = 0.0, local.write_shard

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*given: Any) -> Any:
            nonlocal extra
            start = time.thread_time()
            result = run(*given)
            extra += time.thread_time() - start
            return result

        return wrapper

    local.write_shard = timed(write)
    rows, shares = read_manifest(work / "clips", (".wav",)), []
    for _ in range(rounds):
        shutil.rmtree(work / "corpus", ignore_errors=True)
        extra = 0.0
        shards = timed(plan)(rows, work, 1000)
        whole = clock(lambda shards=shards: consume(local.encode_shards(codec, shards, work / "corpus")))
        shares.append(extra / (whole - extra))
        print(f"{len(rows)} clips: encoding {whole - extra:.1f} s, shards {extra:.2f} s of processor time", flush=True)
    print(f"overhead of the local engine: {100 * statistics.median(shares):.1f} %")
    local.write_shard = write


def reading(codec: tz.Tokenizer, work: Path, rounds: int) -> None:
    (work / "tok").mkdir()
    dataset = tz.TokenDataset(work / "corpus")
    for number, row in enumerate(dataset):
        row.tokens.save(work / f"tok/{number:06d}.tok")
    files = sorted((work / "tok").iterdir())
    dataset = tz.TokenDataset(work / "corpus")  # with nothing in memory; the first round fills it
    order = random.Random(0).sample(range(len(dataset)), len(dataset))
    ways: dict[str, Callable[[], Iterable[Any]]] = {
        ".tok files": lambda: map(tz.Tokens.load, files),
        "in order, Tokens": lambda: (row.tokens for row in tz.TokenDataset(work / "corpus")),
        "in order, codes": lambda: (row.codes for row in tz.TokenDataset(work / "corpus")),
        "at random, codes": lambda: (dataset[i].codes for i in order),
        "shuffled stream, codes": lambda: (row.codes for row in tz.TokenDataset(work / "corpus").stream(seed=0)),
    }
    seconds = {name: [clock(lambda way=way: consume(way())) for _ in range(rounds)] for name, way in ways.items()}
    base = statistics.median(seconds[".tok files"])
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"{name}: {len(files) / middle:,.0f} rows a second, {base / middle:.1f} times as many", flush=True)
    sizes = [sum(path.stat().st_size for path in (work / place).rglob("*.*")) for place in ("corpus", "tok")]
    print(f"bytes: corpus {sizes[0]:,}, .tok files {sizes[1]:,}")


def cluster(name: str, codec: tz.Tokenizer, work: Path) -> None:
    """Shards of 20 rows by one of Ray's actors, then by two."""
    shards = plan(read_manifest(work / "clips", (".wav",)), work, 20)
    consume(local.encode_shards(codec, shards, work / "expected"))
    expected, seconds = contents(work / "expected"), []
    for actors in (1, 2):
        todo = Work(partial(load, name), work / f"ray-{actors}", Origin.of(codec))
        times = [time.perf_counter() for _ in encode_on_ray(todo, shards, actors)]
        seconds.append((times[-1] - times[0]) / (len(times) - 1))
        same = contents(todo.folder) == expected
        print(
            f"Ray, {actors} actors: {20 / seconds[-1]:.1f} rows a second, shards {'as' if same else 'NOT as'} the local engine's"
        )
    print(
        f"two actors: {seconds[0] / seconds[1]:.2f} times one, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs", flush=True
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def clock(run: Callable[[], object]) -> float:
    """Seconds of processor time of all threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


def consume(items: Iterable[Any]) -> None:
    for _ in items:
        pass


if __name__ == "__main__":
    main()
