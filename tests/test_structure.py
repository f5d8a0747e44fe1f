"""The house rules that a parser can see: imports run one way, and no file is two ideas long."""

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tokenizers_zoo"

# A room knows its own floor and those above it in this list. (CONTRIBUTING.md, floor plan)
FLOORS = (
    ("errors",),
    ("files", "fourier", "frozen", "hub", "part"),
    ("spec",),
    ("tokfile", "together", "grouping"),
    ("tokens", "media", "weights", "tables", "manifest", "provenance", "pictures"),
    ("quantizers", "blocks", "losses", "discriminators", "teachers"),
    ("assembly",),
    ("tokenizer", "streaming", "ready"),
    ("models",),
    ("zoo",),
    ("many", "official", "trainers", "eval", "lm", "corpus"),
    ("cli", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> Iterator[str]:
    """Modules of the package that a module imports, anywhere in its text: in functions and for type checkers too."""
    path = MODULES[name]
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names]
        else:
            continue
        yield from (module for module in found if module in MODULES)


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(imports(name)) for name in MODULES}


def test_imports_form_no_circle() -> None:
    try:
        graphlib.TopologicalSorter(graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_run_one_way() -> None:
    rooms = {name: name.split(".")[1] for name in MODULES if "." in name}
    assert sorted(set(rooms.values()) - LEVEL.keys()) == [], "give each new room its place in FLOORS"
    upward = [
        f"{name} imports {other}"
        for name, room in rooms.items()
        for other in graph()[name]
        if other not in rooms or LEVEL[rooms[other]] > LEVEL[room]
    ]
    assert upward == []


def test_the_zoo_alone_knows_systems_by_their_class() -> None:
    """A system is found by its name; no other room is written for one of them."""
    knowing = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if "models" in other.split(".") and name.split(".")[1:2] not in (["models"], ["zoo"])
    ]
    assert knowing == []


def test_no_file_is_two_ideas_long() -> None:
    folders = (PACKAGE, *(ROOT / name for name in ("tests", "trainers", "eval", "benchmarks", "findings")))
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for top in folders for path in top.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 400} == {}
