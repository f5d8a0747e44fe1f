"""`tokenizers-zoo VERB`: list, info, encode, decode, roundtrip, import, eval, fit, validate, test, predict, export.

Exit codes: 0 all done, 1 something could not be done (said on stderr), 2 wrong usage.
"""

import argparse
import glob
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from . import zoo
from .errors import InputError, TokenError, WeightsError
from .media import SUFFIXES, Audio, Images, as_audio, as_images
from .official import IMPORTERS, load_official
from .tokenizer import AudioTokenizer, Tokenizer
from .tokens import Tokens

ERRORS = (InputError, TokenError, WeightsError, OSError, ImportError)
TRAINING = {
    "fit": "train a recipe: -c trainers/RECIPE.yaml; every option of it can be overridden, see --print_config",
    "validate": "the objective on the validation split: -c RECIPE --ckpt_path CKPT",
    "test": "the objective on the test split: -c RECIPE --ckpt_path CKPT",
    "predict": ".tok files of the test split: -c RECIPE --ckpt_path CKPT",
}
OUTPUT = {"audio": ".wav", "image": ".png"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in TRAINING:
            return _train(argv)
        args = _parser().parse_args(argv)
        _check_options(args)
        code: int = args.run(args)
        return code
    except ERRORS as error:
        return _fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tokenizers-zoo", description="Speech and images as discrete tokens.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    listing = verb("list", _list, "names of the tokenizers and whether their weights are embedded")
    listing.add_argument("pattern", nargs="?", default="*", help="shell-style pattern, e.g. 'titok-*'")
    info = verb("info", _info, "what a tokenizer's tokens mean, and its size")
    info.add_argument("name", help="variant, weight folder, or Hub id")
    encode = verb("encode", _encode, "files -> .tok files; finished ones are skipped, so a stopped run can be repeated")
    decode = verb("decode", _decode, ".tok files -> WAV or PNG files")
    trip = verb("roundtrip", _roundtrip, "encode and decode files; print bits, SNR or PSNR, and time")
    for command, output in ((encode, True), (decode, True), (trip, False)):
        if command is not decode:
            command.add_argument("name", help="variant, weight folder, or Hub id")
        command.add_argument("inputs", nargs="+", help="files, folders, or patterns")
        command.add_argument("-o", "--output", type=Path, required=output, help="file (for one input) or folder")
        command.add_argument("--device", default="cpu", help="torch device, e.g. cuda:0")
        command.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="by autocast")
        command.add_argument("--batch-size", type=int, default=1, help="files at a time (default 1)")
    decode.add_argument("--weights", help="folder or Hub id; by default the variant that the tokens name")
    bring = verb("import", _import, "the authors' checkpoint -> a weight folder of ours")
    bring.add_argument("variant")
    bring.add_argument("source", nargs="?", help="file of the authors, or a Hub id; by default the authors' own")
    bring.add_argument("-o", "--output", type=Path, required=True, help="folder")
    for name, text in TRAINING.items():
        verbs.add_parser(name, help=text, add_help=False)
    judge = verb("eval", _eval, "measure tokenizers and baselines; a stopped run goes on where it was")
    judge.add_argument("names", nargs="+", help="variants, weight folders, or Hub ids")
    judge.add_argument("--suite", type=Path, required=True, help="what is measured, e.g. eval/speech.yaml")
    judge.add_argument("--data", required=True, help="manifest or folder")
    judge.add_argument("--split", default="test", help="of a manifest that has splits (default test)")
    judge.add_argument("--limit", type=int, help="at most so many files, spread evenly")
    judge.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="replace a part of the suite")
    judge.add_argument("--seed", type=int, default=0)
    judge.add_argument("--device", default="cpu", help="torch device of the tokenizers")
    judge.add_argument("-o", "--output", type=Path, required=True, help="folder")
    export = verb("export", _export, "a training checkpoint -> a weight folder of ours")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("-o", "--output", type=Path, required=True, help="folder")
    export.add_argument("--raw", action="store_true", help="the last weights instead of their moving average")
    export.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="of the file")
    return parser


def _train(argv: Sequence[str]) -> int:
    try:
        from .trainers.cli import run
    except ImportError as error:
        raise ImportError(f"training needs more packages ({error}); install tokenizers-zoo[train]") from error
    run(argv)
    return 0


