"""Another sample rate, at a cost that the rates do not set.

Ratios of small numbers, as between all usual rates (8, 11.025, 12, 16, 22.05, 24, 32, 44.1, 48, 96 kHz, ...), go through
torchaudio's windowed sinc (the samples are those of torchaudio.functional.resample; within 2e-6 where the ratio is whole). Its
kernel has as many entries as the product of the two numbers, for 16,001 to 16,000 Hz 256 million; such ratios go through soxr.
Its filter is steeper: where torchaudio's begins to close, at 6.7 kHz for 16 kHz, soxr's is still open. On the speech of
tests/data, read as 16,001, 15,999 or 11,027 Hz, what differs is 44 to 65 dB below the signal. At 15,900 Hz, where both can run,
half of dm-codec-tiny's codes are others (its later codebooks tell noise apart), and STOI of what it decodes moves by 0.0015 at
most, lm-spt-tiny's by 0.0031.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError

LOWEST, HIGHEST = 1_000, 768_000  # Hz
SMALL = 300_000  # product of a reduced ratio's numbers up to which torchaudio resamples; 11,025 to 16,000 Hz has 441 * 640
SIDE_BY_SIDE = 40  # samples that one step of the kernel takes where it would take one, at a sixth of the speed
PIECE = 60.0  # seconds resampled at a time
VALUES = 1 << 22  # of a piece at most
SHORT = 1 << 16  # samples of a piece for soxr: longer ones leave the processor's cache


def resampled(wave: Tensor, old: int, new: int) -> Tensor:
    """(1, C, S) at `old` Hz -> (1, C, ceil(S * new / old)). Raises InputError for rates that no sound has."""
    for rate in (old, new):
        if not LOWEST <= rate <= HIGHEST:
            raise InputError(
                f"cannot resample {old} to {new} Hz: rates are from {LOWEST:,} to {HIGHEST:,} Hz; check what the file or the "
                f"call states"
            )
    divisor = math.gcd(old, new)
    small = old // divisor * (new // divisor) <= SMALL
    return (_by_sinc if small else _by_soxr)(wave, old, new)


def _by_sinc(wave: Tensor, old: int, new: int) -> Tensor:
    """In pieces that overlap by more than the filter's reach."""
    try:
        from torchaudio.functional import functional as sinc
    except (ImportError, OSError) as error:
        raise ImportError(
            f"resampling {old} to {new} Hz needs torchaudio, which does not import here ({error}); install the torchaudio that "
            f"belongs to the installed torch {torch.__version__}, or give audio at {new} Hz"
        ) from error
    divisor = math.gcd(old, new)
    scale = SIDE_BY_SIDE if old == divisor else 1
    step_in, step_out = scale * old // divisor, scale * new // divisor
    kernel, width = _kernel(step_in, step_out, wave.dtype)
    kernel = kernel.to(wave.device)
    seconds = min(PIECE, VALUES / wave.shape[1] / max(old, new))
    size = max(1, round(seconds * divisor / scale))  # in steps; a step is step_in samples, step_out after
    margin = 1 + math.ceil(20 * max(step_in, step_out) / step_in / step_out)  # filter reach: about 6 zero crossings
    total = wave.shape[-1]
    result = wave.new_empty(1, wave.shape[1], -(-total * new // old))
    for start in range(0, -(-total // step_in), size):
        first = max(0, start - margin)
        piece = wave[..., first * step_in : (start + size + margin) * step_in]
        piece = sinc._apply_sinc_resample_kernel(piece, step_in, step_out, 1, kernel, width)
        room = result[..., start * step_out : (start + size) * step_out]
        room.copy_(piece[..., (start - first) * step_out :][..., : room.shape[-1]])
    return result


@lru_cache(maxsize=16)
def _kernel(step_in: int, step_out: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    """What torchaudio.functional.resample makes at every call: (step_out, 1, 2 * width + step_in), and the width."""
    from torchaudio.functional import functional as sinc

    return sinc._get_sinc_resample_kernel(step_in, step_out, 1, dtype=dtype)


def _by_soxr(wave: Tensor, old: int, new: int) -> Tensor:
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise ImportError(
            f"resampling {old} to {new} Hz needs soxr, which does not import ({error}); install it, or give audio at {new} Hz"
        ) from error
    total, size = wave.shape[-1], max(1, SHORT * old // max(old, new))
    result = wave.new_zeros(1, wave.shape[1], -(-total * new // old))
    # 16 bits in place of 20, at two thirds of the time, where an input gives many outputs
    quality = "HQ" if new < 2 * old else "MQ"
    for channel, room in zip(wave[0], result[0], strict=True):
        stream, done = soxr.ResampleStream(old, new, 1, quality=quality), 0
        for start in range(0, total, size):
            piece = channel[start : start + size].detach().float().cpu().numpy()
            piece = stream.resample_chunk(piece, last=start + size >= total)
            piece = piece[: len(room) - done]
            room[done : done + len(piece)] = torch.from_numpy(piece)
            done += len(piece)
    return result
