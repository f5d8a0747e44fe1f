"""Hostile texts: manifests, and assemblies as config.json and as YAML."""

import json
from collections.abc import Iterator
from typing import Any

import yaml
from bytestreams import TREES, WORDS, File, edited, edited_tree, mostly
from conftest import FIXTURES, assembly
from hypothesis import strategies as st

NAMES = ["path", "text", "texts", "captions", "caption", "speaker", "split", "seconds", "label", "mood", ""]
CELLS = WORDS | st.sampled_from(["a.wav", '"', '""', "1.5", "nan", "-1", "\u2028", "\r", "\n", ",", "\t", "x" * 200_000])


@st.composite
def manifest(draw: st.DrawFn) -> File:
    """Tables with heads, rows of about the right length, objects of about the right keys, and edits of their bytes."""
    suffix = draw(st.sampled_from([".csv", ".tsv", ".jsonl", ".CSV", ".JSONL"]))
    if suffix.lower() == ".jsonl":
        plausible = {"captions": mostly([], TREES), "text": mostly("a cat", TREES), "seconds": mostly(1.5, TREES), "mood": TREES}
        rows = draw(st.lists(st.fixed_dictionaries({"path": mostly("a.wav", TREES)}, optional=plausible), max_size=4))
        rows += draw(mostly([], st.lists(TREES, max_size=1)))
        lines = [json.dumps(row, ensure_ascii=draw(st.booleans())) for row in rows]
    else:
        head = ["path", *draw(st.lists(mostly("text", st.sampled_from(NAMES)), max_size=4, unique=True))]
        delimiter = {".csv": ",", ".tsv": "\t"}[suffix.lower()]
        rows = [
            ["a.wav", *draw(st.lists(CELLS, min_size=len(head) + off, max_size=len(head) + off))]
            for off in draw(st.lists(mostly(-1, st.sampled_from([-2, 0])).filter(lambda n: n + len(head) >= 0), max_size=4))
        ]
        lines = [delimiter.join(cells) for cells in [head, *rows]]
    data = "\n".join(lines).encode(draw(mostly("utf-8", st.sampled_from(["utf-16", "utf-8-sig", "utf-16-le"]))), "replace")
    return suffix, draw(mostly(data, edited(data)))


SIZES = st.integers(-1, 16) | st.sampled_from([24, 32, 48, 64, 2**31, 2**63, 10**30])


TINY = ("dm-codec-tiny", "lm-spt-tiny", "titok-tiny", *FIXTURES)  # a published size takes more memory than an example may


def _parts(tree: Any) -> Iterator[Any]:
    """Every {class_path, init_args} in an assembly."""
    if isinstance(tree, dict):
        yield from (tree,) if "class_path" in tree else ()
        for value in tree.values():
            yield from _parts(value)


PARTS = st.sampled_from([part for name in TINY for part in _parts(assembly(name))])
VALUES = SIZES | TREES | PARTS | st.floats()


@st.composite
def config(draw: st.DrawFn) -> bytes:
    """config.json: the fields of a saved one, an assembly with up to three edits; or any JSON; or bytes of it edited."""
    tree = draw(st.sampled_from([assembly(name) for name in FIXTURES]))
    tree = {"format": 1, "name": "x", "license": "", "sha256": "SHA256", **tree}
    for _ in range(draw(st.integers(0, 3))):
        tree = draw(edited_tree(tree, VALUES))
    data = json.dumps(tree).encode()
    return draw(mostly(data, edited(data)))


LINES = [
    "a: &a [1, 2]",
    "b: *a",
    "c: !!python/object:os.system x",
    "<<: *a",
    "? [1]",
    ": x",
    "- 1",
    "---",
    "...",
    "d: 2024-01-01",
]
LINES += [
    "e: !!binary aGk=",
    "f: !!set {a, b}",
    "g: .nan",
    "h: 0x10",
    "1: 2",
    "\ttab",
    "i: 'open",
    "j: &j [*j]",
    "k: {",
    "l: |",
    "%YAML 9",
]


@st.composite
def yaml_text(draw: st.DrawFn) -> File:
    """A variant's YAML with edits of its tree or its bytes, or with lines of every corner of YAML."""
    tree = draw(st.sampled_from([assembly(name) for name in FIXTURES]))
    for _ in range(draw(st.integers(0, 3))):
        tree = draw(edited_tree(tree, VALUES))
    text = yaml.safe_dump(tree, allow_unicode=True)
    lines = text.splitlines()
    for line in draw(st.lists(st.sampled_from(LINES), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    data = "\n".join(lines).encode("utf-8", "replace")
    return ".yaml", draw(mostly(data, edited(data)))
