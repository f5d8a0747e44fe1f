"""What rows, columns and folders of results are called."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InputError
from .base import Measure, System
from .overrides import written_out

TAKEN = ("items", "codebooks", "bits_per_second_or_pixel", "entropy_coded_per_second_or_pixel")  # of results, and no measures


def tell_apart(systems: Sequence[System]) -> dict[str, System]:
    """The systems by folders for their results; those of one name get their fingerprint beside it, or what they were opened by.

    Raises InputError for a system that is there twice.
    """
    groups: dict[str, list[System]] = {}
    for system in systems:
        groups.setdefault(system.name, []).append(system)
    for name, group in groups.items():
        choices = [[getattr(system, attribute) for system in group] for attribute in ("weights", "source")]
        telling = next((words for words in choices if len(set(words)) == len(group)), None)
        if telling is None:
            raise InputError(f"{name} is named twice; name each once")
        if len(group) > 1:
            for system, word in zip(group, telling, strict=True):
                system.name = f"{name} ({word})" if word else name
    plain = Counter(_folder(system.name) for system in systems)
    return {_folder(system.name, plain[_folder(system.name)] > 1): system for system in systems}


def _folder(name: str, hashed: bool = False) -> str:
    """A name of a folder, with a hash of the name where letters that files cannot have would make two names one."""
    folder = "".join(c if c.isalnum() or c in "-." else "_" for c in name)
    if hashed or len(folder) > 100 or not folder.strip("."):
        return f"{folder[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return folder


def labels(
    parts: Mapping[str, Any], metrics: Mapping[str, Measure], measures: Mapping[str, Iterable[str]]
) -> dict[tuple[str, str], str]:
    """What each measure of each metric is called in results.

    Its own word ("stoi"), or the suite's name of the metric before it ("short.stoi") where two metrics have a measure of one
    word, or are of one class without a `key` of their own each, so that the name is the same whether the other one could be
    measured or not; also where the word is `TAKEN`. parts: the suite's metrics. metrics: those that could be had. measures:
    words of each one's measures.
    """
    words = Counter([*TAKEN, *(word for some in measures.values() for word in some)])
    keys = {name: getattr(metrics.get(name), "key", "") for name in parts}
    found: dict[tuple[str, str], str] = {}
    for name, some in measures.items():
        alike = [other for other in parts if other != name and _class(parts[other]) == _class(parts[name])]
        alone = all(words[word] == 1 for word in some) and all(
            keys[name] and keys[other] not in ("", keys[name]) for other in alike
        )
        found |= {(name, word): word if alone else f"{name}.{word}" for word in some}
    return found


def _class(part: Any) -> str:
    return str(written_out(part)["class_path"])
