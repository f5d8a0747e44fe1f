"""Reading photos at a tokenizer's size against reading them whole: `python benchmarks/photos.py [PHOTO ...] --rounds 5`.

Whole is what this library did at first (commit 84e32e1): all pixels as floats, resized by torch, then cropped. By default the
photos are those of tests/data, and one of 12 megapixels made of them: enlarged, with grain, as JPEG, progressive JPEG and PNG.
Calls take turns; times are medians, `x` is the median of their ratios. Then what changes: PSNR against whole, and the codes of
titok-tiny.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import interleaved, peak_memory, ratio
from PIL import Image, ImageOps
from subjects import DATA

import tokenizers_zoo as tz
from tokenizers_zoo.media import as_images


def whole(path: Path, size: int) -> tz.Images:
    """(1, 3, size, size): everything in floating point, resized, then cropped."""
    with Image.open(path) as image:
        array = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    short = min(pixels.shape[-2:])
    scaled = [max(size, round(side * size / short)) for side in pixels.shape[-2:]]
    pixels = F.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in scaled)
    return tz.Images(pixels[..., top : top + size, left : left + size])


def large(folder: Path) -> list[Path]:
    """A photo of 12 megapixels in three types of file."""
    with Image.open(DATA / "coffee.jpg") as image:
        array = np.asarray(image.resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.float32)
    array += np.random.default_rng(0).normal(0, 5, array.shape).astype(np.float32)
    photo = Image.fromarray(array.clip(0, 255).astype(np.uint8))
    photo.save(folder / "12MP.jpg", quality=90)
    photo.save(folder / "12MP-progressive.jpg", quality=90, progressive=True)
    photo.save(folder / "12MP.png", compress_level=1)
    return sorted(folder.iterdir())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    tokenizer = tz.load("titok-tiny")
    changed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in args.photos or [*sorted(DATA.glob("*.jpg")), *large(Path(folder))]:
            for size in (64, 256):
                calls = {"ours": lambda p=path, s=size: as_images(p, s), "whole": lambda p=path, s=size: whole(p, s)}
                times = interleaved(calls, args.rounds)
                ours_ms, whole_ms = (statistics.median(times[name]) * 1000 for name in calls)
                speedup = ratio(times, "whole", "ours")
                memory = [peak_memory(call) or 0 for call in calls.values()]
                error = (calls["ours"]().pixels - calls["whole"]().pixels).double().square().mean().clamp(min=1e-12)
                print(
                    f"{path.name:22} {size:3} px  {ours_ms:7.1f} ms, whole {whole_ms:7.1f} ms, {speedup:5.1f} x",
                    f"{memory[0]:4.0f} MB, whole {memory[1]:4.0f} MB  PSNR {-10 * error.log10():.0f} dB",
                    flush=True,
                )
            codes = [tokenizer.encode(read(path, 64)).codes for read in (as_images, whole)]
            changed, count = changed + int((codes[0] != codes[1]).sum()), count + codes[0].numel()
    print(f"codes of titok-tiny that change: {changed} of {count}, {changed / count:.2%}")


if __name__ == "__main__":
    main()
