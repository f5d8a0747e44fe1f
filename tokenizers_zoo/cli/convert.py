"""The verbs that work through files: encode, decode, roundtrip. A file that fails is said, and does not end the run."""

import argparse
import importlib.util
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import yaml
from tqdm import tqdm

from ..errors import InputError, TokenError
from ..many import decode_many, encode_many, read_ahead
from ..media import SUFFIXES, Audio, Images, as_audio, as_images
from ..tokenizer import AudioTokenizer, Size, Tokenizer
from ..tokens import Tokens, TokenSpec
from ..tokfile import read_spec
from .files import Job, find, protect_inputs, split_done
from .verbs import ERRORS, load, loaded

OUTPUT = {"audio": ".wav", "image": ".png"}
READING = ("batch_size=", "batch_seconds=", "workers=", "device=", "load=", "sources=")  # arguments that are no options


def encode(args: argparse.Namespace) -> int:
    """Files, or a manifest's rows, to `.tok` files."""
    tokenizer = loaded(args)
    jobs = find(args.inputs, args.data, SUFFIXES[tokenizer.spec.modality], args.output)
    if not args.overwrite:
        todo, done = split_done(jobs, lambda job: ".tok", (".tok",))
        _refuse_others([*done, *(job for job in todo if job.complete)], tokenizer.spec)
        jobs = _keep(todo, done)
    sources = ((job, job.source) for job in jobs)
    return _work(
        encode_many(tokenizer, sources, batch_size=args.batch_size, workers=args.workers, size=size_of(args.size)),
        len(jobs),
        "encode",
        lambda job, tokens: tokens.save(job.output(".tok")),
    )


def decode(args: argparse.Namespace) -> int:
    """`.tok` files to WAV or PNG files."""
    options, tokenizer = _options(args.set), _by_spec(args.weights, args.device, args.dtype, args.compile)
    jobs = find(args.inputs, None, (".tok",), args.output)
    if not args.overwrite:
        jobs = _keep(*split_done(jobs, _decoded_suffix, list(OUTPUT.values())))

    def save(job: Job, media: Audio | Images) -> None:
        media.save(job.output(OUTPUT["audio" if isinstance(media, Audio) else "image"]))

    sources = ((job, job.source) for job in jobs)
    reading = {"batch_size": args.batch_size, "workers": args.workers, "device": args.device}
    media = decode_many(tokenizer, sources, **reading, **options)
    return _work(media, len(jobs), "decode", save)


def roundtrip(args: argparse.Namespace) -> int:
    """Files to tokens and back, one after the other, with bits, quality and time."""
    tokenizer = loaded(args)
    suffix = OUTPUT[tokenizer.spec.modality]
    jobs = find(args.inputs, None, SUFFIXES[tokenizer.spec.modality], args.output)
    if args.output:
        protect_inputs(jobs, suffix)
        jobs = jobs if args.overwrite else _keep(*split_done(jobs, lambda job: suffix, (suffix,)))

    def read(job: Job) -> Audio | Images:
        if isinstance(tokenizer, AudioTokenizer):
            return as_audio(job.source, tokenizer.sample_rate)  # type: ignore[arg-type]  # a job's source is no Row here
        return as_images(job.source, tokenizer.spec.image_size or 0)  # type: ignore[arg-type]

    def run(job: Job, original: Audio | Images) -> None:
        start = time.perf_counter()
        tokens = tokenizer.encode(original)
        decoded = tokenizer.decode(tokens)
        seconds = time.perf_counter() - start
        tqdm.write(f"{job}: {_summary(tokens, original, decoded)}, {seconds:.2f} s")
        if args.output:
            decoded.save(job.output(suffix))

    return _work(read_ahead(read, jobs), len(jobs), "roundtrip", run)


def _work(results: Iterator[tuple[Job, Any]], total: int, verb: str, finish: Callable[[Job, Any], None]) -> int:
    """Finishes every result; says what failed. Raises KeyboardInterrupt that says how far it came."""
    done = failed = 0
    with closing(results), tqdm(total=total, desc=verb, unit="file", disable=None) as bar:  # type: ignore[type-var]  # a generator
        try:
            for job, result in results:
                try:
                    if isinstance(result, Exception):
                        raise result
                    finish(job, result)
                    done += 1
                except Exception as error:
                    failed += 1
                    tqdm.write(f"error: {_said(job, error)}", file=sys.stderr)
                bar.update()
        except KeyboardInterrupt as stop:
            raise type(stop)(f"; {done} of {total} done, run again to go on") from stop
    if failed:
        print(f"{failed} of {total} files failed", file=sys.stderr)
    return 1 if failed else 0


