"""`import` and `load` against torch's import, a hash, and an earlier release, each in fresh processes in turn.

`python benchmarks/loading.py`. The earlier release is a commit of this repository, unpacked into a temporary folder. The large
folder is untrained weights of seed 0, float32. All files are in the disk's cache. Seconds are of the processor, user and system,
medians over the rounds; on a quiet machine those of the clock are about the same, and are printed beside them. Memory is the peak
above what the process had before `load`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers_zoo.provenance import commit, machine

ROOT = Path(__file__).resolve().parents[1]
HEAD = """
import json, resource, sys, time
def timed(run):
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall
def told(**found): print(json.dumps(found))
"""
IMPORT = "found = timed(lambda: __import__(sys.argv[1])); told(seconds=found)"
SMALL = """
import hashlib, statistics
from pathlib import Path
import tokenizers_zoo as tz
path = Path(tz.__file__).parents[1] / "checkpoints" / sys.argv[1] / "model.safetensors"
load, read = lambda: tz.load(sys.argv[1]), lambda: hashlib.sha256(path.read_bytes()).digest()
first, pairs = timed(load), [(timed(read), timed(load)) for _ in range(15)]
both = [[statistics.median(pair[which][clock] for pair in pairs) for clock in (0, 1)] for which in (0, 1)]
told(first=first, read=both[0], load=both[1])
"""
LARGE = """
import tokenizers_zoo as tz
tz.load("titok-tiny")
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
seconds = timed(lambda: tz.load(sys.argv[1]))
told(seconds=seconds, memory=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6)
"""
MAKE = "import torch, tokenizers_zoo as tz; torch.manual_seed(0); tz.create(sys.argv[1]).save_pretrained(sys.argv[2])"
Found = dict[str, Any]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="84e32e1", help="what is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", default="titok-tiny")
    parser.add_argument("--large", default="titok-b64", help="205 M parameters")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs, weights = Path(folder) / "theirs", Path(folder) / "weights"
        archive = subprocess.run(["git", "-C", ROOT, "archive", args.commit], check=True, capture_output=True).stdout
        theirs.mkdir()
        subprocess.run(["tar", "x", "-C", theirs], input=archive, check=True)
        subprocess.run([sys.executable, "-c", f"import sys; {MAKE}", args.large, weights], check=True, env=_paths(ROOT))
        size = (weights / "model.safetensors").stat().st_size / 1e6
        runs = {
            "import torch": (ROOT, IMPORT, "torch"),
            "import tokenizers_zoo": (ROOT, IMPORT, "tokenizers_zoo"),
            "small": (ROOT, SMALL, args.small),
            f"{args.large} at {args.commit}": (theirs, LARGE, weights),
            args.large: (ROOT, LARGE, weights),
        }
        found: dict[str, list[Found]] = {name: [] for name in runs}
        for round_ in range(args.rounds + 1):  # the first warms the disk's cache
            for name, (tree, code, word) in runs.items():
                found[name] += [run(tree, code, word)] * (round_ > 0)
    print(f"{args.rounds} rounds, seed 0, commit {commit()}, {machine()}")
    print("seconds of the processor (of the clock)")
    for name in ("import torch", "import tokenizers_zoo"):
        print(f"{name}: {shown(found[name], 'seconds')}")
    print(f"  ratio {ratio(found['import tokenizers_zoo'], found['import torch']):.2f}")
    for name, what in (("read", "read and hash its file"), ("load", f"load {args.small}"), ("first", "the process's first load")):
        print(f"{what}: {shown(found['small'], name)}")
    print(f"  ratio {ratio(found['small'], found['small'], 'load', 'read'):.2f}")
    for name in (f"{args.large} at {args.commit}", args.large):
        peak = statistics.median(item["memory"] for item in found[name])
        print(f"load {name}: {shown(found[name], 'seconds')}, peak {peak:.0f} MB above before, the file has {size:.0f} MB")
    print(f"  ratio {ratio(found[f'{args.large} at {args.commit}'], found[args.large]):.2f}")


def run(tree: Path, code: str, word: object) -> Found:
    """What a fresh process prints that imports from `tree`."""
    command = [sys.executable, "-c", HEAD + code, str(word)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=_paths(tree), cwd="/").stdout)


def _paths(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree)}


def shown(found: Sequence[Found], name: str) -> str:
    """Medians of both clocks."""
    cpu, wall = (statistics.median(item[name][clock] for item in found) for clock in (0, 1))
    return f"{cpu:.4f} ({wall:.4f})" if cpu < 0.1 else f"{cpu:.2f} ({wall:.2f})"


def ratio(mine: Sequence[Found], base: Sequence[Found], name: str = "seconds", other: str = "seconds") -> float:
    """Median over the rounds, of the processor's seconds."""
    return statistics.median(a[name][0] / b[other][0] for a, b in zip(mine, base, strict=True))


if __name__ == "__main__":
    main()
