"""Distances between spectrograms."""

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fourier import power, stft


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
        magnitude = (power(stft(padded, self.window, self.hop, centred=False)) + 1e-9).sqrt()
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


class DACMelLoss(nn.Module):
    """Sum over window lengths of the mean absolute differences of mels and of their log10 (descript-audio-codec, dac/nn/loss.py).

    Centred Hann windows, hops a quarter of them, Slaney filters and scale; the logarithm is of max(mel, 1e-5)^power.
    LM-SPT as released: power 2, n_ffts 256, 512, 1024, 2048 with 40, 80, 160, 320 mels.
    """

    def __init__(self, sample_rate: int, n_ffts: Sequence[int], n_mels: Sequence[int], power: float = 2.0):
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        self.power = power
        with warnings.catch_warnings(action="ignore"):  # short windows leave filters empty; the published losses have them
            self.scales = nn.ModuleList(
                MelSpectrogram(sample_rate, n, hop_length=n // 4, n_mels=m, power=1.0, norm="slaney", mel_scale="slaney")
                for n, m in zip(n_ffts, n_mels, strict=True)
            )

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, S) or (B, 1, S), both of one length -> scalar."""
        total = output.new_zeros(())
        for scale in self.scales:
            a, b = scale(output.flatten(1).float()), scale(target.flatten(1).float())
            logs = [self.power * x.clamp(min=1e-5).log10() for x in (a, b)]
            total = total + (a - b).abs().mean() + (logs[0] - logs[1]).abs().mean()
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
        return power(stft(waveform.flatten(1), window, n_fft // 4)).clamp(min=1e-7).sqrt()


class STOILoss(nn.Module):
    """1 - STOI, differentiable: correlation of third-octave envelopes (Taal et al. 2011, doi 10.1109/TASL.2011.2114881).

    Fifteen bands from 150 Hz, frames of 25.6 ms half overlapped, segments of 384 ms. Differences from the measure: the band
    edges and frames are laid at `sample_rate` instead of at 10 kHz, frames 40 dB below the clip's loudest get no weight instead
    of being cut out, nothing is clipped (a bound that has no gradient), every `step`-th segment counts.
    """

    bands: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, step: int = 4):
        super().__init__()
        size = round(0.0256 * sample_rate)
        self.n_fft = 1 << size.bit_length()
        self.hop, self.step = size // 2, step
        frequencies = torch.linspace(0, sample_rate / 2, self.n_fft // 2 + 1)
        centres = 150.0 * 2.0 ** (torch.arange(15)[:, None] / 3)
        inside = (frequencies >= centres * 2 ** (-1 / 6)) & (frequencies < centres * 2 ** (1 / 6))
        self.register_buffer("bands", inside.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, S) or (B, 1, S), both of one length of at least 384 ms -> scalar."""
        a, b = self._segments(output), self._segments(target)  # (B, bands, segments, 30)
        energy = b.square().sum(dim=1, keepdim=True)
        weight = (energy > 1e-4 * energy.amax(dim=(2, 3), keepdim=True)).float()
        a, b = self._unit(a, weight), self._unit(b, weight)
        heard = (weight.sum(dim=-1) > 15).float().expand(-1, a.shape[1], -1)
        return 1 - ((a * b).sum(dim=-1) * heard).sum() / heard.sum().clamp(min=1)

    def _segments(self, waveform: Tensor) -> Tensor:
        bands = self.bands @ power(stft(waveform.flatten(1), self.window, self.hop, self.n_fft))
        return (bands + 1e-8).sqrt().unfold(-1, 30, self.step)

    @staticmethod
    def _unit(x: Tensor, weight: Tensor) -> Tensor:
        """Weighted mean 0 and length 1 along the last axis."""
        x = weight * (x - (weight * x).sum(dim=-1, keepdim=True) / weight.sum(dim=-1, keepdim=True).clamp(min=1))
        return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-4)