def _said(job: Job, error: Exception) -> str:
    """One line that names the file."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError):
        text = "not enough memory" + (f" ({text})" if text else "")
    elif not isinstance(error, ERRORS):
        text = f"{type(error).__name__}: {text}"
    return text if str(job) in text else f"{job}: {text}"


def size_of(text: str | None) -> Size:
    """`size` of encode: 512, 384x512, source."""
    sides = (text or "").split("x")
    if not all(side.isdecimal() for side in sides):
        return text  # type: ignore[return-value]  # "source", None, or what encode refuses
    return int(sides[0]) if len(sides) == 1 else tuple(map(int, sides))  # type: ignore[return-value]


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    """Keywords of decode. Raises InputError for what is not KEY=VALUE."""
    if wrong := [pair for pair in pairs if not re.match(r"[a-z]\w*=", pair) or pair.startswith(("tokens=", *READING))]:
        raise InputError(f"--set takes KEY=VALUE, with output, seed, or an option of the decoder as key; got {wrong[0]!r}")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def _keep(todo: list[Job], done: Sequence[Job]) -> list[Job]:
    if done:
        count = len(todo) + len(done)
        print(f"{len(done)} of {count} outputs exist already and are kept; --overwrite replaces them", file=sys.stderr)
    return todo


def _refuse_others(jobs: Sequence[Job], mine: TokenSpec) -> None:
    """Raises InputError if an output exists that is of another tokenizer or of other weights: a corpus would be mixed."""
    others = []
    for job in jobs:
        path = job.output(".tok")
        if job.complete and not path.exists():
            continue
        try:
            theirs = read_spec(path)
        except TokenError as error:
            raise InputError(f"{error}; remove it, or replace what is there by --overwrite") from error
        if theirs.name != mine.name or (theirs.weights and mine.weights and theirs.weights != mine.weights):
            others.append((path, theirs))
    if others:
        path, theirs = others[0]
        what = repr(theirs.name) if theirs.name != mine.name else f"other weights of it ({theirs.weights}, here {mine.weights})"
        more = f", as are {len(others) - 1} more outputs" if len(others) > 1 else ""
        raise InputError(f"{path} is of {what}, not of {mine.name!r}{more}: give another folder, or replace them by --overwrite")


def _by_spec(weights: str | None, *how: Any) -> Callable[[TokenSpec], Tokenizer]:
    """Gives the tokenizer of a spec, or the one of `weights`; each is loaded once, as `how` says, and an error is met once."""
    there: dict[str, Tokenizer | Exception] = {}
    lock = threading.Lock()  # batches run in threads

    def get(name: str) -> Tokenizer:
        with lock:
            if name not in there:
                try:
                    there[name] = load(name, *how)
                except ERRORS as error:
                    there[name] = error
            found = there[name]
        if isinstance(found, Exception):
            raise found
        return found

    if weights:
        get(weights)  # or an error, before any file is read
    return lambda spec: get(weights or spec.name)


def _decoded_suffix(job: Job) -> str:
    try:
        return OUTPUT[read_spec(job.source).modality] if not isinstance(job.source, bytes) else ""  # type: ignore[arg-type]
    except (TokenError, OSError):
        return ""  # decoding will say what is wrong


def _summary(tokens: Tokens, original: Audio | Images, decoded: Audio | Images) -> str:
    bits = float(tokens.bits.sum())
    count = f"{int(tokens.lengths.sum()) * tokens.codes.shape[1]} tokens, {bits:.0f} bits"
    if isinstance(original, Images) and isinstance(decoded, Images):
        psnr = -10 * (original.pixels - decoded.pixels).square().mean().log10()
        return f"{count}, {bits / original.pixels[0, 0].numel():.3f} bit/pixel, PSNR {psnr:.2f} dB"
    assert isinstance(original, Audio)
    assert isinstance(decoded, Audio)
    x, y = original.waveform.flatten(), decoded.waveform.flatten()
    snr = 10 * (x.square().sum() / (x - y).square().sum()).log10()
    text = f"{count}, {bits * original.sample_rate / len(x) / 1000:.2f} kbit/s, SNR {snr:.2f} dB"
    if importlib.util.find_spec("pystoi") and len(x) > original.sample_rate // 2:  # STOI needs 0.4 s of speech
        from pystoi import stoi

        text += f", STOI {stoi(x.numpy(), y.numpy(), original.sample_rate):.3f}"
    return text
