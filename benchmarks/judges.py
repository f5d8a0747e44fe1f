"""What an image judge sees of known damage, layer by layer.

    python benchmarks/judges.py FOLDER tf_efficientnet_lite2 --weights effnet_lite2.safetensors

FOLDER: photos of 64 pixels that the network has not seen (Tiny ImageNet's val). Frechet distances are between the pooled layer on
half of the photos, damaged, and on the other half, whole: what undamaged photos give ("none") is the bias of a finite sample, and
a layer is of use where damage stands out of it. Perceptual distances are between a photo and itself, damaged. Photos are damaged
at 64 pixels; the Frechet layers see them at 128 (bicubic), the perceptual ones at 64. Weights: eval/effnet_lite.py.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from tokenizers_zoo.eval.distribution import frechet, moments
from tokenizers_zoo.frozen import feature_maps
from tokenizers_zoo.losses.perceptual import TimmNetwork

STAGES = [f"network.blocks.{stage}" for stage in range(7)]


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Through JPEG at a quality of Pillow."""

    def through(photo: Image.Image) -> Image.Image:
        with io.BytesIO() as file:
            photo.save(file, "JPEG", quality=quality)
            return Image.open(io.BytesIO(file.getvalue())).convert("RGB")

    return through


def shifted(photo: Image.Image) -> Image.Image:
    """One pixel to the right, the left column twice."""
    pixels = np.asarray(photo)
    return Image.fromarray(np.concatenate([pixels[:, :1], pixels[:, :-1]], axis=1))


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda photo: photo,
    "JPEG 50": jpeg(50),
    "JPEG 10": jpeg(10),
    "blur 1 px": lambda photo: photo.filter(ImageFilter.GaussianBlur(1)),
    "blur 2 px": lambda photo: photo.filter(ImageFilter.GaussianBlur(2)),
    "shift 1 px": shifted,
}


def batches(paths: list[Path], damage: Callable[[Image.Image], Image.Image], size: int = 50) -> Iterator[Tensor]:
    """Photos (B, 3, 64, 64) in [0, 1]."""
    for at in range(0, len(paths), size):
        photos = [np.asarray(damage(Image.open(path).convert("RGB"))) for path in paths[at : at + size]]
        yield torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255


def maps(network: nn.Module, photos: Tensor) -> list[Tensor]:
    """Each stage's map of (B, 3, H, W), and the last layer before the classifier's."""
    return feature_maps(network, [*STAGES, "network.bn2"], (255 * photos - 127) / 128)


def pooled(network: nn.Module, batches: Iterator[Tensor]) -> list[np.ndarray]:
    """Each layer's features (N, D) at 128 pixels."""
    rows = []
    for photos in batches:
        large = nn.functional.interpolate(photos, (128, 128), mode="bicubic", antialias=True).clamp(0, 1)
        rows.append([layer.mean((2, 3)).numpy() for layer in maps(network, large)])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def apart(network: nn.Module, first: Iterator[Tensor], second: Iterator[Tensor]) -> list[float]:
    """Each layer's mean squared difference of unit-normalised maps."""
    rows = []
    for a, b in zip(first, second, strict=True):
        pairs = zip(maps(network, a), maps(network, b), strict=True)
        unit = ([nn.functional.normalize(side, dim=1, eps=1e-6) for side in pair] for pair in pairs)
        rows.append([float((x - y).square().sum(1).mean()) for x, y in unit])
    return np.mean(rows, axis=0).tolist()


@torch.no_grad()
def main() -> None:
    """Two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="photos of 64 pixels")
    parser.add_argument("network", help="an EfficientNet of timm")
    parser.add_argument("--weights", help="its local file")
    parser.add_argument("--count", type=int, default=4000, help="photos, half of them a side")
    args = parser.parse_args()
    paths = sorted(args.folder.rglob("*.JPEG"))[: args.count]
    halves = paths[: len(paths) // 2], paths[len(paths) // 2 :]
    network = TimmNetwork(args.network, args.weights).eval()
    whole = [moments(layer) for layer in pooled(network, batches(halves[1], DAMAGE["none"]))]
    few = halves[0][:500]
    distances, perceptual = {}, {}
    for name, damage in DAMAGE.items():
        layers = pooled(network, batches(halves[0], damage))
        distances[name] = [frechet(moments(layer), other) for layer, other in zip(layers, whole, strict=True)]
        perceptual[name] = apart(network, batches(few, damage), batches(few, DAMAGE["none"]))
    perceptual["another photo"] = apart(network, batches(few[::-1], DAMAGE["none"]), batches(few, DAMAGE["none"]))
    for title, table in (
        (f"Frechet distance, {len(halves[0]):,} photos a side", distances),
        (f"squared difference of unit features, {len(few)} photos", perceptual),
    ):
        print(f"\n{args.network}: {title}\n\n| layer | channels | {' | '.join(table)} |\n|---{'|---' * (len(table) + 1)}|")
        for index, layer in enumerate([*STAGES, "network.bn2"]):
            values = " | ".join(f"{row[index]:.3g}" for row in table.values())
            print(f"| {layer.removeprefix('network.')} | {len(whole[index][0])} | {values} |")


if __name__ == "__main__":
    main()
