"""The list that every quantizer joins: test_protocol.py asks of each what all promise."""

from collections.abc import Callable

import torch

from tokenizers_zoo.quantizers import (
    FSQ,
    BernoulliQuantizer,
    BinaryQuantizer,
    DimensionWiseQuantizer,
    EMAVectorQuantizer,
    FactorizedVectorQuantizer,
    FittedDimensionWiseQuantizer,
    GroupedQuantizer,
    ProjectedQuantizer,
    Quantizer,
    ResidualQuantizer,
    SharedIndexQuantizer,
    SharedResidualQuantizer,
    SplitQuantizer,
    VectorQuantizer,
)


def three_groups() -> dict[str, Quantizer]:
    """Of one width: a look-up, a residual one, bits."""
    return {
        "semantic": FactorizedVectorQuantizer(64, 8, 4),
        "acoustic": ResidualQuantizer(FactorizedVectorQuantizer(32, 8, 4), 2),
        "pixel": BinaryQuantizer(8),
    }


KINDS: dict[str, Callable[[], Quantizer]] = {
    "vector": lambda: VectorQuantizer(64, 8),
    "vector l2": lambda: VectorQuantizer(64, 8, l2_norm=True),
    "ema": lambda: EMAVectorQuantizer(64, 8),
    "factorized": lambda: FactorizedVectorQuantizer(64, 16, 8),
    "residual ema": lambda: ResidualQuantizer(EMAVectorQuantizer(64, 8), 3),
    "residual factorized": lambda: ResidualQuantizer(FactorizedVectorQuantizer(64, 16, 8), 3),
    "split": lambda: SplitQuantizer(EMAVectorQuantizer(64, 8), ResidualQuantizer(EMAVectorQuantizer(32, 8), 2)),
    "split subtracting": lambda: SplitQuantizer(
        FactorizedVectorQuantizer(64, 16, 8), ResidualQuantizer(FactorizedVectorQuantizer(32, 16, 8), 2), subtract=True
    ),
    "grouped": lambda: GroupedQuantizer(three_groups()),
    "grouped subtracting": lambda: GroupedQuantizer(three_groups(), subtract=True),
    "projected": lambda: ProjectedQuantizer(ResidualQuantizer(EMAVectorQuantizer(64, 4), 3), 16),
    "fsq": lambda: FSQ([8, 5, 5]),
    "fsq 2": lambda: FSQ([5, 2, 4, 2]),
    "fsq 2 alone": lambda: FSQ([2, 2, 2]),
    "lfq": lambda: BinaryQuantizer(10),
    "bsq": lambda: BinaryQuantizer(10, spherical=True),
    "dimension-wise": lambda: DimensionWiseQuantizer(8, 16),
    "dimension-wise fitted": lambda: FittedDimensionWiseQuantizer(8, 16),
    "shared index": lambda: SharedIndexQuantizer(64, 6, 4),
    "shared index entropy": lambda: SharedIndexQuantizer(64, 6, 4, pixel_weight=0.5, temperature=0.1),
    "shared residual": lambda: SharedResidualQuantizer(64, 8, 3),
    "shared residual level": lambda: SharedResidualQuantizer(64, 8, 3, learns="level"),
    "shared residual rest": lambda: SharedResidualQuantizer(64, 8, 3, learns="rest"),
    "bernoulli": lambda: BernoulliQuantizer(16, 24),
}


def started(quantizer: Quantizer, count: int = 2048) -> Quantizer:
    """`quantizer` after one training step on normal latents (the k-means start of moving-average codebooks)."""
    quantizer.train()(torch.randn(4, count // 4, quantizer.dim))
    return quantizer.eval()
