"""An image as what it means beside what it looks like: two encoders on one grid, and the way back to a teacher's features.

Source: TokenFlow (arXiv 2412.03069; ByteVisionLab/TokenFlow, tokenizer/vq_model.py, vqkd_model.py).
"""

import torch
from torch import Tensor, nn

from ..part import Part, agree
from .base import ImageEncoder
from .trunk import TrunkBlock, resized
from .vit import with_class_token


class TanhProjection(nn.Sequential):
    """A linear map, tanh, and a linear map: (..., width) -> (..., dim)."""

    def __init__(self, width: int, dim: int):
        super().__init__(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))


class SemanticPixelEncoder(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> latents (B, positions, semantic_dim + pixel.dim), the semantic half first.

    semantic: a trunk, whose features a projection brings down to `semantic_dim`; pixel: an encoder on the same grid.
    """

    layout = "grid"

    def __init__(self, semantic: ImageEncoder, pixel: ImageEncoder, semantic_dim: int):
        super().__init__()
        for size in ("image_size", "positions"):
            agree({f"semantic.{size}": getattr(semantic, size), f"pixel.{size}": getattr(pixel, size)})
        self.semantic, self.pixel, self.projection = semantic, pixel, TanhProjection(semantic.dim, semantic_dim)
        self.dims = {"semantic": semantic_dim, "pixel": pixel.dim}
        self.dim, self.image_size, self.positions = semantic_dim + pixel.dim, pixel.image_size, pixel.positions

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, positions, dim)."""
        return torch.cat([self.projection(self.semantic(images)), self.pixel(images)], dim=-1)

    def split(self, latents: Tensor) -> dict[str, Tensor]:
        """Latents (..., dim), quantized or not -> the halves by their names."""
        return dict(zip(self.dims, latents.split(list(self.dims.values()), dim=-1), strict=True))


class SemanticDecoder(Part):
    """Semantic latents (B, grid^2, dim) -> features of a teacher (B, grid^2, features), by a transformer with a class token.

    trained: patches a side that the table of positions has; another grid takes values between them.
    """

    undecayed = ("class_token", "position_embed")

    def __init__(self, dim: int, grid: int, width: int, depth: int, heads: int, features: int, trained: int | None = None):
        super().__init__()
        self.dim, self.positions, self.grid = dim, grid**2, grid
        self.in_proj = nn.Linear(dim, width)
        self.class_token = nn.Parameter(0.02 * torch.randn(width))
        self.position_embed = nn.Parameter(0.02 * torch.randn(1 + (trained or grid) ** 2, width))
        self.blocks = nn.ModuleList(TrunkBlock(width, heads, 4 * width, nn.GELU(), 1e-6) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, 1e-6)
        self.projection = TanhProjection(width, features)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, grid^2, dim) -> (B, grid^2, features)."""
        x = with_class_token(self.in_proj(latents), self.class_token) + resized(self.position_embed, self.grid)
        for block in self.blocks:
            x = block(x)
        return self.projection(self.norm_out(x[:, 1:]))
