"""Modules of varying lengths one after the other, and long clips through them piece by piece."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

TILE = 1024  # frames that `in_tiles` runs at a time, for each thread of the CPU


class Chain(nn.ModuleList):
    """Modules that take and return (x, lengths), one after the other."""

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T) -> (B, C', T')."""
        for module in self:
            x, lengths = module(x, lengths)
        return x, lengths


def in_tiles(
    stage: nn.Module, x: Tensor, lengths: Tensor | None, takes: int, gives: int, context: int
) -> tuple[Tensor, Tensor | None]:
    """`stage`, which makes `gives` samples of every `takes`; for inference on a CPU piece by piece, the result is the same.

    Activations at the waveform's rate are many times larger than the caches, pieces of one clip are not: all of a SEANet's
    convolutions run 1.7 times as fast. Each piece has `context` frames on both sides; padding at a cut is cut away with them.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return stage(x, lengths)
    out = x.new_empty(0)
    samples = [x.shape[-1]] * len(x) if lengths is None else lengths.tolist()
    with parametrize.cached():  # a weight norm that is not folded is computed once, not for each piece
        for i, count in enumerate(samples):
            for at, y in _pieces(stage, x[i : i + 1, :, :count], takes, gives, context):
                if not len(out):  # the first piece says how many channels there are
                    out = y.new_zeros(len(x), y.shape[1], -(-x.shape[-1] // takes) * gives)
                out[i, :, at : at + y.shape[-1]] = y[0]
    return out, None if lengths is None else -(-lengths // takes) * gives


def _pieces(stage: nn.Module, x: Tensor, takes: int, gives: int, context: int) -> Iterator[tuple[int, Tensor]]:
    """What `stage` makes of one clip (1, C, T), piece by piece: its first sample, and (1, C', at most a tile)."""
    size = TILE * torch.get_num_threads()
    for start in range(0, -(-x.shape[-1] // takes), size):
        first = max(0, start - context)
        y, _ = stage(x[..., first * takes : (start + size + context) * takes], None)
        yield start * gives, y[..., (start - first) * gives :][..., : size * gives]
