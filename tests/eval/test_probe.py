"""Probes against their own objectives: scipy's minimum, and means of classes by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from conftest import DATA
from evaluations import one, suite

import tokenizers_zoo as tz
from tokenizers_zoo.eval.base import Item
from tokenizers_zoo.eval.probe import HELD_OUT, PENALTIES, WIDEST, LinearProbe, NearestClass, Probe
from tokenizers_zoo.eval.systems import Original, Tokenized
from tokenizers_zoo.manifest import Row


def items(probe: Probe, distance: float, count: int = 200, shape: tuple[int, int] = (7, 4)) -> list[Item]:
    """Latents of two classes whose means are `distance` apart."""
    random = torch.Generator().manual_seed(0)
    found = []
    for i in range(count):
        latents = torch.randn(shape, generator=random) + distance * (i % 2)
        found.append(probe.item(latents, Row(Path(f"{i % 2}/{i}.png"), label="cat" if i % 2 else "dog")))
    return found


def sides(found: list[Item]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, standardised by the training items, and whether it is a dog: of training items, and of the others."""
    train, test = ([item for item in found if item["test"] is kind] for kind in (False, True))
    raw, asked = (np.stack([item["latents"] for item in some]).astype(np.float64) for some in (train, test))
    dogs = [np.array([item["label"] == "dog" for item in some]) for some in (train, test)]
    return (raw - raw.mean(0)) / raw.std(0), dogs[0], (asked - raw.mean(0)) / raw.std(0), dogs[1]


def judged(probe: Probe, found: list[Item]) -> dict[str, float]:
    known = probe.together(found)
    assert [bool(some) for some in known] == [item["test"] for item in found]
    (accuracy,) = probe.summary([item | some for item, some in zip(found, known, strict=True)]).values()
    return accuracy


def fitted(x: np.ndarray, dogs: np.ndarray, penalty: float) -> np.ndarray:
    """Weights and bias of the least penalised loss, by scipy."""
    y = np.where(dogs, 1.0, -1.0)

    def loss(w: np.ndarray) -> float:
        return penalty * np.logaddexp(0, -y * (x @ w[:-1] + w[-1])).sum() + 0.5 * (w[:-1] ** 2).sum()

    return scipy.optimize.minimize(loss, np.zeros(x.shape[1] + 1)).x


def hits(w: np.ndarray, x: np.ndarray, dogs: np.ndarray) -> float:
    return float(((x @ w[:-1] + w[-1] > 0) == dogs).mean())


@pytest.mark.parametrize("distance", [0.3, 0.15])
def test_accuracy_is_that_of_the_penalised_likelihood(distance: float) -> None:
    """With the penalty that is best for every fifth training item of a class, learned from the others."""
    probe = LinearProbe()
    found = items(probe, distance)
    x, dogs, asked, wanted = sides(found)
    chooses = np.zeros(len(x), bool)
    for kind in (True, False):
        chooses[np.flatnonzero(dogs == kind)[1::HELD_OUT]] = True
    scores = [hits(fitted(x[~chooses], dogs[~chooses], c), x[chooses], dogs[chooses]) for c in PENALTIES]
    w = fitted(x, dogs, PENALTIES[int(np.argmax(scores))])
    accuracy = judged(probe, found)
    assert 0.5 < accuracy["value"] < 1
    assert accuracy["value"] == pytest.approx(hits(w, asked, wanted))
    assert (accuracy["classes"], accuracy["training"], accuracy["items"]) == (2, len(x), len(asked))
    assert len(asked) / len(found) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("shape", [(7, 4), (3, WIDEST)])  # principal components of fewer items keep all that is between them
def test_the_nearest_mean_wins(shape: tuple[int, int]) -> None:
    probe = NearestClass("mean" if shape[0] == 7 else "flatten")
    found = items(probe, 0.1, 120, shape)
    x, dogs, asked, wanted = sides(found)
    away = [((asked - x[dogs == kind].mean(0)) ** 2).sum(1) for kind in (True, False)]
    accuracy = judged(probe, found)
    assert accuracy["value"] == pytest.approx(((away[0] < away[1]) == wanted).mean())
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


