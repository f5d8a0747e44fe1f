"""Distances between waveforms, sample by sample."""

import torch.nn.functional as F
from torch import Tensor, nn


class WaveformCosine(nn.Module):
    """1 - c, the cosine of the angle between output and target: what SI-SDR = 10 log10(c^2 / (1 - c^2)) dB measures (Le Roux et
    al. 2019, arXiv 1811.02508), without its poles.

    Blind to loudness, unlike an absolute difference, which a codec of few bits lowers by speaking softly.
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, S) or (B, 1, S), both of one length -> scalar, the mean over the clips; 0 (equal) to 2."""
        return 1 - F.cosine_similarity(output.flatten(1).float(), target.flatten(1).float(), dim=1, eps=1e-4).mean()
