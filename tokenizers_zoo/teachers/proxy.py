"""MaskGIT-VQGAN, whose codes TiTok's first stage predicts."""

import re

import torch
from torch import Tensor, nn

from ..blocks.conv2d import VQGANEncoder
from ..quantizers.base import nearest
from ..weights import load_strict, read_state

NAMES = (
    (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down.\1."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"^quantize\.embedding\.weight$", "codebook"),
)


class ProxyTeacher(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> codes of a frozen 2D tokenizer, int64 (B, H / 16, W / 16), 1024 of them.

    path: the authors' maskgit-vqgan-imagenet-f16-256.bin (Hub: fun-research/TiTok). None starts from random weights, for tests.
    """

    def __init__(self, path: str | None = None, codebook_size: int = 1024, channels: int = 128):
        super().__init__()
        self.encoder = VQGANEncoder(256, channels)
        self.codebook = nn.Parameter(torch.randn(codebook_size, 256))
        if path is not None:
            state = {k: v for k, v in read_state(path).items() if k.startswith(("encoder.", "quantize."))}
            for pattern, ours in NAMES:
                state = {re.sub(pattern, ours, k): v for k, v in state.items()}
            load_strict(self, state, "the encoder and codebook of MaskGIT-VQGAN")
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 16, W / 16)."""
        return nearest(self.encoder(images).float().movedim(1, -1), self.codebook)
