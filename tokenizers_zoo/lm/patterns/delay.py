"""A step for every position, in which each lane is some steps behind: delay, and parallel, where none is."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...errors import TokenError
from ...spec import TokenSpec, is_integer
from ..alphabet import Alphabet
from .base import Pattern


class Delay(Pattern):
    """Lane l of a step holds the code of `delays[l]` positions ago; - is a mark, where there is none.

        step    0  1  2  3  4            delays 0 1 2, three positions
        lane 0  a0 a1 a2 -  -            the tail: the first mark of the lane that is ahead ends the item,
        lane 1  -  b0 b1 b2 -            the others say what they still owe
        lane 2  -  -  c0 c1 c2

    delays: steps of each lane, 0 or more; 0, 1, 2, ... by default (MusicGen, arXiv 2306.05284). Dia's are 0, 8, 9, ..., 15,
    Moshi's 0 for the semantic and 1 for the acoustic codebooks. Ids are (B, steps, lanes); a model of one stream reads them flat,
    step by step.
    """

    layouts: tuple[str, ...] = ("time",)
    stepwise = True

    def __init__(self, source: TokenSpec | Alphabet, delays: Sequence[int] | None = None):
        super().__init__(source)
        self.delays = tuple(range(self.lanes)) if delays is None else tuple(delays)
        if len(self.delays) != self.lanes or not all(is_integer(d) and 0 <= d < 1 << 20 for d in self.delays):
            raise TokenError(f"{self.spec.name} needs {self.lanes} delays, whole numbers from 0; got {self.delays}")

    @property
    def options(self) -> dict[str, Any]:
        """The delays."""
        return {"delays": list(self.delays)}

    def count(self, length: Tensor) -> Tensor:
        """Steps until the last lane is through."""
        return (length + max(self.delays)) * self.lanes

    def slot(self, index: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """A lane's code of `delay` steps ago."""
        lane = index % self.lanes
        position = index // self.lanes - index.new_tensor(self.delays)[lane]
        silent = (position < 0) | (position >= length)
        return (lane + 0 * position).masked_fill(silent, self.lanes), (position + 0 * length).masked_fill(silent, -1)


class Parallel(Delay):
    """All codes of a position in one step, each lane with a head of its own.

    step    0  1  2
    lane 0  a0 a1 a2
    lane 1  b0 b1 b2
    """

    layouts = ("time", "sequence", "grid", "scales")

    def __init__(self, source: TokenSpec | Alphabet):
        alphabet = source if isinstance(source, Alphabet) else Alphabet(source)
        super().__init__(alphabet, [0] * len(alphabet.sizes))

    @property
    def options(self) -> dict[str, Any]:
        """None."""
        return {}
