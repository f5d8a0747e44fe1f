"""Pictures of sound and of pictures, for logs and reports."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .fourier import stft


def grid(rows: Sequence[Tensor]) -> Tensor:
    """Rows of pictures (N, C, H, W) -> one picture (C, rows * H, N * W)."""
    return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)


def spectrogram(waveform: Tensor, n_fft: int = 512) -> Tensor:
    """(B, 1, S) -> grey pictures (B, 1, n_fft / 2 + 1, frames), low frequencies at the bottom, 80 dB from black to white."""
    window = torch.hann_window(n_fft, device=waveform.device)
    db = 20 * stft(waveform[:, 0], window, n_fft // 4).abs().clamp(min=1e-5).log10()
    top = db.amax(dim=(1, 2), keepdim=True)
    return ((db - top + 80) / 80).clamp(0, 1).flip(1)[:, None]
