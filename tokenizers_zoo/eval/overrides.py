"""KEY=VALUE of the command line, put into a suite's parts."""

import copy
from collections.abc import Sequence
from typing import Any

import yaml

from ..errors import InputError

PARTS: dict[str, type] = {"metrics": dict, "baselines": list}


def overridden(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a suite with overrides, in which dots lead into parts: metrics by name, baselines by place or class name.

    A part that is a class name alone is first written out. The value null removes a part, or brings back an option's default;
    below `init_args` it is a value. Raises InputError for what is not there.
    """
    config = copy.deepcopy(config)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (key and equals and text.strip()):
            raise InputError(f"{override!r} is no override; give KEY=VALUE, or KEY=null to leave a part out")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{override!r} has no value that YAML can read ({reason}); quote it") from error
        first, *rest = key.split(".")
        if first in PARTS and rest:
            parts = config.get(first) or PARTS[first]()
            if not isinstance(parts, PARTS[first]):
                raise InputError(f"the suite has no {first} by which {key!r} could be found")
            _put_part(parts, rest, value, key)
        elif rest or (value is None and first not in config):
            raise InputError(f"the suite has no {key!r}")
        elif value is None:
            del config[first]
        else:
            config[first] = value
    for kind in PARTS:  # removed ones were kept in their place until here, because a place counts from the file's first
        if isinstance(parts := config.get(kind), dict):
            config[kind] = {k: part for k, part in parts.items() if part is not None}
        elif isinstance(parts, list):
            config[kind] = [part for part in parts if part is not None]
    return config


def written_out(part: Any) -> dict[str, Any]:
    """A part {class_path, init_args} of the same, or of a class name alone."""
    part = {"class_path": part} if isinstance(part, str) else part
    if not isinstance(part, dict) or not {"class_path"} <= part.keys() <= {"class_path", "init_args"}:
        raise InputError(f"a part is a class name or {{class_path, init_args}}, got {part!r}")
    return {"class_path": part["class_path"], "init_args": dict(part.get("init_args") or {})}


def _put_part(parts: Any, words: list[str], value: Any, key: str) -> None:
    """Replaces, removes or changes one of the metrics (by name) or baselines (a list)."""
    first, *inner = words
    places = _places(parts, first)
    if value is None and not inner and places:
        for place in places:
            parts[place] = None
        return
    if isinstance(parts, dict) and not inner and value is not None:
        parts[first] = value
        return
    if len(places) != 1:
        known = ", ".join(_names(parts)) or "none"
        found = f"{len(places)} parts that {key!r} could be" if places else f"no {key!r}"
        raise InputError(f"the suite has {found}; there are {known}")
    if not inner:
        parts[places[0]] = value
        return
    part = parts[places[0]] = written_out(parts[places[0]])
    if inner[0] not in part:
        outer = key.removesuffix("." + ".".join(inner))
        raise InputError(f"the suite has no {key!r}; a part has class_path and init_args: {outer}.init_args.{inner[0]}")
    _put(part, inner, value, key)


def _put(inside: Any, words: list[str], value: Any, key: str) -> None:
    *outer, last = words
    for word in outer:
        inside = inside.get(word) if isinstance(inside, dict) else None
    if not isinstance(inside, dict):
        raise InputError(f"the suite has no {key!r}")
    inside[last] = value


def _places(parts: Any, word: str) -> list[Any]:
    """Keys of the metrics, or indices of the baselines, that a word stands for; removed ones are not there."""
    if isinstance(parts, dict):
        return [word] if parts.get(word) is not None else []
    there = [i for i, part in enumerate(parts) if part is not None]
    return [i for i in there if word in (str(i), written_out(parts[i])["class_path"])]


def _names(parts: Any) -> list[str]:
    if isinstance(parts, dict):
        return [name for name, part in parts.items() if part is not None]
    return [f"{i} ({written_out(part)['class_path']})" for i, part in enumerate(parts) if part is not None]
