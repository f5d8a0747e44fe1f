"""eval: two weights of one variant in one run."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import DATA

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main, verbs

SUITE = "modality: image\nmetrics: {psnr: PSNR}\nimage_size: 64\n"


def test_two_weights_of_one_variant_are_two_rows(tmp_path: Path) -> None:
    other = tz.load("titok-tiny")
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    other.save_pretrained(tmp_path / "mine")
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "data.csv").write_text(f"path\n{DATA / 'chelsea.jpg'}\n")
    words = ["eval", "titok-tiny", tmp_path / "mine", "--suite", tmp_path / "suite.yaml", "--data", tmp_path / "data.csv"]
    assert main([str(word) for word in [*words, "-o", tmp_path / "out"]]) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    weights = [tz.load(name).weights for name in ("titok-tiny", str(tmp_path / "mine"))]
    assert [result["system"] for result in results] == [f"titok-tiny ({w})" for w in weights]
    assert len({result["folder"] for result in results}) == 2
    assert all(weight in result["folder"] for weight, result in zip(weights, results, strict=True))


def test_the_same_weights_twice_are_refused() -> None:
    system = SimpleNamespace(name="a", weights="1")
    with pytest.raises(tz.InputError, match="named twice"):
        verbs._tell_apart([system, SimpleNamespace(name="a", weights="1")])
    verbs._tell_apart([system, SimpleNamespace(name="b", weights="1")])
    assert system.name == "a (1)"  # of the first call; unlike names stay as they are