def _eval(args: argparse.Namespace) -> int:
    from .eval.report import write_report
    from .eval.suite import Data, Suite, evaluate
    from .eval.systems import tokenized

    suite = Suite.load(args.suite, args.set)
    rows = Data(args.data, args.split, args.limit).rows(suite.modality)
    tokenizers = [zoo.load(name, args.device) for name in args.names]
    metrics, systems = suite.build()
    for tokenizer in tokenizers:
        if tokenizer.spec.modality != suite.modality:
            raise InputError(f"{tokenizer.name} is for {tokenizer.spec.modality}, {args.suite} measures {suite.modality}")
        systems += tokenized(tokenizer, suite.codebooks, suite.positions)
    results = []
    for system in systems:
        folder = args.output / "".join(c if c.isalnum() or c in "-." else "_" for c in system.name)
        results.append(evaluate(system, suite, metrics, rows, folder, args.seed) | {"folder": folder.name})
    print(write_report(results, args.output, suite))
    return 0


def _export(args: argparse.Namespace) -> int:
    from .trainers.export import export

    tokenizer = export(args.checkpoint, args.output, not args.raw, getattr(torch, args.dtype))
    print(f"{args.output}: {tokenizer.name}; load it with tokenizers_zoo.load({str(args.output)!r})")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if getattr(args, "batch_size", 1) < 1:
        raise InputError(f"--batch-size must be at least 1, got {args.batch_size}")
    device = getattr(args, "device", "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"--device {device} cannot be used here ({reason}); cpu always can") from error


def _list(args: argparse.Namespace) -> int:
    names = zoo.list_tokenizers(args.pattern)
    if not names:
        return _fail(f"no tokenizer matches {args.pattern!r}; `tokenizers-zoo list` shows all")
    for name in names:
        print(f"{name:18} {_weights(name):9} {zoo.describe(name)}")
    return 0


def _weights(name: str) -> str:
    return "embedded" if zoo.is_embedded(name) else "authors" if name in IMPORTERS else "none"


def _info(args: argparse.Namespace) -> int:
    fresh = args.name in zoo.list_tokenizers() and not zoo.is_embedded(args.name)
    tokenizer = zoo.create(args.name) if fresh else zoo.load(args.name)
    rows: dict[str, Any] = {"name": tokenizer.name}
    if tokenizer.quantizer is not None:
        spec = tokenizer.spec
        rows |= spec.to_json() | {"frame_rate": spec.frame_rate, "bits_per_second": spec.bits_per_second}
        rows |= {"bits_per_image": spec.bits_per_image}
    parts = {"all": tokenizer, "encoder": tokenizer.encoder, "decoder": tokenizer.decoder}
    rows |= {f"parameters ({k})": f"{sum(p.numel() for p in m.parameters()):,}" for k, m in parts.items()}
    rows["quantizer"] = type(tokenizer.quantizer).__name__ if tokenizer.quantizer else "none (continuous latents)"
    theirs = "the authors' load with load_official" if args.name in IMPORTERS else "none are published"
    rows["weights"] = f"untrained here; {theirs}" if fresh else tokenizer.weights
    for key, value in rows.items():
        if value is not None:
            print(f"{key:22} {value}")
    return 0


def _encode(args: argparse.Namespace) -> int:
    tokenizer = zoo.load(args.name, args.device)
    jobs = _jobs(args, SUFFIXES[tokenizer.spec.modality], lambda path: ".tok")

    def run(sources: list[Path], targets: list[Path]) -> list[str]:
        media, kept, errors = _read_all(tokenizer, sources)
        if kept:
            with _precision(args):
                tokens = tokenizer.encode(media)
            for item, index in zip(tokens, kept, strict=True):
                item.save(targets[index])
        return errors

    return _work(jobs, args.batch_size, run, "encode")


def _decode(args: argparse.Namespace) -> int:
    loaded: dict[str, Tokenizer] = {}

    def one(source: Path, target: Path) -> None:
        tokens = Tokens.load(source)
        name = args.weights or tokens.spec.name
        if name not in loaded:
            loaded[name] = zoo.load(name, args.device)
        with _precision(args):
            loaded[name].decode(tokens).save(target)

    def run(sources: list[Path], targets: list[Path]) -> list[str]:
        errors = []
        for source, target in zip(sources, targets, strict=True):
            try:
                one(source, target)
            except ERRORS as error:
                errors.append(str(error))
        return errors

    return _work(_jobs(args, (".tok",), _decoded_suffix), args.batch_size, run, "decode")


def _decoded_suffix(path: Path) -> str:
    try:
        return OUTPUT[Tokens.load(path).spec.modality]
    except TokenError:
        return ""  # decoding will say what is wrong


def _roundtrip(args: argparse.Namespace) -> int:
    tokenizer = zoo.load(args.name, args.device)
    modality = tokenizer.spec.modality
    jobs = _jobs(args, SUFFIXES[modality], lambda path: OUTPUT[modality])

    def run(sources: list[Path], targets: list[Path]) -> list[str]:
        media, kept, errors = _read_all(tokenizer, sources)
        for original, index in zip(media, kept, strict=True):
            start = time.perf_counter()
            with _precision(args):
                tokens = tokenizer.encode(original)
                decoded = tokenizer.decode(tokens)
            seconds = time.perf_counter() - start
            tqdm.write(f"{sources[index]}: {_summary(tokens, original, decoded)}, {seconds:.2f} s")
            if args.output:
                decoded.save(targets[index])
        return errors

    return _work(jobs, args.batch_size, run, "roundtrip")


def _import(args: argparse.Namespace) -> int:
    tokenizer = load_official(args.variant, args.source)
    tokenizer.save_pretrained(args.output)
    print(f"{args.output}: licence of the weights: {tokenizer.license}; load it with tokenizers_zoo.load({str(args.output)!r})")
    return 0


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


def _read_all(tokenizer: Tokenizer, sources: list[Path]) -> tuple[Any, list[int], list[str]]:
    """Media of the readable files as one batch, their indices, and a message for each other file."""
    items: list[Any] = []
    kept, errors = [], []
    for index, source in enumerate(sources):
        try:
            if isinstance(tokenizer, AudioTokenizer):
                items.append(as_audio(source, tokenizer.sample_rate))
            else:
                items.append(as_images(source, tokenizer.spec.image_size or 0))
            kept.append(index)
        except ERRORS as error:
            errors.append(str(error))
    if not items:
        return [], [], errors
    if isinstance(tokenizer, AudioTokenizer):
        return Audio.stack(items), kept, errors
    return Images(torch.cat([item.pixels for item in items])), kept, errors


def _jobs(args: argparse.Namespace, suffixes: tuple[str, ...], suffix: Callable[[Path], str]) -> list[tuple[Path, Path]]:
    """(input, output) of every file to do, folders walked and patterns expanded; outputs that exist are left out."""
    folder = args.output or Path()
    pairs = [(p, folder / p.relative_to(root).with_suffix(suffix(p))) for p, root in _inputs(args.inputs, suffixes)]
    if args.output and len(pairs) == 1 and args.output.suffix and not args.output.is_dir():
        return [(pairs[0][0], args.output)]
    by_target: dict[Path, Path] = {}
    for path, target in pairs:
        if args.output and by_target.setdefault(target, path) != path:
            raise InputError(f"{path} and {by_target[target]} would both become {target}; encode them to two folders")
    done = [pair for pair in pairs if args.output and pair[1].exists()]
    if done:
        print(f"{len(done)} of {len(pairs)} outputs exist already and are kept", file=sys.stderr)
    return [pair for pair in pairs if pair not in done]


def _inputs(names: list[str], suffixes: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """(file, folder that its output path is relative to). Hidden files are left out: they may be half-written."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = [(p, path) for p in sorted(path.rglob("*")) if p.suffix.lower() in suffixes and p.name[0] != "."]
        elif path.exists():
            found = [(path, path.parent)]
        else:
            found = [(Path(p), Path(p).parent) for p in sorted(glob.glob(name, recursive=True))]
        if not found:
            raise FileNotFoundError(f"{name}: no such file, and no {', '.join(suffixes)} files below it")
        yield from found


def _work(jobs: list[tuple[Path, Path]], batch_size: int, run: Callable[[list[Path], list[Path]], list[str]], verb: str) -> int:
    """Runs all jobs in batches; a file that fails is reported and does not end the run."""
    failures = 0
    with tqdm(total=len(jobs), desc=verb, unit="file", disable=None) as bar:
        for start in range(0, len(jobs), batch_size):
            batch = jobs[start : start + batch_size]
            errors = run([source for source, _ in batch], [target for _, target in batch])
            for error in errors:
                tqdm.write(f"error: {error}", file=sys.stderr)
            failures += len(errors)
            bar.update(len(batch))
    if failures:
        print(f"{failures} of {len(jobs)} files failed", file=sys.stderr)
    return 1 if failures else 0


def _precision(args: argparse.Namespace) -> torch.autocast:
    dtype = getattr(torch, args.dtype)
    return torch.autocast(torch.device(args.device).type, dtype, enabled=dtype != torch.float32)


def _fail(error: object) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
