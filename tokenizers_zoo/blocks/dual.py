"""Two encoders that hear one waveform."""

import torch
from torch import Tensor

from ..part import agree
from .base import AudioEncoder, Count
from .conv1d import zero_past
from .vocos import STFTEncoder


class DualEncoder(AudioEncoder):
    """Semantic and acoustic latents of one waveform side by side, (B, T, semantic.dim + acoustic.dim).

    acoustic=None: one encoder's latents, twice. Two that start from one spectrum have it computed once.
    """

    def __init__(self, semantic: AudioEncoder, acoustic: AudioEncoder | None = None):
        super().__init__()
        agree({"semantic.hop": semantic.hop, "acoustic.hop": (acoustic or semantic).hop})
        self.semantic, self.acoustic = semantic, acoustic
        both = (semantic, acoustic or semantic)
        self.dim, self.hop = sum(part.dim for part in both), semantic.hop
        self.causal = all(part.causal for part in both)
        fields = [part.receptive_field for part in both]
        self.receptive_field = None if None in fields else max(field for field in fields if field is not None)

    def frames(self, samples: Count) -> Count:
        """As the semantic encoder's."""
        return self.semantic.frames(samples)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform (B, 1, S), lengths (B,) in samples -> (B, T, dim)."""
        semantic, acoustic = self.semantic, self.acoustic
        if isinstance(semantic, STFTEncoder) and isinstance(acoustic, STFTEncoder) and semantic.front == acoustic.front:
            features = semantic.features(zero_past(waveform, lengths)[:, 0])
            return torch.cat([part.latents(features, lengths) for part in (semantic, acoustic)], dim=-1)
        latents = semantic(waveform, lengths)
        return torch.cat([latents, acoustic(waveform, lengths) if acoustic else latents], dim=-1)
