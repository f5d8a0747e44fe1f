"""Which files a command reads, and where their outputs go. All by names: a hundred thousand files take a second or two."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..errors import InputError
from ..manifest import Row, read_manifest

Source: TypeAlias = Path | Row | bytes
STDIN = "-"


@dataclass(frozen=True)
class Job:
    """One input: a path, a manifest's row, or what came by standard input; its output's path, which may still lack a suffix."""

    source: Source
    target: str
    complete: bool = False

    def output(self, suffix: str) -> Path:
        """The file to write."""
        return Path(self.target if self.complete else self.target + suffix)

    def __str__(self) -> str:
        return "standard input" if isinstance(self.source, bytes) else str(_path(self.source))


def find(names: Sequence[str], data: str | None, suffixes: tuple[str, ...], output: Path | None) -> list[Job]:
    """The jobs of the command line's inputs, or of a manifest. Raises InputError where two have one output."""
    folder = str(output or "")
    if data and os.path.isdir(data):
        names, data = [data], None
    found = list(_rows(data, suffixes) if data else _inputs(names, suffixes, folder))
    if not output:
        return [Job(source, name) for source, name in found]
    if len(found) == 1 and output.suffix and not output.is_dir():
        return [Job(found[0][0], folder, complete=True)]
    if output.is_file():
        raise InputError(f"{output} is a file, and {len(found)} outputs need a folder; give another one")
    by_name: dict[str, Source] = {}
    for source, name in found:
        other = by_name.setdefault(name, source)
        if other != source:
            raise InputError(
                f"{_path(source)} and {_path(other)} would both become {os.path.join(folder, name)}; encode them to two folders"
            )
    return [Job(source, os.path.join(folder, name)) for name, source in by_name.items()]


def split_done(jobs: Sequence[Job], suffix: Callable[[Job], str], suffixes: Sequence[str]) -> tuple[list[Job], list[Job]]:
    """(still to do, done): those whose output exists are done. Every folder of outputs is listed once.

    suffix: of a job's output, one of `suffixes`; it is asked only where an output with one of them exists. A target that was
    named itself is always to do.
    """
    there: dict[str, set[str]] = {}
    todo: list[Job] = []
    done: list[Job] = []
    for job in jobs:
        folder, name = os.path.split(job.target)
        if folder not in there:
            there[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        known = [s for s in suffixes if name + s in there[folder]] if not job.complete else []
        (done if known and suffix(job) in known else todo).append(job)
    return todo, done


def protect_inputs(jobs: Sequence[Job], suffix: str) -> None:
    """Raises InputError for an output that is its own input."""
    for job in jobs:
        if not isinstance(job.source, bytes) and os.path.abspath(job.output(suffix)) == os.path.abspath(str(job)):
            raise InputError(f"the output would replace its input {job}; give another folder")


def _path(source: Source) -> object:
    return source.path if isinstance(source, Row) else "standard input" if isinstance(source, bytes) else source


def _inputs(names: Sequence[str], suffixes: tuple[str, ...], output: str) -> Iterator[tuple[Source, str]]:
    """(file, path of its output below the folder of outputs, without suffix); says in one line what is left out."""
    left: Counter[str] = Counter()
    for name in names:
        if name == STDIN:
            yield sys.stdin.buffer.read(), "stdin"
            continue
        if os.path.isdir(name):
            found = list(_walk(name, suffixes, output, left))
        else:
            files = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
            found = [(file, os.path.splitext(os.path.basename(file))[0]) for file in files]
        if not found:
            if not os.path.isdir(name):
                raise FileNotFoundError(f"{name}: no such file or folder")
            others = f" ({_counted(left)})" if left else ""
            raise FileNotFoundError(f"{name}: no {', '.join(suffixes)} files below it{others}")
        yield from ((Path(file), stem) for file, stem in found)
    if left:
        print(_counted(left), file=sys.stderr)


def _walk(root: str, suffixes: tuple[str, ...], output: str, left: Counter[str]) -> Iterator[tuple[str, str]]:
    """Files below `root` but those of the folder of outputs. Hidden files are left out: they may be half-written."""

    def refuse(error: OSError) -> None:
        raise error

    outputs = os.path.abspath(output) if output else None
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if os.path.abspath(os.path.join(folder, name)) != outputs)
        below = os.path.relpath(folder, root)
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and name[0] != ".":
                yield os.path.join(folder, name), os.path.normpath(os.path.join(below, stem))
            elif name[0] != ".":
                left[suffix.lower()] += 1


def _counted(left: Counter[str]) -> str:
    count, kinds = left.total(), sorted(left.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{suffix or 'no suffix'} ({n})" for suffix, n in kinds[:10])
    return f"{count} file{'s' * (count > 1)} of other types left out: {listed}{', ...' * (len(kinds) > 10)}"


def _rows(data: str, suffixes: tuple[str, ...]) -> Iterator[tuple[Source, str]]:
    """Rows of a manifest; outputs are named by the paths from its folder, or if some lie elsewhere, from their deepest folder."""
    rows = read_manifest(data, suffixes)
    root = root_of(data, rows)
    for row in rows:
        yield row, os.path.splitext(os.path.relpath(row.path, root))[0]


def root_of(data: str, rows: Sequence[Row]) -> str:
    """The folder from which rows of a manifest, or of a folder, are named: its own, or if some lie elsewhere, their deepest."""
    paths = [os.path.abspath(row.path) for row in rows]
    root = os.path.abspath(data) if os.path.isdir(data) else os.path.dirname(os.path.abspath(data))
    if os.path.commonpath([root, *paths]) != root:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    return root
