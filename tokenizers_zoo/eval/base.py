"""What a metric and a system are, and how items become a number."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..manifest import Row
from ..media import Audio, Images

RESAMPLES = 1000  # of the bootstrap
SILENCE = 1e-4  # root mean square below which a clip counts as silent
UNMEASURED = (ValueError, RuntimeError, OSError)  # what one item may raise at the cost of that item; ours are ValueErrors
Item: TypeAlias = dict[str, Any]
Outcome: TypeAlias = tuple[Audio | Images | None, Item] | Exception


class Movable:
    """What runs networks on a device."""

    device = torch.device("cpu")

    def to(self, device: torch.device | str) -> None:
        """Moves the networks among its attributes."""
        self.device = torch.device(device)
        for part in vars(self).values():
            if isinstance(part, nn.Module):
                part.to(self.device)


class System(Movable, ABC):
    """Something that turns media into bits or features and back: a tokenizer, a classical codec, or nothing at all.

    name: of its row in the table. weights: a hash of them, empty where there are none. source: what it was opened by, a name or a
    folder. takes: columns of a manifest's row that `roundtrip` takes besides media ("text"). sizes: entries of each codebook of
    its codes, empty where there are none.
    """

    name: str
    weights: str = ""
    source: str = ""
    takes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @abstractmethod
    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images | None, Item]:
        """One item -> what comes back, None where nothing can, and what is known of the bits: `bits`, and of tokenizers `codes`
        (K, N); nothing of what has no bits.

        Tokenizers also say `side`, how many of the bits are no codes but texts and conditions.
        """

    def roundtrips(self, media: Sequence[Audio | Images], rows: Sequence[Row], seeds: Sequence[int]) -> list[Outcome]:
        """`roundtrip` of several items, or the error of one in its place; by default one by one.

        rows: the items' own, of which `takes` is taken. seeds: of each item's random numbers, so that an item comes back the same
        whatever is beside it.
        """
        found: list[Outcome] = []
        for one, row, seed in zip(media, rows, seeds, strict=True):
            seed_all(seed)
            try:
                found.append(self.roundtrip(one, **{name: getattr(row, name) for name in self.takes}))
            except UNMEASURED as error:
                found.append(error)
        return found

    def latents(self, media: Audio | Images, item: Item) -> Tensor | None:
        """What stands for a medium here, e.g. what its codes mean, (places, D), or None. item: of its `roundtrip`.

        Places are alike, so that a mean over them says something.
        """
        return None


class Measure(Movable):
    """A measure of single items or of all of them.

    unit: of its values. better: "higher" or "lower".
    """

    unit: str = ""
    better: str = "higher"

    def together(self, items: Sequence[Item]) -> list[Item]:
        """What is known of each item only beside all others, in the items' order, and kept with it; by default nothing."""
        return [{} for _ in items]

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """Of all items: by default the mean of each number, with a bootstrap interval of 95 %."""
        keys = [key for key, value in items[0].items() if isinstance(value, float)]
        return {key: interval([item[key] for item in items]) for key in keys}


class Metric(Measure, ABC):
    """A measure of decoded media against the original: audio (S,) at the suite's rate, or pixels (3, H, W) in [0, 1].

    An item's value depends on that item alone, whatever is beside it in a batch. Where an original is silent (`is_silent`) no
    metric is asked; where the decoded side is, `silent` is asked and `item` never. What `check` refuses has neither.
    """

    def check(self, decoded: Tensor, row: Row) -> None:
        """Raises InputError for an item that cannot be measured, e.g. too short; the original is as large as what is decoded."""

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        """What is computed of originals once for all systems, e.g. their features; by default the originals themselves."""
        return list(originals)

    def items(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Item | InputError]:
        """`item` of a batch, an InputError in the place of what cannot be measured; by default one by one."""
        found: list[Item | InputError] = []
        for triple in zip(prepared, decoded, rows, strict=True):
            try:
                found.append(self.item(*triple))
            except InputError as error:
                found.append(error)
        return found

    @abstractmethod
    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        """Of one item, `original` as `prepare` made it: numbers, texts, or arrays of a fixed size.

        Raises InputError where the item cannot be measured; the item then has no value, and is counted.
        """

    def silent(self, original: Any, row: Row) -> Item:
        """Of an item that came back silent, in place of `item`. Raises InputError where silence has no such measure."""
        raise InputError(f"{row.path} came back silent, which has no {type(self).__name__}")


class TokenMetric(Measure, ABC):
    """A measure of what systems have in place of media: tokens, latents, features. Those that have none have no value."""

    def items(
        self, system: System, media: Sequence[Audio | Images], found: Sequence[Item], rows: Sequence[Row], seeds: Sequence[int]
    ) -> list[Item | None]:
        """`item` of a batch; found: of the system's `roundtrip`; seeds: of each item's random numbers, whatever the system."""
        latents = [system.latents(*pair) for pair in zip(media, found, strict=True)]
        return [None if x is None else self.item(x, row) for x, row in zip(latents, rows, strict=True)]

    @abstractmethod
    def item(self, latents: Tensor, row: Row) -> Item:
        """Of one item's latents (places, D), as `Metric.item`."""


def attempt(run: Callable[..., Sequence[Any]], *columns: Sequence[Any]) -> list[Any]:
    """What `run` makes of a batch, given as columns; where it fails, of each item alone, with the item's error in its place."""
    count = len(columns[0])
    try:
        found = list(run(*columns)) if count else []
    except UNMEASURED as error:
        if count == 1:
            return [error]
        return [result for i in range(count) for result in attempt(run, *([column[i]] for column in columns))]
    if len(found) != count:
        raise AssertionError(f"{run} gave {len(found)} results for {count} items")
    return found


def is_silent(media: Tensor) -> bool:
    """Whether a clip (S,) has a root mean square below `SILENCE`; pictures never are."""
    return media.ndim == 1 and float(media.double().square().mean().sqrt()) < SILENCE


def seed_all(seed: int) -> None:
    """Python's, numpy's and torch's random numbers, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def interval(values: Sequence[Any], statistic: Callable[..., Any] | None = None) -> dict[str, float]:
    """{value, low, high}: `statistic` (the mean) of numbers or rows, and its bootstrap quantiles at 2.5 % and 97.5 %.

    One item says nothing of how far others are from it: it has a value alone.
    """
    table = np.asarray(values, dtype=np.float64)
    statistic = statistic or (lambda rows: rows.mean(axis=0))
    if len(table) == 1:
        return {"value": float(statistic(table))}
    generator = np.random.default_rng(0)
    draws = [float(statistic(table[generator.integers(len(table), size=len(table))])) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(statistic(table)), "low": float(low), "high": float(high)}


def need(package: str, extra: str = "eval") -> Any:
    """An imported optional package. Raises InputError that says how to get it."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        wanted, lacking = package.split(".")[0], (error.name or package).split(".")[0]
        if lacking != wanted:  # there, and has needs of its own
            raise InputError(f"the package {wanted} needs the package {lacking}: pip install {lacking}") from error
        raise InputError(f"this evaluation needs the package {wanted}: pip install 'tokenizers-zoo[{extra}]'") from error
