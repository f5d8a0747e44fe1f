"""A perceptron that turns hidden states into what a teacher would say."""

from torch import Tensor, nn

from ..part import Part


class Projector(Part):
    """Three linear maps with SiLU between them (sihyun-yu/REPA, models/sit.py).

    FlexTok's own ends on a zero-initialised map, with which a cosine has no direction to begin with: its first gradient is of the
    order 1e12. This one starts as PyTorch's linear maps do.
    """

    def __init__(self, width: int, dim: int, hidden: int = 2048):
        super().__init__()
        self.width, self.dim = width, dim
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., dim)."""
        return self.layers(x)
