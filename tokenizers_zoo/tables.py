"""Tables of four file types as rows of named values, each with the place that an error can point to."""

import codecs
import csv
import importlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import atomic_path

DELIMITERS = {".csv": ",", ".tsv": "\t"}

Place = str  # "FILE, line N": how an error's text begins
Values = dict[str, Any]


def read_table(path: Path) -> Iterator[tuple[Place, Values]]:
    """Rows of a .csv, .tsv, .jsonl (UTF-8, with or without a byte order mark) or .parquet file.

    A .csv or .tsv has a head with the names; its values are strings. Lines end at line feeds alone, whatever else Unicode calls a
    line's end. Raises InputError, with the line, for what is not such a table.
    """
    suffix = path.suffix.lower()
    if suffix in DELIMITERS:
        return _delimited(path, DELIMITERS[suffix])
    if suffix == ".jsonl":
        return _json_lines(path)
    if suffix == ".parquet":
        return _parquet(path)
    raise InputError(f"{path} is no manifest; use .csv, .tsv, .jsonl or .parquet, or name a folder")


def write_table(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes .csv or .tsv (every row has all names; numbers and None as text) or .jsonl (what is None, "" or [] is left out)."""
    suffix = path.suffix.lower()
    if suffix not in (*DELIMITERS, ".jsonl"):
        raise InputError(f"cannot write a manifest as {path.suffix or path.name!r}; use .csv, .tsv or .jsonl")
    try:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            if suffix == ".jsonl":
                for row in rows:
                    kept = {name: value for name, value in row.items() if value not in (None, "", [])}
                    file.write(json.dumps(kept, ensure_ascii=False) + "\n")
                return
            writer = csv.DictWriter(file, names, delimiter=DELIMITERS[suffix], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                if not all(isinstance(value, str | int | float | None) for value in row.values()):
                    raise InputError(f"a {suffix} has one word or number in a place, these are more: {dict(row)}; write .jsonl")
                writer.writerow(row)
    except (TypeError, UnicodeEncodeError) as error:
        raise InputError(f"{path} cannot hold a value of these rows ({error}); rename the file or drop the column") from error


def package(name: str, extra: str = "datasets") -> Any:
    """An optional package. Raises InputError with the command that installs it, by the extra that has it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this needs {name} ({error}): pip install 'tokenizers-zoo[{extra}]'") from error


def _delimited(path: Path, delimiter: str) -> Iterator[tuple[Place, Values]]:
    text = _utf8(path.read_bytes().removeprefix(codecs.BOM_UTF8), str(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if not names:
                names = [name.strip() for name in cells]
                if len(set(names)) < len(names):
                    raise InputError(f"{place}: two columns have one name among {', '.join(names)}; rename one")
            elif cells and len(cells) != len(names):
                fix = f"quote text that holds {delimiter!r}, and write missing values as nothing between two of them"
                raise InputError(f"{place} has {len(cells)} values, its head names {len(names)} columns; {fix}")
            elif cells:
                yield place, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        fix = 'a quoted value ends with a quotation mark, and one inside it is written twice ("")'
        raise InputError(f"{path}, line {reader.line_num}: {error}; {fix}") from error


def _json_lines(path: Path) -> Iterator[tuple[Place, Values]]:
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        place = f"{path}, line {number}"
        text = _utf8(line, place)
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is not JSON ({error}); write one object a line") from error
        if not isinstance(values, dict):
            raise InputError(f'{place} is a {type(values).__name__}, not an object; write one a line, {{"path": "a.wav"}}')
        yield place, values


def _parquet(path: Path) -> Iterator[tuple[Place, Values]]:
    parquet, arrow = package("pyarrow.parquet", "corpus"), package("pyarrow", "corpus")
    try:
        rows = parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole Parquet file ({error}); copy or write it again") from error
    return ((f"{path}, row {number}", values) for number, values in enumerate(rows, 1))


def _utf8(data: bytes, place: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{place} is not UTF-8 ({error.reason} in its line {line}); save it as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{place} holds null bytes, so it is no text, or in another encoding; save it as UTF-8")
    return text
