"""Images: RGB pictures of one size, from whatever holds them.

Rules: EXIF orientation is applied, the first frame of an animation is taken, colours become sRGB and transparency is laid over
white (colour.py). A JPEG of 2, 4 or 8 x DRAFT times the size asked for is decoded at 1/2, 1/4 or 1/8 of its size: against all of
it 65 dB and 0.1 % of titok-tiny's codes on photos (benchmarks/photos.py). Everything else is resized from all its pixels.

Memory: 4 bytes a decoded pixel, and floats of a strip. Pillow itself takes more for WebP (16 bytes), AVIF (9), a turned TIFF (8),
PGM and PPM of other whites than 255 and 65535 (12), and progressive JPEG (2 to 6 a pixel of the file).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files import atomic_path
from .arrays import items, to_tensor
from .colour import check_finite, check_range, over_white, planes
from .imagefile import FileSource, is_file_source, opened
from .resize import Box, Picture, Plane, Size, covering, resize_crop

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = Union[FileSource, "np.ndarray[Any, Any]", Tensor, "Images", Sequence["ImageSource"]]

Rule: TypeAlias = Callable[[int, int], Size]

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # that are written
DRAFT = 4  # what is left of a JPEG that is shrunk while it is decoded, in units of the size asked for, at least
FULL = {torch.uint8: 255.0, torch.uint16: 65535.0}


class Images:
    """RGB images of one size: pixels, floating (B, 3, H, W) in [0, 1]."""

    def __init__(self, pixels: Tensor):
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise InputError("pixels must be a floating tensor (batch, 3, height, width)")
        if not pixels.numel():
            raise InputError(f"there is no image in pixels of shape {tuple(pixels.shape)}")
        self.pixels = pixels

    @classmethod
    def load(cls, path: str | Path) -> "Images":
        """One picture file of any type in `SUFFIXES`, at its full size. Raises InputError if it is damaged."""
        return cls(_read(path, None))

    @classmethod
    def from_pil(cls, image: "Image") -> "Images":
        """One PIL image of any mode, by the rules above, at its full size."""
        return cls(_read(image, None))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> "Images":
        """One image."""
        return Images(self.pixels[index][None])

    def __iter__(self) -> Iterator["Images"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Images(pixels {tuple(self.pixels.shape)}, {self.pixels.dtype}, {self.pixels.device})"

    def to(self, device: torch.device | str) -> "Images":
        """The same images on `device`."""
        return Images(self.pixels.to(device))

    def resize_crop(self, size: int | Size, where: float = 0.5) -> "Images":
        """Resized (bicubic, antialiased, clamped to [0, 1]) to cover `size`, a side or (height, width), and cropped to it.

        where: 0 crops at the top and left, 0.5 the centre, 1 at the bottom and right.
        """
        return Images(_resize_crop(self.pixels, _rule(size), where).to(self.pixels))

    def save(self, path: str | Path) -> None:
        """Writes one image as PNG, JPEG or WebP (quality 95), or BMP, rounded to 8 bits; the file appears whole or not at all."""
        from PIL import Image

        path = Path(path)
        if path.suffix.lower() not in IMAGE_FORMATS:
            raise InputError(f"cannot write an image as {path.suffix or path.name!r}; use one of {', '.join(IMAGE_FORMATS)}")
        if len(self) != 1:
            raise InputError(f"a file holds one image, this batch has {len(self)}; save images[0], images[1], ...")
        array = (self.pixels[0].detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        with atomic_path(path) as temporary:
            Image.fromarray(array).save(temporary, quality=95)  # PNG and BMP have no quality and ignore it


def as_images(source: ImageSource, size: int | Size | Rule, where: float = 0.5) -> Images:
    """Anything -> (B, 3, height, width) through `resize_crop`, each image on its own.

    size: a side, (height, width), or a rule that gives (height, width) for those of the picture; a batch has one size.

    Files are paths, encoded bytes, binary file objects, rows {"bytes", "path"} of a Hugging Face dataset, or PIL images.
    Arrays are channel-last ((H, W), (H, W, 1|3|4), (B, H, W, 3)), tensors channel-first ((H, W), (1|3|4, H, W), (B, 3, H, W)).
    Raises InputError that names the fix for everything else.
    """
    rule = _rule(size)
    if is_file_source(source):
        return Images(_read(source, rule, where))
    if isinstance(source, np.ndarray | Tensor):
        return Images(_resize_crop(_checked(_channel_first(source)), rule, where))
    if isinstance(source, Images):
        return Images(_resize_crop(_checked(source.pixels), rule, where).to(source.pixels.device))
    pictures = [as_images(item, rule, where).pixels for item in items(source, "images")]
    sizes = {f"{pixels.shape[-2]} x {pixels.shape[-1]}" for pixels in pictures}
    if len(sizes) > 1:
        raise InputError(f"images of a batch have one size, these come to {', '.join(sorted(sizes))}: group them, or name a size")
    return Images(torch.cat(pictures))


def _rule(size: int | Size | Rule) -> Rule:
    if callable(size):
        return size
    sides = list(size) if isinstance(size, tuple | list) else [size, size]
    if len(sides) != 2 or not all(
        isinstance(side, int | np.integer) and not isinstance(side, bool) and side > 0 for side in sides
    ):
        raise InputError(f"a size is a positive whole number of pixels, or (height, width) of them; got {size!r}")
    return lambda height, width: (int(sides[0]), int(sides[1]))


def _read(source: FileSource, rule: Rule | None, where: float = 0.5) -> Tensor:
    """(1, 3, height, width) of a file or a PIL image; rule None for all of it."""
    from PIL import Image

    with opened(source) as image:
        shrinks = rule is not None and image.format in ("JPEG", "MPO") and not isinstance(source, Image.Image)
        read = None if shrinks else planes(image)  # before the size is asked for: decoding puts a TIFF upright
        whole = Picture((image.height, image.width), lambda box: [], _orientation(image))
        height, width = int(whole.upright[0]), int(whole.upright[1])
        target = rule(height, width) if rule else (height, width)
        drafted = _draft(image, whole, target) if shrinks else None  # never the caller's own image
        plane = read or planes(image)
        picture = Picture(drafted or whole.size, lambda box: plane(image.crop(box)), whole.orientation)
        return resize_crop(picture, target, where)[None]


def _draft(image: "Image", whole: Picture, target: Size) -> tuple[float, float] | None:
    """Lets a JPEG shrink while it is decoded; its size then, exactly, or None where it does not."""
    height, width = covering(whole.upright, target)[:: -1 if whole.turned else 1]
    drafted = image.draft(None, (DRAFT * width, DRAFT * height))
    return (drafted[1][3], drafted[1][2]) if drafted else None


def _orientation(image: "Image") -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata does not matter
        return 1


def _resize_crop(pixels: Tensor, rule: Rule, where: float) -> Tensor:
    target = rule(pixels.shape[-2], pixels.shape[-1])
    return torch.stack([resize_crop(_picture(image), target, where) for image in pixels.detach().cpu()])


def _picture(image: Tensor) -> Picture:
    """Of pixels (1|3|4, H, W) that were checked."""

    def read(box: Box) -> Iterator[Plane]:
        left, top, right, bottom = box
        piece = image[:, top:bottom, left:right].float() / FULL.get(image.dtype, 1)
        for plane in piece[:3]:
            yield (over_white(plane, piece[3]) if len(piece) == 4 else plane).contiguous().numpy()

    return Picture((image.shape[1], image.shape[2]), read)


def _channel_first(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    array = to_tensor(source)
    if isinstance(source, Tensor) or array.ndim < 3:
        return array
    if array.shape[-1] not in (1, 3, 4):
        raise InputError(f"numpy images are channel-last, (H, W, 3); got {tuple(array.shape)}: transpose, or give a tensor")
    return array.movedim(-1, -3)


def _checked(array: Tensor) -> Tensor:
    """(H, W), (C, H, W) or (B, C, H, W) of any accepted type and values -> (B, C, H, W)."""
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-3] not in (1, 3, 4)):
        shape = tuple(array.shape)
        raise InputError(f"image tensors are (H, W), (C, H, W) or (B, C, H, W) with 1, 3 or 4 channels; got {shape}")
    if not array.numel():
        raise InputError(f"there is no image in an array of shape {tuple(array.shape)}")
    if array.is_floating_point():
        check_finite(int((~array.isfinite()).sum()))
        check_range(float(array.min()), float(array.max()))
    elif array.dtype not in FULL:
        raise InputError(f"pixels of type {array.dtype} are not understood; give float in [0, 1], uint8 or uint16")
    return array.reshape(-1, array.shape[-3] if array.ndim > 2 else 1, *array.shape[-2:])
