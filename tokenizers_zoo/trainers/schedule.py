"""Learning-rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import InputError


class WarmupCosine(LambdaLR):
    """Linear to the full rate, then half a cosine down to `final` times the rate at step `total`, and flat after.

    The first of `warmup` steps has 1/warmup of the rate, the last of them all of it.
    """

    def __init__(self, optimizer: Optimizer, total: int, warmup: int = 0, final: float = 0.0, last_epoch: int = -1):
        if not 0 <= warmup < total:
            raise InputError(f"schedule: warmup must be shorter than total, got {warmup} of {total} steps")

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            share = min(1.0, (step - warmup) / (total - warmup))
            return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

        super().__init__(optimizer, factor, last_epoch)
