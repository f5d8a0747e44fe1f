"""Assemblies, {class_path, init_args}: what they may name, how they are changed, built, and read off what was built."""

import importlib
import inspect
import itertools
import numbers
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import WeightsError
from .part import BUILT_FROM, Part, remember_arguments

Assembly = dict[str, Any]
Kinds = tuple[type[nn.Module], ...]
Class = TypeVar("Class", bound=type[nn.Module])

MOST, DEEPEST = 10_000, 64  # values of an assembly, and how far one may lie in another
ROOMS = ("blocks", "quantizers", "models")
WRONG = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, Warning)
_registered: dict[str, type[nn.Module]] = {}


def registry() -> dict[str, type[nn.Module]]:
    """Every class that an assembly may name, by its name: the parts in blocks, quantizers and models, and what was registered."""
    return _library() | _registered


@cache
def _library() -> dict[str, type[nn.Module]]:
    classes: dict[str, type[nn.Module]] = {}
    for room in ROOMS:
        package = importlib.import_module(f"{__package__}.{room}")
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
                if issubclass(value, Part) and value.__module__ == info.name and not info.name.endswith(".base"):
                    _add(classes, name, value)
    return classes


def register(cls: Class) -> Class:
    """Lets assemblies name a class of your own: an encoder, a decoder, a quantizer, a tokenizer, or another nn.Module.

    Also a decorator. Whoever loads weights that name it registers it first: a config can name nothing that was not registered.
    Raises WeightsError for anything else than a module class, and for a second class of one name.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise WeightsError(f"register takes a subclass of torch.nn.Module, got {cls!r}")
    taken = registry()
    if taken.get(cls.__name__) is not cls:
        _add(taken, cls.__name__, cls)
        if not issubclass(cls, Part):
            remember_arguments(cls)
        _registered[cls.__name__] = cls
    return cls


def _add(classes: dict[str, type[nn.Module]], name: str, cls: type[nn.Module]) -> None:
    if name in classes:
        there = classes[name]
        raise WeightsError(
            f"two classes are called {name}: {there.__module__}.{there.__qualname__} and {cls.__module__}.{cls.__qualname__}; "
            f"rename yours"
        )
    classes[name] = cls


def overridden(config: Assembly, overrides: Mapping[str, Any]) -> Assembly:
    """A changed copy of an assembly: whole parts first, then arguments of parts (`encoder.depth`).

    Raises WeightsError for a dotted name that leads into no part.
    """
    config = _copied(config)
    for key, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        *path, last = key.split(".")
        where, arguments = str(config["class_path"]), _arguments(config)
        for step in path:
            part = arguments.get(step)
            if isinstance(part, str) and part in registry():
                part = arguments[step] = {"class_path": part}
            if not isinstance(part, dict):
                parts = ", ".join(name for name, value in arguments.items() if isinstance(value, dict)) or "none"
                whole = f"; {step} is {_short(part)}: give it whole, {step}={{'class_path': ...}}" if step in arguments else ""
                raise WeightsError(f"{key}: {where} has no part {step!r}; its parts here are {parts}{whole}")
            where, arguments = step, _arguments(part)
        arguments[last] = _copied(value)
    return config


def _arguments(part: Assembly) -> dict[str, Any]:
    """What a dotted name continues in: the arguments of a part, or a mapping of parts."""
    if "class_path" not in part:
        return part
    if part.get("init_args") is None:
        part["init_args"] = {}
    arguments: dict[str, Any] = part["init_args"]
    return arguments


def _copied(value: Any, depth: int = 0, count: Iterator[int] | None = None) -> Any:
    """A copy in which nothing stands twice: YAML's anchors give one dict in two places, a few lines of them billions."""
    count = itertools.count() if count is None else count
    if depth > DEEPEST or next(count) > MOST:
        raise WeightsError(f"an assembly has at most {MOST} values, nested {DEEPEST} deep; this one unfolds to more")
    if isinstance(value, Mapping):
        return {key: _copied(item, depth + 1, count) for key, item in value.items()}
    return [_copied(item, depth + 1, count) for item in value] if isinstance(value, list | tuple) else value


def build(config: Any, kinds: Kinds = (), where: str = "the assembly") -> Any:
    """The module of an assembly, or of a class name alone; modules in it are taken as they are.

    kinds: what it must be. Raises WeightsError for classes that are not registered or of another kind, unknown arguments, and
    what the classes themselves refuse.
    """
    try:
        built = _build(config, kinds, where)
    except RecursionError as error:
        raise WeightsError(f"{where} is nested too deeply") from error
    if not isinstance(built, kinds or nn.Module):
        raise WeightsError(f"{where} must be {{class_path, init_args}}, {_choice(kinds)}; got {_short(built)}")
    return built


class Unfilled(TorchFunctionMode):
    """A context in which new parameters get no random start, because weights are about to replace them; buffers are as ever.

    steps: of torch that building may take; a config that asks for more than the weights can be meant for is refused early.
    """

    RANDOM = frozenset(("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"))

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.steps -= 1
        if self.steps < 0:
            raise WeightsError("the config builds far more than these weights fill; copy or download the folder again")
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")
        if getattr(function, "__name__", "") in self.RANDOM and isinstance(filled, nn.Parameter):
            return filled
        return function(*args, **kwargs)


