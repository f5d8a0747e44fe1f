"""Arrays and lists of things, for audio and for images alike."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


def items(source: Any, what: str) -> Sequence[Any]:
    """A list of sources of `what` ("audio" or "images"). Raises InputError for everything else."""
    kinds = "paths, numpy arrays, tensors, PIL images" if what == "images" else "paths, numpy arrays, tensors, Audio, files"
    if not isinstance(source, list | tuple):
        raise InputError(f"cannot take {what} from a {type(source).__name__}; give {kinds}, or a list of them")
    if not source:
        raise InputError(f"an empty list holds no {what}; give at least one item")
    if isinstance(source[0], int | float | np.number):
        raise InputError(f"a list of numbers is ambiguous; give {what} as a numpy array or a tensor")
    return source


def in_memory(source: bytes | bytearray | memoryview) -> io.BytesIO:
    """The bytes of a file as a file object. Raises InputError for what holds none."""
    if not isinstance(source, bytes | bytearray | memoryview):
        raise InputError(f"the bytes of a file come as bytes, not as {type(source).__name__}")
    return io.BytesIO(source.tobytes() if isinstance(source, memoryview) and not source.contiguous else source)


def to_tensor(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    """A CPU tensor of an array or tensor. Raises InputError for types that torch does not know."""
    if isinstance(source, Tensor):
        if source.layout != torch.strided or source.is_nested or source.is_meta:
            raise InputError("a sparse, nested or meta tensor does not hold all of its values; give a dense one")
        return source.detach().cpu()
    dtype = np.dtype(np.float64) if source.dtype == np.longdouble else source.dtype.newbyteorder("=")
    try:
        # A copy, because torch warns of read-only arrays, and in the machine's byte order, because it knows no other.
        return torch.from_numpy(np.array(source, dtype, order="C"))
    except TypeError as error:
        raise InputError(f"arrays of type {source.dtype} are not understood; give numbers, e.g. float32") from error
