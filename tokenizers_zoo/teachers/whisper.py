"""Whisper's encoder, with a front end that lets gradients pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..fourier import power, stft
from ..frozen import Frozen
from .base import RATE, open_model

SECONDS, N_FFT, HOP = 30, 400, 160


class WhisperLogMel(nn.Module):
    """Whisper's log-mel spectrogram, differentiable (openai/whisper, audio.py).

    Hann window of 400, hop 160, reflection at both ends, power, Slaney's filters, log10 floored at 8 below the loudest value
    of each clip, then (x + 4) / 4. `batch_floor`: one floor for the whole batch, as the original has it.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, n_mels: int = 80):
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        filters = melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, n_mels, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, waveform: Tensor, batch_floor: bool = False) -> Tensor:
        """Waveform (B, S) at 16 kHz -> (B, n_mels, S // 160), about -1.5 to 1.5."""
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self.filters @ power(stft(waveform, self.window, HOP)[..., :-1])
            logs = mel.clamp(min=1e-10).log10()
            loudest = logs.amax() if batch_floor else logs.amax((1, 2), keepdim=True)
            return (torch.maximum(logs, loudest - 8) + 4) / 4


class WhisperEncoder(Frozen):
    """A frozen Whisper encoder with its front end: waveform (B, S) at 16 kHz -> features (B, S // 320, dim), normalised.

    path: Hugging Face name or local folder. The clip is heard at its own length; the model's own forward insists on 30 s.
    """

    def __init__(self, path: str):
        super().__init__()
        from transformers import WhisperModel

        model = open_model(WhisperModel, path)
        self.encoder: Any = model.encoder.eval().requires_grad_(False)
        self.mel = WhisperLogMel(model.config.num_mel_bins)
        self.dim = model.config.d_model

    def states(self, mel: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        """All hidden states (B, T / 2, dim) of log-mels (B, n_mels, T); the last is normalised, as the decoder gets it.

        lengths: int64 (B,), where items are shorter than T; up to there (lengths / 2, rounded up) states are those of each alone.
        """
        x, mask = F.gelu(self.encoder.conv1(mel)), None
        if lengths is not None:
            there = torch.arange(mel.shape[-1], device=mel.device) < lengths[:, None]
            x = x * there[:, None]  # the zeros that the next convolution finds beyond the end of an item alone
            mask = torch.zeros(there[:, None, None, ::2].shape, device=x.device, dtype=x.dtype)
            mask = mask.masked_fill(~there[:, None, None, ::2], -torch.inf)
        x = F.gelu(self.encoder.conv2(x)).transpose(1, 2)
        states = [x + self.encoder.embed_positions.weight[: x.shape[1]]]
        for layer in self.encoder.layers:
            states.append(layer(states[-1], mask))
        return [*states[:-1], self.encoder.layer_norm(states[-1])]

    def forward(self, waveform: Tensor, batch_floor: bool = False) -> Tensor:
        """(B, S) -> (B, S // 320, dim). Raises InputError for more than 30 s."""
        if waveform.shape[-1] > SECONDS * RATE:
            raise InputError(f"Whisper hears at most {SECONDS} s, got {waveform.shape[-1] / RATE:.1f} s: train on shorter crops")
        return self.states(self.mel(waveform, batch_floor))[-1]
