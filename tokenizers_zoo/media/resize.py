"""Cropping and resizing a picture that is read piece by piece, so that only a piece of it is ever in floating point."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

Plane: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"  # (h, w) in [0, 1]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom
Size: TypeAlias = tuple[int, int]  # height, width

STRIP = 1 << 20  # source pixels in floating point at a time: 4 MB a plane


class Picture(NamedTuple):
    """A picture as it is stored. size: (height, width), fractions where the decoder shrank it. read: a box -> its 1 or 3 sRGB
    planes. orientation: EXIF's, 1 to 8, what has to be done to see it upright.
    """

    size: tuple[float, float]
    read: Callable[[Box], Iterable[Plane]]
    orientation: int = 1

    @property
    def turned(self) -> bool:
        """Whether height and width change places when it is put upright."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def upright(self) -> tuple[float, float]:
        """(height, width) when it is put upright."""
        return self.size[::-1] if self.turned else self.size


def covering(size: tuple[float, float], target: Size) -> Size:
    """The least size of the same shape, to whole pixels, that a `target` can be cut from."""
    height, width = size
    if target[0] * width >= target[1] * height:
        return target[0], max(target[1], round(width * target[0] / height))
    return max(target[0], round(height * target[1] / width)), target[1]


def resize_crop(picture: Picture, target: Size, where: float = 0.5) -> Tensor:
    """The upright picture resized to cover `target` (bicubic, antialiased, clamped to [0, 1]) and cropped: (3, height, width).

    where: 0 crops at the top and left, 0.5 the centre, 1 at the bottom and right. Equal to resizing all of it first, at the cost
    of what the crop shows: Pillow's filter looks beyond the box that it is given.
    """
    flipped = (picture.orientation in (3, 4, 7, 8), picture.orientation in (2, 3, 6, 7))
    whole = covering(picture.upright, target)
    start = [int((all_ - part) * where) for all_, part in zip(whole, target, strict=True)]
    start = [whole[i] - target[i] - start[i] if flipped[i] else start[i] for i in (0, 1)]
    if picture.turned:  # from here on as it is stored
        whole, target, start = whole[::-1], target[::-1], start[::-1]
    steps = [side / all_ for side, all_ in zip(picture.size, whole, strict=True)]
    y, x = (_span(start[i], start[i] + target[i], steps[i], picture.size[i]) for i in (0, 1))
    pixels = _down(_across(picture, y, x, target[1]), y, target[0]).clip(0, 1)
    if picture.turned:
        pixels = pixels.swapaxes(1, 2)
    return torch.from_numpy(np.ascontiguousarray(pixels[:, :: -1 if flipped[0] else 1, :: -1 if flipped[1] else 1]))


class _Span(NamedTuple):
    """Along one axis: the box to resize, and the whole pixels that its filter reads."""

    low: float
    high: float
    first: int
    last: int


def _span(start: int, end: int, step: float, side: float) -> _Span:
    reach = 0.0 if step == 1 else 2 * max(step, 1) + 1  # a bicubic filter's, and one for rounding
    low, high = start * step, min(end * step, side)
    return _Span(low, high, max(0, math.floor(low - reach)), min(math.ceil(side), math.ceil(high + reach)))


def _across(picture: Picture, y: _Span, x: _Span, width: int) -> "np.ndarray[Any, Any]":
    """All rows that the filter reads, resized to `width`: (1 or 3, rows, width)."""
    from PIL import Image

    rows = np.empty((3, y.last - y.first, width), np.float32)
    height, count = max(1, STRIP // (x.last - x.first)), 0
    for top in range(y.first, y.last, height):
        bottom = min(top + height, y.last)
        box = (x.low - x.first, 0, x.high - x.first, bottom - top)
        for count, plane in enumerate(picture.read((x.first, top, x.last, bottom)), 1):
            resized = Image.fromarray(plane).resize((width, bottom - top), Image.Resampling.BICUBIC, box)
            rows[count - 1, top - y.first : bottom - y.first] = np.asarray(resized)
    return rows[:count]


def _down(planes: "np.ndarray[Any, Any]", y: _Span, height: int) -> "np.ndarray[Any, Any]":
    """Those rows resized to `height`: (3, height, width)."""
    from PIL import Image

    size, box = (planes.shape[2], height), (0, y.low - y.first, planes.shape[2], y.high - y.first)
    resized = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC, box)) for plane in planes]
    return np.stack(resized * (3 // len(resized)))
