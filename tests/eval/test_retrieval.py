"""Photos known again by their tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, small
from evaluations import PHOTOS, run, suite

import tokenizers_zoo as tz
from tokenizers_zoo.eval import retrieval
from tokenizers_zoo.eval.base import Item
from tokenizers_zoo.eval.retrieval import Retrieval, changed
from tokenizers_zoo.eval.systems import Continuous, Original, Tokenized
from tokenizers_zoo.manifest import Row


def photo(name: str = "chelsea", size: int = 64) -> tz.Images:
    return tz.Images.load(DATA / f"{name}.jpg").resize_crop(size)


def test_a_copy_is_the_same_for_a_seed_and_another_for_others() -> None:
    copies = [changed(photo(), seed).pixels for seed in range(20)]
    assert torch.equal(copies[3], changed(photo(), 3).pixels)
    assert all(not torch.equal(copies[0], copy) for copy in copies[1:])
    assert all(copy.shape == (1, 3, 64, 64) and 0 <= float(copy.min()) <= float(copy.max()) <= 1 for copy in copies)
    blank = changed(tz.Images(torch.full((1, 3, 8, 6), 0.4)), 0).pixels
    assert blank.shape == (1, 3, 8, 6)
    assert float(blank.std((2, 3)).max()) < 1e-6  # a colour stays one
    with pytest.raises(tz.InputError, match="retrieval is of photos"):
        changed(tz.Audio(torch.zeros(1, 1, 100), 16000), 0)


def test_half_of_the_copies_are_mirrored() -> None:
    ramp = tz.Images(torch.linspace(0, 1, 64).expand(1, 3, 64, 64))
    falling = [float(copy[..., 0].mean()) > float(copy[..., -1].mean()) for copy in (changed(ramp, s).pixels for s in range(60))]
    assert 15 < sum(falling) < 45


def items(near: float, count: int = 50) -> list[Item]:
    random = np.random.default_rng(0)
    photos = random.normal(size=(count, 6)) * [1, 2, 3, 4, 5, 600] + 7  # neither place nor width of a number matters
    copies = photos + near * random.normal(size=(count, 6)) * photos.std(0)
    return [{"latents": a.astype(np.float32), "copy": b.astype(np.float32)} for a, b in zip(photos, copies, strict=True)]


def test_recall_is_that_of_a_search_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = items(1.0)
    photos, copies = (np.stack([item[side] for item in found]).astype(np.float64) for side in ("latents", "copy"))
    mean, deviation = photos.mean(0), photos.std(0, ddof=1)
    photos, copies = (photos - mean) / deviation, (copies - mean) / deviation
    angles = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in photos] for a in copies]
    wanted = [float(np.argmax(row) == i) for i, row in enumerate(angles)]
    assert 0.2 < np.mean(wanted) < 0.9
    for rows in (1000, 7):
        monkeypatch.setattr(retrieval, "ROWS", rows)
        assert [item["recall_at_1"] for item in Retrieval().together(found)] == wanted
    assert all(item["flat_recall_at_1"] == 1 for item in Retrieval("flatten").together(items(0.001)))


def test_what_says_the_same_of_all_knows_none() -> None:
    same = [{"latents": np.ones(4, np.float32), "copy": np.ones(4, np.float32)}] * 5
    assert [item["recall_at_1"] for item in Retrieval().together(same)] == [0.0] * 5
    twins = [{"latents": np.float32([k // 2, 1]), "copy": np.float32([k // 2, 1])} for k in range(4)]
    assert [item["recall_at_1"] for item in Retrieval().together(twins)] == [0.0] * 4
    with pytest.raises(tz.InputError, match="at least 2 photos"):
        Retrieval().together(same[:1])


def test_a_suite_looks_photos_up(tmp_path: Path) -> None:
    """Blank ones too; what has no tokens has no value; copies are the same for all systems and in all batches."""
    rows = []
    for name in ("astronaut", "chelsea", "coffee"):
        photo(name).save(tmp_path / f"{name}.png")
        rows.append(Row(tmp_path / f"{name}.png"))
    for value in (0.0, 1.0):
        tz.Images(torch.full((1, 3, 64, 64), value)).save(tmp_path / f"{value}.png")
        rows.append(Row(tmp_path / f"{value}.png"))
    plan = suite(PHOTOS | {"metrics": {"retrieval": "Retrieval", "psnr": "PSNR"}}, tmp_path)
    systems = [Original(), Tokenized(tz.load("titok-tiny")), Continuous(small("kl-tiny"))]
    original, tokens, latents = run(systems, plan, rows, tmp_path / "many")
    assert original["values"].keys() == {"items", "bits_per_second_or_pixel", "psnr"}
    assert latents["values"].keys() == {"items", "psnr", "recall_at_1"}  # no bits
    assert tokens["values"]["recall_at_1"]["value"] >= 0.4
    assert tokens["values"]["recall_at_1"]["items"] == 5
    assert not any(result["failures"] for result in (original, tokens, latents))
    assert run([systems[1]], plan, rows, tmp_path / "single", 2)[0]["values"]["recall_at_1"] == tokens["values"]["recall_at_1"]
