"""Patterns: the orders in which codes become the sequence of a language model, each with its exact inverse."""

from typing import Any

from ...errors import TokenError
from ..alphabet import Alphabet
from .base import Arranged, Frames, Pattern
from .delay import Delay, Parallel
from .lines import Rows, Scales
from .nested import Nested
from .stages import CoarseFirst, Flatten, SemanticFirst

PATTERNS: dict[str, type[Pattern]] = {
    pattern.__name__: pattern for pattern in (Flatten, Delay, Parallel, CoarseFirst, SemanticFirst, Rows, Scales, Nested)
}
__all__ = [
    "PATTERNS",
    "Arranged",
    "CoarseFirst",
    "Delay",
    "Flatten",
    "Frames",
    "Nested",
    "Parallel",
    "Pattern",
    "Rows",
    "Scales",
    "SemanticFirst",
    "from_json",
    "to_json",
]


def to_json(pattern: Pattern) -> dict[str, Any]:
    """A pattern as plain data."""
    return {"pattern": type(pattern).__name__, "options": pattern.options, "alphabet": pattern.alphabet.to_json()}


def from_json(data: dict[str, Any]) -> Pattern:
    """Inverse of `to_json`. Raises TokenError for a pattern of another name."""
    if data["pattern"] not in PATTERNS:
        raise TokenError(f"no pattern {data['pattern']!r}, only {', '.join(PATTERNS)}; a newer tokenizers-zoo may have it")
    return PATTERNS[data["pattern"]](Alphabet.from_json(data["alphabet"]), **data["options"])
