"""Manifests: four kinds of file, folders, datasets of the Hub; captions, what survives a rewrite, and what is refused where."""

import gc
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import Row, of_split, read_manifest, write_manifest


def read(path: Path, content: str | bytes) -> list[Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(path, ())


def test_manifests_of_all_kinds_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "text": "one, two", "speaker": "s", "split": "train", "label": 0, "seconds": 1.5},
        {"path": "b/c.wav", "text": "three", "split": "test"},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    table = 'path,text,speaker,split,label,seconds\na.wav,"one, two",s,train,0,1.5\n\nb/c.wav,three,,test,,\n'
    tabs = "path\tcaption\tspeaker\tsplit\tlabel\tseconds\na.wav\tone, two\ts\ttrain\t0\t1.5\nb/c.wav\tthree\t\ttest\t\t\n"
    wanted = [
        Row(tmp_path / "a.wav", "one, two", "s", "train", 1.5, "0"),
        Row(tmp_path / "b/c.wav", "three", "", "test"),
    ]
    for name, content in {"m.jsonl": lines, "m.csv": table, "m.tsv": tabs, "M.CSV": table, "M.JsonL": lines}.items():
        assert read(tmp_path / name, content) == wanted, name
        assert read(tmp_path / name, b"\xef\xbb\xbf" + content.encode()) == wanted, f"{name} with a byte order mark"
        assert read(tmp_path / name, content.replace("\n", "\r\n")) == wanted, f"{name} with carriage returns"
    assert of_split(wanted, "test") == wanted[1:]
    with pytest.raises(tz.InputError, match="there are test, train"):
        of_split(wanted, "valid")


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0bfour"
    (row,) = read(tmp_path / "m.jsonl", json.dumps({"path": "a.png", "text": text}, ensure_ascii=False))
    assert row.text == text
    (row,) = read(tmp_path / "m.csv", f"path,text\na.png,{text}\n")
    assert row.text == text


@pytest.mark.parametrize("name", ["text", "texts", "caption", "captions"])
def test_several_captions_stay_several(name: str, tmp_path: Path) -> None:
    (row,) = read(tmp_path / "m.jsonl", json.dumps({"path": "a.png", name: ["a cat", "ein Tier", ""]}))
    assert row.texts == ("a cat", "ein Tier")
    assert row.text == "a cat"
    (row,) = read(tmp_path / "m.csv", f"path,{name}\na.png,\"['a cat', 'b']\"\n")
    assert row.texts == ("['a cat', 'b']",)
    assert read(tmp_path / "m.jsonl", json.dumps({"path": "a.png", name: []}))[0].texts == ()


def test_captions_of_several_columns_are_all_taken(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "m.jsonl", json.dumps({"path": "a", "captions": ["x", "y"], "text": "y", "caption": None}))
    assert row.texts == ("y", "x")


def test_captions_are_drawn_by_the_given_generator() -> None:
    row, generator = Row(Path("a"), ("one", "two", "three")), torch.Generator().manual_seed(0)
    drawn = Counter(row.draw(generator) for _ in range(600))
    assert drawn.keys() == set(row.texts)
    assert min(drawn.values()) > 150
    before = generator.get_state()
    assert (Row(Path("a"), "one").draw(generator), Row(Path("a")).draw(generator)) == ("one", "")
    assert torch.equal(generator.get_state(), before)  # a manifest of one caption a row draws the crops that it always drew


