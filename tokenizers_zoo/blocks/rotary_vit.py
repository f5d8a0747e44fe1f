"""Transformers that write an image of any size into a row of latents and read it back.

Source: Instella-T2I (arXiv 2506.21022; AMD-AGI/Instella-T2I, bae/ae_model.py). One sequence, [latents, patches row by row];
positions are rotary alone. Between stages of blocks the patches' grid is halved in the encoder and doubled in the decoder, any
number of times. (The reference divides sizes wrongly for more than one doubling, and fails without one.)

The start is not the published one (normal, 0.02): latents, patches and mask tokens share a random vector, and the first block's
keys start as its queries, so that attention begins by looking at what is near, as in vit.py.
"""

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .axial_rotary import axial_rotary, places, rotated
from .base import ImageDecoder, ImageEncoder, Sizes
from .resample2d import DownBlock2d, UpBlock2d
from .rms_norm import RMSNorm
from .swiglu import SwiGLU


class RotaryAttention(nn.Module):
    """Multi-head self-attention without biases; each head's queries and keys are normalised, then turned by their places."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} must be a multiple of twice the number of heads {heads}")
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.q_norm, self.k_norm = (RMSNorm(width // heads) for _ in range(2))

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(B, N, width), what `axial_rotary` gives -> (B, N, width)."""
        q, k, v = (rearrange(p(x), "b n (h d) -> b h n d", h=self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotated(y, rotation).to(v.dtype) for y in (self.q_norm(q), self.k_norm(k)))
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class RotaryBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with RMSNorm and SwiGLU."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.attention = RotaryAttention(width, heads)
        self.mlp = SwiGLU(width, mlp_ratio * width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = x + self.attention(self.attention_norm(x), rotation)
        return x + self.mlp(self.mlp_norm(x))


class RotaryTransformer(nn.Module):
    """Stages of `depths` blocks over latents and patches; between them a `resample` block changes the patches' grid.

    spans: of the rows and columns in each stage, or None for whole numbers. spread, mixed: as of axial_rotary.py.
    """

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        heads: int,
        mlp_ratio: int,
        resample: type[nn.Module],
        spans: Sequence[float | None],
        spread: bool,
        mixed: bool,
    ):
        super().__init__()
        self.depths, self.spans, self.spread, self.mixed = list(depths), spans, spread, mixed
        self.head_dim = width // heads
        self.blocks = nn.ModuleList(RotaryBlock(width, heads, mlp_ratio) for _ in range(sum(depths)))
        self.resample = nn.ModuleList(resample(width) for _ in depths[1:])
        first: RotaryBlock = self.blocks[0]  # type: ignore[assignment]  # a ModuleList forgets what it holds
        first.attention.k_proj.load_state_dict(first.attention.q_proj.state_dict())

    def forward(self, latents: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """(B, positions, width), (B, width, h, w) -> the same, the grid 2 ** (stages - 1) times smaller or larger."""
        count, blocks = latents.shape[1], iter(self.blocks)
        for stage, (depth, span) in enumerate(zip(self.depths, self.spans, strict=True)):
            grid = self.resample[stage - 1](grid) if stage else grid
            height, width = grid.shape[-2:]
            rotation = axial_rotary(places(count, height, width, span, self.spread, grid.device), self.head_dim, self.mixed)
            x = torch.cat([latents, rearrange(grid, "b c h w -> b (h w) c")], dim=1)
            for block in islice(blocks, depth):
                x = block(x, rotation)
            latents, grid = x[:, :count], rearrange(x[:, count:], "b (h w) c -> b c h w", h=height)
        return latents, grid


class RotaryEncoder1D(ImageEncoder):
    """Images (B, 3, H, W) in [0, 1] -> latents (B, positions, dim).

    depths: blocks of each stage; between two the grid of patches is halved. least, most: of the sides in pixels, which are
    multiples of the patch size times those halvings. position_scale: rows and columns are stretched to what they are in a picture
    of so many pixels a side; None: whole numbers. spread, mixed_rotary: as of axial_rotary.py.
    """

    undecayed = ("latents",)

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        patch_size: int,
        width: int,
        depths: Sequence[int],
        heads: int,
        least: int,
        most: int,
        position_scale: int | None = None,
        mlp_ratio: int = 4,
        spread: bool = False,
        mixed_rotary: bool = False,
    ):
        super().__init__()
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.sizes = Sizes(patch_size * 2 ** (len(depths) - 1), least, most)
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
        nn.init.normal_(self.patch_embed.bias)  # type: ignore[arg-type]
        self.latents = nn.Parameter(self.patch_embed.bias.detach() + 0.5 * torch.randn(positions, width))  # type: ignore[union-attr]
        spans = _spans(position_scale, patch_size, len(depths))
        self.transformer = RotaryTransformer(width, depths, heads, mlp_ratio, DownBlock2d, spans, spread, mixed_rotary)
        self.norm_out, self.out_proj = RMSNorm(width), nn.Linear(width, dim)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, positions, dim)."""
        latents, _ = self.transformer(self.latents.expand(len(images), -1, -1), self.patch_embed(2 * images - 1))
        return self.out_proj(self.norm_out(latents))


class RotaryDecoder1D(ImageDecoder):
    """Latents (B, positions, dim) -> images (B, 3, H, W), unbounded; arguments as of the encoder.

    depths: blocks of each stage; between two the grid is doubled. The patches start as copies of one mask token.
    """

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        patch_size: int,
        width: int,
        depths: Sequence[int],
        heads: int,
        position_scale: int | None = None,
        mlp_ratio: int = 4,
        spread: bool = False,
        mixed_rotary: bool = False,
    ):
        super().__init__()
        self.dim, self.positions, self.image_size, self.patch_size = dim, positions, image_size, patch_size
        self.shrunk = patch_size * 2 ** (len(depths) - 1)  # pixels of a patch before the first doubling
        self.norm_in, self.in_proj = RMSNorm(dim), nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.randn(width))
        self.in_proj.bias.data.copy_(self.mask_token)
        spans = _spans(position_scale, patch_size, len(depths))[::-1]
        self.transformer = RotaryTransformer(width, depths, heads, mlp_ratio, UpBlock2d, spans, spread, mixed_rotary)
        self.norm_out, self.to_pixels = RMSNorm(width), nn.Linear(width, 3 * patch_size**2)

    def forward(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, positions, dim) -> (B, 3, height, width); size: by default `image_size` a side."""
        height, width = (side // self.shrunk for side in size or (self.image_size,) * 2)
        masks = self.mask_token[:, None, None].expand(len(latents), -1, height, width)
        _, grid = self.transformer(self.in_proj(self.norm_in(latents)), masks)
        patches = self.to_pixels(self.norm_out(grid.movedim(1, -1)))
        p = self.patch_size
        return (rearrange(patches, "b h w (p q c) -> b c (h p) (w q)", p=p, q=p) + 1) / 2


def _spans(position_scale: int | None, patch_size: int, stages: int) -> list[float | None]:
    """The range of rows and columns at each size of the grid, the finest first."""
    return [None if position_scale is None else position_scale / patch_size / 2**level for level in range(stages)]
