"""eval/compare.py: ratios of two systems over the same items."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA

SCRIPT = DATA.parents[1] / "eval/compare.py"


def written(folder: Path, system: str, items: list[dict[str, Any]]) -> None:
    (folder / system).mkdir()
    (folder / system / "results.json").write_text(json.dumps({"system": system}))
    rows = ({"item": n, "path": f"{n}.wav", "bits": 1.0, "failures": {}} | item for n, item in enumerate(items))
    (folder / system / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, folder, *words], capture_output=True, text=True)


def test_measures_of_some_items_are_compared_over_those(tmp_path: Path) -> None:
    """A probe's test items."""
    for name, every in (("good", 1), ("bad", 2)):
        hits = [
            {"probe": {"label": "x", "test": n % 2 == 0} | ({"hit": float(n % (2 * every) == 0)} if n % 2 == 0 else {})}
            for n in range(8)
        ]
        written(tmp_path, name, hits)
    assert "hit: 1.000 against 0.500, ratio 2.00" in (said := run(tmp_path, "good", "bad").stdout)
    assert ", 4 items" in said


def wer(errors: int, words: int) -> dict[str, Any]:
    return {"wer": {"text": "", "errors": errors, "words": words, "letter_errors": errors, "letters": words}}


def test_pairs_are_compared_item_by_item(tmp_path: Path) -> None:
    """Half of the errors on every item is half of them in every draw, however much the items differ; rates are ratios of sums."""
    sizes = [(2, 10), (40, 50), (6, 100), (8, 8)]
    written(tmp_path, "all", [wer(e, w) | {"stoi": {"stoi": 0.5 * e}} for e, w in sizes])
    written(tmp_path, "half", [wer(e // 2, w) | {"stoi": {"stoi": 0.25 * e}} for e, w in sizes[:3]])
    done = run(tmp_path, "half", "all")
    assert done.returncode == 0
    assert "wer: 0.150 against 0.300, ratio 0.50 (0.50 to 0.50), 3 items" in done.stdout
    assert "stoi: 4.000 against 8.000, ratio 0.50 (0.50 to 0.50), 3 items" in done.stdout
    assert "not compared: wer: 1 item that 'half' lacks: 3.wav (not there)" in done.stdout
    other = run(tmp_path, "half", "none")
    assert other.returncode == 1
    assert "has no 'none'; it has all, half" in other.stderr
    assert run(tmp_path, "half", "half").returncode == 1


def test_the_interval_is_95_percent_of_the_draws_and_the_same_each_time(tmp_path: Path) -> None:
    values = [0.5 + 0.01 * ((7 * n) % 20) for n in range(100)]  # of deviation .0577, so of .00577 in the mean
    written(tmp_path, "some", [{"stoi": {"stoi": 100 * value}} for value in values])
    written(tmp_path, "all", [{"stoi": {"stoi": 1.0}}] * 100)
    done = run(tmp_path, "some", "all").stdout
    value, low, high = map(float, re.findall(r"ratio ([\d.]+) \(([\d.]+) to ([\d.]+)\)", done)[0])
    assert value == pytest.approx(59.5)
    assert (value - low, high - value) == (pytest.approx(1.13, abs=0.08), pytest.approx(1.13, abs=0.08))
    assert run(tmp_path, "some", "all").stdout == done


def test_differences_of_pairs(tmp_path: Path) -> None:
    """A tenth of a decibel on every photo is certain, however much photos differ; what differs both ways is not."""
    values = [10.0 + n for n in range(20)]
    written(tmp_path, "told", [{"psnr": {"psnr": v + 0.1}, "ssim": {"ssim": v}} for v in values])
    written(tmp_path, "untold", [{"psnr": {"psnr": v}, "ssim": {"ssim": v + (-1) ** n}} for n, v in enumerate(values)])
    psnr, ssim = run(tmp_path, "told", "untold", "--difference").stdout.splitlines()
    assert psnr == "psnr: 19.600 against 19.500, difference +0.100 (+0.100 to +0.100), 20 items"
    value, low, high = map(float, re.findall(r"[+-][\d.]+", ssim))
    assert low < value < high
    assert (abs(value), low) == (0.0, pytest.approx(-0.43, abs=0.05))


def test_draws_of_nothing_alone_have_no_ratio(tmp_path: Path) -> None:
    """Clips of which neither system kept anything do not take the interval away."""
    kept = [0.0, 0.5, 0.0, 0.8]
    written(tmp_path, "all", [{"stoi": {"stoi": value}, "mel": {"mel": 0.0}} for value in kept])
    written(tmp_path, "half", [{"stoi": {"stoi": value / 2}, "mel": {"mel": 0.0}} for value in kept])
    done = run(tmp_path, "half", "all")
    assert done.stdout.splitlines() == [
        "stoi: 0.163 against 0.325, ratio 0.50 (0.50 to 0.50), 4 items",
        "mel: 0.000 against 0.000, ratio nan (nan to nan), 4 items",
    ]
    assert done.stderr == ""


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    """Whatever the first item has; by pairs alone; with the reasons of those that are missing."""
    failed = {"failures": {"stoi": "too short", "pesq": "no utterance"}}
    first = [failed, {"stoi": {"stoi": 0.5}}, {"stoi": {"stoi": 0.7}}, {"stoi": {"stoi": 0.9}, "mos": {"mos": 3.0}}]
    second = [{"stoi": {"stoi": 9.0}}, {"stoi": {"stoi": 1.0}}, {"failures": {"all": "broken"}}, {"stoi": {"stoi": 1.8}}]
    written(tmp_path, "a", [item | {"fid": {"name": "features elsewhere"}} for item in first])
    written(tmp_path, "b", [item | {"fid": {"name": "features elsewhere"}} for item in second])
    done = run(tmp_path, "a", "b")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "stoi: 0.700 against 1.400, ratio 0.50 (0.50 to 0.50), 2 items",
        "not compared: fid: it is no number of single items",
        "not compared: stoi: 1 item that 'a' lacks: 0.wav (too short)",
        "not compared: stoi: 1 item that 'b' lacks: 2.wav (broken)",
        "not compared: mos: only 'a' has it",
        "not compared: pesq: neither has it",
    ]


def test_nothing_to_compare_is_a_failure(tmp_path: Path) -> None:
    written(tmp_path, "a", [{"stoi": {"stoi": 1.0}}, {}])
    written(tmp_path, "b", [{}, {"stoi": {"stoi": 1.0}}])
    written(tmp_path, "c", [{}])
    written(tmp_path, "d", [{}])
    done = run(tmp_path, "a", "b")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "not compared: stoi: no item of both has it")
    done = run(tmp_path, "c", "d")
    assert (done.returncode, done.stdout) == (1, "not compared: there is nothing\n")


def test_measures_of_one_word_and_files_that_are_there_twice(tmp_path: Path) -> None:
    """Two recognisers; one clip with two texts, which are two items."""
    for name, factor in (("a", 1), ("b", 2)):
        items = [{"path": "same.wav", "small": wer(factor * n, 10)["wer"], "large": wer(n, 10)["wer"]} for n in (1, 3)]
        written(tmp_path, name, items)
    lines = run(tmp_path, "a", "b").stdout.splitlines()
    assert lines[0] == "small.wer: 0.200 against 0.400, ratio 0.50 (0.50 to 0.50), 2 items"
    assert lines[2] == "large.wer: 0.200 against 0.200, ratio 1.00 (1.00 to 1.00), 2 items"


def test_systems_of_one_name_are_chosen_by_folder(tmp_path: Path) -> None:
    for folder, value in (("x", 1.0), ("y", 2.0)):
        written(tmp_path, folder, [{"stoi": {"stoi": value}}])
        (tmp_path / folder / "results.json").write_text(json.dumps({"system": "same"}))
    assert "stoi: 1.000 against 2.000" in run(tmp_path, "x", "y").stdout
    assert "has 2 'same'; it has x, y" in run(tmp_path, "same", "y").stderr
