"""What there is to train on: a manifest, or a folder."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .errors import InputError
from .files import atomic_path
from .tables import package, read_table, write_table

CACHE = Path("~/.cache/tokenizers-zoo")
TEXTS = ("text", "texts", "caption", "captions")
COLUMNS = ("path", *TEXTS, "speaker", "split", "seconds", "label")


@dataclass(frozen=True)
class Row:
    """One file: its path, what is said or seen in it, who speaks, its split, its length if known, and its class for probes.

    texts: captions, none of them empty; one string stands for one caption, "" for none. extra: the manifest's other columns,
    which a rewrite keeps.
    """

    path: Path
    texts: tuple[str, ...] = ()
    speaker: str = ""
    split: str = ""
    seconds: float = 0.0
    label: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        texts = (self.texts,) if isinstance(self.texts, str) else self.texts
        object.__setattr__(self, "texts", tuple(text for text in texts if text))

    @property
    def text(self) -> str:
        """The first caption, or ""."""
        return self.texts[0] if self.texts else ""

    def draw(self, generator: torch.Generator) -> str:
        """One of the captions, all equally likely, or ""; a single one costs no random number."""
        return self.texts[int(torch.randint(len(self.texts), (), generator=generator))] if len(self.texts) > 1 else self.text


def read_manifest(source: str | Path, suffixes: Sequence[str]) -> list[Row]:
    """Rows of a manifest, a folder, or a dataset of the Hugging Face Hub.

    A manifest is a .csv, .tsv, .jsonl or .parquet file: a column `path`, and any of text (texts, caption, captions), speaker,
    split, seconds, label. A text is a string or, in .jsonl and .parquet, a list of strings; a file's captions are all its texts.
    Of a folder every file is a row, with the sub-folder `train`, `valid`, `val` or `test` as its split. `hf:NAME` or
    `hf:NAME:CONFIG` is a dataset with a column audio or image.

    Paths are relative to the manifest. Raises InputError, with the line, for what is neither, or names nothing.
    """
    if str(source).startswith("hf:"):
        name, *config = str(source)[3:].split(":")
        if not name or len(config) > 1:
            raise InputError(f"{source}: a dataset of the Hub is hf:NAME or hf:NAME:CONFIG")
        return _hugging_face(name, config[0] if config else None)
    source = Path(source)
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.name[0] != ".")
        rows = [Row(path, split=_split(path.relative_to(source))) for path in files]
    elif source.is_file():
        rows = [_row(values, place, source.parent) for place, values in read_table(source)]
    else:
        raise InputError(f"{source}: no such manifest or folder")
    if not rows:
        raise InputError(f"{source} names no files; a folder needs {', '.join(suffixes)}, a manifest a row for each file")
    return rows


def write_manifest(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes a .csv, .tsv or .jsonl manifest with paths relative to it. Several captions of one file need .jsonl."""
    path, rows = Path(path), list(rows)
    several = any(len(row.texts) > 1 for row in rows)
    extra = dict.fromkeys(name for row in rows for name in row.extra)
    names = ["path", "texts" if several else "text", "speaker", "split", "seconds", "label", *extra]
    table = [
        {
            "path": _relative(row.path, path.parent),
            names[1]: list(row.texts) if several else row.text,
            "speaker": row.speaker,
            "split": row.split,
            "seconds": row.seconds or None,
            "label": row.label,
            **row.extra,
        }
        for row in rows
    ]
    write_table(path, names, table)


def of_split(rows: list[Row], split: str) -> list[Row]:
    """The rows of a split; those without any belong to all. Raises InputError if there are none."""
    chosen = [row for row in rows if row.split in {split, ""}]
    if not chosen:
        known = ", ".join(sorted({row.split for row in rows}))
        raise InputError(f"no file belongs to the split {split!r}; there are {known}")
    return chosen


