"""The verbs that do not work through files, and what all verbs share."""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from ..errors import InputError, TokenError, WeightsError
from ..official import IMPORTERS, load_official
from ..ready import ready
from ..tokenizer import Tokenizer
from ..weights import CONFIG, is_embedded
from .shipped import shipped, with_recipes

ERRORS = (InputError, TokenError, WeightsError, OSError, ImportError)


def train(argv: Sequence[str]) -> int:
    """fit, validate, test."""
    try:
        from ..trainers.cli import run
    except ImportError as error:
        raise ImportError(f"training needs more packages ({error}); install tokenizers-zoo[train]") from error
    run(with_recipes(argv))
    return 0


def load(name: str, device: str = "cpu", dtype: str = "float32", compile: bool = False) -> Tokenizer:
    """A trained tokenizer, or that of a run's checkpoint; a run's folder stands for its newest.

    Raises WeightsError; for what is nearly one of our names, with that.
    """
    if name.endswith(".ckpt") or _is_run(name):
        from ..trainers.export import from_checkpoint

        return ready(from_checkpoint(name), device, getattr(torch, dtype), compile)
    try:
        return zoo.load(name, device, getattr(torch, dtype), compile)
    except WeightsError as error:
        raise _suggested(name, error) from error


def loaded(args: argparse.Namespace) -> Tokenizer:
    """What the command line names, as its options say."""
    return load(args.name, args.device, args.dtype, args.compile)


def _is_run(name: str) -> bool:
    ours = name in zoo.list_tokenizers() or (Path(name) / CONFIG).exists()
    return not ours and any(Path(name).rglob("last.ckpt"))


def _suggested(name: str, error: WeightsError) -> WeightsError:
    known = zoo.list_tokenizers()
    near = get_close_matches(name, known, 3)
    if name in known or not near:
        return error
    return WeightsError(f"{error}; did you mean {' or '.join(near)}?")


def list_(args: argparse.Namespace) -> int:
    """Names, where their weights are, and a line on each."""
    names = zoo.list_tokenizers(args.pattern)
    if not names:
        raise InputError(f"no tokenizer matches {args.pattern!r}; `tokenizers-zoo list` shows all")
    longest = max(map(len, names))
    for name in names:
        print(f"{name:{longest}} {_weights(name):9} {zoo.describe(name)}")
    return 0


def _weights(name: str) -> str:
    return "embedded" if is_embedded(name) else "authors" if name in IMPORTERS else "none"


def info(args: argparse.Namespace) -> int:
    """What a tokenizer's tokens mean, and its size."""
    fresh = args.name in zoo.list_tokenizers() and not is_embedded(args.name)
    tokenizer = zoo.create(args.name) if fresh else load(args.name)
    rows: dict[str, Any] = {"name": tokenizer.name}
    if tokenizer.quantizer is not None:
        spec = tokenizer.spec
        rows |= spec.to_json() | {"frame_rate": spec.frame_rate, "bits_per_second": spec.bits_per_second}
        rows |= {"bits_per_image": spec.bits_per_image}
    parts = {"all": tokenizer, "encoder": tokenizer.encoder, "decoder": tokenizer.decoder}
    rows |= {f"parameters ({k})": f"{sum(p.numel() for p in m.parameters()):,}" for k, m in parts.items()}
    rows["quantizer"] = type(tokenizer.quantizer).__name__ if tokenizer.quantizer else "none (continuous latents)"
    bring = f"`tokenizers-zoo import {args.name} -o FOLDER` brings the authors'"
    theirs = bring if args.name in IMPORTERS else "none are published"
    rows["weights"] = f"untrained here; {theirs}" if fresh else tokenizer.weights
    for key, value in rows.items():
        if value is not None:
            print(f"{key:22} {value}")
    return 0


def import_(args: argparse.Namespace) -> int:
    """The authors' checkpoint to a weight folder of ours."""
    try:
        source = args.source[0] if len(args.source) == 1 else args.source or None
        tokenizer = load_official(args.variant, source)
    except WeightsError as error:
        raise _suggested(args.variant, error) from error
    tokenizer.save_pretrained(args.output)
    print(f"{args.output}: load it with tokenizers_zoo.load({str(args.output)!r}); licence of the weights: {tokenizer.license}")
    return 0


def eval_(args: argparse.Namespace) -> int:
    """Measures tokenizers and baselines by a suite."""
    from ..eval.names import tell_apart
    from ..eval.report import write_report
    from ..eval.run import evaluate
    from ..eval.suite import Data, Plan, Suite
    from ..eval.systems import captions_of, tokenized

    suite = Suite.load(shipped("eval", args.suite), args.set)
    rows = Data(args.data, args.split, args.limit).rows(suite.modality)
    tokenizers = {name: load(name, args.device) for name in args.names}
    for tokenizer in tokenizers.values():
        if tokenizer.modality != suite.modality:
            raise InputError(f"{tokenizer.name} is for {tokenizer.modality}, {args.suite} measures {suite.modality}")
    parts = suite.build(args.device)
    for name, reason in parts.missing.items():
        print(f"not measured: {name}: {reason}", file=sys.stderr)
    systems, captions = list(parts.baselines), captions_of(suite.captions, rows)
    for name, tokenizer in tokenizers.items():
        systems += tokenized(tokenizer, suite.codebooks, suite.positions, name, captions, suite.roles)
    results = evaluate(tell_apart(systems), Plan(suite, parts, rows, args.seed), args.output, args.batch_size)
    print(write_report(results, args.output, suite))
    empty = [result["system"] for result in results if not result["values"]["items"]]
    return fail(f"no item could be measured of {', '.join(empty)}; its reasons are in {args.output}") if empty else 0


def export(args: argparse.Namespace) -> int:
    """A training checkpoint to a weight folder of ours."""
    from ..trainers.export import export as write

    tokenizer = write(args.checkpoint, args.output, not args.raw, getattr(torch, args.dtype), args.name)
    print(f"{args.output}: {tokenizer.name}; load it with tokenizers_zoo.load({str(args.output)!r})")
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Raises InputError for values that the parser cannot judge."""
    for name in ("batch_size", "workers", "limit", "shard_size", "concurrency"):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if (seed := getattr(args, "seed", 0)) < 0:
        raise InputError(f"--seed must be at least 0, got {seed}")
    device = getattr(args, "device", "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"--device {device} cannot be used here ({reason}); cpu always can") from error


def fail(error: object) -> int:
    """Says what is wrong; the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return 1
