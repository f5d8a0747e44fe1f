"""Time and memory of encode and decode against an earlier commit: `python benchmarks/since.py dm-codec-tiny:600 titok-s128`.

Both commits run in processes of their own, which take turns: a round of ours, a round of theirs. What is measured is time of the
processor, which a busy machine disturbs less than that on the wall; the ratio is the median over the rounds of theirs by ours, so
above 1 means that ours is the faster. Peak memory is above the process once it has encoded and decoded a second. NAME:SECONDS is
speech of tests/data, again and again, from a file; an image tokenizer gets a photo. Variants without embedded weights get random
ones. Whether codes are equal is asked of embedded weights alone.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests/data"


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["dm-codec-tiny:600", "lm-spt-tiny:600"], metavar="NAME[:SECONDS]")
    parser.add_argument("--commit", default="84e32e1", help="what is compared with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)  # what a commit runs
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve, args.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        archive = subprocess.run(["git", "-C", ROOT, "archive", args.commit], check=True, capture_output=True).stdout
        (work / "theirs").mkdir()
        subprocess.run(["tar", "x", "-C", work / "theirs"], input=archive, check=True)
        sides = {"theirs": work / "theirs", "ours": ROOT}
        for name in args.names:
            variant, _, seconds = name.partition(":")
            source = speech(work / "speech.wav", float(seconds)) if seconds else sorted(DATA.glob("*.jpg"))[0]
            both = {side: start(code, variant, source, args.threads) for side, code in sides.items()}
            rounds = [{side: ask(process) for side, process in both.items()} for _ in range(args.rounds + 1)][1:]
            for process in both.values():
                process.communicate()
            for what in ("encode", "decode"):
                report(f"{name} {what}", [{side: found[what] for side, found in one.items()} for one in rounds])
            codes = {found["codes"] for one in rounds for found in one.values()}
            print(f"{name} codes: {'not compared' if '' in codes else 'equal' if len(codes) == 1 else 'other ones'}", flush=True)


def report(what: str, rounds: list[dict[str, tuple[float, float]]]) -> None:
    """A line about (seconds, MiB) of both sides in every round."""
    ratio = statistics.median(one["theirs"][0] / one["ours"][0] for one in rounds)
    theirs, ours = (statistics.median(one[side][0] for one in rounds) for side in ("theirs", "ours"))
    before, now = (max(one[side][1] for one in rounds) for side in ("theirs", "ours"))
    print(f"{what}: {theirs:.3f} s and ours {ours:.3f} s, ratio {ratio:.2f}; {before:.0f} MiB and ours {now:.0f} MiB", flush=True)


def speech(path: Path, seconds: float) -> Path:
    """So much of tests/data's speech, in a file."""
    import numpy as np
    import soundfile

    wave = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in sorted(DATA.glob("*.wav"))])
    size = round(seconds * 16_000)
    soundfile.write(path, np.tile(wave, -(-size // len(wave)))[:size], 16_000)
    return path


def start(code: Path, name: str, source: Path, threads: int) -> "subprocess.Popen[str]":
    """A process with the package in `code`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--threads", str(threads), "--serve", name, str(source)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.Popen(command, cwd=code, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """A round of a process, once the one of the other has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def serve(name: str, source: str, threads: int) -> None:
    """Encodes and decodes at every line, and answers with (seconds, MiB) of both."""
    import torch

    import tokenizers_zoo as tz
    from tokenizers_zoo.weights import fold_weight_norm

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        tokenizer, known = tz.load(name), True
    except tz.WeightsError:
        tokenizer, known = tz.create(name).eval(), False
    fold_weight_norm(tokenizer)
    if source.endswith(".wav"):
        tokenizer.decode(tokenizer.encode(torch.zeros(tokenizer.sample_rate)))
    level = memory("VmRSS")

    def measured(call: Any, *given: Any) -> tuple[Any, tuple[float, float]]:
        Path("/proc/self/clear_refs").write_text("5")
        begun = time.process_time()
        return call(*given), (time.process_time() - begun, memory("VmHWM") - level)

    for _ in sys.stdin:
        tokens, encode = measured(tokenizer.encode, source)
        _, decode = measured(tokenizer.decode, tokens)
        codes = hashlib.sha256(tokens.codes.numpy()).hexdigest() if known else ""
        print(json.dumps({"encode": encode, "decode": decode, "codes": codes}), flush=True)


def memory(field: str) -> float:
    """MiB of this process."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
