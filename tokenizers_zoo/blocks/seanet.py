"""SEANet encoder and decoder: strided convolutions with residual units and an LSTM.

Sources: SEANet (arXiv 2009.02095), EnCodec (arXiv 2210.13438; facebookresearch/encodec, modules/seanet.py), SpeechTokenizer
and DM-Codec (ZhangXInFD/SpeechTokenizer, mubtasimahasan/DM-Codec: the same with a bidirectional LSTM in the encoder).
The options that tell the published models apart:

                    filters   lstm, encoder / decoder             norm              causal   true_skip   last_kernel
    DM-Codec             64   bidirectional / unidirectional      weight_norm       no       no          7
    EnCodec 24 kHz       32   unidirectional / unidirectional     weight_norm       yes      no          7
    EnCodec 48 kHz       32   unidirectional / unidirectional     time_group_norm   no       no          7
    Mimi                 64   none / none                         none              yes      yes         3

Options of both: `filters`, channels at the waveform, doubled by every stage; `strides`, in the order in which the module
applies them; `lstm`, kind of the two-layer LSTM at frame rate; `true_skip`, whether a residual unit's shortcut is the
identity and not a 1x1 convolution; `norm`, `pad_mode` and `causal` as in `Conv1d`. A causal network that reflects
sees the future in its first frames, and does not call itself causal.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Literal

import torch
from torch import Tensor, nn

from .base import AudioDecoder, AudioEncoder
from .chain import Chain, in_tiles
from .conv1d import LSTM, Conv1d, ConvTranspose1d, Norm, PadMode

LSTMKind = Literal["none", "unidirectional", "bidirectional"]
KERNEL, RESIDUAL_KERNEL, LSTM_LAYERS = 7, 3, 2  # the same in all published models
CONTEXT = KERNEL + RESIDUAL_KERNEL  # frames of `in_tiles`; a stage reaches KERNEL - 1 + RESIDUAL_KERNEL - 1 + stride samples


class ELU(nn.ELU):
    """ELU that hands the lengths on."""

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        """(B, C, T) -> (B, C, T)."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype == torch.float64:
            return super().forward(x), lengths
        # 4 times as fast as F.elu on a CPU, whose expm1 is slow; max picks the branch since exp(x) - 1 >= x
        return torch.maximum(x, x.clamp(max=0).float().exp_().sub_(1).to(x.dtype)), lengths


