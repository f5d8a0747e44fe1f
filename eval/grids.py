"""Pictures for the cards of tokenizers with embedded weights: photos, and below them what each number of tokens makes of them.

    python eval/grids.py instella-tiny textok-tiny titok-tiny

Writes checkpoints/NAME/photos.png of the photos in tests/data.
"""

import argparse
from pathlib import Path

import torch
from demo import DATA, LENGTHS

import tokenizers_zoo as tz
from tokenizers_zoo.pictures import grid

PHOTOS = {"chelsea": "a close photo of a tabby cat", "astronaut": "a smiling astronaut", "coffee": "a cup of coffee on a table"}
ZOOM = 3


def main() -> None:
    """Writes the picture of each name, and says what its rows are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    for name in parser.parse_args().names:
        tokenizer = tz.load(name)
        assert isinstance(tokenizer, tz.ImageTokenizer)
        photos = [tz.Images.load(DATA / f"{photo}.jpg").resize_crop(tokenizer.image_size).pixels for photo in PHOTOS]
        images = tz.Images(torch.cat(photos))
        tokens = tokenizer.encode(images, **({"text": list(PHOTOS.values())} if "text" in tokenizer.takes else {}))
        whole = tokens.codes.shape[-1]
        lengths = LENGTHS.get(name, (whole,))
        rows = [tokenizer.decode(tokens.prefix(n) if n < whole else tokens).pixels.clamp(0, 1) for n in lengths]
        picture = grid([images.pixels, *rows])[None]
        file = Path("checkpoints") / name / "photos.png"
        tz.Images(torch.nn.functional.interpolate(picture, scale_factor=ZOOM)).save(file)
        print(f"{file}: originals, then {', '.join(map(str, lengths))} positions")


if __name__ == "__main__":
    main()
