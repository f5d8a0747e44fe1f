"""What TiTok's second stage starts from: the first stage's weights, and decoder and codebook of MaskGIT-VQGAN.

    python trainers/titok_stage2.py STAGE1_WEIGHT_FOLDER maskgit-vqgan-imagenet-f16-256.bin -o FOLDER

The variant is titok-s128, or the one that --variant names.
"""

import argparse
import re
from pathlib import Path

from tokenizers_zoo import create
from tokenizers_zoo.official.titok import TITOK
from tokenizers_zoo.weights import load_strict, read_folder, read_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage1", type=Path)
    parser.add_argument("maskgit", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--variant", default="titok-s128")
    args = parser.parse_args()
    tokenizer, state = create(args.variant), dict(read_folder(args.stage1)[1])
    authors = read_state(args.maskgit)
    for ours in tokenizer.state_dict():
        if ours.startswith(("decoder.head.codebook.", "decoder.head.decoder.")):
            theirs = TITOK[args.variant].key(ours)
            theirs = re.sub(r"^pixel_decoder\.", "decoder.", re.sub(r"^pixel_quantize\.", "quantize.", theirs))
            state[ours] = authors[theirs]
    load_strict(tokenizer, state, args.variant)
    tokenizer.save_pretrained(args.output)


if __name__ == "__main__":
    main()
