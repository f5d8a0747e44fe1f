"""Losses on latents and codes rather than on media."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..frozen import Frozen


class KLDivergence(nn.Module):
    """Sum over tokens, mean over the batch, of what `features["kl"]` holds a token (TiTok's VAE variants: weight 1e-6)."""

    def forward(self, kl: Tensor) -> Tensor:
        """(B, positions) -> scalar."""
        return kl.sum(1).mean()


class ProxyCodeLoss(Frozen):
    """Cross-entropy of logits against the codes of a frozen 2D tokenizer (TiTok, stage 1; no label smoothing)."""

    def __init__(self, teacher: nn.Module):
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)

    def forward(self, logits: Tensor, media: Tensor) -> Tensor:
        """Logits (B, K, h, w) and the images (B, 3, H, W) in [0, 1] that the teacher sees -> scalar."""
        return F.cross_entropy(logits, self.teacher(media))
