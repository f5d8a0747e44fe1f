"""Instella BAE: an image of any size as a row of binary vectors (arXiv 2506.21022; AMD-AGI/Instella-T2I)."""

from ..tokenizer import ImageTokenizer


class InstellaBAE(ImageTokenizer):
    """Encoder, Bernoulli bits, decoder: each bit of a position is a codebook of two entries.

    To a language model a position is few ids, not many bits: `tokenizers_zoo.grouping` puts bits together and takes them apart.
    """
