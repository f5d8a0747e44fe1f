"""The contract: what every tokenizer does, for audio and for images."""

from .audio import AudioTokenizer
from .base import Reconstruction, Tokenizer
from .image import ImageTokenizer, Size
from .variational import VariationalTokenizer

__all__ = ["AudioTokenizer", "ImageTokenizer", "Reconstruction", "Size", "Tokenizer", "VariationalTokenizer"]
