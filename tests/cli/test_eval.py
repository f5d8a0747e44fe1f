"""eval: tokenizers of one name, what cannot be had, and what a command says."""

import json
from pathlib import Path

import pytest
import torch
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main

SUITE = "modality: image\nmetrics: {psnr: PSNR}\nimage_size: 64\n"


def run(folder: Path, *words: object) -> int:
    """Evaluates the words on one photo into `out`; later options win."""
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "data.csv").write_text(f"path\n{DATA / 'chelsea.jpg'}\n")
    options = ["--suite", folder / "suite.yaml", "--data", folder / "data.csv", "-o", folder / "out"]
    names = words[: next((i for i, word in enumerate(words) if str(word).startswith("-")), len(words))]
    return main([str(word) for word in ("eval", *names, *options, *words[len(names) :])])


def test_two_weights_of_one_variant_are_two_rows(tmp_path: Path) -> None:
    other = tz.load("titok-tiny")
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    other.save_pretrained(tmp_path / "mine")
    assert run(tmp_path, "titok-tiny", tmp_path / "mine") == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    weights = [tz.load(name).weights for name in ("titok-tiny", str(tmp_path / "mine"))]
    assert [result["system"] for result in results] == [f"titok-tiny ({w})" for w in weights]
    assert len({result["folder"] for result in results}) == 2
    assert all(weight in result["folder"] for weight, result in zip(weights, results, strict=True))


def test_the_same_weights_in_two_folders_are_two_rows(tmp_path: Path) -> None:
    for name in ("mine", "copy"):
        tz.load("titok-tiny").save_pretrained(tmp_path / name)
    assert run(tmp_path, tmp_path / "mine", tmp_path / "copy", tmp_path / "mine") == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [r["system"] for r in results] == [f"titok-tiny ({tmp_path / name})" for name in ("mine", "copy")]
    assert len({result["folder"] for result in results}) == 2
    assert len({str(result["values"]["psnr"]) for result in results}) == 1


def test_captions_of_its_own_none_and_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small("textok-tiny").save_pretrained(tmp_path / "mine")
    photos = [f"{DATA / name}.jpg,{text}" for name, text in (("chelsea", "a cat"), ("coffee", "a cup"))]
    (tmp_path / "two.csv").write_text("\n".join(["path,text", *photos]) + "\n")
    options = ("--data", tmp_path / "two.csv", "--set", "captions=[none, others]", "positions=[16]")
    assert run(tmp_path, tmp_path / "mine", *options) == 0
    results = {result["system"]: result["values"]["psnr"] for result in json.loads((tmp_path / "out/results.json").read_text())}
    told = ("", ", no captions", ", others' captions")
    assert list(results) == [f"textok-tiny{few}{which}" for which in told for few in ("", ", 16 tokens")]
    assert len({values["value"] for values in results.values()}) == 6
    assert all(values["items"] == 2 for values in results.values())
    assert run(tmp_path, tmp_path / "mine", "--set", "captions=[others]") == 1  # of one photo
    assert "there must be two captions at least" in capsys.readouterr().err


def test_what_cannot_be_had_is_listed_and_can_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = {"class_path": "Perceptual", "init_args": {"weights": str(tmp_path / "none.safetensors")}}
    metrics = f"metrics={{psnr: PSNR, perceptual: {json.dumps(gone)}}}"
    assert run(tmp_path, "titok-tiny", "--set", metrics) == 0
    said = capsys.readouterr()
    assert said.err.startswith("not measured: perceptual: ")
    assert "none.safetensors" in said.err
    (result,) = json.loads((tmp_path / "out/results.json").read_text())
    assert "none.safetensors" in result["not_measured"]["perceptual"]
    assert result["values"]["psnr"]["items"] == 1
    assert run(tmp_path, "titok-tiny", "--set", metrics, "metrics.perceptual=null", "-o", tmp_path / "again") == 0
    assert "not measured" not in capsys.readouterr().err
    (result,) = json.loads((tmp_path / "again/results.json").read_text())
    assert result["not_measured"] == {}


def test_a_tokenizer_that_measures_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others have their table all the same."""
    broken = tz.load("titok-tiny")
    with torch.no_grad():
        next(broken.decoder.parameters()).fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    assert run(tmp_path, "titok-tiny", tmp_path / "broken", "--batch-size", "1") == 1
    said = capsys.readouterr()
    assert f"no item could be measured of titok-tiny ({broken_name(tmp_path)})" in said.err
    whole, empty = json.loads((tmp_path / "out/results.json").read_text())
    assert whole["values"]["psnr"]["items"] == 1
    assert empty["values"] == {"items": 0}
    assert "not finite" in empty["failures"][0]["all"]


def broken_name(folder: Path) -> str:
    return tz.load(str(folder / "broken")).weights


def test_a_suite_is_for_one_modality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "dm-codec-tiny") == 1
    assert "dm-codec-tiny is for audio" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--batch-size", "0"), ("--seed", "-1"), ("--limit", "0")])
def test_bad_numbers(option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "titok-tiny", option, value) == 1
    assert f"{option} must be at least" in capsys.readouterr().err


def test_the_same_numbers_in_any_batches_and_after_a_stop(tmp_path: Path) -> None:
    data = ["--data", DATA]
    assert run(tmp_path, "titok-tiny", *data, "-o", tmp_path / "whole") == 0
    assert run(tmp_path, "titok-tiny", *data, "-o", tmp_path / "broken", "--batch-size", "2") == 0
    rows = tmp_path / "broken/titok-tiny/rows.jsonl"
    lines = rows.read_text().splitlines()
    rows.write_text(f"{lines[0]}\n{lines[1][:40]}")  # killed while writing
    assert run(tmp_path, "titok-tiny", *data, "-o", tmp_path / "broken", "--batch-size", "1") == 0
    (whole,), (broken,) = (json.loads((tmp_path / f"{name}/results.json").read_text()) for name in ("whole", "broken"))
    numbers = [[result["values"]["psnr"].pop(key) for key in ("value", "low", "high")] for result in (whole, broken)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    assert whole == broken
    assert run(tmp_path, "titok-tiny", *data, "-o", tmp_path / "broken", "--seed", "1") == 1


def test_the_batch_is_as_large_as_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode = tz.ImageTokenizer.encode
    monkeypatch.setattr(
        tz.ImageTokenizer, "encode", lambda self, media, **given: (sizes.append(len(media)), encode(self, media, **given))[1]
    )
    assert run(tmp_path, "titok-tiny", "--data", DATA) == 0
    assert run(tmp_path, "titok-tiny", "--data", DATA, "--batch-size", "2", "-o", tmp_path / "two") == 0
    assert sizes == [3, 2, 1]
