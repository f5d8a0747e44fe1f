"""Items become numbers: over the items that all systems have, with entropies, lengths and reasons."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import toys
from conftest import DATA
from evaluations import SPEECH, Loudness, Same, clips, one, run, suite, toy_plan
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.eval.base import Item, Metric, TokenMetric
from tokenizers_zoo.eval.report import missing, table
from tokenizers_zoo.eval.results import codebooks
from tokenizers_zoo.eval.systems import Tokenized
from tokenizers_zoo.manifest import Row


class Picky(Metric):
    """What a clip's loudness is times 1000; None of what came back below a level. Refuses single items in its summary."""

    level = 0.0

    def __init__(self, level: float = 0.0, least: int = 1):
        self.level, self.least = level, least

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        value = float(decoded.abs().mean())
        if value < self.level:
            raise tz.InputError(f"{row.path}: too quiet")
        return {"loudness": value, "note": "a text"}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        if len(items) < self.least:
            raise tz.InputError(f"needs {self.least} items")
        return super().summary(items)


def values_of(folder: Path, index: int, metric: str) -> dict[int, float]:
    rows = map(json.loads, (folder / f"{index}/rows.jsonl").read_text().splitlines())
    return {row["item"]: row[metric]["loudness"] for row in rows if metric in row}


def test_systems_are_compared_on_the_items_that_all_have(tmp_path: Path) -> None:
    """Where one system fails the item is left out for all; a system that has no item of a measure keeps no other from it."""
    rows = clips(tmp_path, 6)
    quiet = {1: 1e-2, 4: 1e-2}
    systems = [Same("whole"), Same("twice", {3: 1e-2} | {i: 2.0 for i in (0, 1, 2, 4, 5)}), Same("some", quiet), Same("none")]
    systems[3].factors = dict.fromkeys(range(6), 1e-2)
    results = run(systems, toy_plan(rows, level=Picky(2e-3), all=Picky()), rows, tmp_path / "out", 4)
    kept = [0, 2, 5]
    assert results[0]["lengths"] == {"least": 0.5, "median": 0.515625, "greatest": 0.53125}
    assert results[0]["values"]["level.loudness"]["median"] == 0.5125  # of those three alone
    for index, result in enumerate(results[:3]):
        value = result["values"]["level.loudness"]
        of_items = values_of(tmp_path / "out", index, "level")
        assert value["items"] == 3
        assert value["value"] == pytest.approx(np.mean([of_items[i] for i in kept]))
        assert value["low"] <= value["value"] <= value["high"]
        assert result["values"]["all.loudness"]["items"] == 6
        assert "note" not in str(sorted(result["values"]))
    assert "level.loudness" not in results[3]["values"]
    assert results[3]["values"]["items"] == 6
    assert [[f["path"] for f in result["failures"]] for result in results[:3]] == [[], ["3.wav"], ["1.wav", "4.wav"]]
    assert results[1]["failures"] == [{"path": "3.wav", "level": "3.wav: too quiet"}]


class Broken(Same):
    """Cannot do some items at all."""

    def roundtrip(self, media: Any, **given: Any) -> tuple[Any, Item]:
        decoded, item = super().roundtrip(media)
        if self.factors.get(self.seen[-1]) == 0:
            raise RuntimeError("out of memory")
        return decoded, item


def test_rates_and_lengths_are_those_of_the_common_items(tmp_path: Path) -> None:
    rows = clips(tmp_path, 4)
    whole, broken = run([Same("whole"), Broken("broken", {1: 0, 2: 0})], toy_plan(rows, level=Picky()), rows, tmp_path / "out")
    assert broken["failures"] == [{"path": f"{i}.wav", "all": "out of memory"} for i in (1, 2)]
    for result in (whole, broken):
        assert result["values"]["items"] == 2
        assert result["values"]["bits_per_second_or_pixel"] == pytest.approx((100 + 400) / ((8000 + 8300) / 16000))
        assert result["lengths"] == {"least": 0.5, "median": pytest.approx(0.509375), "greatest": pytest.approx(0.51875)}
        assert result["values"]["loudness"]["items"] == 2
        assert result["lengths"].items() <= result["values"]["loudness"].items()
    assert (whole["system"], broken["system"]) == ("whole", "broken")


