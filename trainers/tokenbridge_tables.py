"""TokenBridge's tables on a continuous image tokenizer, as folders that load: the published rule and tables fitted to photos.

    python trainers/tokenbridge_tables.py kl-tiny --data TINY_IMAGENET_FOLDER --levels 8 16 32 64 -o out/levels
    tokenizers-zoo eval kl-tiny out/levels/* --suite image-64 --data TINY_IMAGENET_FOLDER --split valid --limit 1000 -o out/curve

Latents of photos of the training split say what brings them to unit variance (`scale` of the published rule), and teach the
fitted tables. Of a tokenizer whose weights ship with the package the table alone is stored.
"""

import argparse
from pathlib import Path

import torch

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import of_split, read_manifest
from tokenizers_zoo.media import SUFFIXES, as_images
from tokenizers_zoo.quantizers import DimensionWiseQuantizer, FittedDimensionWiseQuantizer
from tokenizers_zoo.weights import is_embedded

BATCH = 50


@torch.no_grad()
def latents_of(tokenizer: tz.ImageTokenizer, paths: list[Path]) -> torch.Tensor:
    """Latents (B, N, D) of photos; of a posterior the mean."""
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    return torch.cat([tokenizer.encode_latents(as_images(some, tokenizer.image_size).pixels) for some in batches])


def main() -> None:
    """Writes a folder a table, and says how wide the latents are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", help="a continuous variant with weights, or a folder")
    parser.add_argument("--data", required=True, help="manifest or folder")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=2000, help="spread evenly (default 2000)")
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    tokenizer, base = tz.load(args.tokenizer), tz.load(args.tokenizer)
    assert isinstance(tokenizer, tz.ImageTokenizer)
    shipped = args.tokenizer in tz.list_tokenizers() and is_embedded(args.tokenizer)
    rows = of_split(read_manifest(args.data, SUFFIXES["image"]), args.split)
    latents = latents_of(tokenizer, [row.path for row in rows[:: max(1, len(rows) // args.photos)]][: args.photos])
    each = ", ".join(f"{deviation:.3f}" for deviation in latents.std((0, 1)))
    print(f"{len(latents)} photos, deviation {float(latents.std()):.4f} of all dimensions, {each} of each")
    dim, scale = latents.shape[-1], round(1 / float(latents.std()), 4)
    for levels in args.levels:
        fitted = FittedDimensionWiseQuantizer(dim, levels)
        fitted.fit(latents)
        for kind, table in (("", DimensionWiseQuantizer(dim, levels, scale=scale)), (" fitted", fitted)):
            tokenizer.replace(table).name = f"{base.name}{kind}, {levels} levels"
            folder = args.output / f"{kind.strip() or 'published'}-{levels}"
            tokenizer.save_pretrained(folder, weights_of=base if shipped else None)
            print(folder)


if __name__ == "__main__":
    main()
