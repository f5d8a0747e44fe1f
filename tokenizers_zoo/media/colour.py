"""A PIL image's colours as sRGB planes in [0, 1].

- Range: what mode and container declare, never what the values look like. Greyscale of more than 8 bits keeps its precision: PGM
  and TIFF are scaled by their own white, a TIFF whose zero is white is inverted, mode "I" without a file is 16-bit, as Pillow
  writes it. Float ("F") must lie in [0, 1]. Signed integers are refused. Of 16-bit colour Pillow gives the upper 8 bits.
- Colour: an ICC profile of the picture's own kind (RGB, grey or CMYK) is converted to sRGB (perceptual intent) unless it is sRGB
  within 2/255; one that is damaged or of another kind is passed over. Without it, and without PNG's sRGB chunk, PNG's gAMA is
  converted to 1/2.2. Not looked at: cHRM, profiles of float pictures, colour codes of AVIF and HEIC without a profile. CMYK
  without a profile is Pillow's plain conversion; CIELAB is of D50.
- Transparency is laid over white, after the conversion.
"""

import io
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..errors import InputError
from .resize import Plane

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # mode -> what a profile calls it
NEAR = 2  # of 255: what moves no value by more is taken for sRGB
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)


def planes(image: "Image") -> Callable[["Image"], Iterator[Plane]]:
    """Loads `image`; gives a function from pieces of it to their 1 or 3 planes. Raises InputError."""
    key = _transparent_value(image)  # before Pillow forgets how deep the file was
    image.load()
    if 2 in np.atleast_1d(_tag(image, SAMPLE_FORMAT, 1)):
        raise InputError("signed integers do not say which value is white; save it unsigned, or give a float array in [0, 1]")
    convert = _conversion(image)
    if image.mode in DEEP:
        return _deep(image, convert, key)

    def read(piece: "Image") -> Iterator[Plane]:
        if key is not None:
            piece.info["transparency"] = key
        alpha = None
        if piece.has_transparency_data:
            piece = piece.convert("LA" if piece.mode in ("LA", "La") else "RGBA")
            alpha = _unit(piece.getchannel("A"))
            piece = piece.convert(piece.mode[:-1])
        if convert.transform:
            mode = convert.transform.input_mode
            piece = convert.transform.apply(piece if piece.mode == mode else piece.convert(mode))
        elif piece.mode != "L":
            piece = piece.convert("L" if piece.mode == "1" else "RGB")
        for band in piece.getbands():
            plane = convert.curve(_unit(piece.getchannel(band)))
            yield plane if alpha is None else over_white(plane, alpha)

    return read


def over_white(plane: Any, alpha: Any) -> Any:
    """A plane, array or tensor, with its transparency laid over white."""
    return plane * alpha + (1 - alpha)


def check_range(low: float, high: float) -> None:
    """Raises InputError unless float pixels between `low` and `high` are in [0, 1]."""
    if low < -1e-3 or high > 1 + 1e-3:
        fix = "map [-1, 1] by (x + 1) / 2" if low < -1e-3 and high <= 1 + 1e-3 else "divide 8-bit values by 255"
        raise InputError(f"float pixels must lie in [0, 1], got {low:.3g}..{high:.3g}: {fix}")


def check_finite(bad: int) -> None:
    """Raises InputError if pixels are not finite. bad: how many."""
    if bad:
        raise InputError(f"{bad} pixels are NaN or infinite; repair or drop the image")


def _unit(band: "Image") -> Plane:
    return np.divide(np.asarray(band), 255, dtype=np.float32)


def _tag(image: "Image", tag: int, default: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _transparent_value(image: "Image") -> Any:
    """PNG's one transparent grey or colour, on the scale of what Pillow makes of the pixels; None for other transparency."""
    key = image.info.get("transparency")
    if key is None or image.mode in ("P", "PA"):
        return None
    tiles = getattr(image, "tile", None)
    depth = tiles[0][3] if tiles else ""
    if depth == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key * {"L;2": 85, "L;4": 17}.get(depth, 1) if isinstance(key, int) and isinstance(depth, str) else key


def _deep(image: "Image", convert: "_Conversion", key: int | None) -> Callable[["Image"], Iterator[Plane]]:
    """Reading of greyscale in more than 8 bits."""
    bits, inverted = int(np.atleast_1d(_tag(image, BITS, 16))[0]), _tag(image, PHOTOMETRIC, 1) == 0
    white = np.float32(2**bits - 1)
    if image.mode == "F":
        low, high = cast(tuple[float, float], image.getextrema())
        check_finite(0 if math.isfinite(low + high) else 1)
        check_range(low, high)
    elif image.mode == "I" and bits < 32:
        low, high = cast(tuple[float, float], image.getextrema())
        if low < 0 or high > white:
            raise InputError(f"mode I is read as 16-bit grey, got {low}..{high}; give a float array in [0, 1]")

    def read(piece: "Image") -> Iterator[Plane]:
        raw = np.asarray(piece)
        if image.mode == "F":
            check_finite(int((~np.isfinite(raw)).sum()))
            plane = raw.clip(0, 1)
        else:  # Pillow keeps 32 unsigned bits as signed ones
            plane = (raw.view(np.uint32) if bits == 32 else raw).astype(np.float32) / white
        plane = convert.curve(1 - plane if inverted else plane)
        yield plane if key is None else np.where(raw == key, np.float32(1), plane)

    return read


class _Conversion(NamedTuple):
    """What makes a picture sRGB: a transform of its 8-bit colours, or a curve for each plane."""

    transform: "ImageCmsTransform | None" = None
    curve: Callable[[Plane], Plane] = lambda plane: plane


def _conversion(image: "Image") -> _Conversion:
    profile, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    if image.mode in ("F", "LAB"):
        return _cielab() if image.mode == "LAB" else _Conversion()
    if isinstance(profile, bytes):
        grey = image.mode in (*DEEP, "1", "L", "LA", "La")
        conversion = _of_profile(profile, "L" if grey else "CMYK" if image.mode == "CMYK" else "RGB")
        if conversion:
            return conversion
    if not isinstance(gamma, float) or not gamma or isinstance(image.info.get("srgb"), int):  # a text of this name is none
        return _Conversion()
    exponent = 1 / (2.2 * gamma)
    near = np.abs(LEVELS**exponent - LEVELS).max() * 255 <= NEAR
    return _Conversion() if near else _Conversion(curve=lambda plane: plane ** np.float32(exponent))


@lru_cache(maxsize=16)
def _of_profile(data: bytes, mode: str) -> _Conversion | None:
    """None for a profile that is damaged or of another kind than `mode`."""
    from PIL import Image, ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if profile.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (OSError, ImageCms.PyCMSError):
        return None
    if mode == "CMYK":
        return _Conversion(transform)
    ramp = np.arange(256, dtype=np.uint8)
    probe = ramp[None] if mode == "L" else np.stack(np.meshgrid(*[ramp[::51]] * 3), -1).reshape(1, -1, 3)
    moved = np.asarray(transform.apply(Image.fromarray(probe)))
    if np.abs(moved[..., 1 if mode == "L" else slice(None)].astype(int) - probe).max() <= NEAR:
        return _Conversion()
    if mode == "RGB":
        return _Conversion(transform)
    table = _unit(Image.fromarray(moved[..., 1]))[0]
    return _Conversion(curve=lambda plane: np.interp(plane, LEVELS, table).astype(np.float32))


@lru_cache(maxsize=1)
def _cielab() -> _Conversion:
    from PIL import ImageCms

    return _Conversion(ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"))
