"""What a suite names: shipped ones, overrides of the command line, and parts that cannot be had."""

import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import DATA
from evaluations import PHOTOS, SPEECH, suite

import tokenizers_zoo as tz
from tokenizers_zoo.eval import codecs, distribution, features, image, neural, probe, retrieval, speech, systems
from tokenizers_zoo.eval.base import Measure, need
from tokenizers_zoo.eval.names import labels, tell_apart
from tokenizers_zoo.eval.suite import Suite, _classes

SHIPPED = sorted((DATA.parents[1] / "eval").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_are_whole(path: Path) -> None:
    """Every part exists and takes the arguments that it is given."""
    found = Suite.load(path)
    assert found.metrics
    modules = (codecs, distribution, features, image, neural, probe, retrieval, speech, systems)
    rooms = {k: v for room in modules for k, v in vars(room).items()}
    for config in [*found.metrics.values(), *found.baselines]:
        config = {"class_path": config} if isinstance(config, str) else config
        inspect.signature(rooms[config["class_path"]]).bind(**config.get("init_args", {}))


def test_every_metric_is_shown_in_some_suite() -> None:
    """What no suite names, nobody finds."""
    text = "\n".join(path.read_text() for path in SHIPPED)
    known = [thing for module in (distribution, image, probe, retrieval, speech) for thing in vars(module).values()]
    metrics = {m.__name__ for m in known if inspect.isclass(m) and issubclass(m, Measure) and not inspect.isabstract(m)}
    assert {"STOI", "FID", "LinearProbe"} < metrics
    assert {name for name in metrics if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parent.name == "presets"], ids=lambda path: path.stem)
