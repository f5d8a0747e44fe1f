"""DAC encoder and decoder: strided convolutions, dilated residual units, Snake.

Sources: DAC (arXiv 2306.06546; descriptinc/descript-audio-codec), Snake (arXiv 2006.08195), LM-SPT (kakao/lmspt). Weight norm
throughout, zeros around the clip. Options of both: `filters`, channels at the waveform, doubled by every stage; `strides`, in
the order in which the module applies them; `causal`, all padding on the left; `complete`, whether a clip is continued by zeros
to whole frames. The published models drop an incomplete frame, and give one sample less at every odd stride: complete=False.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .base import AudioDecoder, AudioEncoder, Count
from .chain import Chain, in_tiles
from .conv1d import Conv1d, ConvTranspose1d

KERNEL, DILATIONS = 7, (1, 3, 9)
REACH = (KERNEL - 1) * sum(DILATIONS)  # samples, of the three residual units of a stage


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, alpha learned for each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T) -> (B, C, T)."""
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9), lengths


class ResidualUnit(nn.Module):
    """Snake, dilated convolution, Snake, 1x1 convolution, added to the input."""

    def __init__(self, channels: int, dilation: int, conv: "partial[Conv1d]"):
        super().__init__()
        dilated = conv(channels, channels, KERNEL, dilation=dilation)
        self.block = Chain([Snake(channels), dilated, Snake(channels), conv(channels, channels, 1)])

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T) -> (B, C, T)."""
        return x + self.block(x, lengths)[0], lengths


class DACEncoder(AudioEncoder):
    """Waveform (B, 1, S) -> latents (B, ceil(S / hop), dim)."""

    def __init__(self, dim: int, filters: int, strides: Sequence[int], causal: bool = False, complete: bool = True):
        super().__init__()
        self.dim, self.hop, self.causal = dim, math.prod(strides), causal
        self.strides, self.complete = tuple(strides), complete
        conv = partial(Conv1d, pad_mode="constant", causal=causal, complete=complete)
        stages = []
        width = filters
        reach, spacing = KERNEL - 1, 1  # samples that a frame depends on, and between the inputs of a layer
        for stride in strides:
            units = [ResidualUnit(width, dilation, conv) for dilation in DILATIONS]
            stages.append(Chain([*units, Snake(width), conv(width, 2 * width, 2 * stride, stride)]))
            reach += (REACH + 2 * stride - 1) * spacing
            spacing *= stride
            width *= 2
        self.layers = Chain([conv(1, filters, KERNEL), *stages, Snake(width), conv(width, dim, 3)])
        self.receptive_field = _one_sided_frames(reach + 2 * self.hop, self.hop, causal)
        _start(self)

    def frames(self, samples: Count) -> Count:
        """ceil(samples / hop), or what published models make of it."""
        for stride in self.strides:
            samples = -(-samples // stride) if self.complete else (samples + stride % 2) // stride
        return samples

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform (B, 1, S), lengths (B,) in samples -> (B, T, dim)."""
        x, lengths = self.layers[0](waveform.to(next(self.parameters()).dtype), lengths)
        for stage, stride in zip(self.layers[1:-2], self.strides, strict=True):
            x, lengths = in_tiles(stage, x, lengths, stride, 1, REACH) if self.complete else stage(x, lengths)
        return self.layers[-2:](x, lengths)[0].transpose(1, 2)


class DACDecoder(AudioDecoder):
    """Latents (B, T, dim) -> waveform (B, 1, T * hop) in (-1, 1)."""

    def __init__(self, dim: int, filters: int, strides: Sequence[int], causal: bool = False, complete: bool = True):
        super().__init__()
        self.dim, self.hop, self.causal = dim, math.prod(strides), causal
        self.strides, self.complete = tuple(strides), complete
        conv = partial(Conv1d, pad_mode="constant", causal=causal, complete=complete)
        stages = []
        width = filters * 2 ** len(strides)
        reach, spacing = (KERNEL - 1) * self.hop, self.hop  # as the encoder's
        head = conv(dim, width, KERNEL)
        for stride in strides:
            up = ConvTranspose1d(width, width // 2, stride, causal=causal, complete=complete)
            spacing //= stride
            width //= 2
            stages.append(Chain([Snake(2 * width), up, *(ResidualUnit(width, dilation, conv) for dilation in DILATIONS)]))
            reach += (REACH + 2 * stride - 1) * spacing
        self.layers = Chain([head, *stages, Snake(width), conv(width, 1, KERNEL)])
        self.receptive_field = _one_sided_frames(reach + KERNEL - 1, self.hop, causal)
        _start(self)

    def samples(self, frames: Count) -> Count:
        """frames * hop, or what published models make of it."""
        for stride in self.strides:
            frames = frames * stride - (0 if self.complete else stride % 2)
        return frames

    def forward(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """latents (B, T, dim), lengths (B,) in frames -> (B, 1, T * hop)."""
        x, lengths = self.layers[0](latents.transpose(1, 2), lengths)
        for stage, stride in zip(self.layers[1:-2], self.strides, strict=True):
            x, lengths = in_tiles(stage, x, lengths, 1, stride, REACH) if self.complete else stage(x, lengths)
        return self.layers[-2:](x, lengths)[0].tanh()


def _start(module: nn.Module) -> None:
    """DAC's random start: kernels normal with deviation 0.02, biases 0; transposed convolutions as torch starts them."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d):
            part.weight = nn.init.trunc_normal_(torch.empty_like(part.weight), std=0.02)
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]  # all have one


def _one_sided_frames(reach: int, hop: int, causal: bool) -> int:
    """Frames on one side of `reach` samples in all; a causal block has them on one side only."""
    return -(-reach // hop) if causal else -(-reach // (2 * hop)) + 1
