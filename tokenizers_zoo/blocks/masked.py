"""Transformers that read a whole sequence, in which some tokens are masked: post-norm (BERT), and with skips (U-ViT)."""

import torch
from torch import Tensor, nn

from .transformer import TransformerBlock


class PostNormBlock(TransformerBlock):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = self.attention_norm(x + self.attention(x, mask))
        return self.mlp_norm(x + self.mlp(x))


class PostNormTransformer(nn.Module):
    """LayerNorm, then `depth` post-norm blocks: BERT's encoder (arXiv 1810.04805; huggingface/transformers, models/bert)."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.norm_in = nn.LayerNorm(width, 1e-12)
        self.blocks = nn.ModuleList(PostNormBlock(width, heads, 1e-12) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        return x


class SkipTransformer(nn.Module):
    """depth // 2 pre-norm blocks, one in the middle, depth // 2 more, then LayerNorm: U-ViT (arXiv 2209.12152; baofff/U-ViT).

    Each block of the second half starts from a linear map of what comes and of what the block opposite gave.
    """

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.first, self.second = (nn.ModuleList(_block(width, heads) for _ in range(depth // 2)) for _ in range(2))
        self.middle, self.norm_out = _block(width, heads), nn.LayerNorm(width)
        self.joins = nn.ModuleList(nn.Linear(2 * width, width) for _ in self.second)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        skips = []
        for block in self.first:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        for join, block in zip(self.joins, self.second, strict=True):
            x = block(join(torch.cat([x, skips.pop()], dim=-1)))
        return self.norm_out(x)


def _block(width: int, heads: int) -> TransformerBlock:
    return TransformerBlock(width, heads, bias=False)
