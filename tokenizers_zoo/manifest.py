"""What there is to train on: a manifest, or a folder."""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import atomic_path

CACHE = Path("~/.cache/tokenizers-zoo")
TABLES = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Row:
    """One file: its path, what is said or seen in it, who speaks, its split, its length if known, and its class for probes."""

    path: Path
    text: str = ""
    speaker: str = ""
    split: str = ""
    seconds: float = 0.0
    label: str = ""


def read_manifest(source: str | Path, suffixes: Sequence[str]) -> list[Row]:
    """Rows of a manifest, a folder, or a dataset of the Hugging Face Hub.

    A manifest is a .csv, .tsv, .jsonl or .parquet file: a column `path`, and any of text (or caption), speaker, split, seconds,
    label. Of a folder every file is a row, with the sub-folder `train`, `valid`, `val` or `test` as its split. `hf:NAME` or
    `hf:NAME:CONFIG` is a dataset with a column audio or image.

    Paths are relative to the manifest. Raises InputError for what is neither, or names nothing.
    """
    if str(source).startswith("hf:"):
        return _hugging_face(*str(source)[3:].split(":"))
    source = Path(source)
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.name[0] != ".")
        rows = [Row(path, split=_split(path.relative_to(source))) for path in files]
    elif source.is_file():
        rows = [_row(values, source) for values in _values(source)]
    else:
        raise InputError(f"{source}: no such manifest or folder")
    if not rows:
        raise InputError(f"{source} names no files; a folder needs {', '.join(suffixes)}, a manifest a row for each file")
    return rows


def write_manifest(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes a .csv manifest."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        for row in rows:
            writer.writerow([row.path, row.text, row.speaker, row.split, f"{row.seconds:.3f}", row.label])


def of_split(rows: list[Row], split: str) -> list[Row]:
    """The rows of a split; those without any belong to all. Raises InputError if there are none."""
    chosen = [row for row in rows if row.split in {split, ""}]
    if not chosen:
        known = ", ".join(sorted({row.split for row in rows}))
        raise InputError(f"no file belongs to the split {split!r}; there are {known}")
    return chosen


def _hugging_face(name: str, config: str | None = None) -> list[Row]:
    """All splits of a dataset with a column `audio` or `image`; its files are unpacked into the cache, once."""
    from datasets import Audio, Image, load_dataset

    folder = CACHE.expanduser() / "datasets" / re.sub(r"\W+", "_", f"{name} {config or ''}").strip("_")
    rows = []
    for split, part in load_dataset(name, config).items():
        column = next((c for c in ("audio", "image") if c in part.column_names), None)
        if column is None:
            raise InputError(f"{name} needs a column audio or image, it has {', '.join(part.column_names)}")
        part = part.cast_column(column, (Audio if column == "audio" else Image)(decode=False))
        for index, item in enumerate(part):
            suffix = Path(item[column]["path"] or "").suffix or (".flac" if column == "audio" else ".png")
            path = folder / str(split) / f"{index:08d}{suffix}"
            if not path.exists():
                with atomic_path(path) as temporary:
                    temporary.write_bytes(item[column]["bytes"] or Path(item[column]["path"]).read_bytes())
            text = str(item.get("text") or item.get("caption") or item.get("transcription") or "")
            known = {"validation": "valid", "val": "valid"}
            label = "" if item.get("label") is None else str(item["label"])
            rows.append(Row(path, text, str(item.get("speaker_id") or ""), known.get(str(split), str(split)), label=label))
    return rows


def _values(source: Path) -> list[dict[str, Any]]:
    if source.suffix in TABLES:
        with source.open(newline="") as file:
            return list(csv.DictReader(file, delimiter=TABLES[source.suffix]))
    if source.suffix == ".jsonl":
        try:
            return [json.loads(line) for line in source.read_text().splitlines() if line.strip()]
        except ValueError as error:
            raise InputError(f"{source} has a line that is not JSON ({error})") from error
    if source.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(source).to_pylist()
    raise InputError(f"{source} is no manifest; use .csv, .tsv, .jsonl or .parquet, or name a folder")


def _row(values: dict[str, Any], source: Path) -> Row:
    if not values.get("path"):
        raise InputError(f"{source} needs a column `path`, it has {', '.join(map(str, values))}")
    text = values.get("text") or values.get("caption") or ""
    try:
        seconds = float(values.get("seconds") or 0.0)
    except ValueError as error:
        raise InputError(f"{source}: seconds must be a number, got {values['seconds']!r}") from error
    known = {name: "" if values.get(name) is None else str(values[name]) for name in ("speaker", "split", "label")}
    return Row(source.parent / values["path"], str(text), seconds=seconds, **known)


def _split(path: Path) -> str:
    return {"train": "train", "val": "valid", "valid": "valid", "test": "test"}.get(path.parts[0], "")
