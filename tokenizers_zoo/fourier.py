"""The short-time Fourier transform. How a clip is padded and what becomes of its spectrum each caller says, as published."""

import torch
from torch import Tensor


def stft(waveform: Tensor, window: Tensor, hop: int, n_fft: int | None = None, centred: bool = True) -> Tensor:
    """Spectrum of (B, S) in float32, complex (B, n_fft / 2 + 1, frames).

    n_fft: the window's length unless given; a shorter window stands in the middle. centred: the clip is reflected at both ends by
    half of n_fft.
    """
    n_fft = n_fft or len(window)
    return torch.stft(waveform.float(), n_fft, hop, len(window), window.float(), center=centred, return_complex=True)


def power(spectrum: Tensor) -> Tensor:
    """Squared magnitude of a complex spectrum; unlike that of `abs()` its gradient is finite where the spectrum is 0."""
    return spectrum.real.square() + spectrum.imag.square()
