"""Generators that come with systems: networks that write a tokenizer's tokens, given a class.

    generator = load_generator("maskgit-titok-l32")  # the authors' weights, from the Hub
    tokens = generator.generate(4, condition=207, seed=1)  # four golden retrievers, Tokens of titok-l32
    pictures = tz.load_official("titok-l32").decode(tokens)

Of one's own, for any tokenizer of images with one codebook, with `codes` (B, 1, N) of photos and their `classes` (B,):

    generator = MaskGIT(tokenizer.spec, classes=10, width=256, depth=6, heads=4)
    generator.loss(codes, classes).backward()

`MaskedAutoregressive` does the same where each dimension of a latent is a codebook (TokenBridge).
"""

from .autoregressive import MaskedAutoregressive
from .base import Generator, Sampling
from .dimensions import DimensionHead
from .maskgit import MaskGIT, MaskGITSampling
from .published import GENERATORS, create_generator, load_generator

__all__ = [
    "GENERATORS",
    "DimensionHead",
    "Generator",
    "MaskGIT",
    "MaskGITSampling",
    "MaskedAutoregressive",
    "Sampling",
    "create_generator",
    "load_generator",
]