def test_presets_say_what_they_need(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, what needs a download is listed with the reason; a preset of which nothing is left says what it needs."""

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", offline)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", offline)
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", offline)
    found = Suite.load(path)
    assert found.source
    if {"PSNR", "SSIM", "STOI"} & {str(part) for part in found.metrics.values()}:
        assert "no network" in " ".join(found.build().missing.values())
    else:
        with pytest.raises(tz.InputError, match=f"can be had: .*no network.*this suite needs {re.escape(found.needs)}"):
            found.build()


BOTH = SPEECH | {"baselines": ["Original", {"class_path": "Opus", "init_args": {"kbps": 6}}, {"class_path": "Codec2"}]}


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["metrics.mel=null"], {"metrics": {"stoi": "STOI"}}),
        (["metrics.stoi.init_args.extended=true"], {"metrics": {"stoi": ("STOI", {"extended": True}), "mel": "MelDistance"}}),
        (["metrics.new=SISDR"], {"metrics": {"stoi": "STOI", "mel": "MelDistance", "new": "SISDR"}}),
        (["metrics={psnr: PSNR}"], {"metrics": {"psnr": "PSNR"}}),
        (["baselines.0=null"], {"baselines": [("Opus", {"kbps": 6}), "Codec2"]}),
        (["baselines.0=null", "baselines.1=null"], {"baselines": ["Codec2"]}),  # places are those of the file
        (["baselines.Opus=null"], {"baselines": ["Original", "Codec2"]}),
        (["baselines.Opus.init_args.kbps=9"], {"baselines": ["Original", ("Opus", {"kbps": 9}), "Codec2"]}),
        (["baselines.2.init_args.mode=700C"], {"baselines": ["Original", ("Opus", {"kbps": 6}), ("Codec2", {"mode": "700C"})]}),
        (["baselines.2=Original"], {"baselines": ["Original", ("Opus", {"kbps": 6}), "Original"]}),
        (["baselines.1.init_args=null"], {"baselines": ["Original", "Opus", "Codec2"]}),
        (["baselines=null", "codebooks=[1, 4]"], {"baselines": [], "codebooks": [1, 4]}),
        (["metrics.stoi.init_args.extended=null"], {"metrics": {"stoi": ("STOI", {"extended": None}), "mel": "MelDistance"}}),
    ],
)
def test_overrides(overrides: list[str], wanted: dict[str, Any], tmp_path: Path) -> None:
    """Of a part, by name, place or class; null removes it."""
    found = vars(suite(BOTH, tmp_path, *overrides))

    def short(part: Any) -> Any:
        options = part.get("init_args") if isinstance(part, dict) else None
        return (part["class_path"], options) if options else part["class_path"] if isinstance(part, dict) else part

    for key, value in wanted.items():
        parts = found[key]
        assert {k: short(v) for k, v in parts.items()} == value if isinstance(parts, dict) else list(map(short, parts)) == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["metrics.stoi=Nonsense"], "known: .*STOI"),
        (["metrics.none.init_args.x=1"], "has no 'metrics.none.init_args.x'; there are stoi, mel"),
        (["metrics.none=null"], "has no 'metrics.none'; there are stoi, mel"),
        (["metrics.mel=null", "metrics.mel=null"], "has no 'metrics.mel'; there are stoi"),
        (["metrics.stoi.extended=true"], r"a part has class_path and init_args: metrics.stoi.init_args.extended"),
        (["baselines.3=null"], r"has no 'baselines.3'; there are 0 \(Original\), 1 \(Opus\), 2 \(Codec2\)"),
        (["baselines.0=Opus", "baselines.Opus.init_args.kbps=1"], "has 2 parts that 'baselines.Opus.init_args.kbps' could be"),
        (["metrics.stoi"], "give KEY=VALUE, or KEY=null"),
        (["metrics.stoi="], "give KEY=VALUE, or KEY=null"),
        (["metrics.stoi={"], "no value that YAML can read"),
        (['metrics.stoi={"class_path": "STOI", "init_args": {"depth": 3}}'], "STOI cannot be built"),
        (["metrics.stoi.init_args.depth=3"], "STOI cannot be built"),
        (["metrics.stoi={name: STOI}"], "a part is a class name or {class_path, init_args}"),
        (["metrics.stoi=null", "metrics.mel=null"], "metrics must be parts by name, at least one"),
        (["metrics=null"], "is no suite .*metrics"),
        (["metrics=STOI"], "metrics must be parts by name"),
        (["metrics=STOI", "metrics.stoi=null"], "has no metrics by which"),
        *(([f"metrics.{name}=STOI"], f"no metric can be called {name}") for name in ("bits", "side", "arrays", "original")),
        (["metrics.a/b=STOI"], "no metric can be called a/b"),
        (["metrics={1: STOI}"], "no metric can be called 1"),
        (["metrics={no: STOI}"], "no metric can be called False"),
        (["image_size=0"], "image_size must be whole numbers above 0, got"),
        (["modality=video"], "modality must be audio or image"),
        (["codebooks=1"], "codebooks must be whole numbers above 0, got 1"),
        (["codebooks=[0]"], "codebooks must be whole numbers above 0"),
        (["roles=semantic"], "roles must be a list of words, got 'semantic'"),
        (["captions=[own]"], "captions must be a list of none and others"),
        (["captions=none"], "captions must be a list of none and others, got 'none'"),
        (["sample_rate=fast"], "sample_rate must be whole numbers above 0"),
        (["sample_rate.x=1"], "has no 'sample_rate.x'"),
        (["colour.x=1"], "has no 'colour.x'"),
        (["image_size=null"], "has no 'image_size'"),
        (["colour=red"], "is no suite"),
    ],
)
def test_bad_suites(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(tz.InputError, match=message):
        suite(BOTH, tmp_path, *overrides).build()


@pytest.mark.parametrize("text", ["- a\n", "metrics: {\n", "", "\xff"])
def test_files_that_are_no_suite(text: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(tz.InputError, match=r"suite\.yaml"):
        Suite.load(tmp_path / "suite.yaml")


def test_what_cannot_be_had_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    baselines = ["Original", {"class_path": "Transformers", "init_args": {"path": str(tmp_path / "none")}}]
    files = {"class_path": "Perceptual", "init_args": {"weights": str(tmp_path / "none.safetensors")}}
    metrics = {"ssim": "SSIM", "psnr": "PSNR", "perceptual": files}
    parts = suite(PHOTOS | {"metrics": metrics, "baselines": baselines}, tmp_path).build()
    assert list(parts.metrics) == ["psnr"]
    assert [system.name for system in parts.baselines] == ["original"]
    assert list(parts.missing) == ["ssim", "perceptual", f"Transformers path={tmp_path / 'none'}"]
    assert "needs the package torchmetrics: pip install 'tokenizers-zoo[eval]'" in parts.missing["ssim"]
    assert "none.safetensors" in parts.missing["perceptual"]
    with pytest.raises(tz.InputError, match=r"none of the metrics can be had: ssim: .*torchmetrics.*this suite needs a network"):
        suite(PHOTOS | {"metrics": {"ssim": "SSIM"}, "needs": "a network"}, tmp_path).build()


def test_every_metric_says_its_unit_and_which_way_is_better() -> None:
    known = _classes([speech, image, distribution, probe, retrieval], Measure)
    lower = {"MelDistance", "WER", "Perceptual", "LPIPS", "DISTS", "FrechetDistance", "FID"}
    assert {name for name, metric in known.items() if metric.better == "lower"} == lower
    assert {metric.better for metric in known.values()} == {"lower", "higher"}
    assert {name: metric.unit for name, metric in known.items() if metric.unit} == {"PSNR": "dB", "SISDR": "dB"}


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that needs it."""
    (tmp_path / "whole_judge.py").write_text("import missing_runtime.session")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        tz.InputError, match=r"^the package whole_judge needs the package missing_runtime: pip install missing_run"
    ):
        need("whole_judge.sub", "eval-speech")
    with pytest.raises(tz.InputError, match=r"^this evaluation needs the package no_judge: pip install 'tokenizers-zoo\[eval-im"):
        need("no_judge.sub", "eval-image")


