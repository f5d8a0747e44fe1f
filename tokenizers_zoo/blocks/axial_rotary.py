"""Rotary positions (RoFormer, arXiv 2104.09864) of latents beside a grid of patches: three axes, any size of the grid.

Source: Instella-T2I (arXiv 2506.21022; AMD-AGI/Instella-T2I, bae/ae_model.py and llama_attn.py). Latent j is at (j, 0, 0), a
patch at (0, row, column).
"""

import math

import torch
from torch import Tensor

THETA = 10000.0


def places(count: int, height: int, width: int, span: float | None, spread: bool, device: torch.device) -> Tensor:
    """Positions of `count` latents and then of height x width patches row by row: float64 (count + height * width, 3).

    span: rows and columns are stretched to 0..span - 1 each, so that any size has one range; None leaves them whole numbers.
    spread: latents stand over the picture, at (0, row, column) of a grid of their own, in place of (j, 0, 0).
    """
    sides = [torch.linspace(0, (side if span is None else span) - 1, side, dtype=torch.float64) for side in (height, width)]
    patches = torch.cartesian_prod(torch.zeros(1, dtype=torch.float64), *sides)
    latents = torch.zeros(count, 3, dtype=torch.float64)
    if spread:
        rows = math.isqrt(count)
        columns = -(-count // rows)
        ends = [float(side[-1]) for side in sides]
        grid = [torch.linspace(0, end, n, dtype=torch.float64) for end, n in zip(ends, (rows, columns), strict=True)]
        latents[:, 1:] = torch.cartesian_prod(*grid)[:count]
    else:
        latents[:, 0] = torch.arange(count)
    return torch.cat([latents, patches]).to(device)


def axial_rotary(at: Tensor, dim: int, mixed: bool = False) -> Tensor:
    """Factors by which `rotated` turns vectors of `dim` entries that are at these places, (N, 3) -> float32 (2, N, dim).

    7/16 of the entries go by the row, as many by the column, the rest by the first axis (8, 28, 28 of 64).

    mixed: the published weights need a fault. There the angles are laid out for pairs of neighbours (2 i, 2 i + 1) and applied
    to pairs of halves (i, i + dim / 2), whose two entries are so turned by different angles: no rotation, and what attention
    sees is no function of distances alone.
    """
    spatial = 2 * (7 * dim // 32)
    axes = (dim - 2 * spatial, spatial, spatial)
    speeds = [THETA ** (-torch.arange(0, axis, 2, dtype=at.dtype, device=at.device) / axis) for axis in axes]
    angles = torch.cat([at[:, [i]] * speed for i, speed in enumerate(speeds)], dim=1)
    angles = angles.repeat_interleave(2, dim=1) if mixed else torch.cat([angles, angles], dim=1)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """(B, heads, N, dim) by what `axial_rotary` gives; in float32 at least."""
    (first, second), (cos, sin) = x.chunk(2, dim=-1), rotation
    return x * cos + torch.cat([-second, first], dim=-1) * sin
