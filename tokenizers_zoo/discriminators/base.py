"""What a discriminator returns, and several discriminators as one."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Judgement(NamedTuple):
    """Of one sub-discriminator: logits of any shape, and its feature maps from input to output (logits excluded)."""

    logits: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """Several discriminators on the same media, their judgements in one list."""

    def __init__(self, discriminators: list[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Media (B, C, ...) -> judgements of all."""
        return [judgement for part in self.discriminators for judgement in part(x)]


def run(layers: nn.ModuleList, last: nn.Module, x: Tensor, slope: float) -> Judgement:
    """Convolutions with LeakyReLU(`slope`) after each, then `last` for the logits."""
    features = []
    for layer in layers:
        x = torch.nn.functional.leaky_relu(layer(x), slope)
        features.append(x)
    return Judgement(last(x), features)
