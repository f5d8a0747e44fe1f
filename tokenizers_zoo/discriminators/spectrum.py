"""Discriminators that look at complex spectrograms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..fourier import stft
from .base import Judgement, run


class MultiScaleSTFTDiscriminator(nn.Module):
    """One sub-discriminator a window length, on real and imaginary part (EnCodec, arXiv 2210.13438; msstftd.py).

    n_ffts: window lengths, hops are a quarter; DM-Codec's five are the default. width: channels; published 32.
    """

    def __init__(self, n_ffts: Sequence[int] = (1024, 2048, 512, 256, 128), width: int = 32):
        super().__init__()
        self.n_ffts = tuple(n_ffts)
        self.layers = nn.ModuleList(nn.ModuleList(self._layers(width)) for _ in n_ffts)
        self.last = nn.ModuleList(weight_norm(nn.Conv2d(width, 1, 3, padding=1)) for _ in n_ffts)

    @staticmethod
    def _layers(width: int) -> list[nn.Module]:
        first = weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4)))
        dilated = [weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), dilation=(d, 1), padding=(d, 4))) for d in (1, 2, 4)]
        return [first, *dilated, weight_norm(nn.Conv2d(width, width, 3, padding=1))]

    def forward(self, x: Tensor) -> list[Judgement]:
        """Waveform (B, 1, S) -> one judgement a window length."""
        judgements = []
        for n_fft, layers, last in zip(self.n_ffts, self.layers, self.last, strict=True):
            judgements.append(run(layers, last, self.picture(x, n_fft), 0.2))  # type: ignore[arg-type]  # a ModuleList of a ModuleList
        return judgements

    def picture(self, x: Tensor, n_fft: int) -> Tensor:
        """Waveform (B, 1, S) -> what the layers see, (B, 2, frames, n_fft / 2 + 1)."""
        return spectrogram(x, n_fft, centred=False)


class MultiResolutionDiscriminator(MultiScaleSTFTDiscriminator):
    """The same layers on log magnitudes and their slope along frequency (after UnivNet, arXiv 2106.07889, on linear magnitudes).

    Real and imaginary parts look all alike to a small network for hundreds of steps; levels do not.
    """

    def picture(self, x: Tensor, n_fft: int) -> Tensor:
        """Waveform (B, 1, S) -> (B, 2, frames, n_fft / 2 + 1), about -2 to 2."""
        level = spectrogram(x, n_fft, centred=False).square().sum(1).clamp(min=1e-8).log() / 2
        slope = level.diff(dim=-1, prepend=level[..., :1])
        return torch.stack([level / 3 + 1.5, slope], dim=1)


class MultiBandSTFTDiscriminator(nn.Module):
    """One sub-discriminator a window length, with separate layers for five frequency bands (DAC, arXiv 2306.06546).

    The bands' outputs are joined along frequency for the last convolution. n_ffts: hops are a quarter.
    """

    bands = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

    def __init__(self, n_ffts: Sequence[int] = (2048, 1024, 512), width: int = 32):
        super().__init__()
        self.n_ffts = tuple(n_ffts)
        count = len(self.bands) - 1
        self.layers = nn.ModuleList(nn.ModuleList(nn.ModuleList(self._layers(width)) for _ in range(count)) for _ in n_ffts)
        self.last = nn.ModuleList(weight_norm(nn.Conv2d(width, 1, 3, padding=1)) for _ in n_ffts)

    @staticmethod
    def _layers(width: int) -> list[nn.Module]:
        first = weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4)))
        strided = [weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), padding=(1, 4))) for _ in range(3)]
        return [first, *strided, weight_norm(nn.Conv2d(width, width, 3, padding=1))]

    def forward(self, x: Tensor) -> list[Judgement]:
        """Waveform (B, 1, S) -> one judgement a window length."""
        judgements = []
        for n_fft, bands, last in zip(self.n_ffts, self.layers, self.last, strict=True):
            image = spectrogram(x, n_fft, centred=True)
            edges = [int(share * image.shape[-1]) for share in self.bands]
            features, outputs = [], []
            for layers, low, high in zip(bands.children(), edges, edges[1:], strict=False):
                part = run(layers, nn.Identity(), image[..., low:high], 0.1)  # type: ignore[arg-type]  # a ModuleList
                features += part.features
                outputs.append(part.logits)
            judgements.append(Judgement(last(torch.cat(outputs, dim=-1)), features))
        return judgements


def spectrogram(x: Tensor, n_fft: int, centred: bool) -> Tensor:
    """(B, 1, S) -> real and imaginary part (B, 2, frames, n_fft / 2 + 1), divided by the window's root energy."""
    window = torch.hann_window(n_fft, device=x.device)
    spectrum = stft(x[:, 0], window, n_fft // 4, centred=centred)
    return torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3) / window.square().sum().sqrt()
