"""Frame-rate blocks: STFT front end, ConvNeXt stack, inverse-STFT head.

Sources: Vocos (arXiv 2306.00814; gemelo-ai/vocos), ConvNeXt (arXiv 2201.03545). All work runs at frame rate, which a CPU can
train; the waveform is touched by Fourier transforms only. Padding is by zeros, so that the frames of a clip are the same
whether silence of a batch or nothing follows it. Options of encoder and decoder: `group`, spectral frames of `stride` samples
that make one latent; `causal`, no frame depends on what comes after it.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..fourier import stft
from .base import AudioDecoder, AudioEncoder
from .conv1d import zero_past

KERNEL = 7


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, LayerNorm, two-layer perceptron, scaled residual."""

    def __init__(self, width: int, expansion: int, scale: float, causal: bool):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL, groups=width)
        self.padding = KERNEL - 1 if causal else KERNEL // 2
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        y = self.contract(F.gelu(self.expand(self.norm(self._convolved(x, lengths)))))
        return torch.addcmul(x, self.scale, y)

    def _convolved(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The convolution over time, as one over pictures of one row: only there do the channels of a frame stay side by side."""
        rows = zero_past(x.transpose(1, 2), lengths).unsqueeze(2)
        conv, padding = self.depthwise, (0, self.padding)
        y = F.conv2d(rows, conv.weight.unsqueeze(2), conv.bias, padding=padding, groups=conv.groups)
        return y.squeeze(2)[..., : x.shape[1]].transpose(1, 2)


class ConvNeXtStack(nn.Module):
    """Linear map to `width`, `depth` blocks, LayerNorm: (B, T, inputs) -> (B, T, width)."""

    def __init__(self, inputs: int, width: int, depth: int, causal: bool = False, expansion: int = 3):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, expansion, 1 / depth, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.causal = causal
        self.receptive_field = (KERNEL - 1 if causal else KERNEL // 2) * depth

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x (B, T, inputs), lengths (B,) in frames -> (B, T, width)."""
        x = F.linear(x, self.embed.weight) + self.embed.bias  # in one step it rounds by how x lies in memory
        x = self.embed_norm(x)
        for block in self.blocks:
            x = block(x, lengths)
        return self.norm(x)


class STFTEncoder(AudioEncoder):
    """Waveform (B, 1, S) -> latents (B, ceil(S / hop), dim): spectrum, ConvNeXt stack, linear map.

    Features of a frame: log magnitude and the power-compressed complex spectrum (|X|^0.3, as in DCCRN-style front ends), so
    that both loudness and phase are visible at a scale that a network can use.
    """

    def __init__(self, dim: int, hop: int, n_fft: int, width: int, depth: int, group: int = 1, causal: bool = False):
        super().__init__()
        self.dim, self.hop, self.n_fft, self.causal = dim, hop, n_fft, causal
        self.group, self.stride = group, _stride(hop, group)
        self.stack = ConvNeXtStack(3 * (n_fft // 2 + 1), width, depth, causal)
        self.out_proj = nn.Linear(group * width, dim)
        self.receptive_field = _latents_in_reach(self.stack, n_fft, self.stride, group)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform (B, 1, S), lengths (B,) in samples -> (B, T, dim)."""
        return self.latents(self.features(zero_past(waveform, lengths)[:, 0]), lengths)

    @property
    def front(self) -> tuple[int, int, bool]:
        """What `features` depends on besides the waveform: encoders that agree in it can share them."""
        return self.n_fft, self.stride, self.causal

    def latents(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What `features` gives, lengths (B,) in samples -> (B, T, dim)."""
        frames = None if lengths is None else -(-lengths // self.stride)
        x = zero_past(self.stack(features.to(self.out_proj.weight.dtype), frames).transpose(1, 2), frames).transpose(1, 2)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.group))
        return self.out_proj(rearrange(x, "b (t g) c -> b t (g c)", g=self.group))

    @property
    def window(self) -> Tensor:
        """Hann's, (n_fft,), float32 whatever the weights are."""
        return torch.hann_window(self.n_fft, device=self.out_proj.weight.device)

    def features(self, waveform: Tensor) -> Tensor:
        """(B, S) -> (B, ceil(S / stride), 3 * (n_fft / 2 + 1)); a frame is centred on its samples; causal: ends with them."""
        surplus = -waveform.shape[-1] % self.stride
        margin = self.n_fft - self.stride
        left = margin if self.causal else margin // 2
        padded = F.pad(waveform.float(), (left, margin - left + surplus))
        spectrum = stft(padded, self.window, self.stride, centred=False).transpose(1, 2)
        magnitude = spectrum.abs().clamp(min=1e-5)
        compressed = spectrum * magnitude.pow(-0.7)
        return torch.cat([magnitude.log(), compressed.real, compressed.imag], dim=2)


class ISTFTDecoder(AudioDecoder):
    """Latents (B, T, dim) -> waveform (B, 1, T * hop): ConvNeXt stack, magnitude and phase of each frame, overlap-add."""

    def __init__(self, dim: int, hop: int, n_fft: int, width: int, depth: int, group: int = 1, causal: bool = False):
        super().__init__()
        self.dim, self.hop, self.n_fft, self.causal = dim, hop, n_fft, causal
        self.group, self.stride = group, _stride(hop, group)
        self.spread = nn.Linear(dim, group * dim) if group > 1 else nn.Identity()
        self.stack = ConvNeXtStack(dim, width, depth, causal)
        self.head = nn.Linear(width, n_fft + 2)
        self.receptive_field = _latents_in_reach(self.stack, n_fft, self.stride, group)

    def forward(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """latents (B, T, dim), lengths (B,) in frames -> (B, 1, T * hop)."""
        latents = rearrange(self.spread(latents), "b t (g c) -> b (t g) c", g=self.group)
        lengths = None if lengths is None else lengths * self.group
        log_magnitude, phase = self.head(self.stack(latents, lengths)).float().chunk(2, dim=-1)
        # the clamp keeps an untrained head from overflowing; a full-scale sine reaches n_fft / 4 = 320
        magnitude = log_magnitude.exp().clamp(max=1e3)
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # twice as fast as torch.polar on a CPU
        return self._overlap_add(spectrum, lengths)

    @property
    def window(self) -> Tensor:
        """As the encoder's."""
        return torch.hann_window(self.n_fft, device=self.head.weight.device)

    def _overlap_add(self, spectrum: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, n_fft / 2 + 1) -> (B, 1, T * stride)."""
        count = spectrum.shape[1]
        # a causal frame begins with its own samples, so that no later frame adds to them
        margin = 0 if self.causal else (self.n_fft - self.stride) // 2
        window = self.window
        frames = torch.fft.irfft(spectrum, self.n_fft) * window
        squares = window.square().expand(1 if lengths is None else len(frames), count, -1)
        signal, envelope = (
            overlapped(zero_past(x.transpose(1, 2), lengths).transpose(1, 2), self.stride)[:, margin:] for x in (frames, squares)
        )
        return (signal / envelope.clamp(min=1e-3))[:, None, : count * self.stride]


def overlapped(frames: Tensor, stride: int) -> Tensor:
    """Sum of frames (B, T, n), each `stride` samples after the one before -> (B, at least (T - 1) * stride + n)."""
    parts = F.pad(frames, (0, -frames.shape[-1] % stride)).unflatten(-1, (-1, stride)).unbind(2)
    total = frames.new_zeros(len(frames), frames.shape[1] + len(parts) - 1, stride)
    for place, part in enumerate(parts):
        total[:, place : place + part.shape[1]] += part
    return total.flatten(1)


def _stride(hop: int, group: int) -> int:
    if hop % group:
        raise ValueError(f"hop {hop} must be a multiple of group {group}")
    return hop // group


def _latents_in_reach(stack: ConvNeXtStack, n_fft: int, stride: int, group: int) -> int:
    """Latents on one side of a latent that can influence it, through the stack and the overlap of windows."""
    overlap = n_fft - stride
    return -(-(stack.receptive_field - (-overlap // (stride if stack.causal else 2 * stride))) // group)
