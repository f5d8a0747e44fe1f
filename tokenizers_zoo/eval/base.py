"""What a metric and a system are, and how items become a number."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from ..media import Audio, Images

RESAMPLES = 1000  # of the bootstrap
Item = dict[str, Any]


class System(ABC):
    """Something that turns media into bits and back: a tokenizer, a classical codec, or nothing at all.

    name: of its row in the table. weights: a hash of them, empty where there are none. takes: columns of a manifest's row that
    `roundtrip` takes besides media ("text").
    """

    name: str
    weights: str = ""
    takes: tuple[str, ...] = ()

    @abstractmethod
    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One item -> what comes back, and what is known of the bits: `bits`, and of tokenizers `codes` (K, N)."""

    def latents(self, item: Item) -> Tensor | None:
        """What the codes of an item stand for, (N, D); item: of `roundtrip`. None where there are no codes."""
        return None


class Measure:
    """A measure of single items or of all of them.

    unit: of its values. better: "higher" or "lower".
    """

    unit: str = ""
    better: str = "higher"

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """Of all items: by default the mean of each number, with a bootstrap interval of 95 %."""
        keys = [key for key, value in items[0].items() if isinstance(value, float)]
        return {key: interval([item[key] for item in items]) for key in keys}


class Metric(Measure, ABC):
    """A measure of decoded media against the original."""

    @abstractmethod
    def item(self, original: Tensor, decoded: Tensor, row: Row) -> Item:
        """Of one item, audio (S,) at the suite's rate or pixels (3, H, W) in [0, 1]: numbers, texts, or arrays of a fixed size.

        Raises InputError where the item cannot be measured; the item then has no value, and is counted.
        """


class TokenMetric(Measure, ABC):
    """A measure of tokens; systems without any have no value."""

    @abstractmethod
    def item(self, latents: Tensor, row: Row) -> Item:
        """Of one item's latents (N, D), as `Metric.item`."""


def interval(values: Sequence[Any], statistic: Callable[..., Any] | None = None) -> dict[str, float]:
    """{value, low, high}: `statistic` (the mean) of numbers or rows, and its bootstrap quantiles at 2.5 % and 97.5 %."""
    table = np.asarray(values, dtype=np.float64)
    statistic = statistic or (lambda rows: rows.mean(axis=0))
    random = np.random.default_rng(0)
    draws = [float(statistic(table[random.integers(len(table), size=len(table))])) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(statistic(table)), "low": float(low), "high": float(high)}


def need(package: str, extra: str = "eval") -> Any:
    """An imported optional package. Raises InputError that says how to get it."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"this evaluation needs the package {package.split('.')[0]}: pip install 'tokenizers-zoo[{extra}]'"
        ) from error
