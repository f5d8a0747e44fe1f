"""Whole evaluations of small sets: systems together, in batches, seeded, resumed, and clear about what failed."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from conftest import DATA
from evaluations import PHOTOS, SPEECH, Loudness, Same, clips, one, run, suite, toy_plan
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.eval.base import Item, Metric, System, is_silent
from tokenizers_zoo.eval.run import seed_of
from tokenizers_zoo.eval.suite import Data
from tokenizers_zoo.eval.systems import Original, Tokenized
from tokenizers_zoo.manifest import Row


class Drawing(Same):
    """Adds noise of each kind of random numbers."""

    def roundtrip(self, media: Any, **given: Any) -> tuple[Any, Item]:
        noise = torch.randn(media.waveform.shape) * 0.01 + random.random() * 0.01 + np.random.rand() * 0.01
        return tz.Audio(media.waveform + noise, media.sample_rate), {"bits": 1.0}


class Drawn(Metric):
    """A random number."""

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        return {"drawn": float(torch.rand(()))}


def ratios(folder: Path, index: int = 0) -> list[float]:
    return [json.loads(line)["loudness"]["ratio"] for line in (folder / f"{index}/rows.jsonl").read_text().splitlines()]


def test_random_numbers_follow_the_item_and_the_seed(tmp_path: Path) -> None:
    """Not the batch, the systems beside it, or where a run was stopped."""
    rows = clips(tmp_path, 5)
    plans = {name: toy_plan(rows, seed, loudness=Loudness()) for name, seed in (("a", 0), ("b", 0), ("c", 0), ("other", 1))}
    run([Drawing()], plans["a"], rows, tmp_path / "a", 1)
    run([Drawing("first"), Drawing()], plans["b"], rows, tmp_path / "b", 3)
    run([Drawing()], plans["c"], rows, tmp_path / "c", 2)
    lines = (tmp_path / "c/0/rows.jsonl").read_text().splitlines()
    (tmp_path / "c/0/rows.jsonl").write_text("\n".join([lines[4], lines[1]]) + "\n")
    run([Drawing()], plans["c"], rows, tmp_path / "c", 16)
    run([Drawing()], plans["other"], rows, tmp_path / "other", 1)
    wanted = ratios(tmp_path / "a")
    assert ratios(tmp_path / "b", 0) == ratios(tmp_path / "b", 1) == ratios(tmp_path / "c") == wanted
    assert len(set(wanted)) == 5
    assert not set(ratios(tmp_path / "other")) & set(wanted)


def test_no_item_draws_what_another_draws_with_another_seed() -> None:
    assert len({seed_of(seed, index) for seed in range(5) for index in range(40)}) == 200


def test_a_metric_draws_the_same_for_all_systems(tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    first, second = run([Drawing("a"), Same("b")], toy_plan(rows, drawn=Drawn()), rows, tmp_path / "out", 1)
    assert first["values"]["drawn"] == second["values"]["drawn"]


def test_originals_are_read_and_prepared_once_for_all_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, read = clips(tmp_path, 5), []
    from tokenizers_zoo.eval import run as module

    as_audio = module.as_audio
    monkeypatch.setattr(module, "as_audio", lambda path, rate: (read.append(path), as_audio(path, rate))[1])
    metric = Loudness()
    run([Same("a"), Same("b"), Same("c")], toy_plan(rows, loudness=metric), rows, tmp_path / "out", 2)
    assert sorted(read) == sorted(row.path for row in rows)
    assert metric.prepared == [8000, 8100, 8200, 8300, 8400]
    assert metric.batches == [2, 2, 2, 2, 2, 2, 1, 1, 1]


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    rows = clips(tmp_path, 6)
    first, second = Same("a"), Same("b", {0: 2.0})
    run([first], toy_plan(rows, loudness=Loudness()), rows, tmp_path / "out")
    lines = (tmp_path / "out/0/rows.jsonl").read_text().splitlines()
    (tmp_path / "out/0/rows.jsonl").write_text("".join(f"{line}\n" for line in lines[:3]) + lines[3][:40])
    first.seen.clear()
    results = run([first, second], toy_plan(rows, loudness=Loudness()), rows, tmp_path / "out", 4)
    assert (first.seen, second.seen) == ([3, 4, 5], [0, 1, 2, 3, 4, 5])
    whole = run([Same("a"), Same("b", {0: 2.0})], toy_plan(rows, loudness=Loudness()), rows, tmp_path / "whole")
    assert results == whole
    for name in ("0", "1"):
        files = [(tmp_path / f"{folder}/{name}/results.json").read_bytes() for folder in ("out", "whole")]
        assert files[0] == files[1]
    assert [row["item"] for row in map(json.loads, (tmp_path / "out/0/rows.jsonl").read_text().splitlines())] == list(range(6))


def test_a_tokenizer_is_run_in_batches_that_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tokenizer = suite(SPEECH, tmp_path), tz.load("dm-codec-tiny")
    rows = [*Data(str(DATA / "speech.csv")).rows("audio")[1:], *clips(tmp_path, 3)]
    sizes: list[int] = []
    encode = type(tokenizer).encode
    monkeypatch.setattr(type(tokenizer), "encode", lambda self, media: (sizes.append(len(media)), encode(self, media))[1])
    many = one(Tokenized(tokenizer), plan, rows, tmp_path / "many")
    assert max(sizes) > 1
    assert sum(sizes) == len(rows)
    sizes.clear()
    single = run([Tokenized(tokenizer)], plan, rows, tmp_path / "single", 1)[0]
    assert sizes == [1] * len(rows)
    assert many["values"]["codebooks"] == single["values"]["codebooks"]
    assert many["values"]["bits_per_second_or_pixel"] == single["values"]["bits_per_second_or_pixel"]
    for name in ("stoi", "mel_distance"):
        assert many["values"][name] == pytest.approx(single["values"][name], abs=1e-5)


def test_clips_of_like_length_run_together() -> None:
    from tokenizers_zoo.eval.systems import alike

    assert list(alike([5, 1, 5, 1, 20], "cpu")) == [[1, 3, 0], [2], [4]]  # 16 s with padding
    assert list(alike([5, 1, 5, 1, 20], "cuda")) == [[1, 3, 0, 2, 4]]
    assert list(alike([30.0], "cpu")) == [[0]]


def test_one_bad_item_spoils_nothing(tmp_path: Path) -> None:
    """A caption that is too long fails the batch that it is in; then each item runs alone."""
    plan = suite(PHOTOS | {"image_size": 16, "metrics": {"psnr": "PSNR"}}, tmp_path)
    rows = [Row(DATA / "chelsea.jpg", "a cat"), Row(DATA / "coffee.jpg"), Row(DATA / "astronaut.jpg", 13 * "x")]
    results = one(Tokenized(toys.captioned()), plan, rows, tmp_path / "captioned")
    assert [failure["path"] for failure in results["failures"]] == ["astronaut.jpg"]
    assert "shorten" in results["failures"][0]["all"]
    codes = toys.captioned().spec.bits_per_image
    assert results["values"]["bits_per_second_or_pixel"] == pytest.approx((2 * codes + 8 * len("a cat")) / (2 * 16 * 16))


class Fragile(Loudness):
    """Cannot bear some items, in each of the ways that cost one item."""

    def __init__(self, at: str, error: Exception):
        super().__init__()
        self.at, self.error = at, error

    def prepare(self, originals: list[Tensor]) -> list[Any]:
        if self.at == "prepare" and any(len(x) == 8100 for x in originals):
            raise self.error
        return super().prepare(originals)

    def items(self, prepared: list[Any], decoded: list[Tensor], rows: list[Row]) -> list[Any]:
        if self.at == "items" and any(len(x) == 8100 for x in decoded):
            raise self.error
        return super().items(prepared, decoded, rows)

    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        if self.at == "item" and len(decoded) == 8100:
            raise self.error
        if self.at == "nan" and len(decoded) == 8100:
            return {"ratio": float("nan")}
        return super().item(original, decoded, row)


@pytest.mark.parametrize("error", [tz.InputError("too odd"), ValueError("too odd"), RuntimeError("too odd"), OSError("too odd")])
@pytest.mark.parametrize("at", ["prepare", "items", "item"])
def test_a_metric_that_fails_costs_one_item(at: str, error: Exception, tmp_path: Path) -> None:
    rows = clips(tmp_path, 3)
    results = one(Same(), toy_plan(rows, loudness=Fragile(at, error), other=Loudness()), rows, tmp_path / "out")
    assert results["failures"] == [{"path": "1.wav", "loudness": "too odd"}]
    assert results["values"]["loudness.ratio"]["items"] == 2
    assert results["values"]["other.ratio"]["items"] == 3
    assert results["values"]["items"] == 3


def test_numbers_that_are_none_cost_one_item(tmp_path: Path) -> None:
    rows = clips(tmp_path, 3)
    results = one(Same(), toy_plan(rows, loudness=Fragile("nan", ValueError())), rows, tmp_path / "out")
    assert results["failures"] == [{"path": "1.wav", "loudness": "ratio is nan"}]
    assert results["values"]["ratio"]["value"] == pytest.approx(1)


@pytest.mark.parametrize("error", [TypeError, AttributeError, MemoryError, KeyboardInterrupt])
def test_mistakes_in_the_program_end_the_run(error: type[BaseException], tmp_path: Path) -> None:
    rows = clips(tmp_path, 2)
    with pytest.raises(error):
        one(Same(), toy_plan(rows, loudness=Fragile("item", error())), rows, tmp_path / "out")


class Whisperer(Loudness):
    """Has an answer for silence."""

    def silent(self, original: Any, row: Row) -> Item:
        return {"ratio": -original}


class Unreached(Loudness):
    def item(self, original: Any, decoded: Tensor, row: Row) -> Item:
        assert not is_silent(decoded)
        return super().item(original, decoded, row)


def test_silence_on_either_side(tmp_path: Path) -> None:
    """A silent original leaves the item out for all; silence that came back gets what each metric says of silence."""
    rows = clips(tmp_path, 4)
    tz.Audio(torch.full((1, 1, 8000), 0.9e-4), 16000).save(tmp_path / "faint.wav")
    rows.insert(1, Row(tmp_path / "faint.wav"))
    plan = toy_plan(rows, answers=Whisperer(), refuses=Unreached())
    quiet, whole = run([Same("quiet", {2: 1e-6}), Same("whole")], plan, rows, tmp_path / "out")
    for result in (quiet, whole):
        assert result["left_out"] == [{"path": "faint.wav", "original": "the original is silent"}]
        assert result["values"]["items"] == 4
        assert result["values"]["answers.ratio"]["items"] == 4
        assert result["values"]["refuses.ratio"]["items"] == 3
    assert quiet["failures"] == [{"path": "2.wav", "refuses": "2.wav came back silent, which has no Unreached"}]
    assert whole["failures"] == []
    assert quiet["values"]["answers.ratio"]["value"] < 0.76 < 1 == pytest.approx(whole["values"]["answers.ratio"]["value"])


def test_what_counts_as_silent() -> None:
    assert is_silent(torch.full((100,), 0.99e-4))
    assert not is_silent(torch.full((100,), 1.01e-4))
    assert not is_silent(torch.zeros(3, 4, 4))


class Twisted(System):
    """Gives the first file back longer, the second as nonsense, others as they are."""

    name = "twisted"
    count = 0

    def roundtrip(self, media: Any) -> tuple[Any, dict[str, Any]]:
        self.count += 1
        if self.count == 1:
            return tz.Images(media.pixels[..., :32, :]), {"bits": 1.0}
        return tz.Images(media.pixels / (self.count != 2)), {"bits": 1.0}


def test_pairs_that_do_not_match_and_empty_pictures_are_listed(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    rows = [*Data(str(DATA)).rows("image"), Row(tmp_path / "empty.png"), Row(tmp_path / "missing.png")]
    results = one(Twisted(), suite(PHOTOS | {"metrics": {"psnr": "PSNR"}}, tmp_path), rows, tmp_path / "out")
    reasons = [failure["all"] for failure in results["failures"]]
    assert reasons[0] == "twisted was given 3 x 64 x 64 values and gave 3 x 32 x 64 back; only equal sizes can be compared"
    assert "not finite" in reasons[1]
    assert len(reasons) == 2
    assert [item["path"] for item in results["left_out"]] == ["empty.png", "missing.png"]
    assert str(tmp_path) not in json.dumps(results["left_out"])
    assert results["values"]["psnr"]["value"] == 100


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tz.InputError, match=r"no item could be measured.*no such file"):
        one(Original(), suite(PHOTOS, tmp_path), [Row(tmp_path / "none.png")], tmp_path / "none")
