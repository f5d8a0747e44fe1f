"""Speed of encoding and decoding, as ratios in the same process: `make bench`, or `python benchmarks/run.py --minutes 3 titok`.

The embedded variants, and TiTok-S-128, DM-Codec and LM-SPT 24 kHz in their published sizes with random weights: in float32,
with bfloat16 weights, and compiled, beside what the last three are compared with. Ten seconds of speech or one image an item,
batches of 1, then of 8. Calls of a group take turns, as many rounds as --minutes leaves each group; what there was no time for,
and what this machine cannot do, is listed with the reason. Writes results.json, and from it the table in README.md.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import Budget, Call, computes, gigaflop, interval, machine, matmul_peak, ratios
from speed_table import RESULTS, write
from subjects import Subject, chosen, media_for

import tokenizers_zoo as tz
from tokenizers_zoo.provenance import commit, versions

WAYS: dict[str, dict[str, Any]] = {"float32": {}, "bfloat16": {"dtype": torch.bfloat16}, "compiled": {"compile": True}}
BATCHES = (1, 8)
QUIET = 0.5  # load average before the run, at most


class Bench:
    """Rows and reasons, as they come."""

    def __init__(self, subjects: list[Subject], seconds: float):
        self.subjects, self.budget = subjects, Budget(seconds, 2 * len(BATCHES) * len(subjects))
        self.rows: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}
        self.ways, self.peaks = dict(WAYS), {"float32": matmul_peak()}
        if computes(torch.bfloat16):
            self.peaks["bfloat16"] = matmul_peak(torch.bfloat16)
        else:
            self.left_out["bfloat16"] = "this processor has no bfloat16 arithmetic"
            del self.ways["bfloat16"]

    def run(self) -> None:
        for batch, subject in itertools.product(BATCHES, self.subjects):
            self.subject(subject, batch)

    def subject(self, subject: Subject, batch: int) -> None:
        ours = self.loaded(subject, batch)
        media = media_for(ours["float32"], batch)
        first: dict[str, float] = {}
        tokens: dict[str, tz.Tokens] = {}
        for way, tokenizer in ours.items():
            start = time.perf_counter()
            tokens[way] = tokenizer.encode(media)
            tokenizer.decode(tokens[way])
            first[way] = time.perf_counter() - start
        encode: dict[str, Call] = {way: partial(tokenizer.encode, media) for way, tokenizer in ours.items()}
        decode: dict[str, Call] = {way: partial(tokenizer.decode, tokens[way]) for way, tokenizer in ours.items()}
        if subject.encode and subject.decode:
            encode["reference"], decode["reference"] = partial(subject.encode, media), partial(subject.decode, tokens["float32"])
        flips = {way: float((found.codes != tokens["float32"].codes).float().mean()) for way, found in tokens.items()}
        self.group(subject, "encode", batch, ours["float32"], encode, {"changed_codes": flips, "first_seconds": first})
        self.group(subject, "decode", batch, ours["float32"], decode, {})

    def loaded(self, subject: Subject, batch: int) -> dict[str, tz.Tokenizer]:
        """The ways in which it can be run; compiled for single items alone, where a call is cheap beside compiling."""
        found = {}
        for way, how in self.ways.items():
            if way == "compiled" and batch > 1:
                continue
            try:
                found[way] = tz.load(subject.source, **how).requires_grad_(False)  # the counter of operations wants it
            except ValueError as error:
                self.left_out[f"{way} {subject.name}"] = str(error)
        return found

    def group(
        self, subject: Subject, operation: str, batch: int, ours: tz.Tokenizer, calls: dict[str, Call], known: dict[str, Any]
    ) -> None:
        times = self.budget.measured(calls)
        if times is None:
            self.left_out[f"{subject.name}, {operation}, batch {batch}"] = "no time was left"
            return
        work = gigaflop(calls["float32"], ours)
        pairs = {f"{a} / {b}": ratios(times, a, b) for a, b in itertools.permutations(times, 2)}
        audio = isinstance(ours, tz.AudioTokenizer)
        row = {"system": subject.name, "operation": operation, "batch": batch, "reference": subject.reference}
        row |= {"amount": batch * (10.0 if audio else 1.0), "unit": "s of audio" if audio else "images"}
        row |= {"rounds": len(times["float32"]), "gflop": work}
        row["seconds"] = {way: statistics.median(values) for way, values in times.items()}
        row["peak"] = {way: work / s / self.peaks.get(way, self.peaks["float32"]) for way, s in row["seconds"].items()}
        row["ratios"] = {pair: [statistics.median(values), *interval(values)] for pair, values in pairs.items()}
        self.rows.append(row | known)
        shown = ", ".join(f"{way} {s:.3f} s ({row['peak'][way]:.0%} of peak)" for way, s in row["seconds"].items())
        print(f"{subject.name}, {operation}, batch {batch}, {row['rounds']} rounds: {shown}", flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="systems whose name begins so")
    parser.add_argument("--minutes", type=float, default=12, help="for all but building what is measured")
    parser.add_argument("-o", "--output", type=Path, help="by default results.json, and of some systems alone nothing")
    args = parser.parse_args()
    load, began = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(chosen(Path(folder), args.only), 60 * args.minutes)
        bench.run()
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
    }
    results |= {"load_average": load, "quiet": load <= QUIET, "minutes": round((time.perf_counter() - began) / 60, 1)}
    results |= {"peak_gflops": bench.peaks, "left_out": bench.left_out, "rows": bench.rows}
    if path := args.output or (None if args.only else RESULTS):
        path.write_text(json.dumps(results, indent=1) + "\n")
    if path == RESULTS:
        write()


if __name__ == "__main__":
    main()
