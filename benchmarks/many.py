"""`encode` of many short clips against an earlier release, as whole processes in turn: `python benchmarks/many.py`.

The earlier release is a commit of this repository, unpacked into a temporary folder and run with its own `encode --batch-size 8`.
Clips of 1 to 3 s are cut by seed from tests/data. Both run with default threads; the ratio is the median over the rounds of
theirs by ours, so above 1 means that ours is the faster. Peak memory is that of ours, at --clips files and at four times as many.
Last, listing: seconds that `encode` takes to find that nothing is left to do.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests/data"
RATE = 16_000


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="84e32e1", help="what is compared with")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--names", nargs="+", default=["dm-codec-tiny", "lm-spt-tiny"])
    parser.add_argument("--listed", type=int, default=100_000, help="files of the resumed folder, 0 for none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        archive = subprocess.run(["git", "-C", ROOT, "archive", args.commit], check=True, capture_output=True).stdout
        (work / "theirs").mkdir()
        subprocess.run(["tar", "x", "-C", work / "theirs"], input=archive, check=True)
        cut(work / "clips", args.clips)
        cut(work / "more", 4 * args.clips)
        for name in args.names:
            ratios = []
            for round_ in range(args.rounds + 1):  # the first warms the disk's cache
                outputs = work / f"{name}-{round_}"
                theirs, _ = encode(work / "theirs", name, work / "clips", outputs / "theirs", "--batch-size", "8")
                ours, _ = encode(ROOT, name, work / "clips", outputs / "ours")
                files = [path.name for path in (outputs / "ours").iterdir()]
                same = sum((outputs / "ours" / file).read_bytes() == (outputs / "theirs" / file).read_bytes() for file in files)
                ratios += [theirs / ours] * (round_ > 0)
                print(f"{name}: {theirs:.2f} s and ours {ours:.2f} s, ratio {theirs / ours:.2f}; {same} files equal", flush=True)
            memory = [encode(ROOT, name, work / clips, work / f"{name}-{clips}")[1] for clips in ("clips", "more")]
            speed = f"{name}: {args.clips} clips {statistics.median(ratios):.2f} times as fast as {args.commit}"
            print(f"{speed}; peak {memory[0]:.0f} MB, of {4 * args.clips} clips {memory[1]:.0f} MB", flush=True)
        if args.listed:
            listing(work, args.listed, args.names[0])


def cut(folder: Path, count: int) -> None:
    """Clips of 1 to 3 s, the same for the same count."""
    folder.mkdir()
    speech = np.concatenate([soundfile.read(p, dtype="int16")[0] for p in sorted([*DATA.glob("*.wav"), *DATA.glob("*.flac")])])
    generator = np.random.default_rng(0)
    for index in range(count):
        length = int(generator.integers(RATE, 3 * RATE + 1))
        start = int(generator.integers(len(speech) - length))
        soundfile.write(folder / f"{index:06d}.wav", speech[start : start + length], RATE)


def encode(code: Path, name: str, clips: Path, output: Path, *options: str) -> tuple[float, float]:
    """Seconds of the whole process with the package in `code`, and the peak of its resident memory in MB."""
    command = [sys.executable, "-m", "tokenizers_zoo", "encode", name, str(clips), "-o", str(output), *options]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(code)}
    process = subprocess.Popen(command, cwd=code, env=environment, stderr=subprocess.DEVNULL)  # -m looks in its folder first
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def listing(work: Path, count: int, name: str) -> None:
    """A folder of `count` clips that are all done: a clip and its tokens, and hard links to them, a thousand to a copy."""
    (clip,) = list((work / "clips").iterdir())[:1]
    encode(ROOT, name, clip, work / "one.tok")
    for index in range(count):
        place = f"{index // 1000:04d}/{index}"
        for original, target in ((clip, work / f"in/{place}.wav"), (work / "one.tok", work / f"out/{place}.tok")):
            first = target.with_stem(f"{index // 1000 * 1000}")
            if first == target:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(original, target)
            else:
                os.link(first, target)
    nothing, _ = encode(ROOT, name, clip, work / "one.tok")
    seconds, memory = encode(ROOT, name, work / "in", work / "out")
    print(f"{count} files of which all are done: {seconds:.1f} s (one file: {nothing:.1f} s), peak {memory:.0f} MB")


if __name__ == "__main__":
    main()
