"""Ours against an authors' repository that you have: `python benchmarks/official.py titok-s128 --repo 1d-tokenizer`.

Prints a table: for single items and for --batch of them, encoding and decoding, the seconds that the authors' code takes, those
of ours, their ratio (above 1: ours is the faster) with the interval of its median, and how much of the codes or of what was
decoded is the same. The weights are generated, the same in both, ours through the importer of published files.

**This runs the checkout's code**, in a process of its own. Both processes take turns, call by call, on as many threads.
--python names another environment's Python where the authors' packages cannot live beside ours; it needs torch and what the
table in `authors.py` says. --clock processor is for a busy machine: time of all threads, not what passed.
FlexTok decodes in 4 guided steps; `guided step` is a quarter of these, without its autoencoder.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import subjects
import torch
from authors import SYSTEMS, System
from checkouts import PARTS, STEPS, Inputs, Operation
from measure import interval, ratios
from torch import Tensor
from worker import CLOCKS, Worker

import tokenizers_zoo as tz
from tokenizers_zoo.official import importer
from tokenizers_zoo.provenance import commit, machine


def ours_of(system: System, state: dict[str, Tensor], how: dict[str, Any]) -> tz.Tokenizer:
    """Our tokenizer with the authors' weights."""
    if not system.overrides:
        return tz.load_official(system.variant, state, **how)
    tokenizer = tz.create(system.variant, **system.overrides)
    tokenizer.load_state_dict(tokenizer.state_dict() | importer(system.variant).convert(state, tokenizer))
    return tokenizer.eval()


def operations_of(tokenizer: tz.Tokenizer) -> dict[str, Operation]:
    """The authors' operations by ours: through `encode` and `decode`, but where these do not take what is given."""
    kept: dict[str, tz.Tokens] = {}
    ids = tokenizer.spec.codebook_ids if tokenizer.quantizer else ()

    def encode(x: Inputs) -> Tensor:
        if tokenizer.quantizer and "text" not in x:
            kept["tokens"] = tokenizer.encode(x["media"])
            return kept["tokens"].codes
        latents = tokenizer.encode_latents(x["media"].to(tokenizer.dtype), **text(x))
        return tokenizer.quantizer.encode(latents) if tokenizer.quantizer else latents

    def decode(x: Inputs) -> Tensor:
        if tokenizer.quantizer and "text" not in x:
            media = tokenizer.decode(tz.Tokens(x["codes"], kept["tokens"].spec, **kept["tokens"].conditions), **steps(x))
            return media.waveform if isinstance(media, tz.Audio) else media.pixels
        latents = tokenizer.latents(x["codes"], ids) if tokenizer.quantizer else x["codes"]
        return tokenizer.decode_latents(latents.to(tokenizer.dtype), **text(x)).clamp(0, 1)

    def text(x: Inputs) -> Inputs:
        return {"text": x["text"]} if "text" in x else {}

    def steps(x: Inputs) -> dict[str, Any]:
        return {"noise": x["noise"].to(tokenizer.dtype), "steps": STEPS, "guidance": 7.5} if "noise" in x else {}

    def flow(x: Inputs) -> Tensor:
        return tokenizer.decoder(tokenizer.latents(x["codes"], ids).to(tokenizer.dtype), **steps(x))

    return {"encode": encode, "decode": decode, "guided step": flow}


def same(found: Tensor, wanted: Tensor) -> str:
    """Of codes how many are equal, of anything else the largest difference."""
    if not found.is_floating_point():
        return f"{(found == wanted).float().mean():.4%} of {wanted.numel():,} codes"
    return f"within {(found - wanted).abs().max() / wanted.abs().max():.1e} of the peak"


