"""What measures: rounds by a budget, intervals, README's table, the authors' half of a comparison."""

import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from tokenizers_zoo.official import IMPORTERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


class Clock:
    """A clock that moves when something is called that takes time."""

    def __init__(self, measure: ModuleType, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def taking(self, seconds: float) -> Any:
        def call() -> None:
            self.now += seconds

        return call


def test_rounds_follow_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    import measure

    clock = Clock(measure, monkeypatch)
    budget = measure.Budget(100.0, groups=4, least=3, most=15)
    cheap = budget.measured({"ours": clock.taking(0.1), "theirs": clock.taking(0.2)})
    assert len(cheap["ours"]) == len(cheap["theirs"]) == 15  # and what it left goes to the others
    assert measure.ratio(cheap, "theirs", "ours") == pytest.approx(2)
    middle = budget.measured({"ours": clock.taking(2.0)})
    assert 3 < len(middle["ours"]) < 15
    assert clock.now < 50
    costly = budget.measured({"ours": clock.taking(10.0)})
    assert len(costly["ours"]) == 3  # more than its share, and still within the end
    assert budget.measured({"ours": clock.taking(30.0)}) is None
    assert budget.measured({"ours": clock.taking(0.1)}) is None
    assert clock.now <= 160  # a group too many costs its warm-up and one round at most


def test_intervals_hold_the_median() -> None:
    import measure

    assert measure.interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert measure.interval([float(n) for n in range(15)]) == (3.0, 11.0)  # ranks 4 and 12 of 15: binomial tables
    torch.manual_seed(0)
    drawn = torch.randn(2000, 9).exp()
    within = [low <= 1 <= high for low, high in (measure.interval(row) for row in drawn.tolist())]
    assert 0.95 <= sum(within) / len(within) <= 0.98  # 0.961 in theory


@pytest.mark.parametrize(("half", "able"), [(400.0, True), (20.0, False)])
def test_emulated_arithmetic_is_noticed(half: float, able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import measure

    monkeypatch.setattr(measure, "matmul_peak", lambda dtype, *sizes: half if dtype == torch.bfloat16 else 100.0)
    assert measure.computes(torch.bfloat16) == able


def row(operation: str, **other: Any) -> dict[str, Any]:
    return {"system": "a", "operation": operation, "batch": 1, "reference": "b", "amount": 10.0, "unit": "s of audio", **other}


def test_a_table_of_results() -> None:
    import speed_table

    ratios = {"reference / float32": [1.5, 1.25, 1.75], "reference / compiled": [2.0, 1.9, 2.1]}
    encode = row("encode", rounds=5, seconds={"float32": 0.5, "compiled": 0.4, "reference": 0.75}, ratios=ratios)
    alone = row("decode", rounds=3, seconds={"float32": 2.0}, ratios={}) | {"system": "c", "reference": ""}
    machine = {"threads": 2, "processor": "P", "torch": "2"}
    results = {"rows": [encode, encode | {"batch": 8}, alone], "machine": machine, "date": "D", "commit": "C", "minutes": 9.0}
    results |= {
        "load_average": 4.0,
        "quiet": False,
        "left_out": {"bfloat16": "none here", "c, encode": "no time", "d, encode": "no time"},
    }
    lines = speed_table.table(results).splitlines()
    assert lines[2:] == [
        "| a | 20 / - s of audio | b | 1.50 (1.25-1.75) / - | - / - | 2.00 (1.90-2.10) / - |",
        "| c | - / 5 s of audio | itself in float32 | - / 1 | - / - | - / - |",
    ]
    text = speed_table.filled("x\n<!-- speed -->\nold\n<!-- end -->\n<!-- end -->\n", results)
    assert text.startswith("x\n<!-- speed -->\n\n| system |")
    assert text.endswith("\n\n<!-- end -->\n<!-- end -->\n")
    for part in (
        "a busy machine (load average 4.0)",
        "3 to 5 rounds",
        "Left out: bfloat16 (none here); c, encode, d, encode (no time).",
    ):
        assert part in text


def test_the_table_in_the_readme_is_that_of_the_results() -> None:
    """Or empty, as long as nobody ran `make bench`: no number is typed by hand."""
    import speed_table

    text = (ROOT / "README.md").read_text()
    assert len(speed_table.MARK.findall(text)) == 1
    path = speed_table.RESULTS
    assert (
        speed_table.filled(text, json.loads(path.read_text())) if path.exists() else speed_table.MARK.sub(r"\1\2", text)
    ) == text


def test_systems_with_public_code_have_an_importer() -> None:
    import authors

    assert {system.variant for system in authors.SYSTEMS.values()} <= IMPORTERS.keys()
    for system in authors.SYSTEMS.values():
        assert callable(system.build)


def test_the_authors_half_answers_with_seconds_and_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import authors
    import worker

    def build(repo: Path) -> Any:
        module = nn.Linear(4, 2)

        def encode(x: dict[str, torch.Tensor]) -> torch.Tensor:
            print("authors print what they like")
            return module(x["media"]).argmax(-1)

        return module, {"encode": encode}

    monkeypatch.setitem(authors.SYSTEMS, "toy", authors.System("toy", build, 1.0, ""))
    media = torch.randn(5, 4)
    torch.save({"media": media}, tmp_path / "x.pt")
    asked: list[dict[str, Any]] = [{"save": str(tmp_path / "state.pt")}]
    asked += [{"do": "encode", "inputs": str(tmp_path / "x.pt"), "output": str(tmp_path / "y.pt")}]
    said, threads = io.StringIO(), torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["worker.py", "toy", str(tmp_path), "--clock", "processor"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in asked)))
    monkeypatch.setattr(sys, "stdout", said)
    worker.main()
    assert torch.get_num_threads() == threads
    first, saved, encoded = map(json.loads, said.getvalue().splitlines())
    assert first["operations"] == ["encode"]
    assert saved == {}
    assert encoded["seconds"] >= 0
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    wanted = nn.Linear(4, 2)
    authors.fill(wanted)  # of keys and shapes alone
    assert torch.equal(state["weight"], wanted.weight)
    assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), wanted(media).argmax(-1))
