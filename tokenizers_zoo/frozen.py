"""Networks that are looked through and never learn: judges, teachers, the eyes of a loss."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn


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
