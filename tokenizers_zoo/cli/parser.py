"""The words of the command line."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from . import convert, tokenize, verbs

TRAINING = {
    "fit": "train a recipe: -c NAME, e.g. titok-tiny, or a file; every option of it can be overridden, see --print_config",
    "validate": "the objective on the validation split: -c RECIPE --ckpt_path CKPT",
    "test": "the objective on every file of the test split, whole: -c RECIPE --ckpt_path CKPT",
}
EXITS = "Exit codes: 0 all done, 1 something could not be done (said on stderr), 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."


class Parser(argparse.ArgumentParser):
    """A mistake is answered by one line and where to read on, not by the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2."""
        self.exit(2, f"error: {message}\nsee: {self.prog} --help\n")


def build() -> argparse.ArgumentParser:
    """The parser of all verbs; `args.run(args)` does what was asked for."""
    parser = Parser("tokenizers-zoo", description="Speech and images as discrete tokens.", epilog=EXITS)
    parser.add_argument("--version", action="version", version=f"tokenizers-zoo {version('tokenizers-zoo')}")
    parser.add_argument("--import", metavar="MODULE", help="a module of yours that registers classes; before the verb, any times")
    verbs_ = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: object, text: str) -> argparse.ArgumentParser:
        added = verbs_.add_parser(name, help=text, description=text, epilog=EXITS)
        added.set_defaults(run=run)
        return added

    listing = verb("list", verbs.list_, "names of the tokenizers and whether their weights are embedded")
    listing.add_argument("pattern", nargs="?", default="*", help="shell-style pattern, e.g. 'titok-*'")
    info = verb("info", verbs.info, "what a tokenizer's tokens mean, and its size")
    info.add_argument("name", help="variant, weight folder, Hub id, or a run's checkpoint (.ckpt) or folder")

    again = "finished ones are skipped, so a stopped run can be repeated"
    encode = verb("encode", convert.encode, f"files -> .tok files; {again}")
    decode = verb("decode", convert.decode, f".tok files -> WAV or PNG files; {again}")
    trip = verb("roundtrip", convert.roundtrip, "encode and decode files; print bits, SNR or PSNR, and time")
    for command in (encode, decode, trip):
        if command is not decode:
            command.add_argument("name", help="variant, weight folder, Hub id, or a run's checkpoint (.ckpt) or folder")
        words = command.add_mutually_exclusive_group(required=True) if command is encode else command
        many = "*" if command is encode else "+"
        words.add_argument("inputs", nargs=many, default=[], help="files, folders, or patterns; - is standard input")
        if command is encode:
            words.add_argument("--data", help="manifest in place of inputs; its texts go to tokenizers that take them")
        command.add_argument("-o", "--output", type=Path, required=command is not trip, help="file (for one input) or folder")
        command.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    corpus = verb("tokenize", tokenize.tokenize, f"a manifest -> a corpus of Parquet shards; {again}")
    corpus.add_argument("name", help="variant, weight folder, Hub id, or a run's checkpoint (.ckpt) or folder")
    corpus.add_argument("--data", required=True, help="manifest, folder, or hf:NAME; its texts go to tokenizers that take them")
    corpus.add_argument("-o", "--output", type=Path, required=True, help="folder")
    corpus.add_argument("--overwrite", action="store_true", help="replace shards of other weights or of other input")
    corpus.add_argument("--shard-size", type=int, default=1000, help="rows of a shard (default 1000)")
    corpus.add_argument("--engine", choices=["local", "ray"], default="local", help="this process, or actors of Ray Data")
    corpus.add_argument("--concurrency", type=int, help="actors of Ray (default: one a CPU, or what fits on the GPUs)")
    corpus.add_argument("--num-gpus", type=float, default=0, help="GPUs of each actor (default 0: they run on CPUs)")
    for command in (encode, decode, trip, corpus):
        command.add_argument("--device", default="cpu", help="torch device, e.g. cuda:0")
        command.add_argument(
            "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of weights, but for quantizers"
        )
        command.add_argument("--compile", action="store_true", help="by torch.compile: slow at first, for long runs")
    for command in (encode, decode, corpus):
        command.add_argument("--batch-size", type=int, help="files at a time (default: 16 s of audio on a CPU, 240 s on a GPU)")
        command.add_argument("--workers", type=int, default=4, help="threads that read ahead (default 4)")
    for command in (encode, corpus):
        command.add_argument("--size", help="of images where a tokenizer takes several: 512, 384x512 (height first), or source")
    decode.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="output=NAME, seed=N, steps=N, ..."
    )
    decode.add_argument("--weights", help="folder, Hub id or checkpoint; by default the variant that the tokens name")

    bring = verb("import", verbs.import_, "the authors' checkpoint -> a weight folder of ours")
    bring.add_argument("variant")
    bring.add_argument("source", nargs="*", help="files of the authors, their folder, or a Hub id (default: theirs)")
    bring.add_argument("-o", "--output", type=Path, required=True, help="folder")
    for name, text in TRAINING.items():
        verbs_.add_parser(name, help=text, add_help=False)
    judge = verb("eval", verbs.eval_, "measure tokenizers and baselines; a stopped run goes on where it was")
    judge.add_argument("names", nargs="+", help="variants, weight folders, Hub ids, or runs' checkpoints (.ckpt) or folders")
    judge.add_argument("--suite", type=Path, required=True, help="what is measured: a name, e.g. speech, or a file")
    judge.add_argument("--data", required=True, help="manifest or folder")
    judge.add_argument("--split", default="test", help="of a manifest that has splits (default test)")
    judge.add_argument("--limit", type=int, help="at most so many files, spread evenly")
    judge.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="replace a part of the suite; null removes it"
    )
    judge.add_argument("--seed", type=int, default=0, help="of what draws random numbers (default 0)")
    judge.add_argument("--device", default="cpu", help="torch device of tokenizers and judges")
    judge.add_argument("--batch-size", type=int, default=16, help="items at a time (default 16); the numbers stay the same")
    judge.add_argument("-o", "--output", type=Path, required=True, help="folder")
    export = verb("export", verbs.export, "a training checkpoint -> a weight folder of ours")
    export.add_argument("checkpoint", type=Path, help="a file, or a folder: the newest last.ckpt below it")
    export.add_argument("-o", "--output", type=Path, required=True, help="folder")
    export.add_argument(
        "--name", default="", help="of what comes out (default: the recipe's); for an ablation, a name of its own"
    )
    export.add_argument("--raw", action="store_true", help="the last weights instead of their moving average")
    export.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="of the file")
    return parser
