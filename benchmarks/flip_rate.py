"""How many codes change when a long clip runs in windows, for the codec whose LSTM has no finite receptive field.

    python benchmarks/flip_rate.py [WEIGHTS] [--seconds 150] [--window 60] [--context 10]

WEIGHTS is a weight folder; without it, DM-Codec at published size with random weights (seed 0) and codebooks drawn near its
latents. The recording is tests/data's three clips, repeated.
"""

import argparse

import subjects
import torch

import tokenizers_zoo as tz


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--window", type=float, default=tz.AudioTokenizer.window)
    parser.add_argument("--context", type=float, default=tz.AudioTokenizer.context)
    args = parser.parse_args()

    torch.manual_seed(0)
    wave = subjects.speech(1, args.seconds)
    tokenizer = subjects.dm_codec() if args.weights is None else tz.load(args.weights)

    tokenizer.whole = float("inf")
    whole = tokenizer.encode(wave).codes
    tokenizer.whole, tokenizer.window, tokenizer.context = 0.0, args.window, args.context
    flipped = tokenizer.encode(wave).codes != whole
    print(f"{args.seconds:.0f} s in windows of {args.window:.0f} s with {args.context:.0f} s of context:")
    print(f"{flipped.float().mean():.4%} of all codes differ from those of the whole clip,")
    print(f"{flipped[:, 0].float().mean():.4%} of the first codebook's")


if __name__ == "__main__":
    main()
