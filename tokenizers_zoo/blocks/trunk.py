"""Trunks of vision towers: transformers that look at the patches of an image and keep a feature for each, row by row.

Sources: CLIP (arXiv 2103.00020; openai/CLIP, clip/model.py) and SigLIP (arXiv 2303.15343; transformers, modeling_siglip.py). What
either does with the features afterwards, pooling and projection, is not here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ImageEncoder
from .transformer import Attention
from .vit import with_class_token


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x * torch.sigmoid(1.702 * x)


class TrunkBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the perceptron has `hidden` channels and this `activation`."""

    def __init__(self, width: int, heads: int, hidden: int, activation: nn.Module, eps: float):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class CLIPTrunk(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> features after the last norm, (B, grid^2, width), without the class token's.

    It sees 2 x - 1, not colours normalised as CLIP's are (TokenFlow's encoder). trained: patches a side that the table of
    positions has; another grid takes values between them, as `resized` gives them.
    """

    layout = "grid"
    undecayed = ("class_token", "position_embed")

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, heads: int, trained: int | None = None):
        super().__init__()
        self.dim, self.image_size, self.grid = width, image_size, image_size // patch_size
        self.positions, trained = self.grid**2, trained or self.grid
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.position_embed = nn.Parameter(width**-0.5 * torch.randn(1 + trained**2, width))
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TrunkBlock(width, heads, 4 * width, QuickGELU(), 1e-5) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, grid^2, width)."""
        patches = self.patch_embed(2 * images - 1).flatten(2).transpose(1, 2)
        x = self.norm_in(with_class_token(patches, self.class_token) + resized(self.position_embed, self.grid))
        for block in self.blocks:
            x = block(x)
        return self.norm_out(x)[:, 1:]


class SigLIPTrunk(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> what leaves the last of `depth` blocks, (B, grid^2, width), without a norm.

    A rest of the image that fills no patch, at the right and the bottom, is not seen. hidden: channels of the perceptrons.
    """

    layout = "grid"
    undecayed = ("position_embed",)

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, heads: int, hidden: int):
        super().__init__()
        self.dim, self.image_size, self.grid = width, image_size, image_size // patch_size
        self.positions = self.grid**2
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
        self.position_embed = nn.Parameter(width**-0.5 * torch.randn(self.positions, width))
        self.blocks = nn.ModuleList(TrunkBlock(width, heads, hidden, nn.GELU("tanh"), 1e-6) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, grid^2, width)."""
        x = self.patch_embed(2 * images - 1).flatten(2).transpose(1, 2) + self.position_embed
        for block in self.blocks:
            x = block(x)
        return x


def resized(table: Tensor, grid: int) -> Tensor:
    """Positions (1 + n^2, width) of a class token and n x n patches -> (1 + grid^2, width), bicubic.

    The factor is (grid + 0.1) / n, and it alone says where the table is read (facebookresearch/dino, vision_transformer.py).
    """
    trained = round((len(table) - 1) ** 0.5)
    if grid == trained:
        return table
    maps = table[1:].T.unflatten(1, (trained, trained))[None].float()
    maps = F.interpolate(maps, scale_factor=(grid + 0.1) / trained, mode="bicubic")
    return torch.cat([table[:1], maps[0].flatten(1).T.to(table)])
