"""What an assembly may name: parts that remember what they were built from."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .errors import WeightsError

BUILT_FROM = "_built_from"  # where a part keeps its class and the arguments that it was built from


class Part(nn.Module):
    """What an assembly may name: a subclass is found in this library by its class name, and remembers its arguments.

    saved: False for a frozen helper (a text encoder, a vision model) whose weights are found by an argument of its own: weight
    files, averages and comparisons of keys leave it out. undecayed: names of parameters in it, its own or `child.weight`, that an
    optimizer's weight decay leaves alone, as it does all vectors and `nn.Embedding`: a table of positions is no map. local: names
    of arguments that say where something lies on this machine, which no config repeats.
    """

    saved = True
    undecayed: tuple[str, ...] = ()
    local: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        remember_arguments(cls)


def remember_arguments(cls: type[nn.Module]) -> None:
    """Lets instances of `cls` keep, as `BUILT_FROM`, their class and the arguments that they were built from, by name.

    A module among the arguments is kept as what *it* was built from, so that no weights are held.
    """
    init: Callable[..., None] = cls.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remembering(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if BUILT_FROM not in vars(self):  # the outermost class comes first
            with contextlib.suppress(TypeError):  # arguments that do not fit: `init` says it better
                _, *given = signature.bind(self, *args, **kwargs).arguments.items()
                vars(self)[BUILT_FROM] = (type(self), {name: _noted(value) for name, value in given})
        init(self, *args, **kwargs)

    cls.__init__ = remembering  # type: ignore[method-assign]


def _noted(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return vars(value).get(BUILT_FROM, (type(value), None))
    if isinstance(value, Mapping):
        return {key: _noted(item) for key, item in value.items()}
    return [_noted(item) for item in value] if isinstance(value, list | tuple) else value


def agree(sizes: Mapping[str, float | None]) -> None:
    """Raises WeightsError (a ValueError) that names all of `sizes` unless they are equal; None is not compared."""
    told = {name: size for name, size in sizes.items() if size is not None}
    if len(set(told.values())) > 1:
        raise WeightsError(f"these must be equal: {', '.join(f'{name} = {size:g}' for name, size in told.items())}")
