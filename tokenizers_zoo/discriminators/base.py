"""What a discriminator returns, and several discriminators as one."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Judgement(NamedTuple):
    """Of one sub-discriminator: logits of any shape, and its feature maps from input to output (logits excluded)."""

    logits: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """Several discriminators on the same media, their judgements in one list.

    match_logits: whether the logits of each count among its feature maps too, as HiFi-GAN's do; default: of none. normalise:
    they hear each clip without its mean and with a peak of 0.8, as DAC's do.
    """

    def __init__(self, discriminators: list[nn.Module], match_logits: list[bool] | None = None, normalise: bool = False):
        super().__init__()
        self.normalise = normalise
        self.discriminators = nn.ModuleList(discriminators)
        self.match_logits = match_logits or [False] * len(discriminators)

    def forward(self, x: Tensor) -> list[Judgement]:
        """Media (B, C, ...) -> judgements of all."""
        if self.normalise:
            x = x - x.mean(dim=-1, keepdim=True)
            x = 0.8 * x / (x.abs().amax(dim=-1, keepdim=True) + 1e-9)
        pairs = zip(self.discriminators, self.match_logits, strict=True)
        judged = [(judgement, match) for part, match in pairs for judgement in part(x)]
        return [Judgement(logits, [*features, logits] if match else features) for (logits, features), match in judged]


def run(layers: nn.ModuleList, last: nn.Module, x: Tensor, slope: float) -> Judgement:
    """Convolutions with LeakyReLU(`slope`) after each, then `last` for the logits."""
    features = []
    for layer in layers:
        x = torch.nn.functional.leaky_relu(layer(x), slope)
        features.append(x)
    return Judgement(last(x), features)