def test_parts_go_to_the_device(tmp_path: Path) -> None:
    parts = suite(SPEECH | {"metrics": {"mel": "MelDistance"}}, tmp_path).build("meta")
    assert parts.device == "meta"
    assert parts.metrics["mel"].device.type == "meta"
    assert all(buffer.device.type == "meta" for buffer in parts.metrics["mel"].mel.buffers())


def test_without_a_network_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client is asked once; where it fails, the Hub is left alone while parts are built, and only then."""
    from huggingface_hub import constants

    from tokenizers_zoo.hub import without_retries

    asked: list[str] = []

    def failing(url: str, **_: Any) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=failing))
    with without_retries():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=lambda url, **_: asked.append(url)))
    with without_retries():
        assert not constants.is_offline_mode()
    assert asked == [constants.ENDPOINT] * 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with without_retries():
        assert constants.is_offline_mode()
    assert len(asked) == 2


def named(*systems: tuple[str, str, str]) -> dict[str, Any]:
    return tell_apart([SimpleNamespace(name=n, weights=w, source=s) for n, w, s in systems])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("systems", "wanted"),
    [
        ([("a", "1", "x"), ("b", "1", "y")], {"a": "a", "b": "b"}),
        ([("a", "1", "x"), ("a", "2", "y")], {"a__1_": "a (1)", "a__2_": "a (2)"}),
        ([("a", "1", "x"), ("a", "1", "y"), ("b", "", "")], {"a__x_": "a (x)", "a__y_": "a (y)", "b": "b"}),
        (
            [("a", "1", "x"), ("a", "1", "y"), ("a", "2", "z")],
            {"a__x_": "a (x)", "a__y_": "a (y)", "a__z_": "a (z)"},
        ),
    ],
)
def test_systems_of_one_name_are_told_apart(systems: list[tuple[str, str, str]], wanted: dict[str, str]) -> None:
    assert {folder: system.name for folder, system in named(*systems).items()} == wanted


def test_names_that_folders_cannot_have() -> None:
    folders = list(named(("a b", "", ""), ("a_b", "", ""), ("..", "", ""), ("x" * 300, "", "")))
    assert len(set(folders)) == 4
    assert all(0 < len(folder) < 120 and folder.strip(".") and "/" not in folder for folder in folders)
    with pytest.raises(tz.InputError, match="a is named twice; name each once"):
        named(("a", "1", "x"), ("a", "1", "x"))


def test_measures_do_not_take_the_place_of_other_results() -> None:
    assert {"a.items", "a.codebooks"} <= set(labels({"a": "STOI"}, {}, {"a": ["items", "codebooks", "stoi"]}).values())


def test_measures_of_one_word_get_the_name_of_their_metric() -> None:
    parts = {"short": "STOI", "long": {"class_path": "STOI", "init_args": {"extended": True}}, "mel": "Mel", "coarse": "Mel"}
    metrics: dict[str, Any] = {
        "short": SimpleNamespace(key="stoi"),
        "long": SimpleNamespace(key="estoi"),
        "mel": None,
        "coarse": None,
    }
    found = labels(parts, metrics, {"short": ["stoi"], "long": ["estoi"], "mel": ["mel"], "coarse": ["mel"]})
    assert list(found.values()) == ["stoi", "estoi", "mel.mel", "coarse.mel"]
    assert labels(parts, metrics, {"short": ["stoi"], "mel": ["mel"]}) == {  # where the others could not be measured
        ("short", "stoi"): "stoi",
        ("mel", "mel"): "mel.mel",
    }
    metrics["long"].key = "stoi"
    assert list(labels(parts, metrics, {"short": ["stoi"]}).values()) == ["short.stoi"]
    del metrics["long"]  # nobody knows what it would be called
    assert list(labels(parts, metrics, {"short": ["stoi"]}).values()) == ["short.stoi"]
    assert labels({"a": "A", "b": "B", "c": "C"}, {}, {"a": ["same", "one"], "b": ["same"], "c": ["other"]}) == {
        ("a", "same"): "a.same",
        ("a", "one"): "a.one",
        ("b", "same"): "b.same",
        ("c", "other"): "other",
    }
