"""A probe against its own objective minimised by scipy, on classes that can and cannot be told apart."""

from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from conftest import DATA
from evaluations import one, suite

import tokenizers_zoo as tz
from tokenizers_zoo.eval.base import Item
from tokenizers_zoo.eval.probe import LinearProbe
from tokenizers_zoo.eval.systems import Original, Tokenized
from tokenizers_zoo.manifest import Row


def items(probe: LinearProbe, distance: float, count: int = 200) -> list[Item]:
    """Latents (7, 4) of two classes whose means are `distance` apart."""
    random = torch.Generator().manual_seed(0)
    found = []
    for i in range(count):
        latents = torch.randn(7, 4, generator=random) + distance * (i % 2)
        found.append(probe.item(latents, Row(Path(f"{i % 2}/{i}.png"), label="cat" if i % 2 else "dog")))
    return found


def test_accuracy_is_that_of_the_penalised_likelihood() -> None:
    probe = LinearProbe()
    found = items(probe, 0.3)
    train, test = ([item for item in found if item["test"] is kind] for kind in (False, True))
    raw = np.stack([item["latents"] for item in train]).astype(np.float64)
    mean, deviation = raw.mean(0), raw.std(0)
    x, y = (raw - mean) / deviation, np.array([1.0 if item["label"] == "dog" else -1.0 for item in train])

    def loss(w: np.ndarray) -> float:
        return np.logaddexp(0, -y * (x @ w[:4] + w[4])).sum() + 0.5 * (w[:4] ** 2).sum()

    w = scipy.optimize.minimize(loss, np.zeros(5)).x
    guesses = (np.stack([item["latents"] for item in test]) - mean) / deviation @ w[:4] + w[4] > 0
    wanted = np.mean([guess == (item["label"] == "dog") for guess, item in zip(guesses, test, strict=True)])
    accuracy = probe.summary(found)["probe_accuracy"]
    assert 0.6 < accuracy["value"] < 1
    assert accuracy["value"] == pytest.approx(wanted)
    assert (accuracy["classes"], accuracy["training"], accuracy["test"]) == (2, len(train), len(test))
    assert len(test) / len(found) == pytest.approx(0.3, abs=0.1)


def test_equal_classes_are_guessed() -> None:
    probe = LinearProbe()
    assert probe.summary(items(probe, 0.0))["probe_accuracy"]["value"] == pytest.approx(0.5, abs=0.15)
    assert probe.summary(items(probe, 5.0))["probe_accuracy"]["value"] == 1.0


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
        probe.summary(items(probe, 1.0, 1))
    with pytest.raises(tz.InputError, match=r"got \d+ of 1 and"):
        probe.summary([item | {"label": "one"} for item in items(probe, 1.0, 20)])
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
    found = one(Tokenized(tz.load("titok-tiny")), plan, rows, tmp_path / "tokens")["values"]["probe_accuracy"]
    assert found["classes"] == 3
    assert found["value"] > 0.6
    assert found["items"] == 24
    plain = one(Original(), plan, rows[:2], tmp_path / "original")
    assert "probe_accuracy" not in plain["values"]
    assert plain["failures"] == []
