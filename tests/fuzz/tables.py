"""Hostile shards of a corpus: Parquet files with other columns, types, lengths, metadata, or a few bytes changed."""

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from bytestreams import damaged, mostly
from hypothesis import strategies as st
from token_examples import SPEECH, random_codes

import tokenizers_zoo as tz
from tokenizers_zoo.corpus.shard import ENTRY, GROUP, Origin, write_shard
from tokenizers_zoo.manifest import Row

Columns = dict[str, list[Any]]
OTHERS = [None, 0, -1, 5, 2**40, 1.5, "a", b"\xff", [], [1], [[1, 2], [3]], [["a"]], {"a": 1}, True]


@cache
def whole() -> bytes:
    """A shard of three clips."""
    lengths, samples = (2, 0, 3), torch.tensor([600, 0, 900], dtype=torch.int32)
    batch = tz.Tokens(random_codes(SPEECH, lengths), SPEECH, lengths, num_samples=samples)
    found = [(f"{i}.wav", Row(Path(f"{i}.wav"), ("a cat",), "s", "train", label="7"), item) for i, item in enumerate(batch)]
    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder) / "x.parquet", Origin(SPEECH), found, [("3.wav", "no audio")])
        return (Path(folder) / "x.parquet").read_bytes()


@st.composite
def rebuilt(draw: st.DrawFn) -> bytes:
    """The same shard with a cell, a column, a type or its metadata replaced."""
    import pyarrow as arrow
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(whole()))
    about = json.loads(table.schema.metadata[ENTRY])
    columns: Columns = table.to_pydict()
    kinds = {name: table.schema.field(name).type for name in columns}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*columns, "x", "num_samples", "codes"]))
        act = draw(st.sampled_from(["drop", "cell", "column", "repeat", "kind"]))
        if act == "drop":
            columns.pop(name, None)
        elif act == "cell" and name in columns:
            columns[name] = [draw(st.sampled_from(OTHERS)), *columns[name][1:]]
        elif act == "repeat":
            columns[name] = [[[7] * draw(st.sampled_from([1, 2, 3, 100_000]))] * draw(st.integers(0, 4))] * 3
        elif act == "column":
            columns[name] = [draw(st.sampled_from(OTHERS))] * 3
        kinds.pop(name, None)
    place = draw(st.sampled_from([about, about["origin"], about["origin"]["spec"]]))
    place[draw(st.sampled_from(list(place)))] = draw(mostly(None, st.just(0))) or draw(
        st.sampled_from([*OTHERS[:5], "a", [], {}])
    )
    said = draw(st.sampled_from([json.dumps(about), json.dumps(about), "", "[", "[" * 9000, "7", "\xff"]))
    words = table.schema.metadata[ENTRY] if draw(st.booleans()) else said.encode("latin-1")
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = arrow.array(values, kinds.get(name))
        except (arrow.ArrowException, OverflowError, TypeError, ValueError):
            arrays[name] = arrow.array([str(value) for value in values])
    out = io.BytesIO()
    parquet.write_table(arrow.table(arrays, metadata={ENTRY: words}), out, row_group_size=draw(st.sampled_from([1, GROUP])))
    return out.getvalue()


def shard() -> st.SearchStrategy[bytes]:
    """Bytes of a file."""
    return st.deferred(lambda: rebuilt() | damaged({".parquet": whole()}).map(lambda file: file[1]))