def _hugging_face(name: str, config: str | None = None) -> list[Row]:
    """All splits of a dataset with a column `audio` or `image`.

    Its files are unpacked into the cache, each named after its content, and its rows listed there under the fingerprint that
    `datasets` gives this content; as long as it is the same, the list is all that is read.
    """
    load = package("datasets").load_dataset
    try:
        parts = load(name, config or None)
    except (ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"cannot read the dataset {name} of the Hub ({reason}); check its name, config and access") from error
    folder = CACHE.expanduser() / "datasets" / re.sub(r"\W+", "_", f"{name} {config or ''}").strip("_")
    marks = {str(split): getattr(part, "_fingerprint", None) for split, part in parts.items()}
    listed = folder / f"{_digest(json.dumps(marks).encode())}.jsonl" if all(marks.values()) else None
    if listed and listed.is_file():
        rows = read_manifest(listed, ())
        if all(row.path.exists() for row in rows):
            return rows
    rows = [row for split, part in parts.items() for row in _unpacked(part, str(split), folder, name)]
    if listed:
        write_manifest(listed, rows)
    return rows


def _unpacked(part: Any, split: str, folder: Path, name: str) -> Iterator[Row]:
    column = next((c for c in ("audio", "image") if c in part.column_names), None)
    if column is None:
        raise InputError(f"{name} needs a column audio or image, it has {', '.join(part.column_names)}")
    undecoded = part.cast_column(column, getattr(package("datasets"), column.title())(decode=False))
    for index, item in enumerate(undecoded):
        place = f"{name}, {split} {index}"
        stored = item[column] or {}
        data, path = stored.get("bytes"), Path(stored.get("path") or "")
        if data is None and not path.is_file():
            raise InputError(f"{place} has no {column}; filter such rows out of the dataset")
        if data is not None:
            path = folder / (_digest(data) + (path.suffix or (".flac" if column == "audio" else ".png")))
            if not path.exists():
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
        label = "" if item.get("label") is None else str(item["label"])
        texts, speaker = _texts(item, (*TEXTS, "transcription"), place), str(item.get("speaker_id") or "")
        yield Row(path, texts, speaker, {"validation": "valid", "val": "valid"}.get(split, split), label=label)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _row(values: Mapping[str, Any], place: str, folder: Path) -> Row:
    if "path" not in values:
        raise InputError(f"{place} needs a column `path`, it has {', '.join(map(str, values))}")
    path = values["path"]
    if not isinstance(path, str) or not path.strip() or "\0" in path or not _encodes(path, "surrogateescape"):
        raise InputError(f"{place}: `path` must name a file, got {path!r}")
    words = {name: _word(values.get(name), f"{place}: {name}") for name in ("speaker", "split", "label")}
    extra = {name: value for name, value in values.items() if name not in COLUMNS}
    return Row(folder / path, _texts(values, TEXTS, place), seconds=_seconds(values.get("seconds"), place), extra=extra, **words)


def _texts(values: Mapping[str, Any], names: Sequence[str], place: str) -> tuple[str, ...]:
    """All captions in the columns `names`, each once."""
    found = []
    for name in names:
        value = values.get(name)
        texts = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(text, str) and "\0" not in text and _encodes(text) for text in texts):
            raise InputError(f"{place}: {name} must be text or a list of texts, got {value!r}")
        found += texts
    return tuple(dict.fromkeys(found))


def _seconds(value: Any, place: str) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(0 if value in (None, "") else value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"{place}: seconds must be a number of at least 0, got {value!r}; leave it empty where it is not known")
    return seconds


def _word(value: Any, what: str) -> str:
    if not isinstance(value, str | int | float | None):
        raise InputError(f"{what} must be a word or a number, got {value!r}")
    return "" if value is None else str(value)


def _encodes(text: str, errors: str = "strict") -> bool:
    """Whether a string can be written: half a surrogate pair, which JSON can escape, cannot."""
    try:
        text.encode(errors=errors)
    except UnicodeEncodeError:
        return False
    return True


def _relative(path: Path, folder: Path) -> str:
    """`path` as a manifest in `folder` names it. Outside it links are resolved, because `..` of a link is not where it stands."""
    path, folder = path.absolute(), folder.absolute()
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())


def _split(path: Path) -> str:
    return {"train": "train", "val": "valid", "valid": "valid", "test": "test"}.get(path.parts[0], "")