def _build(value: Any, kinds: Kinds, where: str) -> Any:
    if isinstance(value, str) and kinds:
        value = {"class_path": value}
    if isinstance(value, dict) and "class_path" in value:
        return _construct(value, kinds, where)
    if isinstance(value, Mapping):
        return {key: _build(item, kinds, f"{where}.{key}") for key, item in value.items()}
    return [_build(item, kinds, where) for item in value] if isinstance(value, list | tuple) else value


def _construct(config: Assembly, kinds: Kinds, where: str) -> nn.Module:
    name, arguments = config["class_path"], config.get("init_args") or {}
    cls = registry().get(name) if isinstance(name, str) else None
    if cls is None:
        raise WeightsError(
            f"{where}: {name!r} is not a class of this library, nor registered; {_choice(kinds)} "
            f"(one of your own: tokenizers_zoo.register(CLASS) first; in a shell, tokenizers-zoo --import ITS_MODULE)"
        )
    if kinds and not issubclass(cls, kinds):
        raise WeightsError(f"{where} cannot be {name}; {_choice(kinds)}")
    if not isinstance(arguments, dict):
        raise WeightsError(f"init_args of {name} must map names to values, got {type(arguments).__name__}")
    try:
        _signature(cls).bind(**arguments)
    except TypeError as error:
        raise WeightsError(f"{name} cannot be built: {error}; it takes {_signature(cls)}") from error
    parts = {key: argument(cls, key, value) for key, value in arguments.items()}
    try:
        return cls(**parts)
    except WRONG as error:
        raise WeightsError(f"{name} cannot be built from these arguments: {error or type(error).__name__}") from error


def argument(cls: type[nn.Module], name: str, value: Any) -> Any:
    """An argument of `cls`, built from what an assembly says of it. Raises WeightsError where its type asks for another part."""
    hint, where = _hints(cls).get(name), f"{cls.__name__}'s {name}"
    kinds = tuple(_kinds(hint))
    built = _build(value, kinds, where)
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    others = [option for option in options if option not in kinds and option is not types.NoneType]  # dict[str, Quantizer]
    if kinds and not others and not isinstance(built, kinds) and not (built is None and types.NoneType in options):
        raise WeightsError(f"{where} must be a part, {{class_path, init_args}}: {_choice(kinds)}; got {_short(built)}")
    return built


def _hints_of(cls: type[nn.Module]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except NameError:  # a class from outside whose types are known to type checkers alone
        return {}


# what a type checker holds against caching classes is nn.Module's own __hash__
_hints: Callable[[type[nn.Module]], dict[str, Any]] = cache(_hints_of)  # type: ignore[assignment]
_signature: Callable[[type[nn.Module]], inspect.Signature] = cache(inspect.signature)  # type: ignore[assignment]


def _kinds(hint: Any) -> Iterator[type[nn.Module]]:
    if isinstance(hint, type) and issubclass(hint, nn.Module):
        yield hint
    for option in typing.get_args(hint):
        yield from _kinds(option)


def choices(name: str, argument: str) -> str:
    """What a class's argument may be, as a sentence; nothing where it is no part."""
    kinds = tuple(_kinds(_hints(registry()[name]).get(argument))) if name in registry() else ()
    return _choice(kinds) if kinds else ""


def _choice(kinds: Kinds) -> str:
    return f"choose one of {', '.join(sorted(n for n, cls in registry().items() if not kinds or issubclass(cls, kinds)))}"


def _short(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, nn.Module | Mapping | list) else repr(value)


def assembly_of(module: nn.Module, where: str = "the tokenizer") -> Assembly:
    """The assembly that builds `module` again, read off what its parts were built from; parts that were exchanged since count.

    Raises WeightsError where a config could not say it: an unregistered class, an argument that JSON cannot hold.
    """
    cls, arguments = vars(module).get(BUILT_FROM, (type(module), None))
    if arguments is not None:
        arguments = dict(arguments)
        for name in _signature(cls).parameters.keys() & module._modules.keys():
            part = module._modules[name]
            if isinstance(arguments.get(name), tuple) or (part is not None and BUILT_FROM in vars(part)):
                arguments[name] = part
    return _named(cls, arguments, where)


def _named(cls: type[nn.Module], arguments: dict[str, Any] | None, where: str) -> Assembly:
    if arguments is None or registry().get(cls.__name__) is not cls:
        raise WeightsError(
            f"{where} is a {cls.__name__}, which a config cannot name: tokenizers_zoo.register({cls.__name__}), then build it"
        )
    rest = next((name for name, p in _signature(cls).parameters.items() if p.kind is p.VAR_KEYWORD), None)
    flat = {key: value for key, value in arguments.items() if key != rest} | arguments.get(rest or "", {})
    told = {key: _told(value, f"{where}'s {key}") for key, value in flat.items() if key not in getattr(cls, "local", ())}
    return {"class_path": cls.__name__, "init_args": told}


def _told(value: Any, where: str) -> Any:
    """A value as JSON has it."""
    if isinstance(value, nn.Module):
        return assembly_of(value, where)
    if isinstance(value, tuple):  # what a part was built from
        cls, arguments = value
        return _named(cls, arguments, where)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _told(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_told(item, where) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    raise WeightsError(f"{where} is a {type(value).__name__}, which a config cannot hold; give numbers, text, lists or parts")
