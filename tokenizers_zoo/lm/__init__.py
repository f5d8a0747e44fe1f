"""Tokens for language models: a vocabulary that text and tokenizers share, patterns, a grammar, acoustic pairs."""

from .alphabet import Alphabet
from .grammar import Grammar
from .patterns import CoarseFirst, Delay, Flatten, Nested, Parallel, Pattern, Rows, Scales, SemanticFirst
from .vocabulary import Example, Vocabulary

__all__ = [
    "Alphabet",
    "CoarseFirst",
    "Delay",
    "Example",
    "Flatten",
    "Grammar",
    "Nested",
    "Parallel",
    "Pattern",
    "Rows",
    "Scales",
    "SemanticFirst",
    "Vocabulary",
]
