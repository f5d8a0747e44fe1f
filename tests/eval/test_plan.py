"""What decides numbers: which items, as what they are seen, and what makes an evaluation another one."""

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from evaluations import Loudness, Same, clips, one, toy_plan
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo import provenance
from tokenizers_zoo.eval.results import how
from tokenizers_zoo.eval.run import as_seen, identity, media_of
from tokenizers_zoo.eval.suite import Data, Parts, Plan, Suite
from tokenizers_zoo.manifest import Row


def test_a_limit_is_spread_over_the_manifest(tmp_path: Path) -> None:
    lines = [f"{i}.wav,{'train' if i % 2 else 'test'}" for i in range(20)]
    (tmp_path / "m.csv").write_text("\n".join(["path,split", *lines]))
    rows = Data(str(tmp_path / "m.csv"), limit=3).rows("audio")
    assert [row.path.name for row in rows] == ["0.wav", "6.wav", "12.wav"]
    assert len(Data(str(tmp_path / "m.csv"), "train").rows("audio")) == 10
    assert len(Data(str(tmp_path / "m.csv"), limit=99).rows("audio")) == 10
    (tmp_path / "n.csv").write_text("path\n0.wav\n1.wav")
    assert len(Data(str(tmp_path / "n.csv")).rows("audio")) == 2


def test_items_come_at_the_suites_rate_and_size(tmp_path: Path) -> None:
    suite = Suite("audio", {"mel": "MelDistance"}, sample_rate=8000)
    (row,) = clips(tmp_path, 1)
    media = media_of(suite, row)
    assert isinstance(media, tz.Audio)
    assert (media.sample_rate, media.waveform.shape) == (8000, (1, 1, 4000))
    photo = Row(DATA / "chelsea.jpg")
    sizes = [media_of(Suite("image", {"psnr": "PSNR"}, image_size=size), photo) for size in (48, None)]
    assert [media.pixels.shape[-2:] for media in sizes if isinstance(media, tz.Images)] == [(48, 48), (256, 256)]


def test_pictures_are_seen_as_a_file_keeps_them() -> None:
    seen = as_seen(tz.Images(torch.tensor([0.5003, -0.2, 1.2]).reshape(1, 3, 1, 1)))
    assert seen.flatten().tolist() == pytest.approx([128 / 255, 0, 1], abs=1e-7)
    assert as_seen(tz.Audio(torch.full((1, 1, 3), 1.5), 16000)).tolist() == [1.5, 1.5, 1.5]


def test_what_makes_another_evaluation(tmp_path: Path) -> None:
    """All that decides the numbers of one system, and nothing else."""
    rows = clips(tmp_path, 2)
    weights = tmp_path / "judge.bin"
    weights.write_text("a")
    part = {"class_path": "Judge", "init_args": {"weights": str(weights)}}
    suite, system = Suite("audio", {"judge": part}), Same()
    plan = Plan(suite, Parts(), rows)
    first, files = identity(system, plan), how(plan)["files"]
    other = Same("other")
    trained = Same()
    trained.weights = "1"
    changed = [
        identity(other, plan),
        identity(trained, plan),
        identity(system, replace(plan, seed=1)),
        identity(system, replace(plan, rows=rows[:1])),
        identity(system, replace(plan, rows=[rows[0], replace(rows[1], texts=("new",))])),
        identity(system, replace(plan, rows=[rows[0], replace(rows[1], label="new")])),
        identity(system, replace(plan, suite=replace(suite, sample_rate=8000))),
        identity(system, replace(plan, suite=replace(suite, metrics={"judge": part, "mel": "MelDistance"}))),
    ]
    with rows[1].path.open("ab") as file:
        file.write(b"\0")
    changed.append(identity(system, plan))
    rows[1].path.write_bytes(rows[1].path.read_bytes()[:-1])
    assert identity(system, plan) == first
    whole = rows[1].path.read_bytes()
    rows[1].path.write_bytes(whole[:-2] + b"\1\2")  # as many bytes, another clip
    changed.append(identity(system, plan))
    assert how(plan)["files"] != files
    rows[1].path.write_bytes(whole)
    assert (identity(system, plan), how(plan)["files"]) == (first, files)
    os.utime(weights, ns=(0, 0))
    changed.append(identity(system, plan))
    assert len({first, *changed}) == len(changed) + 1
    now = identity(system, plan)
    same = [
        replace(suite, baselines=["Original"]),
        replace(suite, codebooks=[1]),
        replace(suite, positions=[1], needs="a network"),
    ]
    assert {identity(system, replace(plan, suite=suite)) for suite in same} == {now}
    assert identity(system, Plan(suite, Parts(missing={"judge": "none"}, device="cuda"), rows)) == now


def test_results_say_how_and_name_no_folder(tmp_path: Path) -> None:
    part = {"class_path": "Judge", "init_args": {"weights": str(tmp_path / "judge.bin"), "hub": "openai/whisper-base"}}
    found = how(Plan(Suite("audio", {"judge": part}, baselines=[part]), Parts(device="meta"), clips(tmp_path, 1), 5))
    assert str(tmp_path) not in json.dumps(found)
    assert found["suite"]["metrics"]["judge"]["init_args"] == {"weights": "judge.bin", "hub": "openai/whisper-base"}
    assert (found["seed"], found["device"], len(found["files"])) == (5, "meta", 16)


def test_versions_of_all_judges_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "version", lambda package: f"{package} 1")
    judges = (
        "pystoi",
        "pesq",
        "distillmos",
        "speechmos",
        "onnxruntime",
        "jiwer",
        "librosa",
        "torchmetrics",
        "torch-fidelity",
        "timm",
    )
    assert {package: f"{package} 1" for package in judges}.items() <= provenance.versions().items()


class Forgetful(Loudness):
    def items(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Any]:
        return super().items(prepared, decoded, rows)[1:]


def test_a_metric_that_loses_items_is_a_mistake(tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    with pytest.raises(AssertionError, match="gave 1 results for 2 items"):
        one(Same(), toy_plan(rows, loudness=Forgetful()), rows, tmp_path / "out")


def test_tables_are_filled_from_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several results make one table, in which the later of two rows of one name stands; the text around stays."""
    spec = importlib.util.spec_from_file_location("tables", DATA.parents[1] / "eval/tables.py")
    assert spec
    assert spec.loader
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "eval/results").mkdir(parents=True)
    for name, factor in (("first", 1.0), ("second", 2.0)):
        rows = clips(tmp_path, 3)
        plan = toy_plan(rows, loudness=Loudness())
        results = [one(Same("same", dict.fromkeys(range(3), factor)), plan, rows, tmp_path / name)]
        (tmp_path / f"eval/results/{name}.json").write_text(json.dumps(results))
    text = tables.filled("a\n<!-- results first second -->\nold\n<!-- end -->\nb\n")
    assert text.startswith("a\n<!-- results first second -->\n\n| system | kbit/s | ratio |\n")
    assert text.endswith("<!-- end -->\nb\n")
    assert text.count("| same |") == 1
    assert "2.000 (2.000 to 2.000)" in text
    assert "old" not in text
    assert "3 items" in text
    card = tmp_path / "models/x/README.md"
    card.parent.mkdir(parents=True)
    for path in (card, tmp_path / "README.md"):
        path.write_text("<!-- results second -->\n<!-- end -->\n")
    tables.main()
    assert "| 2.000 (2.000 to 2.000) |" in card.read_text()
    assert "| 2.000 |" in (tmp_path / "README.md").read_text()  # means alone