def test_a_system_that_does_nothing_takes_nothing_from_others(tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    whole, broken = run([Same("whole"), Broken("broken", {0: 0, 1: 0})], toy_plan(rows, level=Picky()), rows, tmp_path / "out")
    assert whole["values"]["loudness"]["items"] == whole["values"]["items"] == 2
    assert broken["values"] == {"items": 0}
    with pytest.raises(tz.InputError, match=r"no item could be measured.*out of memory"):
        one(Broken("broken", {0: 0, 1: 0}), toy_plan(rows, level=Picky()), rows, tmp_path / "alone")


def test_a_system_can_be_added(tmp_path: Path) -> None:
    """The first one's items stay; its numbers are then those of the common items, also in its own folder."""
    rows = clips(tmp_path, 4)
    first = Same("first")
    before = run([first], toy_plan(rows, level=Picky(2e-3)), rows, tmp_path / "out")[0]
    first.seen.clear()
    after, _ = run([first, Same("second", {0: 1e-3})], toy_plan(rows, level=Picky(2e-3)), rows, tmp_path / "out")
    assert first.seen == []
    assert (before["values"]["loudness"]["items"], after["values"]["loudness"]["items"]) == (4, 3)
    assert json.loads((tmp_path / "out/0/results.json").read_text()) == after
    swapped = run([Same("second", {0: 1e-3}), Same("first")], toy_plan(rows, level=Picky(2e-3)), rows, tmp_path / "swapped")
    assert swapped[1]["values"] == after["values"]


def test_a_summary_that_fails_is_listed(tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    results = one(Same(), toy_plan(rows, few=Picky(least=3), other=Loudness()), rows, tmp_path / "out")
    assert results["failures"] == [{"path": "all items", "few": "needs 3 items"}]
    assert results["values"]["ratio"]["value"] == pytest.approx(1)


class Divided(Loudness):
    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        return {"worst": {"value": math.inf}, "mean": {"value": 1.0}}


def test_a_summary_that_is_no_number_is_listed(tmp_path: Path) -> None:
    """JSON has no infinity."""
    rows = clips(tmp_path, 2)
    results = one(Same(), toy_plan(rows, whole=Divided(), other=Loudness()), rows, tmp_path / "out")
    assert results["failures"] == [{"path": "all items", "whole": "worst is inf"}]
    assert "whole.mean" not in results["values"]
    text = (tmp_path / "out/0/results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == results


def test_no_common_item_is_listed(tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    systems = [Same("a", {0: 1e-3}), Same("b", {1: 1e-3})]
    for result in run(systems, toy_plan(rows, level=Picky(2e-3)), rows, tmp_path / "out"):
        assert result["failures"][-1] == {"path": "all items", "level": "no item was measured of all systems"}
        assert "loudness" not in result["values"]


def test_two_metrics_of_one_class_keep_their_numbers(tmp_path: Path) -> None:
    extended = {"class_path": "STOI", "init_args": {"extended": True}}
    metrics = {"plain": "STOI", "extended": extended, "mel": "MelDistance", "again": "MelDistance"}
    plan = suite(SPEECH | {"metrics": metrics}, tmp_path)
    rows = [Row(DATA / "sense_and_sensibility_0880.wav")]
    values = one(Tokenized(tz.load("dm-codec-tiny")), plan, rows, tmp_path / "out")["values"]
    measures = [key for key, value in values.items() if isinstance(value, dict) and "value" in value]
    assert measures == ["stoi", "estoi", "mel.mel_distance", "again.mel_distance"]
    assert values[measures[0]]["value"] > values[measures[1]]["value"] + 0.05


def test_what_was_missing_is_measured_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items without a metric that can now be had run again; a metric that is gone costs nothing."""
    here = {"torch": "2.14"}
    monkeypatch.setattr("tokenizers_zoo.eval.run.versions", lambda: here)
    rows = clips(tmp_path, 3)
    system = Same()

    def measured(**parts: Any) -> dict[str, Any]:
        plan = toy_plan(rows, **parts)
        plan.suite.metrics = dict(sorted({"level": "Picky", "ratio": "Loudness"}.items()))
        return one(system, plan, rows, tmp_path / "out")

    without = measured(missing={"ratio": "no package"}, level=Picky())
    assert without["not_measured"] == {"ratio": "no package"}
    assert "ratio" not in without["values"]
    system.seen.clear()
    here["pesq"] = "0.0.4"
    both = measured(level=Picky(), ratio=Loudness())
    assert both["values"]["ratio"]["items"] == both["values"]["loudness"]["items"] == 3
    assert sorted(system.seen) == [0, 1, 2]
    system.seen.clear()
    assert measured(missing={"ratio": "no package"}, level=Picky())["values"] == without["values"]
    assert system.seen == []


class Coded(Same):
    """Random codes of two codebooks, one of which is always 0."""

    sizes = (4, 2)

    def roundtrip(self, media: Any, **given: Any) -> tuple[Any, Item]:
        decoded, item = super().roundtrip(media)
        codes = np.random.default_rng(self.seen[-1]).choice(4, 30, p=[0.5, 0.25, 0.125, 0.125])
        return decoded, item | {"codes": np.stack([codes, np.zeros(30, int)])}

    def latents(self, media: Any, item: Item) -> Tensor:
        return torch.from_numpy(item["codes"]).T.float()


class Codes(TokenMetric):
    """The mean code; none of even first codes."""

    def item(self, latents: Tensor, row: Row) -> Item:
        assert latents.shape == (30, 2)
        if "1" in row.path.name:
            raise RuntimeError("odd")
        return {"code": float(latents[:, 0].mean())}


def test_entropy_is_corrected_where_there_are_enough_codes(tmp_path: Path) -> None:
    rows = clips(tmp_path, 4)
    coded, plain = run([Coded("coded"), Same("plain")], toy_plan(rows, code=Codes()), rows, tmp_path / "out")
    books = coded["values"]["codebooks"]
    codes = np.concatenate([np.random.default_rng(i).choice(4, 30, p=[0.5, 0.25, 0.125, 0.125]) for i in range(4)])
    plugin = scipy.stats.entropy(np.bincount(codes), base=2)
    assert books["entropy_bits"] == [pytest.approx(plugin), 0.0]
    assert books["corrected_bits"] == [pytest.approx(plugin + 3 / (2 * 120) / math.log(2)), 0.0]
    assert books["perplexity"][0] == pytest.approx(2**plugin)
    assert (books["used"], books["codes"], books["sizes"]) == ([4, 1], [120, 120], [4, 2])
    seconds = sum(8000 + 100 * i for i in range(4)) / 16000
    assert coded["values"]["entropy_coded_per_second_or_pixel"] == pytest.approx(books["corrected_bits"][0] * 120 / seconds)
    assert coded["notes"] == []
    assert "codebooks" not in plain["values"]
    assert coded["values"]["code"]["items"] == 3
    assert coded["failures"] == [{"path": "1.wav", "code": "odd"}]
    assert "code" not in plain["values"]
    assert plain["failures"] == []
    few = one(Coded("coded"), toy_plan(rows[:1], code=Codes()), rows, tmp_path / "few")
    assert few["values"]["codebooks"]["corrected_bits"] == [None, 0.0]
    assert "entropy_coded_per_second_or_pixel" not in few["values"]
    assert few["notes"] == ["no entropy-coded rate: fewer than 10 codes an entry in codebook 1"]
    assert "\ncoded: no entropy-coded rate: fewer than 10 codes an entry in codebook 1." in table([few], "audio")


class Captioned(Coded):
    """Its bits are 90 of codes, and a text's."""

    def roundtrip(self, media: Any, **given: Any) -> tuple[Any, Item]:
        decoded, item = super().roundtrip(media)
        return decoded, item | {"side": 8.0 * (self.seen[-1] + 1)}


def test_texts_and_conditions_count_in_both_rates(tmp_path: Path) -> None:
    rows = clips(tmp_path, 4)
    coded, captioned = run([Coded("coded"), Captioned("captioned")], toy_plan(rows, code=Codes()), rows, tmp_path / "out")
    rates = [result["values"]["entropy_coded_per_second_or_pixel"] for result in (coded, captioned)]
    assert rates[1] - rates[0] == pytest.approx(8 * 10 / (sum(8000 + 100 * i for i in range(4)) / 16000))
    tokenizer, photo = toys.captioned(), tz.Images.load(DATA / "chelsea.jpg").resize_crop(16)
    _, item = Tokenized(tokenizer).roundtrip(photo, text="a cat")
    assert (item["bits"], item["side"]) == (pytest.approx(tokenizer.spec.bits_per_image + 40), pytest.approx(40))


def test_what_no_system_has_is_listed_once(tmp_path: Path) -> None:
    rows = [*clips(tmp_path, 1), Row(tmp_path / "none.wav")]
    plan = toy_plan(rows, level=Picky(), missing={"pesq": "no package"})
    found = missing(run([Same("a"), Same("b"), Same("c")], plan, rows, tmp_path / "out"))
    assert list(found.values()) == ["all", "all"]
    assert [key[:2] for key in found] == [("none.wav", "original"), ("all items", "pesq")]


def test_the_correction_finds_the_true_entropy() -> None:
    """2,048 entries, all equally likely, ten codes each: 11 bits, which plain frequencies miss by .07."""
    random = np.random.default_rng(0)
    found = codebooks([random.integers(2048, size=(1, 2048)) for _ in range(10)], [2048])
    assert found["entropy_bits"][0] < 10.94
    assert found["corrected_bits"][0] == pytest.approx(11, abs=0.005)
    assert codebooks([np.arange(4)[None].repeat(10, 1)], [4])["corrected_bits"] == [2.0]  # never above log2(size)
    assert codebooks([np.arange(4)[None].repeat(10, 1)[:, 1:]], [4])["corrected_bits"] == [None]


def test_a_tokenizers_codebooks_have_their_sizes() -> None:
    tokenizer = tz.load("dm-codec-tiny")
    assert Tokenized(tokenizer).sizes == tokenizer.spec.codebook_sizes
    assert Tokenized(tokenizer, codebooks=2).sizes == tokenizer.spec.codebook_sizes[:2]
    both = tz.load("lm-spt-tiny")
    rows = [Tokenized(both, output=output) for output in both.outputs]
    assert all(len(row.sizes) == sum(role in row.roles for role in both.roles) or not row.roles for row in rows)
