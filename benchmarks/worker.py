"""The authors' half of `official.py`, in a process and perhaps an environment of its own; `Worker` is what the other half holds.

A line of JSON on standard input asks, one on standard output answers: {"save": FILE} writes the state dict; {"do": OPERATION,
"inputs": FILE, "output": FILE or null} loads tensors where the file is another than before, answers with the seconds that the
operation took, and writes what it gave. What the authors print goes to standard error.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from authors import SYSTEMS, fill
from checkouts import Inputs

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class Worker:
    """The authors' process. Raises SystemExit where it ends by itself; what it said is on standard error."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.known = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"the authors' process ended with {self.process.wait()}; packages it needs: see authors.py")
        return json.loads(line)

    def ask(self, **what: Any) -> dict[str, Any]:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # `answer` says what became of it
            print(json.dumps(what), file=self.process.stdin, flush=True)
        return self.answer()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--autocast", help="dtype of torch.autocast, e.g. bfloat16")
    args = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    sys.path.insert(0, str(args.repo / SYSTEMS[args.system].root))
    module, operations = SYSTEMS[args.system].build(args.repo)
    fill(module.eval())
    cast = torch.autocast("cpu", getattr(torch, args.autocast)) if args.autocast else contextlib.nullcontext()
    loaded: tuple[str, Inputs] = ("", {})
    answer: dict[str, Any] = {"torch": torch.__version__, "operations": list(operations)}
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        if not (line := sys.stdin.readline()):
            return
        asked = json.loads(line)
        if "save" in asked:
            torch.save(module.state_dict(), asked["save"])
            answer = {}
            continue
        if loaded[0] != asked["inputs"]:
            loaded = asked["inputs"], torch.load(asked["inputs"], weights_only=True)
        with cast:
            start = CLOCKS[args.clock]()
            output = operations[asked["do"]](loaded[1])
            answer = {"seconds": CLOCKS[args.clock]() - start}
        if asked["output"]:
            torch.save(output, asked["output"])


if __name__ == "__main__":
    main()
