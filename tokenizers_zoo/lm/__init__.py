"""Tokens for language models: a vocabulary that text and tokenizers share, patterns, a grammar, acoustic pairs."""

from .alphabet import Alphabet
from .patterns import CoarseFirst, Delay, Flatten, Nested, Parallel, Pattern, Rows, Scales, SemanticFirst
from .vocabulary import Example, Vocabulary

__all__ = [
    "Alphabet",
    "CoarseFirst",
    "Delay",
    "Example",
    "Flatten",
    "Nested",
    "Parallel",
    "Pattern",
    "Rows",
    "Scales",
    "SemanticFirst",
    "Vocabulary",
]
