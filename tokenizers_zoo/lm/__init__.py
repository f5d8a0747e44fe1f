"""Tokens for language models: a vocabulary that text and tokenizers share, patterns, a grammar, byte pair encoding."""

from .alphabet import Alphabet
from .compress import AcousticBPE
from .grammar import Grammar
from .patterns import CoarseFirst, Delay, Flatten, Nested, Parallel, Pattern, Rows, Scales, SemanticFirst
from .vocabulary import Example, Vocabulary

__all__ = [
    "AcousticBPE",
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