def test_parquet_manifest(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"path": ["a.wav", "b.wav"], "captions": [["one", "two"], None], "seconds": [1.5, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.PARQUET")
    assert read_manifest(tmp_path / "m.PARQUET", ()) == [
        Row(tmp_path / "a.wav", ("one", "two"), seconds=1.5),
        Row(tmp_path / "b.wav"),
    ]
    for content in (b"", b"PAR1", b"PAR1" * 50, (tmp_path / "m.PARQUET").read_bytes()[:-20]):
        with pytest.raises(tz.InputError, match=r"m\.parquet is not a whole Parquet file"):
            read(tmp_path / "m.parquet", content)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)  # datasets leaves files open
def test_a_hub_dataset_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("tokenizers_zoo.manifest.CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    (tmp_path / "photos/train").mkdir(parents=True)
    shutil.copy(DATA / "chelsea.jpg", tmp_path / "photos/train/a.jpg")
    (tmp_path / "photos/train/metadata.jsonl").write_text('{"file_name": "a.jpg", "text": ["a cat", "a face"]}\n')
    for _ in range(2):
        (row,) = read_manifest(f"hf:{tmp_path / 'photos'}", ())
    assert (row.texts, row.split, row.path.suffix) == (("a cat", "a face"), "train", ".jpg")
    assert row.path.read_bytes() == (DATA / "chelsea.jpg").read_bytes()
    gc.collect()  # what it left open is remarked on here, not in another test


class Hub(SimpleNamespace):
    """A stand-in for the package `datasets`: one dataset, whose rows can change, and how often one was read."""

    def __init__(self, fingerprint: str | None = "one"):
        super().__init__(rows=[], reads=0, fingerprint=fingerprint, Audio=lambda decode: None)

    def put(self, *words: str) -> None:
        """Each in front of the others."""
        for word in words:
            self.rows.insert(0, {"audio": {"bytes": f"sound of {word}".encode(), "path": "x.wav"}, "text": word})

    def load_dataset(self, name: str, config: str | None) -> dict[str, Any]:
        return {"train": self, "validation": self}

    def __getattr__(self, name: str) -> Any:
        if name == "_fingerprint" and self.fingerprint:
            return self.fingerprint
        raise AttributeError(name)

    column_names = ("audio", "text")

    def cast_column(self, name: str, feature: Any) -> "Hub":
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            self.reads += 1
            yield row


@pytest.mark.parametrize("fingerprints", [("one", "two"), (None, None)])
def test_a_row_in_front_moves_no_text(fingerprints: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(fingerprints[0])
    monkeypatch.setattr("tokenizers_zoo.manifest.CACHE", tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    hub.put("one", "two")
    before = read_manifest("hf:somebody/something", ())
    hub.put("three")
    hub.fingerprint = fingerprints[1]
    after = read_manifest("hf:somebody/something", ())
    assert [row.text for row in after] == ["three", "two", "one"] * 2
    assert [row.split for row in after] == ["train"] * 3 + ["valid"] * 3
    for row in before + after:
        assert row.path.read_text() == f"sound of {row.text}"
    assert after[1].path == before[0].path  # stored once


def test_a_hub_dataset_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("tokenizers_zoo.manifest.CACHE", tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    hub.put("one", "two")
    first = read_manifest("hf:somebody/something", ())
    assert hub.reads == 4
    assert read_manifest("hf:somebody/something", ()) == first
    assert hub.reads == 4
    first[0].path.unlink()
    assert read_manifest("hf:somebody/something", ()) == first  # what was lost comes again
    assert first[0].path.exists()
    read_manifest("hf:somebody/something:other", ())
    assert hub.reads == 12
    hub.rows[1]["audio"] = {"bytes": None, "path": None}
    hub.fingerprint = "another"
    with pytest.raises(tz.InputError, match="somebody/something, train 1 has no audio"):
        read_manifest("hf:somebody/something", ())
    hub.rows[1]["audio"] = {"bytes": None, "path": str(DATA / "sense_and_sensibility_0870.wav")}
    assert read_manifest("hf:somebody/something", ())[1].path == DATA / "sense_and_sensibility_0870.wav"  # stays where it is


@pytest.mark.parametrize("source", ["hf:somebody/something:config:revision", "hf:", "hf::config"])
def test_a_name_of_the_hub_that_is_none_is_said_so(source: str) -> None:
    with pytest.raises(tz.InputError, match="a dataset of the Hub is hf:NAME or hf:NAME:CONFIG"):
        read_manifest(source, ())


@pytest.mark.parametrize("error", [ValueError("BuilderConfig 'x' not found.\nAvailable: y"), OSError("no such dataset")])
def test_a_dataset_that_the_hub_does_not_give_is_said_so(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.load_dataset = Mock(side_effect=error)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    with pytest.raises(tz.InputError, match=r"cannot read the dataset a/b of the Hub \((BuilderConfig|no such)[^\n]*\); check"):
        read_manifest("hf:a/b:x", ())


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("datasets", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(tz.InputError, match=r"needs pyarrow.*pip install 'tokenizers-zoo\[corpus\]'"):
        read(tmp_path / "m.parquet", b"PAR1")
    with pytest.raises(tz.InputError, match=r"needs datasets.*pip install 'tokenizers-zoo\[datasets\]'"):
        read_manifest("hf:somebody/something", ())


def test_a_folder_is_a_manifest(tmp_path: Path) -> None:
    for name in ("train/x/1.jpg", "val/2.jpg", "other/3.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [(row.path.name, row.split) for row in read_manifest(tmp_path, (".jpg",))] == [
        ("3.jpg", ""),
        ("1.jpg", "train"),
        ("2.jpg", "valid"),
    ]


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "no such column": ("m.csv", "file\na.wav\n", r"m\.csv, line 2 needs a column `path`, it has file"),
    "no path in one row": ("m.jsonl", '{"path": "a"}\n{"text": "b"}', r"m\.jsonl, line 2 needs a column `path`"),
    "blank path": ("m.csv", "path,text\na.wav,x\n ,y\n", "line 3: `path` must name a file"),
    "path of null": ("m.jsonl", '{"path": null}', "line 1: `path` must name a file, got None"),
    "path of a number": ("m.jsonl", '{"path": 3}', "`path` must name a file, got 3"),
    "path of a list": ("m.jsonl", '{"path": ["a"]}', "`path` must name a file"),
    "path with a null byte": ("m.jsonl", '{"path": "a\\u0000b"}', "`path` must name a file"),
    "path of half a surrogate": ("m.jsonl", '{"path": "\\ud800"}', "`path` must name a file"),
    "seconds of text": ("m.csv", "path,seconds\na.wav,long\n", "line 2: seconds must be a number of at least 0, got 'long'"),
    "seconds below 0": ("m.csv", "path,seconds\na.wav,-1\n", "seconds must be a number of at least 0"),
    "seconds NaN": ("m.csv", "path,seconds\na.wav,nan\n", "seconds must be a number of at least 0"),
    "seconds NaN in JSON": ("m.jsonl", '{"path": "a", "seconds": NaN}', "seconds must be a number of at least 0"),
    "seconds infinite": ("m.jsonl", '{"path": "a", "seconds": 1e999}', "seconds must be a number of at least 0"),
    "seconds beyond floats": ("m.jsonl", '{"path": "a", "seconds": 1%s}' % ("0" * 400), "seconds must be a number"),
    "seconds true": ("m.jsonl", '{"path": "a", "seconds": true}', "seconds must be a number of at least 0"),
    "seconds of a list": ("m.jsonl", '{"path": "a", "seconds": []}', "seconds must be a number of at least 0"),
    "text of a number": ("m.jsonl", '{"path": "a", "text": 5}', "text must be text or a list of texts, got 5"),
    "text of an object": ("m.jsonl", '{"path": "a", "caption": {"raw": "x"}}', "caption must be text or a list of texts"),
    "captions of lists": ("m.jsonl", '{"path": "a", "captions": [["x"]]}', "captions must be text or a list of texts"),
    "captions with null": ("m.jsonl", '{"path": "a", "captions": ["x", null]}', "captions must be text or a list of texts"),
    "text of half a surrogate": ("m.jsonl", '{"path": "a", "text": "\\udc00"}', "text must be text"),
    "label of a list": ("m.jsonl", '{"path": "a", "label": [1]}', "label must be a word or a number"),
    "speaker of an object": ("m.jsonl", '{"path": "a", "speaker": {}}', "speaker must be a word or a number"),
    "not JSON": ("m.jsonl", '{"path": "a"}\n{nothing', r"m\.jsonl, line 2 is not JSON .*one object a line"),
    "a JSON list": ("m.jsonl", '[{"path": "a"}]', r"m\.jsonl, line 1 is a list, not an object; write one a line"),
    "a JSON number": ("m.jsonl", '{"path": "a"}\n\n7', r"m\.jsonl, line 3 is a int, not an object"),
    "JSON a thousand deep": ("m.jsonl", "[" * 100_000, "line 1 is not JSON"),
    "a long JSON number": ("m.jsonl", '{"path": "a", "id": %s}' % ("9" * 5000), "line 1 is not JSON"),
    "too few columns": ("m.csv", "path,text\na.wav,x\nb.wav\n", "line 3 has 1 values, its head names 2 columns; quote"),
    "too many columns": ("m.csv", "path,text\na.wav,one, two\n", "line 2 has 3 values, its head names 2 columns; quote"),
    "two columns of one name": ("m.csv", "path,path\na,b\n", "line 1: two columns have one name"),
    "an open quote": ("m.tsv", 'path\ttext\na.wav\t"He said\nb.wav\tYes\n', "a quoted value ends with a quotation mark"),
    "a quote that swallows a row": ("m.tsv", 'path\ttext\na\t"He said\nb\t"Yes\n', r'line 3: .* is written twice \(""\)'),
    "a field beyond the limit": ("m.csv", "path,text\na.wav," + "x" * 200_000, "line 2: field larger than field limit"),
    "CSV of UTF-16": ("m.csv", "path\na.wav\n".encode("utf-16"), "is not UTF-8 .* save it as UTF-8"),
    "CSV of UTF-16 without mark": ("m.csv", "path\na.wav\n".encode("utf-16-le"), "holds null bytes"),
    "CSV of Latin-1": ("m.csv", "path,text\na.wav,é\n".encode("latin-1"), r"m\.csv is not UTF-8 \(.*line 2\); save it as UTF-8"),
    "JSON of Latin-1": ("m.jsonl", '{"path": "é"}'.encode("latin-1"), r"m\.jsonl, line 1 is not UTF-8"),
    "JSON of UTF-16": ("m.jsonl", '{"path": "a"}'.encode("utf-16-le"), "holds null bytes"),
    "null bytes": ("m.csv", b"path,text\na.wav,x\0y\n", "holds null bytes"),
    "an empty CSV": ("m.csv", "", "names no files"),
    "an empty JSONL": ("m.jsonl", "\n \n", "names no files"),
    "a head alone": ("m.csv", "path\n", "names no files"),
    "another type": ("m.xlsx", "", "use .csv, .tsv, .jsonl or .parquet"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_manifests(kind: str, tmp_path: Path) -> None:
    name, content, message = BAD[kind]
    with pytest.raises(tz.InputError, match=message):
        read(tmp_path / name, content)


def test_missing_manifests(tmp_path: Path) -> None:
    for source in (tmp_path / "none.csv", "none\0.csv"):
        with pytest.raises(tz.InputError, match="no such manifest"):
            read_manifest(source, ())


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_paths_and_columns_survive_a_rewrite(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/a.wav").touch()
    (tmp_path / "b.wav").touch()
    monkeypatch.chdir(tmp_path)
    content = f"path,mood,text\na.wav,glad,\n../b.wav,,hm\n{tmp_path / 'b.wav'},sad,\n"
    rows = read(Path("data/m.csv"), content)
    for target in (f"data/m{suffix}", f"data/deep/m{suffix}", f"other/m{suffix}", f"m{suffix}"):
        write_manifest(target, rows)
        again = read_manifest(target, ())
        assert [row.path.resolve() for row in again] == [row.path.resolve() for row in rows], target
        assert [row.texts for row in again] == [(), ("hm",), ()]
        assert [row.extra.get("mood") or "" for row in again] == ["glad", "", "sad"]
        write_manifest(target, again)
        assert read_manifest(target, ()) == again, "a rewrite in place changes nothing"
    assert not os.path.isabs(Path(f"data/m{suffix}").read_text().split("sad")[0].split("\n")[0])


def test_paths_that_lead_through_links_survive(tmp_path: Path) -> None:
    (tmp_path / "disk/lists").mkdir(parents=True)
    (tmp_path / "disk/a.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "disk/a.wav")
    (tmp_path / "lists").symlink_to(tmp_path / "disk/lists")
    write_manifest(tmp_path / "lists/m.csv", [Row(tmp_path / "disk/a.wav"), Row(tmp_path / "b.wav")])
    rows = read_manifest(tmp_path / "lists/m.csv", ())
    assert all(row.path.exists() for row in rows)
    assert [row.path.name for row in rows] == ["a.wav", "b.wav"]  # a link keeps its own name


def test_what_cannot_be_written(tmp_path: Path) -> None:
    several = [Row(Path("a"), ("one", "two"))]
    write_manifest(tmp_path / "m.jsonl", several)
    assert read_manifest(tmp_path / "m.jsonl", ())[0].texts == ("one", "two")
    for path, rows, message in (
        ("m.csv", several, r"write \.jsonl"),
        ("m.csv", [Row(Path("a"), extra={"box": [1, 2]})], r"write \.jsonl"),
        ("m.csv", [Row(Path("\udcff.wav"))], "rename the file"),
        ("n.jsonl", [Row(Path("a"), extra={"bytes": b"x"})], "drop the column"),
        ("m.parquet", several, r"use \.csv, \.tsv or \.jsonl"),
    ):
        with pytest.raises(tz.InputError, match=message):
            write_manifest(tmp_path / path, rows)
    assert os.listdir(tmp_path) == ["m.jsonl"]  # nothing half-written stays


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.builds(
            dict[str, Any],
            texts=WORDS,
            speaker=WORDS,
            split=WORDS,
            seconds=st.floats(0, 1e9),
            label=WORDS,
            extra=st.fixed_dictionaries({"mood": WORDS.filter(bool)}),
        ),
        min_size=1,
        max_size=3,
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]),
)
def test_any_text_survives_a_rewrite(rows: list[dict[str, Any]], suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    wanted = [Row(folder / f"{index}.wav", **row) for index, row in enumerate(rows)]
    write_manifest(folder / f"any{suffix}", wanted)
    assert read_manifest(folder / f"any{suffix}", ()) == wanted
