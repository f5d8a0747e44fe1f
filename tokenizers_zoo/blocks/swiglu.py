"""The gated perceptron of LLaMA-like transformers (SwiGLU, arXiv 2002.05202)."""

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """fc2(SiLU(fc1 x) * fc3 x), without biases.

    hidden: by default two thirds of 4 * width, which makes it as large as a plain perceptron of 4 * width.
    """

    def __init__(self, width: int, hidden: int | None = None):
        super().__init__()
        hidden = hidden or 8 * width // 3
        self.fc1, self.fc3 = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))
