"""Position by position with a mark at the end of every line: rows of a grid, maps of a pyramid."""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...spec import TokenSpec, is_integer
from ..alphabet import Alphabet
from .base import Pattern


class Rows(Pattern):
    """Rows of a grid, each with a mark at its end (Emu3's end of line, arXiv 2409.18869).

        a0 a1 a2 |        one id a position here; those of several lanes follow each other
        a3 a4 a5 |
        a6 a7 a8 |

    width: positions of a row; by default the grid is a square.
    """

    layouts: tuple[str, ...] = ("grid",)

    def __init__(self, source: TokenSpec | Alphabet, width: int | None = None):
        alphabet = source if isinstance(source, Alphabet) else Alphabet(source)
        self.width = math.isqrt(alphabet.spec.positions or 0) if width is None else width
        super().__init__(alphabet)

    def refuses(self) -> str:
        """Rows must fill the grid."""
        width, positions = self.width, self.spec.positions
        if not is_integer(width) or width < 1 or (positions or 0) % width:
            return super().refuses() or f"rows of {width} positions do not fill its {positions}; give another width"
        return super().refuses()

    @property
    def options(self) -> dict[str, Any]:
        """The width."""
        return {"width": self.width}

    def count(self, length: Tensor) -> Tensor:
        """Every code, and a mark after each full row."""
        return length * self.lanes + length // self.width

    def slot(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all lengths."""
        index = index - 0 * length
        wide = self.width * self.lanes
        row, place = index // (wide + 1), index % (wide + 1)
        kind = (place % self.lanes).masked_fill(place == wide, self.lanes)
        return kind, (row * self.width + place // self.lanes).masked_fill(place == wide, -1)


class Scales(Pattern):
    """The maps of a pyramid from coarse to fine, each with a mark at its end (VAR's order, arXiv 2404.02905).

    a0 |  a1 a2 a3 a4 |  a5 a6 ... a20 |        sides 1, 2, 4
    """

    layouts: tuple[str, ...] = ("scales",)

    def refuses(self) -> str:
        """Sides must be known."""
        return super().refuses() or ("" if self.spec.scales else "its spec has no scales")

    def _ends(self, like: Tensor) -> Tensor:
        return like.new_tensor(list(accumulate(side * side for side in self.spec.scales)))

    def count(self, length: Tensor) -> Tensor:
        """Every code, and a mark after each full map."""
        return length * self.lanes + torch.searchsorted(self._ends(length), length, right=True)

    def slot(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all lengths."""
        index = index - 0 * length
        ends = self._ends(index)
        marks = ends * self.lanes + torch.arange(len(ends), device=ends.device)  # where they stand
        before = torch.searchsorted(marks, index.contiguous())  # marks before this place
        at_mark = index == marks[before.clamp(max=len(marks) - 1)]
        place = index - before
        return (place % self.lanes).masked_fill(at_mark, self.lanes), (place // self.lanes).masked_fill(at_mark, -1)