class ResidualUnit(nn.Module):
    """ELU, convolution to half the channels, ELU, 1x1 convolution back, added to the shortcut."""

    def __init__(self, channels: int, true_skip: bool, conv: "partial[Conv1d]"):
        super().__init__()
        self.block = Chain([ELU(), conv(channels, channels // 2, RESIDUAL_KERNEL), ELU(), conv(channels // 2, channels, 1)])
        self.shortcut = None if true_skip else conv(channels, channels, 1)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T) -> (B, C, T)."""
        y, _ = self.block(x, lengths)
        return y + (self.shortcut(x, lengths)[0] if self.shortcut else x), lengths


class SEANetEncoder(AudioEncoder):
    """Waveform (B, channels, S) -> latents (B, ceil(S / hop), dim)."""

    def __init__(
        self,
        dim: int,
        filters: int,
        strides: Sequence[int],
        lstm: LSTMKind = "unidirectional",
        norm: Norm = "weight_norm",
        pad_mode: PadMode = "reflect",
        causal: bool = False,
        true_skip: bool = False,
        last_kernel: int = KERNEL,
        channels: int = 1,
    ):
        super().__init__()
        conv = partial(Conv1d, norm=norm, pad_mode=pad_mode, causal=causal)
        layers: list[nn.Module] = [conv(channels, filters, KERNEL)]
        width = filters
        bounds = [0]
        for stride in strides:
            layers += [ResidualUnit(width, true_skip, conv), ELU(), conv(width, 2 * width, 2 * stride, stride)]
            width *= 2
            bounds.append(len(layers))
        if lstm != "none":
            layers.append(LSTM(width, LSTM_LAYERS, lstm == "bidirectional"))
            width *= 2 if lstm == "bidirectional" else 1
        self.layers = Chain([*layers, ELU(), conv(width, dim, last_kernel)])
        self.stages = _stages(bounds, strides, norm)
        self.dim, self.hop = dim, math.prod(strides)
        self.causal = causal and lstm != "bidirectional" and pad_mode == "constant"
        finite = lstm == "none" and norm != "time_group_norm"
        self.receptive_field = _frames_in_reach(strides, last_kernel, self.hop) if finite else None

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform (B, channels, S), lengths (B,) in samples -> (B, T, dim)."""
        x, last = waveform.to(next(self.parameters()).dtype), 0
        for first, last, stride in self.stages:
            x, lengths = in_tiles(self.layers[first:last], x, lengths, stride, 1, CONTEXT)
        return self.layers[last:](x, lengths)[0].transpose(1, 2)


class SEANetDecoder(AudioDecoder):
    """Latents (B, T, dim) -> waveform (B, channels, T * hop). No final activation: samples may exceed +-1."""

    def __init__(
        self,
        dim: int,
        filters: int,
        strides: Sequence[int],
        lstm: LSTMKind = "unidirectional",
        norm: Norm = "weight_norm",
        pad_mode: PadMode = "reflect",
        causal: bool = False,
        true_skip: bool = False,
        last_kernel: int = KERNEL,
        channels: int = 1,
    ):
        super().__init__()
        conv = partial(Conv1d, norm=norm, pad_mode=pad_mode, causal=causal)
        width = filters * 2 ** len(strides)
        layers: list[nn.Module] = [conv(dim, width, KERNEL)]
        if lstm == "bidirectional":
            raise ValueError("a SEANet decoder has a unidirectional LSTM or none")
        if lstm == "unidirectional":
            layers.append(LSTM(width, LSTM_LAYERS))
        bounds = [len(layers)]
        for stride in strides:
            layers += [ELU(), ConvTranspose1d(width, width // 2, stride, norm=norm, causal=causal)]
            width //= 2
            layers.append(ResidualUnit(width, true_skip, conv))
            bounds.append(len(layers))
        self.layers = Chain([*layers, ELU(), conv(width, channels, last_kernel)])
        self.stages = _stages([*bounds[:-1], len(self.layers)], strides, norm)
        self.dim, self.hop = dim, math.prod(strides)
        self.causal = causal and pad_mode == "constant"
        finite = lstm == "none" and norm != "time_group_norm"
        self.receptive_field = _frames_in_reach(strides[::-1], last_kernel, self.hop) if finite else None

    def forward(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """latents (B, T, dim), lengths (B,) in frames -> (B, channels, T * hop)."""
        head = self.stages[0][0] if self.stages else len(self.layers)
        x, lengths = self.layers[:head](latents.transpose(1, 2), lengths)
        for first, last, stride in self.stages:
            x, lengths = in_tiles(self.layers[first:last], x, lengths, 1, stride, CONTEXT)
        return x


def _stages(bounds: Sequence[int], strides: Sequence[int], norm: Norm) -> list[tuple[int, int, int]]:
    """First layer, layer after the last, and stride of what `in_tiles` may run: none where a norm needs the whole clip."""
    return [] if norm == "time_group_norm" else list(zip(bounds, bounds[1:], strides, strict=False))


def _frames_in_reach(strides: Sequence[int], last_kernel: int, hop: int) -> int:
    """Frames on one side of a frame that can influence it: all of the kernels' reach, as if it lay on that side.

    `strides` in encoder order; layer by layer, its reach in samples is (kernel - 1) * samples between its inputs. The decoder
    mirrors the encoder; its kernel at frame rate is KERNEL and its last one sits at the waveform.
    """
    spacing = list(accumulate(strides, mul, initial=1))
    reach = max(KERNEL, last_kernel) - 1 + (max(KERNEL, last_kernel) - 1) * hop
    for stride, samples in zip(strides, spacing, strict=False):
        reach += (RESIDUAL_KERNEL - 1 + 2 * stride - 1) * samples
    return -(-reach // hop)
