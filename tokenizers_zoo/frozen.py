"""Networks that are looked through and never learn: judges, teachers, the eyes of a loss."""

from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")


class Frozen(nn.Module):
    """A module that stays in evaluation mode with all that is in it, whatever mode is asked for (dropout, batch norm)."""

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode."""
        return super().train(False)


def feature_maps(network: nn.Module, taps: Sequence[str], x: Tensor) -> list[Tensor]:
    """What the submodules `taps` of `network` give when it runs on `x`, in the order of `taps`."""
    maps: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(tap).register_forward_hook(lambda _m, _i, out, tap=tap: maps.update({tap: out})) for tap in taps
    ]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [maps[tap] for tap in taps]


@torch.no_grad()
def stacked(run: Callable[[Tensor], Iterable[Result]], inputs: Sequence[Tensor], size: int = 16) -> list[Result]:
    """What `run` makes of each input, in their order; at most `size` inputs of one shape go through it at once.

    run: (B, ...) -> B results. Nothing is padded: an input's result does not depend on what else there is.
    """
    alike: dict[torch.Size, list[int]] = {}
    for index, tensor in enumerate(inputs):
        alike.setdefault(tensor.shape, []).append(index)
    results: dict[int, Result] = {}
    for indices in alike.values():
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            results |= zip(part, run(torch.stack([inputs[i] for i in part])), strict=True)
    return [results[index] for index in range(len(inputs))]