def timed(call: Callable[[Inputs], Tensor], x: Inputs, clock: Callable[[], float]) -> tuple[float, Tensor]:
    start = clock()
    output = call(x)
    return clock() - start, output


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--repo", type=Path, default=Path(), help="the authors' checkout; none for speechtokenizer")
    parser.add_argument("--python", default=sys.executable, help="of the authors' environment")
    parser.add_argument("--batch", type=int, help="besides single items (default: 8, of FlexTok none)")
    parser.add_argument("--operations", nargs="+", help="encode comes first (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of a clip of speech")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--dtype", help="of our weights, e.g. bfloat16")
    parser.add_argument("--compile", action="store_true", help="ours")
    parser.add_argument("--autocast", help="of the authors' code, e.g. bfloat16")
    args = parser.parse_args()
    system, threads = SYSTEMS[args.system], torch.get_num_threads()
    how = ({"dtype": getattr(torch, args.dtype)} if args.dtype else {}) | ({"compile": True} if args.compile else {})
    command = [args.python, str(Path(__file__).with_name("worker.py")), args.system, str(args.repo.resolve())]
    command += ["--threads", str(threads), "--clock", args.clock, *(["--autocast", args.autocast] if args.autocast else [])]
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(command)
        worker.ask(save=f"{folder}/state.pt")
        tokenizer = ours_of(system, torch.load(f"{folder}/state.pt", weights_only=True, mmap=True), how)
        ours, theirs = f"ours {commit()}, {how or 'float32'}", f"theirs {_head(args.repo)}, {args.autocast or 'float32'}"
        torches = f"torch {torch.__version__} and {worker.known['torch']}"
        print(f"{args.system}: {ours}; {theirs}; {torches}; {machine()}, {args.clock} time, in turns.")
        print(f"Stand-in: {system.stand_in or 'none'}.\n\n| operation | batch | theirs, s | ours, s | ratio | the same |")
        print("|---" * 6 + "|")
        operations = operations_of(tokenizer)
        for batch in dict.fromkeys((1, args.batch or system.batch)):
            inputs, path = given(system, batch, tokenizer, args.seconds), f"{folder}/{batch}.pt"
            for name in args.operations or worker.known["operations"]:
                torch.save(inputs, path)
                times: dict[str, list[float]] = {"theirs": [], "ours": []}
                for round_ in range(args.rounds + 1):
                    answer = worker.ask(do=name, inputs=path, output=None if round_ else f"{folder}/output.pt")
                    seconds, output = timed(operations[name], inputs, CLOCKS[args.clock])
                    if round_:  # the first is a warm-up
                        for side, value in (("theirs", answer["seconds"]), ("ours", seconds)):
                            times[side].append(value / PARTS.get(name, 1))
                theirs = torch.load(f"{folder}/output.pt", weights_only=True)
                if name == "encode":
                    inputs["codes"], path = theirs, f"{folder}/{batch}-codes.pt"
                faster = ratios(times, "theirs", "ours")
                low, high = interval(faster)
                row = [name, str(batch), *(f"{statistics.median(t):.3f}" for t in times.values())]
                row += [f"{statistics.median(faster):.2f} ({low:.2f}-{high:.2f})", same(output, theirs)]
                print(f"| {' | '.join(row)} |", flush=True)
        worker.process.terminate()


def given(system: System, batch: int, tokenizer: tz.Tokenizer, seconds: float | None) -> Inputs:
    """Real speech or photos, and noise in the place of what else there is."""
    if isinstance(tokenizer, tz.AudioTokenizer):
        media = subjects.speech(batch, seconds or system.size, tokenizer.sample_rate)
    else:
        media = subjects.images(batch, int(system.size))
    drawn = torch.Generator().manual_seed(0)
    return {"media": media} | {name: torch.randn(batch, *shape, generator=drawn) for name, shape in system.given.items()}


def _head(repo: Path) -> str:
    """The commit of a checkout."""
    done = subprocess.run(["git", "-C", str(repo), "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 and (repo / ".git").exists() else "without a commit"


if __name__ == "__main__":
    main()
