"""Dimension-wise quantization after training: each dimension of continuous latents takes the nearest of a few fixed values."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .base import Quantized, Quantizer, straight_through

ROUNDS = 100  # of Lloyd's algorithm; each costs levels * log(latents)


class DimensionWiseQuantizer(Quantizer):
    """One codebook of `levels` values a dimension, without training (TokenBridge, arXiv 2503.16430; YuqingWang1029/TokenBridge,
    models/tokenbridge.py); for latents that `scale` brings to about unit variance, such as a KL autoencoder's.

    A scaled latent of `limit` stands for `width` standard deviations of a normal distribution that is cut there into cells of
    equal probability; the values are the means of the cells, the same in every dimension. They follow from the arguments alone:
    no weight file holds them. The nearest value wins, the lower of two equally near; what lies outside, infinities included,
    takes the outermost, and NaN the lowest. No losses; the gradient passes straight through.
    """

    values: Tensor

    def __init__(self, dim: int, levels: int = 64, limit: float = 5.0, width: float = 3.0, scale: float = 1.0):
        super().__init__()
        if levels < 2 or min(limit, width, scale) <= 0:
            given = f"{levels}, {limit}, {width}, {scale}"
            raise ValueError(f"levels of 2 or more, and a limit, a width and a scale above 0, got {given}")
        if levels * math.erfc(width / math.sqrt(2)) >= 2:
            raise ValueError(f"a width of {width} cuts off whole cells of {levels}; use fewer levels, or a larger width")
        self.dim, self.codebook_sizes = dim, (levels,) * dim
        self.limit, self.width, self.scale = limit, width, scale
        # in standard deviations, (dim, levels), increasing
        self.register_buffer("values", _normal_means(levels, width).repeat(dim, 1), persistent=False)

    @property
    def table(self) -> Tensor:
        """The values in units of the latents, float32 (dim, levels)."""
        return ((self.values + self.width) / (2 * self.width) * 2 * self.limit - self.limit) / self.scale

    def _standard(self, latents: Tensor) -> Tensor:
        """Latents (B, N, dim) -> their standard deviations, (dim, B * N)."""
        scaled = (latents * self.scale + self.limit) / (2 * self.limit) * 2 * self.width - self.width
        return scaled.flatten(0, 1).T.contiguous()

    def forward(self, latents: Tensor) -> Quantized:
        codes = self.encode(latents)
        values = self.decode(codes)
        return Quantized(straight_through(latents, values), codes, self.codebook_sizes, {}, values)

    def encode(self, latents: Tensor) -> Tensor:
        found = torch.searchsorted(_midpoints(self.values), self._standard(latents.nan_to_num(nan=-math.inf)))
        return found.unflatten(1, latents.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        dimensions = torch.arange(self.dim, device=codes.device)[:, None]
        return self.table[dimensions, codes.clamp(min=0)].transpose(1, 2)


class FittedDimensionWiseQuantizer(DimensionWiseQuantizer):
    """DimensionWiseQuantizer with a table of its own in each dimension, of the least squared error on the latents that it was
    fitted to, whatever their place and width. The table is stored with the weights; before `fit` it is that for unit variance.
    """

    def __init__(self, dim: int, levels: int = 64):
        super().__init__(dim, levels)
        self.register_buffer("values", super().table)  # in units of the latents

    @property
    def table(self) -> Tensor:
        """The values in units of the latents, float32 (dim, levels)."""
        return self.values

    def _standard(self, latents: Tensor) -> Tensor:
        return latents.flatten(0, 1).T.contiguous()

    @torch.no_grad()
    def fit(self, latents: Tensor) -> None:
        """Fits the values to latents (B, N, dim): Lloyd's algorithm from each dimension's quantiles."""
        levels = self.codebook_sizes[0]
        data = self._standard(latents.double()).sort(-1).values
        count = data.shape[-1]
        if count < levels or not data.isfinite().all():
            raise InputError(f"{levels} levels are fitted to as many finite latents or more, got {count}; give more")
        sums = F.pad(data.cumsum(-1), (1, 0))
        values = data[:, [(2 * i + 1) * count // (2 * levels) for i in range(levels)]]
        for _ in range(ROUNDS):
            ends = F.pad(torch.searchsorted(data, _midpoints(values), right=True), (1, 0))
            ends = F.pad(ends, (0, 1), value=count)
            found = ends.diff()
            values = torch.where(found > 0, sums.gather(-1, ends).diff() / found.clamp(min=1), values)
        self.values.copy_(values)


def _midpoints(values: Tensor) -> Tensor:
    """Where the nearest of increasing values (dim, L) changes, (dim, L - 1)."""
    return (values[:, :-1] + values[:, 1:]) / 2


def _normal_means(levels: int, width: float) -> Tensor:
    """Means of the cells, (levels,): float32 throughout as published, so that the two halves differ in the last digits."""
    quantiles = torch.special.ndtri(torch.linspace(0, 1, levels + 1, dtype=torch.float64))
    edges = quantiles.float().clamp(-width, width)
    densities = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
    below = (1 + torch.erf(edges / math.sqrt(2))) / 2
    return -densities.diff() / below.diff().clamp(min=1e-10)
