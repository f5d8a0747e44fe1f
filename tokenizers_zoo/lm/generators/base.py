"""What generators have in common: classes and seeds in, Tokens out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...spec import TokenSpec, is_integer
from ...tokenizer.base import as_seeds
from ...tokens import Tokens

Draw = Callable[..., Tensor]  # a shape an item -> uniform numbers in [0, 1), (B, *shape)


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. steps: passes of the network. temperature: 0 takes the likeliest. guidance: how far away from what the
    network says without a class, by a schedule over the steps. Raises InputError for what is none of this.
    """

    steps: int
    temperature: float
    guidance: float
    schedule: str = "linear"

    schedules: ClassVar[tuple[str, ...]] = ("constant", "linear")

    def __post_init__(self) -> None:
        if not is_integer(self.steps) or self.steps < 1:
            raise InputError(f"steps is a number of passes, 1 or more, got {self.steps!r}")
        if not (is_finite(self.temperature) and self.temperature >= 0 and is_finite(self.guidance)):
            raise InputError(f"temperature from 0 on and guidance are numbers, got {self.temperature!r} and {self.guidance!r}")
        if self.schedule not in self.schedules:
            raise InputError(f"schedule is one of {', '.join(self.schedules)}, not {self.schedule!r}")

    def with_options(self, options: dict[str, Any]) -> "Sampling":
        """The same, changed. Raises InputError for an option that there is not."""
        known = [field.name for field in fields(self)]
        if unknown := sorted(options.keys() - set(known)):
            raise InputError(f"no option {', '.join(unknown)}; there are {', '.join(known)}")
        return replace(self, **options)


class Generator(nn.Module, ABC):
    """A model that writes tokens of images, given their class.

    spec: of the tokenizer whose tokens it writes; they decode with any weights of that variant, best with those that it was
    trained on. classes: how many; number `classes` stands for none. sampling: what `generate` does by default. license: of loaded
    weights.
    """

    license: str = ""

    def __init__(self, spec: TokenSpec, classes: int, sampling: Sampling):
        super().__init__()
        if spec.positions is None:
            raise InputError(f"{spec.name} has no fixed number of positions; a generator writes whole images")
        self.spec, self.positions, self.classes, self.sampling = spec, spec.positions, classes, sampling

    @abstractmethod
    def sample(self, condition: Tensor, how: Any, draw: Draw) -> Iterator[Tensor]:
        """Codes as they enter each step, then whole ones, int64 (B, K, N). condition: classes, (B,)."""

    @abstractmethod
    def loss(self, codes: Tensor, condition: Tensor) -> Tensor:
        """What training minimises, as published: codes (B, K, N), classes (B,) -> a number. Masks are torch's random numbers."""

    def generate(
        self, count: int, condition: int | Sequence[int] | Tensor | None = None, seed: int | Sequence[int] = 0, **options: Any
    ) -> Tokens:
        """`count` images' tokens. condition: a class for all, or one an image; None: no class.

        seed: image i of n has seed + i, or one an image; what becomes of it depends on its own seed alone, but for rounding.
        options: steps, temperature and what else `sampling` has. Raises InputError for what is none of this.
        """
        for codes in self.trace(count, condition, seed, **options):
            last = codes
        return Tokens(last, self.spec)

    @torch.no_grad()
    def trace(
        self, count: int, condition: int | Sequence[int] | Tensor | None = None, seed: int | Sequence[int] = 0, **options: Any
    ) -> Iterator[Tensor]:
        """Codes of `generate` as they enter each step, and those at the end, int64 (B, K, N); arguments as there."""
        if not is_integer(count) or count < 1:
            raise InputError(f"count is how many images, 1 or more, got {count!r}")
        how, where = self.sampling.with_options(options), next(self.parameters()).device
        seeds = as_seeds([seed + i for i in range(count)] if is_integer(seed) else seed, count)  # type: ignore[operator]
        yield from self.sample(self._condition(condition, count).to(where), how, _Draws(seeds, where))

    def dropped(self, condition: Tensor, share: float) -> Tensor:
        """Classes (B,), of which a share becomes none: what guidance is learned from."""
        return condition.masked_fill(torch.rand(condition.shape, device=condition.device) < share, self.classes)

    def _condition(self, condition: int | Sequence[int] | Tensor | None, count: int) -> Tensor:
        try:
            numbers = torch.as_tensor(self.classes if condition is None else condition)
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.empty(0)
        if numbers.ndim == 0:
            numbers = numbers.expand(count)
        known = numbers.shape == (count,) and not numbers.is_floating_point() and numbers.dtype != torch.bool
        if not known or (condition is not None and not ((numbers >= 0) & (numbers < self.classes)).all()):
            raise InputError(
                f"condition is a class 0 .. {self.classes - 1} for all, one for each of {count}, or None; got {condition!r:.80}"
            )
        return numbers.long()


class _Draws:
    """Uniform numbers of each item from a stream of its own, on the CPU: neither batch nor device changes them."""

    def __init__(self, seeds: Sequence[int], device: torch.device):
        self.streams, self.device = [torch.Generator().manual_seed(seed) for seed in seeds], device

    def __call__(self, *shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator=stream) for stream in self.streams]).to(self.device)


def is_finite(value: object) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
