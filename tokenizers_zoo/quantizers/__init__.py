"""Quantizers: latents (B, N, D) <-> codes (B, K, N), one protocol for all."""

from .base import Quantized, Quantizer
from .binary import BernoulliQuantizer, BinaryQuantizer
from .dimension_wise import DimensionWiseQuantizer, FittedDimensionWiseQuantizer
from .grouped import GroupedQuantizer, SplitQuantizer
from .multiscale import MultiScaleQuantizer
from .projected import ProjectedQuantizer
from .residual import ResidualQuantizer
from .scalar import FSQ
from .shared_index import SharedIndexQuantizer
from .shared_residual import SharedResidualQuantizer
from .vector import EMAVectorQuantizer, FactorizedVectorQuantizer, VectorQuantizer

__all__ = [
    "FSQ",
    "BernoulliQuantizer",
    "BinaryQuantizer",
    "DimensionWiseQuantizer",
    "EMAVectorQuantizer",
    "FactorizedVectorQuantizer",
    "FittedDimensionWiseQuantizer",
    "GroupedQuantizer",
    "MultiScaleQuantizer",
    "ProjectedQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "SharedIndexQuantizer",
    "SharedResidualQuantizer",
    "SplitQuantizer",
    "VectorQuantizer",
]
