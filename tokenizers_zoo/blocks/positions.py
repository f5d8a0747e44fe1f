"""Sines and cosines of places and times."""

import math

import torch
from torch import Tensor


def sincos(places: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Places (N, 2) on a grid, row and column -> (N, width): sines and cosines of the row, then of the column.

    width / 4 frequencies from 1 down to 1 / temperature (apple/ml-flextok, flextok/model/utils/posembs.py).
    """
    if width % 4:
        raise ValueError(f"positions of rows and columns need a width that is a multiple of 4, got {width}")
    waves = temperature ** -(torch.arange(width // 4) / (width // 4))
    row, column = (at[:, None] * waves for at in places.float().unbind(1))
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)


def grid_places(grid: int) -> Tensor:
    """(grid^2, 2): row and column of each cell, row by row."""
    at = torch.arange(grid)
    return torch.stack([at.repeat_interleave(grid), at.repeat(grid)], dim=1)


def coarse_to_fine(count: int, grid: int) -> Tensor:
    """(count, 2): places on a grid such that the first 1, 4, 16, ... of them are spread evenly over all of it."""
    index, places, stride = torch.arange(count), torch.zeros(count, 2), torch.full((count, 1), float(grid))
    for level in range((max(count - 1, 0).bit_length() + 1) // 2):
        half = grid / 2 ** (level + 1)
        cell = torch.stack([index >> (2 * level + 1) & 1, index >> (2 * level) & 1], dim=1)
        places = places + half * cell
        stride = torch.where(index[:, None] >> (2 * level) > 0, half, stride)
    return places + (stride - 1) / 2


def time_features(time: Tensor, fastest: float, count: int = 256) -> Tensor:
    """Times (B,) -> (B, count): cosines, then sines, of count / 2 frequencies from `fastest` down to fastest / 256."""
    half = count // 2
    waves = fastest * torch.exp(-math.log(256) / half * torch.arange(half, device=time.device))
    angles = time.float()[:, None] * waves
    return torch.cat([angles.cos(), angles.sin()], dim=1)
