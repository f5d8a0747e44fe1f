"""The vision tower of SigLIP and SigLIP 2 (arXiv 2303.15343, 2502.14786; the names of the published files are transformers')."""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..part import Part
from .trunk import TrunkBlock

EPSILON = 1e-6  # of all norms

NAMES = (  # published names of a vision tower, after those of `vision_state`, and ours
    (r"^embeddings\.patch_embedding\.", "patches.proj."),
    (r"^embeddings\.position_embedding\.weight$", "patches.places"),
    (r"^encoder\.layers\.", "layers."),
    (r"^post_layernorm\.", "norm_out."),
    (r"^head\.layernorm\.", "pool.norm."),
    (r"^head\.attention\.", "pool."),
    (r"^head\.", "pool."),
    (r"\.layer_norm1\.", ".attention_norm."),
    (r"\.layer_norm2\.", ".mlp_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
)


class SigLIPPatches(nn.Module):
    """Images (B, 3, S, S) in [0, 1] -> patches with their places, (B, grid^2, width); what fills no patch is cut off."""

    def __init__(self, image_size: int, patch_size: int, width: int):
        super().__init__()
        self.grid = image_size // patch_size
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)
        self.places = nn.Parameter(torch.randn(self.grid**2, width) * width**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, grid^2, width)."""
        return self.proj(2 * images - 1).flatten(2).transpose(1, 2) + self.places


class SigLIPLayer(TrunkBlock):
    """A block with tanh GELU."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__(width, heads, hidden, nn.GELU("tanh"), EPSILON)


class AttentionPool(nn.Module):
    """What one learned query sees of all positions, plus a perceptron of it."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.randn(1, 1, width))
        self.query, self.key_value, self.out_proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm, self.mlp = nn.LayerNorm(width, EPSILON), _perceptron(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, width)."""
        q = rearrange(self.query(self.probe).expand(len(x), -1, -1), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.key_value(x), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        seen = self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h 1 d -> b (h d)"))
        return seen + self.mlp(self.norm(seen))


class SigLIPTower(Part):
    """Images (B, 3, S, S) in [0, 1] -> states that enter the last layer (B, grid^2, width), and the pooled output (B, width)."""

    undecayed = ("patches.places", "pool.probe")

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, heads: int, hidden: int):
        super().__init__()
        self.patches = SigLIPPatches(image_size, patch_size, width)
        self.layers = nn.ModuleList(SigLIPLayer(width, heads, hidden) for _ in range(depth))
        self.norm_out, self.pool = nn.LayerNorm(width, EPSILON), AttentionPool(width, heads, hidden)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, grid^2, width), (B, width)."""
        states = [self.patches(images)]
        for layer in self.layers:
            states = [states[-1], layer(states[-1])]
        return states[0], self.pool(self.norm_out(states[-1]))


def vision_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower of a published SigLIP or SigLIP 2 in the names of `SigLIPTower`; what belongs to its text is left out.

    Queries, keys and values of a layer become one tensor, those of the pooling query and keys with values.
    """
    prefix = "vision_model."
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    for key in [key for key in found if ".self_attn.q_proj." in key]:
        parts = [key.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if all(part in found for part in parts):
            found[key.replace(".q_proj.", ".in_proj.")] = torch.cat([found.pop(part) for part in parts])
    for kind in ("weight", "bias"):
        packed = found.pop(f"head.attention.in_proj_{kind}", None)
        if packed is not None:
            width = len(packed) // 3
            found |= {f"head.attention.query.{kind}": packed[:width], f"head.attention.key_value.{kind}": packed[width:]}
    return {_ours(key): value for key, value in found.items()}


def _ours(key: str) -> str:
    for pattern, replacement in NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _perceptron(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
