"""The items of a run on disk, so that a stopped run goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .base import Item


class Store:
    """Items on disk: one JSON line each, arrays beside it as .npz. A run with another identity does not mix in."""

    def __init__(self, folder: Path, identity: str):
        self.folder, self.identity = folder, identity
        self.path = folder / "rows.jsonl"
        (folder / "items").mkdir(parents=True, exist_ok=True)
        head = folder / "identity"
        if head.exists() and head.read_text() != identity:
            raise InputError(
                f"{folder} holds another evaluation (other weights, suite or files); give another folder, or remove it"
            )
        head.write_text(identity)
        text = self.path.read_text() if self.path.exists() else ""
        self.lines = [line for line in text.splitlines() if line.endswith("}")]  # a killed run leaves half a line
        self.path.write_text("".join(f"{line}\n" for line in self.lines))

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, item: Item) -> None:
        """Keeps one item; its line is what makes it count."""
        index = len(self)
        arrays: dict[str, Any] = {}
        plain = {k: _plain(v, arrays, k) for k, v in item.items()}
        if arrays:
            np.savez(self.folder / f"items/{index:05d}.npz", **arrays)
        self.lines.append(json.dumps(plain))
        with self.path.open("a") as file:
            file.write(self.lines[-1] + "\n")

    def items(self) -> list[Item]:
        """All items with their arrays."""
        items = [json.loads(line) for line in self.lines]
        for index, item in enumerate(items):
            path = self.folder / f"items/{index:05d}.npz"
            if path.exists():
                with np.load(path, allow_pickle=False) as arrays:
                    for key, value in arrays.items():
                        *outer, inner = key.split("/")
                        (item[outer[0]] if outer else item)[inner] = value
        return items


def _plain(value: Any, arrays: dict[str, Any], key: str) -> Any:
    if isinstance(value, dict):
        kept = {k: _plain(v, arrays, f"{key}/{k}") for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None}
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return None
    return value
