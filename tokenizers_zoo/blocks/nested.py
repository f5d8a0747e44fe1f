"""Nested dropout: an item keeps its first tokens, so that these learn to say the most.

Source: FlexTok (arXiv 2502.13967; apple/ml-flextok, flextok/model/preprocessors/token_dropout.py).
"""

from typing import Literal

import torch
from torch import Tensor

from ..part import Part


class NestedDropout(Part):
    """How many of its first tokens each item of a training batch keeps; an ordered decoder takes these numbers as `lengths`.

    mode: "uniform" draws from 1..n; "powers" one of 1, 2, 4, ... n, all equally likely, where n is a power of two;
    "uniform_powers" draws from 1..n and rounds up to a power of two: n has a chance of about 1/2, n/2 of 1/4, and so on.
    """

    def __init__(self, mode: Literal["uniform", "powers", "uniform_powers"] = "uniform"):
        super().__init__()
        if mode not in ("uniform", "powers", "uniform_powers"):
            raise ValueError(f'mode is "uniform", "powers" or "uniform_powers", not {mode!r}')
        self.mode = mode

    def forward(self, count: int, positions: int) -> Tensor:
        """Numbers of kept tokens, int64 (count,), each from 1 to positions."""
        if self.mode != "powers":
            drawn = torch.randint(1, positions + 1, (count,))
            return drawn if self.mode == "uniform" else rounded_up(drawn).clamp(max=positions)
        if positions & (positions - 1):
            raise ValueError(f"powers of two end on the last token only where there are 1, 2, 4, ... of them, not {positions}")
        return 2 ** torch.randint(positions.bit_length(), (count,))


def rounded_up(counts: Tensor) -> Tensor:
    """The least powers of two that are not less than these whole numbers."""
    return 2 ** (counts.double().log2().ceil().long())


def masked(tokens: Tensor, lengths: Tensor, mask_token: Tensor) -> Tensor:
    """Tokens (B, N, D), those past an item's length replaced by mask_token (D,)."""
    kept = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return torch.where(kept[..., None], tokens, mask_token)
