"""Multi-scale residual quantization: maps of growing side, each what the coarser ones left over."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TokenError
from .base import Quantized, Quantizer, straight_through
from .moving_average import MovingAverageCodebook


class MultiScaleQuantizer(Quantizer):
    """Latents (B, S * S, dim), row by row -> codes (B, K, sum of the squared sides) of one `stage` that all scales share.

    scales: sides, coarse to fine; the last is S. A scale codes the area means of what is left, and its values come back bicubic.
    Codes decode from any number of the first scales; a scale whose codes are all -1 adds nothing.
    cumulative: as in VAR (arXiv 2404.02905, algorithm 1; FoundationVision/VAR, models/quant.py) the losses, commitment and
    codebook, are those of the sum up to each scale against the latents, and one straight-through goes around the whole.
    Otherwise, as in TokenFlow (arXiv 2412.03069; vq_model.py), each scale has its stage's losses, and the gradient passes
    through each stage and each area mean. Losses are means over the scales.
    phi: number of convolutions that blend into what comes back, x / 2 + conv(x) / 2, each for the scales nearest to it (VAR: 4).
    dropout: probability that a training step leaves out one scale, never the first: its codes are -1 (TokenFlow: 0.1).
    """

    def __init__(self, stage: Quantizer, scales: Sequence[int], cumulative: bool = False, phi: int = 0, dropout: float = 0.0):
        super().__init__()
        if not scales or min(scales) < 1 or list(scales) != sorted(set(scales)):
            raise ValueError(f"scales are growing sides, got {list(scales)}")
        if any(isinstance(part, MovingAverageCodebook) for part in stage.modules()):
            raise ValueError(
                "a codebook by moving averages learns once a step, not once a scale; take one that learns by gradient"
            )
        self.stage, self.scales = stage, tuple(scales)
        self.dim, self.codebook_sizes = stage.dim, stage.codebook_sizes
        self.codebook_prefixes = stage.codebook_prefixes
        self.cumulative, self.dropout = cumulative, dropout
        self.phi = nn.ModuleList(nn.Conv2d(self.dim, self.dim, 3, padding=1) for _ in range(phi))

    @property
    def roles(self) -> tuple[str, ...]:
        return self.stage.roles

    def forward(self, latents: Tensor) -> Quantized:
        left = self._map(latents)
        quantized, values = torch.zeros_like(left), torch.zeros_like(left)
        absent = self._left_out() if self.training else -1
        codes, losses = [], []
        for scale, side in enumerate(self.scales):
            if scale == absent:
                codes.append(latents.new_full((len(latents), len(self.codebook_sizes), side * side), -1, dtype=torch.long))
                continue
            if self.cumulative:
                codes.append(self.stage.encode(_shrunk(left.detach(), side)))
                grown = self._grown(self.stage.decode(codes[-1]), scale)  # carries the gradient of the rows
                losses.append(_losses(latents, _rows(values + grown)))
            else:
                part = self.stage(_shrunk(left, side))
                codes.append(part.codes)
                grown = self._grown(part.values, scale)
                quantized = quantized + self._grown(part.latents, scale)
                losses.append(part.losses)
            values = values + grown
            left = left - grown.detach()
        total = _rows(values)
        return Quantized(
            straight_through(latents, total) if self.cumulative else _rows(quantized),
            torch.cat(codes, -1),
            self.codebook_sizes,
            {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]},
            total.detach(),
        )

    def _left_out(self) -> int:
        """The scale that a step leaves out, or -1."""
        if len(self.scales) > 1 and self.dropout and torch.rand(()).item() < self.dropout:
            return int(torch.randint(1, len(self.scales), ()))
        return -1

    def encode(self, latents: Tensor) -> Tensor:
        left, codes = self._map(latents), []
        for scale, side in enumerate(self.scales):
            codes.append(self.stage.encode(_shrunk(left, side)))
            left = left - self._grown(self.stage.decode(codes[-1]), scale)
        return torch.cat(codes, -1)

    def decode(self, codes: Tensor) -> Tensor:
        side = self.scales[-1]
        total = torch.zeros(len(codes), self.dim, side, side, device=codes.device)
        done = 0
        for scale, side in enumerate(self.scales):
            if done < codes.shape[-1]:
                part = codes[..., done : done + side * side]
                done += side * side
                if done > codes.shape[-1]:
                    raise TokenError(f"{codes.shape[-1]} codes end inside the scale of side {side}; give {done}, or whole scales")
                there = (part >= 0).flatten(1).any(1)[:, None, None, None]
                total = total + self._grown(self.stage.decode(part), scale) * there
        return _rows(total)

    def _map(self, latents: Tensor) -> Tensor:
        """(B, S * S, dim) -> (B, dim, S, S)."""
        return latents.transpose(1, 2).unflatten(2, (self.scales[-1],) * 2)

    def _grown(self, values: Tensor, scale: int) -> Tensor:
        """(B, side * side, dim) -> (B, dim, S, S)."""
        small = values.transpose(1, 2).unflatten(2, (self.scales[scale],) * 2)
        grown = F.interpolate(small, (self.scales[-1],) * 2, mode="bicubic")
        if not self.phi:
            return grown
        place, count = scale / max(1, len(self.scales) - 1), len(self.phi)
        first, step = 1 / (3 * count), (1 - 2 / (3 * count)) / max(1, count - 1)
        own = min(range(count), key=lambda i: abs(first + i * step - place))
        return (grown + self.phi[own](grown)) / 2


def _losses(latents: Tensor, total: Tensor) -> dict[str, Tensor]:
    """Of the sum so far, both (B, S * S, dim)."""
    return {"commitment": F.mse_loss(total.detach(), latents), "codebook": F.mse_loss(total, latents.detach())}


def _shrunk(maps: Tensor, side: int) -> Tensor:
    """(B, dim, S, S) -> the means of side x side areas, (B, side * side, dim)."""
    return _rows(F.interpolate(maps, (side, side), mode="area"))


def _rows(maps: Tensor) -> Tensor:
    """(B, dim, h, w) -> (B, h * w, dim)."""
    return maps.flatten(2).transpose(1, 2)
