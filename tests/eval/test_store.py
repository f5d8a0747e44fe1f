"""Items on disk: what a killed run left half is measured again, what is whole is kept."""

import json
from pathlib import Path

import numpy as np
import pytest

import tokenizers_zoo as tz
from tokenizers_zoo.eval.store import Store


def filled(folder: Path, count: int = 3) -> Store:
    store = Store(folder, "a")
    for index in range(count):
        arrays = {"features": {"values": np.arange(4) + index, "note": f"n{index}"}, "codes": np.full((2, 3), index)}
        store.add(index, {"path": f"{index}.wav", "bits": 1.0, "failures": {}, **arrays})
    return store


def test_items_come_back_with_their_arrays(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store(tmp_path, "a")
    assert list(store.rows) == [0, 1, 2]
    (codes,) = store.values("codes", [2])
    assert codes.tolist() == [[2, 2, 2], [2, 2, 2]]
    first, second = store.values("features", [0, 1])
    assert (first["values"].tolist(), first["note"]) == ([0, 1, 2, 3], "n0")
    assert (second["values"].tolist(), second["note"]) == ([1, 2, 3, 4], "n1")
    assert store.values("bits", [1, 0]) == [1.0, 1.0]


LINE = json.dumps({"item": 2, "path": "2.wav", "failures": {}, "x": {"y": {"z": 1}}})


@pytest.mark.parametrize("end", [*range(1, len(LINE), 7), len(LINE) - 1, len(LINE) - 2, LINE.index("}") + 1])
def test_half_a_line_is_no_item(end: int, tmp_path: Path) -> None:
    """Also one that ends in a brace."""
    filled(tmp_path, 2)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(LINE[:end])
    store = Store(tmp_path, "a")
    assert list(store.rows) == [0, 1]
    store.add(2, {"path": "2.wav", "failures": {}})
    assert list(Store(tmp_path, "a").rows) == [0, 1, 2]


@pytest.mark.parametrize("text", ["7", "[]", '{"path": "2.wav", "failures": {}}', "null", "\0\0\0"])
def test_lines_that_are_no_item(text: str, tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(text)
    assert list(Store(tmp_path, "a").rows) == [0, 1]


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_torn_arrays_are_measured_again(size: int, tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "items/00001.npz"
    path.write_bytes(path.read_bytes()[:size])
    assert list(Store(tmp_path, "a").rows) == [0, 2]
    path.unlink()
    assert list(Store(tmp_path, "a").rows) == [0, 2]


def test_damaged_and_lacking_arrays_are_measured_again(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "items/00001.npz"
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(bytes(data))
    np.savez(tmp_path / "items/00002.npz", codes=np.zeros(3))
    assert list(Store(tmp_path, "a").rows) == [0]


def test_the_last_line_of_an_item_counts_and_lines_are_sorted(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.add(0, {"path": "again.wav", "failures": {}})
    store.sort()
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(line["item"], line["path"]) for line in lines] == [(0, "again.wav"), (1, "1.wav"), (2, "2.wav")]
    assert 0 in store
    assert 3 not in store


def test_another_evaluation_does_not_mix_in(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(tz.InputError, match=r"holds another evaluation .*give another folder, or remove it"):
        Store(tmp_path, "b")
    (tmp_path / "identity").write_text("")  # killed while it was written, before any item
    assert len(Store(tmp_path, "a").rows) == 3


def test_packages_come_and_go_in_one_version(tmp_path: Path) -> None:
    Store(tmp_path, "a", packages={"torch": "2.14"})
    Store(tmp_path, "a", packages={"torch": "2.14", "pesq": "0.0.4"})
    Store(tmp_path, "a", packages={"torch": "2.14"})
    with pytest.raises(tz.InputError, match=r"holds another evaluation of pesq 0\.0\.4; give another folder, or remove it"):
        Store(tmp_path, "a", packages={"torch": "2.14", "pesq": "0.0.5"})


def test_items_without_a_metric_that_is_there_now(tmp_path: Path) -> None:
    store = Store(tmp_path, "a", ["pesq", "wer"])
    store.add(0, {"path": "0.wav", "failures": {}})
    assert list(Store(tmp_path, "a", ["wer", "pesq", "mos"]).rows) == [0]
    assert list(Store(tmp_path, "a", ["wer"]).rows) == []