@pytest.mark.parametrize("kind", [LinearProbe, NearestClass])
def test_equal_classes_are_guessed(kind: type[Probe]) -> None:
    probe = kind()
    assert judged(probe, items(probe, 0.0))["value"] == pytest.approx(0.5, abs=0.15)
    assert judged(probe, items(probe, 5.0))["value"] == 1.0


def test_classes_of_one_item_each_are_missed_or_refused() -> None:
    """There are more classes than can be learned; what was never seen is a miss."""
    many = [item | {"label": str(i)} for i, item in enumerate(items(NearestClass(), 1.0, 40))]
    assert judged(NearestClass(), many)["value"] == 0.0
    with pytest.raises(tz.InputError, match="a class with two training items"):
        LinearProbe().together(many)
    assert judged(LinearProbe(), many[:8] + items(NearestClass(), 5.0, 60)[8:])["value"] < 1.0


def test_what_never_changes_is_no_error() -> None:
    """A tokenizer that says the same of everything."""
    same = [item | {"latents": np.ones(4, np.float32)} for item in items(LinearProbe(), 1.0)]
    for probe in (LinearProbe(), NearestClass()):
        assert judged(probe, same)["value"] == pytest.approx(0.5, abs=0.15)


def test_the_split_depends_on_the_files_alone() -> None:
    kinds = [
        [item["test"] for item in items(probe, 1.0)] for probe in (LinearProbe(), LinearProbe("flatten"), LinearProbe(seed=1))
    ]
    assert kinds[0] == kinds[1]
    assert kinds[0] != kinds[2]
    rows = [Row(Path(f"{disk}/cats/{i}.png"), label="cat") for disk in ("/a", "/b") for i in range(20)]
    tests = [LinearProbe().item(torch.zeros(7, 4), row)["test"] for row in rows]
    assert tests[:20] == tests[20:]  # wherever the files are
    assert set(tests) == {False, True}
    assert items(LinearProbe("flatten"), 1.0, 1)[0]["latents"].shape == (28,)


def test_messages() -> None:
    probe = LinearProbe()
    with pytest.raises(tz.InputError, match="fill the manifest's label column"):
        probe.item(torch.zeros(7, 4), Row(Path("a.png")))
    with pytest.raises(tz.InputError, match="training items of 2 classes and test items"):
        probe.together(items(probe, 1.0, 1))
    with pytest.raises(tz.InputError, match=r"got \d+ of 1 and"):
        probe.together([item | {"label": "one"} for item in items(probe, 1.0, 20)])
    with pytest.raises(tz.InputError, match="mean or flatten"):
        LinearProbe("maximum")


def test_a_suite_probes_tokens_and_leaves_out_what_has_none(tmp_path: Path) -> None:
    config = {
        "modality": "image",
        "image_size": 64,
        "metrics": {"probe": {"class_path": "LinearProbe", "init_args": {"seed": 3}}},
    }
    plan = suite(config, tmp_path)
    rows = []
    for name in ("astronaut", "chelsea", "coffee"):
        for k in range(8):
            path = tmp_path / f"{name}-{k}.png"
            tz.Images.load(DATA / f"{name}.jpg").resize_crop(64, k / 7).save(path)
            rows.append(Row(path, label=name))
    result = one(Tokenized(tz.load("titok-tiny")), plan, [*rows, Row(rows[0].path)], tmp_path / "tokens")
    assert [failure["probe"] for failure in result["failures"]] == [
        "astronaut-0.png has no class; fill the manifest's label column"
    ]
    found = result["values"]["probe_accuracy"]
    assert found["classes"] == 3
    assert found["value"] > 0.6
    assert found["items"] + found["training"] == 24
    lines = [json.loads(line)["probe"] for line in (tmp_path / "tokens/0/rows.jsonl").read_text().splitlines()[:24]]
    kept = [line["probe_accuracy"] for line in lines if line["test"]]  # eval/compare.py pairs these
    assert (len(kept), np.mean(kept)) == (found["items"], found["value"])
    assert not any("probe_accuracy" in line for line in lines if not line["test"])
    again = one(Tokenized(tz.load("titok-tiny")), plan, [*rows, Row(rows[0].path)], tmp_path / "tokens")
    assert again == result
    plain = one(Original(), plan, rows[:2], tmp_path / "original")
    assert "probe_accuracy" not in plain["values"]
    assert plain["failures"] == []
