"""Metrics that measure several items at once."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from .base import Item, Metric


class Batched(Metric):
    """A metric whose network takes batches. An item is a batch of one: its value does not depend on what is beside it."""

    @abstractmethod
    def measure(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> Sequence[Item]:
        """Values of items that passed `check`, as `items` gets them."""

    def items(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item | InputError]:
        """Values of a batch, an InputError in the place of what cannot be measured."""
        found: dict[int, Item | InputError] = {}
        for index, (one, row) in enumerate(zip(decoded, rows, strict=True)):
            try:
                self.check(one, row)
            except InputError as error:
                found[index] = error
        left = [index for index in range(len(decoded)) if index not in found]
        columns = [[column[index] for index in left] for column in (prepared, decoded, rows)]
        found |= zip(left, self.measure(*columns) if left else [], strict=True)  # type: ignore[arg-type]
        return [found[index] for index in range(len(decoded))]

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        """Of one item; `original` as `prepare` made it, or the original itself."""
        prepared = self.prepare([original]) if isinstance(original, Tensor) else [original]
        (found,) = self.items(prepared, [decoded], [row])
        if isinstance(found, InputError):
            raise found
        return found
