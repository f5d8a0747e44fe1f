"""The items of a run on disk, so that a stopped run goes on."""

import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import atomic_path
from .base import Item


class Store:
    """Items by their number, on disk: a JSON line each, arrays beside it as .npz. A run with another identity does not mix in.

    missing: metrics that this run does without. An item that was measured without others is measured anew, as is one of which a
    killed run left half. packages: by name the version of each that there is; one that comes or goes makes no other run, as a
    metric that needs it is missing or not, but another version does.
    """

    def __init__(
        self, folder: Path, identity: str, missing: Collection[str] = (), packages: Mapping[str, str] = MappingProxyType({})
    ):
        self.folder, self.identity, self.missing = folder, identity, sorted(missing)
        self.path = folder / "rows.jsonl"
        (folder / "items").mkdir(parents=True, exist_ok=True)
        head = folder / "identity"
        known, _, rest = (head.read_text() if head.exists() else "").partition("\n")
        before = json.loads(rest or "{}")
        updated = [f"{name} {before[name]}" for name, number in packages.items() if before.get(name, number) != number]
        if known not in ("", identity) or updated:
            what = f"of {', '.join(updated)}" if updated else "(other weights, metrics, files or seed)"
            raise InputError(f"{folder} holds another evaluation {what}; give another folder, or remove it")
        with atomic_path(head) as temporary:
            temporary.write_text(f"{identity}\n{json.dumps({**before, **packages})}\n")
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        self.rows = {row["item"]: row for row in map(_row, lines) if row and self._whole(row)}
        self.sort()

    def __contains__(self, index: int) -> bool:
        return index in self.rows

    def add(self, index: int, item: Item) -> None:
        """Keeps one item; its line is what makes it count."""
        arrays: dict[str, Any] = {}
        row = {"item": index, **{key: _plain(value, arrays, key) for key, value in item.items()}, "without": self.missing}
        row = {key: value for key, value in row.items() if value is not None}
        if arrays:
            row["arrays"] = sorted(arrays)
            with atomic_path(self._arrays(index)) as temporary:
                np.savez(temporary, **arrays)
        self.rows[index] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def sort(self) -> None:
        """Writes the lines anew, in the order of the items."""
        self.rows = dict(sorted(self.rows.items()))
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(row)}\n" for row in self.rows.values()))

    def put(self, name: str, indexes: Sequence[int], values: Sequence[Item]) -> None:
        """Adds numbers to what some items have under a name."""
        for index, value in zip(indexes, values, strict=True):
            self.rows[index].setdefault(name, {}).update(value)
        if any(values):
            self.sort()

    def values(self, name: str, indexes: Sequence[int]) -> list[Any]:
        """What some items have under a name, with its arrays."""
        return [self._value(self.rows[index], name) for index in indexes]

    def _value(self, row: Item, name: str) -> Any:
        keys = [key for key in row.get("arrays", ()) if key.split("/")[0] == name]
        if not keys:
            return row[name]
        with np.load(self._arrays(row["item"]), allow_pickle=False) as arrays:
            if keys == [name]:
                return arrays[name]
            return row[name] | {key.removeprefix(f"{name}/"): arrays[key] for key in keys}

    def _arrays(self, index: int) -> Path:
        return self.folder / f"items/{index:05d}.npz"

    def _whole(self, row: Item) -> bool:
        """Whether nothing is to be measured again, and the arrays are all there."""
        if not set(row.get("without", ())) <= set(self.missing):
            return False
        try:
            if row.get("arrays"):
                with zipfile.ZipFile(self._arrays(row["item"])) as file:
                    return file.testzip() is None and {f"{key}.npy" for key in row["arrays"]} <= set(file.namelist())
        except (OSError, zipfile.BadZipFile):
            return False
        return True


def _row(line: str) -> Item | None:
    """The item of a line; None for half a line."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "item" in row else None


def _plain(value: Any, arrays: dict[str, Any], key: str) -> Any:
    if isinstance(value, dict):
        kept = {k: _plain(v, arrays, f"{key}/{k}") for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None}
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return None
    return value
