"""What acoustic pairs save on real speech: `python benchmarks/pairs.py NAME FOLDER`, FOLDER of audio files.

The first --codebooks codebooks of NAME, flattened: codes of the training files, then ids an item of the held-out ones (every
tenth file) by vocabularies of a growing size. The bound is what no vocabulary of that size can pass if frames were drawn each for
itself: log2(size) bits an id, over the entropy of all frames. With codec-bpe on the path (pip install --no-deps --target),
its trainer's ids on the same items beside ours; both sizes count codes, not special tokens.
"""

import argparse
import contextlib
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tokenizers_zoo as tz  # noqa: E402
from tokenizers_zoo.lm import AcousticBPE, Flatten  # noqa: E402


def codes_of(name: str, folder: Path, most: int) -> list[tz.Tokens]:
    """Tokens of the first `most` files, in order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))[:most]
    found = dict(tz.encode_many(tz.load(name), [(path, path) for path in files]))
    return [found[path] for path in files if isinstance(found[path], tz.Tokens)]


def entropy(items: list[tz.Tokens]) -> float:
    """Bits of a frame, as often as each is there (too low where most are there once)."""
    frames = torch.cat([tokens.codes[0] for tokens in items], dim=1)
    counts = frames.unique(dim=1, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log2()).sum())


def theirs(train: list[tz.Tokens], held: list[tz.Tokens], size: int) -> float:
    """Ids a frame by codec-bpe."""
    from codec_bpe.core.converter import UNICODE_OFFSET_LARGE, codes_to_chars
    from codec_bpe.core.trainer import Trainer

    count, entries = len(train[0].spec.codebook_sizes), train[0].spec.codebook_sizes[0]
    with tempfile.TemporaryDirectory() as folder:
        for i, tokens in enumerate(train):
            np.save(Path(folder) / f"{i}_c0.npy", tokens.codes[0].numpy())
        trainer = Trainer(count, entries, vocab_size=size + 1, pad_token="<pad>", unicode_offset=UNICODE_OFFSET_LARGE)
        bpe = trainer.train(folder)
    written = [codes_to_chars(tokens.codes[0], entries, unicode_offset=UNICODE_OFFSET_LARGE) for tokens in held]
    return sum(len(bpe(text).input_ids) for text in written) / sum(int(tokens.lengths[0]) for tokens in held)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codebooks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--merges", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--files", type=int, default=400)
    args = parser.parse_args()
    clips = codes_of(args.name, args.folder, args.files)
    for count in args.codebooks:
        items = [tokens.codebooks(count) for tokens in clips]
        held, train = items[::10], [tokens for i, tokens in enumerate(items) if i % 10]
        frames, pattern, bits = sum(int(t.lengths[0]) for t in held), Flatten(items[0].spec), entropy(items)
        print(
            f"{args.name}, {count} codebooks: {len(train)} clips, {frames} frames held out, {bits:.2f} bits a frame", flush=True
        )
        for merges in args.merges:
            bpe = AcousticBPE.train(train, pattern, pattern.end + merges)
            ids = [bpe.encode(tokens)[0] for tokens in held]
            assert all(bpe.decode([row], **tokens.conditions) == tokens for row, tokens in zip(ids, held, strict=True))
            ours, bound = sum(map(len, ids)) / frames, bits / math.log2(bpe.size)
            line = f"  {bpe.size} ids: saving {1 - ours / count:.1%} of {count} a frame, bound {1 - bound / count:.1%}"
            with contextlib.suppress(ImportError):
                line += f"; codec-bpe {1 - theirs(train, held, bpe.size - 1) / count:.1%}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
