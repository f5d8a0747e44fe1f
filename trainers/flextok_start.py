"""What a FlexTok's training starts from: fresh weights, and the authors' autoencoder.

    python trainers/flextok_start.py model.safetensors -o FOLDER

The file is one of their FlexToks, or of an autoencoder alone (EPFL-VILAB/flextok_vae_c16). The tokenizer is that of the recipe
flextok-d12-d12, or of the one that --recipe names.
"""

import argparse
from pathlib import Path

import yaml

from tokenizers_zoo import zoo
from tokenizers_zoo.official.flextok import FLEXTOK
from tokenizers_zoo.weights import load_strict, read_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("authors", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "flextok-d12-d12.yaml")
    args = parser.parse_args()
    tokenizer = zoo.build(yaml.safe_load(args.recipe.read_text())["model"]["tokenizer"], args.recipe.stem)
    key, theirs = FLEXTOK["flextok-d12-d12"].key, read_state(args.authors)
    names = {ours: key(f"autoencoder.{ours}") for ours in tokenizer.autoencoder.state_dict()}
    found = {ours: theirs.get(name, theirs.get(name.removeprefix("vae.vae."))) for ours, name in names.items()}
    load_strict(tokenizer.autoencoder, {ours: x for ours, x in found.items() if x is not None}, "the autoencoder of FlexTok")
    tokenizer.save_pretrained(args.output)


if __name__ == "__main__":
    main()
