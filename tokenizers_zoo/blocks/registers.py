"""An image as an ordered sequence: registers read it, and stand for it where it is drawn again.

Source: FlexTok (arXiv 2502.13967; apple/ml-flextok). Both sides see [patches row by row, registers].

The start is not the published one, under which registers start near zero and know no place. Here register i starts at place i of
a walk over the image from coarse to fine, in the encoder and where it is read, and the first block's keys as its queries, so that
equal places attend to each other.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from .base import ImageDecoder, ImageEncoder
from .modulated import NormedBlock, aligned, attention_to, counting, normed
from .nested import masked
from .positions import coarse_to_fine, grid_places, sincos
from .vit import PatchHead


class Patches(nn.Module):
    """A map (B, channels, side, side) -> patches (B, grid^2, width) with their places, a fixed table that is stored."""

    places: Tensor

    def __init__(self, channels: int, side: int, patch_size: int, width: int, temperature: float = 10000.0):
        super().__init__()
        if side % patch_size:
            raise ValueError(f"a side of {side} must be a multiple of patch_size {patch_size}")
        self.patch_size, self.grid = patch_size, side // patch_size
        self.proj = nn.Linear(channels * patch_size**2, width)
        table = sincos(grid_places(self.grid), width, temperature)
        self.register_buffer("places", table.T.unflatten(1, (self.grid, self.grid)).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, side, side) -> (B, grid^2, width)."""
        p = self.patch_size
        return self.proj(rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)) + self.places.flatten(1).T

    def unpatched(self, patches: Tensor) -> Tensor:
        """(B, grid^2, channels * patch_size^2) -> (B, channels, side, side)."""
        p = self.patch_size
        return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=self.grid, p=p, q=p)


class RegisterEncoder(ImageEncoder):
    """A map (B, map_channels, side, side) -> latents (B, positions, dim), of which the first n never depend on the later ones.

    Patches attend to patches, a register to patches and to the registers up to itself. image_size: pixels a side; the map has
    image_size / stride. width: 64 * depth by default, in `depth` heads. temperature: of the places of patches.
    """

    ordered = True
    undecayed = ("registers",)
    mask: Tensor

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        depth: int,
        map_channels: int = 3,
        stride: int = 1,
        patch_size: int = 2,
        width: int | None = None,
        heads: int | None = None,
        temperature: float = 10000.0,
    ):
        super().__init__()
        width = width or 64 * depth
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.map_channels, self.stride = map_channels, stride
        self.patches = Patches(map_channels, image_size // stride, patch_size, width, temperature)
        self.registers = nn.Parameter(sincos(coarse_to_fine(positions, self.patches.grid), width, temperature))
        self.blocks = nn.ModuleList(NormedBlock(width, heads or depth) for _ in range(depth))
        aligned(self.blocks[0])  # type: ignore[arg-type]  # a ModuleList forgets what it holds
        self.out_proj = nn.Linear(width, dim)
        count = self.patches.grid**2
        mask = torch.ones(count + positions, count + positions, dtype=torch.bool).tril()
        mask[:count, :count] = True
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, map_channels, side, side) -> (B, positions, dim)."""
        patches = self.patches(images)
        x = torch.cat([patches, self.registers.expand(len(patches), -1, -1)], dim=1)
        attend = attention_to(self.mask)
        for block in self.blocks:
            x = block(x, attend)
        return self.out_proj(normed(x[:, patches.shape[1] :]))


class RegisterInput(nn.Module):
    """Latents as tokens of a decoder. What an item lacks of `positions` is a mask token, without a place.

    Mask tokens of one item are equal and remain so: those after the longest item are one token that counts as many.
    """

    undecayed = ("places",)

    def __init__(self, dim: int, positions: int, width: int, grid: int, temperature: float = 10000.0):
        super().__init__()
        self.positions = positions
        self.proj = nn.Linear(dim, width)
        self.places = nn.Parameter(sincos(coarse_to_fine(positions, grid), width, temperature).T.contiguous())
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, latents: Tensor, lengths: Tensor | None) -> tuple[Tensor, int]:
        """Latents (B, n, dim), lengths (B,) where they differ -> tokens (B, n or n + 1, width); for how many the last counts."""
        count = latents.shape[1]
        tokens = self.proj(latents) + self.places[:, :count].T
        if lengths is not None:
            tokens = masked(tokens, lengths, self.mask_token)
        if count == self.positions:
            return tokens, 1
        return torch.cat([tokens, self.mask_token.expand(len(tokens), 1, -1)], dim=1), self.positions - count


class RegisterDecoder(ImageDecoder):
    """Latents (B, n, dim) -> pixels, in one pass: patches start as their places alone. Arguments as RegisterEncoder's."""

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        patch_size: int,
        depth: int,
        width: int | None = None,
        heads: int | None = None,
        temperature: float = 10000.0,
    ):
        super().__init__()
        width = width or 64 * depth
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.grid = image_size // patch_size
        places = sincos(grid_places(self.grid), width, temperature)
        self.register_buffer("places", places, persistent=False)
        self.registers = RegisterInput(dim, positions, width, self.grid, temperature)
        self.blocks = nn.ModuleList(NormedBlock(width, heads or depth) for _ in range(depth))
        aligned(self.blocks[0])  # type: ignore[arg-type]
        self.head = PatchHead(width, patch_size)
        with torch.no_grad():
            self.head.to_patch.weight.mul_(0.1)  # near grey, so that a flow which adds to it is not asked for too much at first

    def forward(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, n, dim) -> (B, 3, image_size, image_size)."""
        registers, last = self.registers(latents, lengths)
        patches: Tensor = self.places  # type: ignore[assignment]
        x = torch.cat([patches.to(registers).expand(len(registers), -1, -1), registers], dim=1)
        attend = counting(x, last)
        for block in self.blocks:
            x = block(x, attend)
        return self.head(rearrange(normed(x[:, : len(patches)]), "b (h w) c -> b c h w", h=self.grid))
