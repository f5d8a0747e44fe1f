"""RMSNorm (arXiv 1910.07467) of Llama-like transformers."""

from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the last axis, in the type of the weight whatever the autocast gives."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return super().forward(x.to(self.weight.dtype))
