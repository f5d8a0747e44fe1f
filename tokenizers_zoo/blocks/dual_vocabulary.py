"""One vision transformer, two vocabularies: its early states for pixels, a late one for meaning.

Source: DualToken (arXiv 2503.14324; songweii/DualToken, modeling_rqvaesiglip.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..part import Part
from .attention_projection import AttentionProjection
from .base import ImageEncoder
from .siglip import EPSILON, AttentionPool, SigLIPLayer, SigLIPPatches


class DualVocabularyEncoder(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> latents (B, positions, 2 * dim), those of the pixels first, then the semantic ones.

    dim: of each of the two. depths: layers up to the shortcut's state, from there up to the pixels', and from there up to the
    semantic one. shortcut: weight of the shortcut's state in the latents of the pixels.
    """

    layout = "grid"
    undecayed = ("patches.places",)

    def __init__(
        self,
        dim: int,
        image_size: int,
        patch_size: int,
        width: int,
        depths: Sequence[int],
        heads: int,
        hidden: int,
        shortcut: float = 0.6,
    ):
        super().__init__()
        if len(depths) != 3:
            raise ValueError(
                f"depths are three numbers of layers, up to the shortcut, the pixels and the semantics, got {depths}"
            )
        self.dim, self.image_size = 2 * dim, image_size
        self.depths, self.shortcut = list(depths), shortcut
        self.patches = SigLIPPatches(image_size, patch_size, width)
        self.positions = self.patches.grid**2
        self.layers = nn.ModuleList(SigLIPLayer(width, heads, hidden) for _ in range(sum(depths)))
        self.to_shortcut, self.to_pixel, self.to_semantic = (AttentionProjection(width, dim) for _ in range(3))

    def states(self, images: Tensor) -> list[Tensor]:
        """The states of the shortcut, the pixels and the semantics, (B, positions, width) each."""
        x, layers = self.patches(images), iter(self.layers)
        states = []
        for depth in self.depths:
            for _ in range(depth):
                x = next(layers)(x)
            states.append(x)
        return states

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, positions, 2 * dim)."""
        shortcut, pixel, semantic = self.states(images)
        pixels = self.to_pixel(pixel) + self.shortcut * self.to_shortcut(shortcut)
        return torch.cat([pixels, self.to_semantic(semantic)], dim=-1)


class SemanticHead(Part):
    """Semantic latents (B, positions, dim) -> states (B, positions, width), as of the layer they were taken at, and what the rest
    of the tower makes of them: `depth` layers, a norm, a pooled output (B, width).
    """

    undecayed = ("pool.probe",)

    def __init__(self, dim: int, width: int, depth: int, heads: int, hidden: int):
        super().__init__()
        self.dim = dim
        self.expand = AttentionProjection(dim, width, causal=True)
        self.layers = nn.ModuleList(SigLIPLayer(width, heads, hidden) for _ in range(depth))
        self.norm_out, self.pool = nn.LayerNorm(width, EPSILON), AttentionPool(width, heads, hidden)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(B, positions, dim) -> (B, positions, width), (B, width)."""
        states = x = self.expand(latents)
        for layer in self.layers:
            x = layer(x)
        return states, self.pool(self.norm_out(x))
