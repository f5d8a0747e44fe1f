"""Distances between spectrograms."""

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LogMel(nn.Module):
    """Log-mel magnitudes as HiFi-GAN computes them (arXiv 2010.05646; DM-Codec, codec/trainer/loss.py).

    Reflection of (n_fft - hop) / 2 on both sides, no centring, Hann window, magnitude, Slaney-normalised filters on the HTK
    scale up to Nyquist, natural log of max(., 1e-5).
    """

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop: int, n_mels: int):
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.n_fft, self.hop = n_fft, hop
        with warnings.catch_warnings(action="ignore"):  # short windows leave filters empty; the published losses have them
            filters = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, norm="slaney")
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, S) or (B, 1, S) -> (B, n_mels, frames)."""
        margin = (self.n_fft - self.hop) // 2
        padded = F.pad(waveform.flatten(1)[:, None].float(), (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        return (self.filters @ magnitude).clamp(min=1e-5).log()


class MultiScaleMelLoss(nn.Module):
    """Weighted sum over window lengths of the mean absolute difference of log-mels.

    Both sides are cut to the shorter one, as spectrograms. DM-Codec: n_ffts 1024, 512, 256, 128, hops 240, 120, 60, 30, 80
    mels each, weights 45, 1, 1, 1.
    """

    def __init__(
        self,
        sample_rate: int,
        n_ffts: Sequence[int],
        hops: Sequence[int],
        n_mels: Sequence[int],
        weights: Sequence[float],
    ):
        super().__init__()
        self.weights = tuple(weights)
        self.scales = nn.ModuleList(
            LogMel(sample_rate, n_fft, hop, mels) for n_fft, hop, mels in zip(n_ffts, hops, n_mels, strict=True)
        )

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, S') and (B, S), or with a channel axis of 1 -> scalar."""
        total = output.new_zeros(())
        for weight, scale in zip(self.weights, self.scales, strict=True):
            a, b = scale(output), scale(target)
            frames = min(a.shape[-1], b.shape[-1])
            total = total + weight * (a[..., :frames] - b[..., :frames]).abs().mean()
        return total


class MultiScaleSTFTLoss(nn.Module):
    """Mean over window lengths of spectral convergence and log-magnitude distance (Parallel WaveGAN, arXiv 1910.11480).

    Spectral convergence, |A - B| / |B| in Frobenius norms of each clip, weighs what is loud; the logarithm weighs all alike.
    convergence, log: weights of the two. Hops are a quarter of the Hann windows `n_ffts`.
    """

    def __init__(self, n_ffts: Sequence[int] = (1024, 512, 256), convergence: float = 1.0, log: float = 1.0):
        super().__init__()
        self.n_ffts, self.convergence, self.log = tuple(n_ffts), convergence, log

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, S) or (B, 1, S), both of one length -> scalar."""
        total = output.new_zeros(())
        for n_fft in self.n_ffts:
            a, b = self._magnitude(output, n_fft), self._magnitude(target, n_fft)
            norms = (a - b).flatten(1).norm(dim=1), b.flatten(1).norm(dim=1)
            total = total + self.convergence * (norms[0] / norms[1].clamp(min=1e-3)).mean()
            total = total + self.log * (a.log() - b.log()).abs().mean()
        return total / len(self.n_ffts)

    @staticmethod
    def _magnitude(waveform: Tensor, n_fft: int) -> Tensor:
        window = torch.hann_window(n_fft, device=waveform.device)
        spectrum = torch.stft(waveform.flatten(1).float(), n_fft, n_fft // 4, window=window, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-7).sqrt()
