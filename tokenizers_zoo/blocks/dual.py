"""Two encoders that hear one waveform."""

import torch
from torch import Tensor

from ..part import agree
from .base import AudioEncoder, Count


class DualEncoder(AudioEncoder):
    """Semantic and acoustic latents of one waveform side by side, (B, T, semantic.dim + acoustic.dim).

    acoustic=None: one encoder's latents, twice.
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
        semantic = self.semantic(waveform, lengths)
        return torch.cat([semantic, self.acoustic(waveform, lengths) if self.acoustic else semantic], dim=-1)
