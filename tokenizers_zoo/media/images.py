"""Images: RGB pictures of one size, from whatever holds them.

Rules: EXIF orientation is applied, the first frame of an animation is taken, transparency is laid over white, everything becomes
RGB, 16-bit greyscale keeps its precision, 16-bit colour is read as 8 bits (Pillow).
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..files import atomic_path, existing
from .arrays import items, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = Union[str, Path, "np.ndarray[Any, Any]", Tensor, "Image", "Images", Sequence["ImageSource"]]

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # that are written
IMAGE_SUFFIXES = IMAGE_FORMATS  # that a folder is searched for


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
        """One PNG, JPEG, WebP or BMP file. Raises InputError if it is damaged."""
        from PIL import Image

        path = existing(path)
        with _pillow(str(path)), Image.open(path) as image:
            return cls.from_pil(image)

    @classmethod
    def from_pil(cls, image: "Image") -> "Images":
        """One PIL image of any mode, by the rules above."""
        from PIL import ImageOps

        with _pillow("the PIL image"):  # it may be read from its file only now
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                array = np.array(image, np.float32)
                array /= 1 if image.mode == "F" else 65535 if image.mode != "I" or (array > 255).any() else 255
            elif "A" in image.mode or "transparency" in image.info:
                array = np.array(image.convert("RGBA"))
            else:
                array = np.array(image.convert("RGB"))
        return cls(_pixels(_channel_first(array)))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> "Images":
        """One image."""
        return Images(self.pixels[index][None])

    def __iter__(self) -> Iterator["Images"]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> "Images":
        """The same images on `device`."""
        return Images(self.pixels.to(device))

    def resize_crop(self, size: int, where: float = 0.5) -> "Images":
        """The shorter side resized to `size` (bicubic, antialiased, clamped to [0, 1]), then `size` x `size` of it.

        where: 0 crops at the top and left, 0.5 the centre, 1 at the bottom and right.
        """
        height, width = self.pixels.shape[-2:]
        pixels, short = self.pixels, min(height, width)
        if short != size:
            scaled = [max(size, round(side * size / short)) for side in (height, width)]
            pixels = F.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (int((side - size) * where) for side in pixels.shape[-2:])
        return Images(pixels[..., top : top + size, left : left + size])

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


def as_images(source: ImageSource, size: int) -> Images:
    """Anything -> (B, 3, size, size) through `resize_crop`, each image on its own.

    Arrays are channel-last ((H, W), (H, W, 1|3|4), (B, H, W, 3)), tensors channel-first ((H, W), (1|3|4, H, W), (B, 3, H, W)).
    Raises InputError that names the fix for everything else.
    """
    from PIL import Image

    if isinstance(source, str | Path):
        return Images.load(source).resize_crop(size)
    if isinstance(source, np.ndarray | Tensor):
        return Images(_pixels(_channel_first(source))).resize_crop(size)
    if isinstance(source, Images):
        return Images(_pixels(source.pixels)).resize_crop(size)
    if isinstance(source, Image.Image):
        return Images.from_pil(source).resize_crop(size)
    return Images(torch.cat([as_images(item, size).pixels for item in items(source, "images")]))


@contextmanager
def _pillow(name: str) -> Iterator[None]:
    """What Pillow says of a damaged or huge image, as InputError; what it says of damaged metadata is not passed on."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"cannot read {name} as an image ({error}); check the file or export it again") from error


def _channel_first(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    array = to_tensor(source)
    if isinstance(source, Tensor) or array.ndim < 3:
        return array
    if array.shape[-1] not in (1, 3, 4):
        raise InputError(f"numpy images are channel-last, (H, W, 3); got {tuple(array.shape)}: transpose, or give a tensor")
    return array.movedim(-1, -3)


def _pixels(array: Tensor) -> Tensor:
    """(H, W), (C, H, W) or (B, C, H, W) of any accepted type -> float (B, 3, H, W) in [0, 1]."""
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-3] not in (1, 3, 4)):
        shape = tuple(array.shape)
        raise InputError(f"image tensors are (H, W), (C, H, W) or (B, C, H, W) with 1, 3 or 4 channels; got {shape}")
    if not array.numel():
        raise InputError(f"there is no image in an array of shape {tuple(array.shape)}")
    array = array[None] if array.ndim == 2 else array
    array = array[None] if array.ndim == 3 else array
    full = {torch.uint8: 255.0, torch.uint16: 65535.0}
    if array.dtype in full:
        pixels = array.float() / full[array.dtype]
    elif array.is_floating_point():
        pixels = array.float()
        if not pixels.isfinite().all():
            raise InputError(f"{int((~pixels.isfinite()).sum())} pixels are NaN or infinite; repair or drop the image")
        low, high = float(pixels.min()), float(pixels.max())
        if low < -1e-3 or high > 1 + 1e-3:
            fix = "map [-1, 1] by (x + 1) / 2" if low < -1e-3 and high <= 1 + 1e-3 else "divide 8-bit values by 255"
            raise InputError(f"float pixels must lie in [0, 1], got {low:.3g}..{high:.3g}: {fix}")
        pixels = pixels.clamp(0, 1)
    else:
        raise InputError(f"pixels of type {array.dtype} are not understood; give float in [0, 1], uint8 or uint16")
    if pixels.shape[1] == 4:
        alpha = pixels[:, 3:]
        pixels = pixels[:, :3] * alpha + (1 - alpha)
    return pixels.expand(-1, 3, -1, -1).contiguous()
