"""Samples in arrays and tensors, as every entrance takes them: whole files, lists and the chunks of a stream."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .arrays import to_tensor

FULL_SCALE = {torch.int8: 2.0**7, torch.uint8: 2.0**7, torch.int16: 2.0**15, torch.int32: 2.0**31}
LOUDEST = 16.0  # float samples beyond this are integers that were not scaled


def as_wave(chunk: "np.ndarray[Any, Any] | Tensor", empty: bool = False) -> Tensor:
    """An array or tensor (S,), (C, S) or (B, C, S) of any type that `as_audio` takes -> mono float32 (B, 1, S), on the CPU.

    empty: whether there may be no samples. Raises InputError as `as_audio` does.
    """
    if not isinstance(chunk, np.ndarray | Tensor):
        raise InputError(f"samples must be a numpy array or a tensor, got {type(chunk).__name__}; read files whole with encode")
    wave = wave_of(chunk, empty)
    return wave if wave.shape[1] == 1 else wave.mean(1, keepdim=True)


def described(value: Any) -> str:
    """Type and shape of an array or tensor, the type of anything else."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, np.ndarray | Tensor) else type(value).__name__


def wave_of(source: "np.ndarray[Any, Any] | Tensor", empty: bool = False) -> Tensor:
    """Float32 (B, C, S) of an array or tensor."""
    wave = to_tensor(source)
    if wave.ndim not in (1, 2, 3):
        raise InputError(f"audio must be (samples,), (channels, samples) or (batch, channels, samples), got {tuple(wave.shape)}")
    if wave.ndim > 1 and wave.shape[-2] > 2:
        raise InputError(
            f"audio of shape {tuple(wave.shape)} has {wave.shape[-2]} channels: transpose (samples, channels) to "
            f"(channels, samples), give a batch of mono clips as a list or as (B, 1, S), or mix to mono first"
        )
    wave = wave.reshape(*[1] * (3 - wave.ndim), *wave.shape)
    if wave.dtype in FULL_SCALE:
        wave = (wave.float() - (128 if wave.dtype == torch.uint8 else 0)) / FULL_SCALE[wave.dtype]
    elif not wave.is_floating_point():
        raise InputError(
            f"audio of type {wave.dtype} is not understood, because nothing tells its full scale; give float in [-1, 1], int16, "
            f"int32, int8 or uint8"
        )
    wave = wave.float()
    if wave.numel() or not empty:
        check_wave(wave)
    return wave


def check_wave(wave: Tensor, where: str = "") -> None:
    """Raises InputError for samples that no sound has; `where` comes first in its text."""
    if not wave.numel():
        raise InputError(f"{where}there is no audio in an array of shape {tuple(wave.shape)}; give at least one sample")
    low, high = wave.min(), wave.max()  # either is NaN if any sample is
    if not (low.isfinite() and high.isfinite()):
        raise InputError(f"{where}{int((~wave.isfinite()).sum())} samples are NaN or infinite; repair or drop the clip")
    peak = max(-float(low), float(high))
    if peak > LOUDEST:
        raise InputError(f"{where}samples reach {peak:.0f}; these look like integers stored as float: divide by 32768")
