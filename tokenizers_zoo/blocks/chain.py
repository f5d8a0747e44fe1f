"""Modules of varying lengths one after the other, and long clips through them piece by piece."""

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
    size, out = TILE * torch.get_num_threads(), None
    samples = [x.shape[-1]] * len(x) if lengths is None else lengths.tolist()
    with parametrize.cached():  # a weight norm that is not folded is computed once, not for each piece
        for i, count in enumerate(samples):
            for start in range(0, -(-count // takes), size):
                first = max(0, start - context)
                y, _ = stage(x[i : i + 1, :, first * takes : min((start + size + context) * takes, count)], None)
                y = y[0, :, (start - first) * gives :][:, : size * gives]
                out = y.new_zeros(len(x), len(y), -(-x.shape[-1] // takes) * gives) if out is None else out
                out[i, :, start * gives : start * gives + y.shape[-1]] = y
    assert out is not None
    return out, None if lengths is None else -(-lengths // takes) * gives
