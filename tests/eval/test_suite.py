"""Whole evaluations of small sets: resumable, repeatable, and clear about what failed."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import toys
import yaml
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.eval import distribution, image, neural, probe, speech, systems
from tokenizers_zoo.eval.base import Measure, System
from tokenizers_zoo.eval.suite import Data, Suite, codebooks, evaluate, summarise
from tokenizers_zoo.eval.systems import Original, Picture, Tokenized, ogg_payload
from tokenizers_zoo.manifest import Row
from tokenizers_zoo.teachers.recognizer import SpeechRecognizer

SPEECH = {"modality": "audio", "metrics": {"stoi": "STOI", "mel": "MelDistance"}, "codebooks": [1], "baselines": ["Original"]}
PHOTOS = {"modality": "image", "image_size": 64, "metrics": {"psnr": "PSNR", "ssim": "SSIM"}, "baselines": ["Original"]}


def suite(config: dict[str, Any], folder: Path, *overrides: str) -> Suite:
    (folder / "suite.yaml").write_text(yaml.safe_dump(config))
    return Suite.load(folder / "suite.yaml", overrides)


SHIPPED = sorted((DATA.parents[1] / "eval").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_are_whole(path: Path) -> None:
    """Every part exists and takes the arguments that it is given."""
    found = Suite.load(path)
    assert found.metrics
    rooms = {k: v for room in (distribution, image, neural, probe, speech, systems) for k, v in vars(room).items()}
    for config in [*found.metrics.values(), *found.baselines]:
        config = {"class_path": config} if isinstance(config, str) else config
        inspect.signature(rooms[config["class_path"]]).bind(**config.get("init_args", {}))


def test_codebooks_are_measured_where_they_decode_alone() -> None:
    tokenizer = toys.two_outputs()  # its first codebook decodes by the sketch alone
    rows = [system.name for system in systems.tokenized(tokenizer, [1, 2, 3], [])]
    assert rows == ["two-outputs", "two-outputs, 2 codebooks", "two-outputs, 1 codebook, sketch decoder"]


def test_every_metric_is_shown_in_some_suite() -> None:
    """What no suite names, nobody finds."""
    text = "\n".join(path.read_text() for path in SHIPPED)
    known = [thing for module in (distribution, image, probe, speech) for thing in vars(module).values()]
    metrics = {m.__name__ for m in known if inspect.isclass(m) and issubclass(m, Measure) and not inspect.isabstract(m)}
    assert {"STOI", "FID", "LinearProbe"} < metrics
    assert {name for name in metrics if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parent.name == "presets"], ids=lambda path: path.stem)
def test_presets_say_what_they_need(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", offline)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", offline)
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", offline)
    found = Suite.load(path)
    assert found.source
    with pytest.raises(tz.InputError, match=f"no network.*this suite needs {re.escape(found.needs)}"):
        found.build()


def test_entropy_is_that_of_the_codes_frequencies() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    items = [np.stack([random.choice(4, 5000, p=shares), np.zeros(5000, int)]) for _ in range(4)]
    found = codebooks(items)
    assert found["entropy_bits"] == [pytest.approx(1.75, abs=0.02), 0.0]
    counts = np.bincount(np.concatenate([item[0] for item in items]))
    assert found["entropy_bits"][0] == pytest.approx(scipy.stats.entropy(counts, base=2))
    assert (found["used"], found["codes"]) == ([4, 1], [20000, 20000])
    measured = [{"bits": 20000.0, "length": 2.0, "codes": item} for item in items]
    values = summarise(measured, {})["values"]
    assert values["bits_per_second_or_pixel"] == 10000
    assert values["entropy_coded_per_second_or_pixel"] == pytest.approx(found["entropy_bits"][0] * 2500)


def test_a_stopped_run_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    plan = suite(PHOTOS, tmp_path)
    metrics, _ = plan.build()
    rows = Data(str(DATA)).rows("image")
    system = Tokenized(tz.load("titok-tiny"))
    whole = evaluate(system, plan, metrics, rows, tmp_path / "whole")
    evaluate(system, plan, metrics, rows, tmp_path / "broken")
    lines = (tmp_path / "broken/rows.jsonl").read_text().splitlines()
    (tmp_path / "broken/rows.jsonl").write_text(f"{lines[0]}\n{lines[1][:40]}")  # killed while writing
    assert evaluate(system, plan, metrics, rows, tmp_path / "broken") == whole
    written = [(tmp_path / name / "results.json").read_bytes() for name in ("whole", "broken")]
    assert written[0] == written[1]
    with pytest.raises(tz.InputError, match="another evaluation"):
        evaluate(system, plan, metrics, rows[:2], tmp_path / "broken")


class Deaf(SpeechRecognizer):
    """Hears "d" in everything."""

    def __init__(self, *_: object) -> None:
        torch.nn.Module.__init__(self)
        self.processor = None

    def forward(self, waveforms: list[torch.Tensor]) -> list[str]:
        return ["d"] * len(waveforms)


def test_clips_that_cannot_be_measured_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "SpeechRecognizer", Deaf)
    plan = suite(SPEECH | {"metrics": {"stoi": "STOI", "wer": {"class_path": "WER", "init_args": {"recognizer": ""}}}}, tmp_path)
    metrics, _ = plan.build()
    tz.Audio(torch.zeros(1, 1, 16000), 16000).save(tmp_path / "silent.wav")
    (tmp_path / "empty.wav").touch()
    clips = [DATA / f"sense_and_sensibility_08{n}0.wav" for n in (7, 8)]
    (tmp_path / "m.csv").write_text(f"path,text\nsilent.wav,a\nempty.wav,b\nmissing.wav,c\n{clips[0]},d\n{clips[1]},\n")
    rows = Data(str(tmp_path / "m.csv")).rows("audio")
    results = evaluate(Original(), plan, metrics, rows, tmp_path / "out")
    reasons = {Path(f["path"]).name: f for f in results["failures"]}
    assert "is silent" in reasons["silent.wav"]["stoi"]
    assert "empty.wav" in reasons["empty.wav"]["all"]
    assert "no such file" in reasons["missing.wav"]["all"]
    assert "fill the manifest's text column" in reasons[clips[1].name]["wer"]
    assert results["values"]["items"] == 3
    assert results["values"]["stoi"]["value"] == pytest.approx(1.0)
    assert results["values"]["wer"]["value"] == 0.5  # of "a" and "d"
    with pytest.raises(tz.InputError, match="no item could be measured"):
        evaluate(Original(), plan, metrics, rows[1:3], tmp_path / "none")


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
    plan = suite(PHOTOS, tmp_path)
    metrics, _ = plan.build()
    (tmp_path / "empty.png").touch()
    rows = [*Data(str(DATA)).rows("image"), Row(tmp_path / "empty.png")]
    results = evaluate(Twisted(), plan, metrics, rows, tmp_path / "out")
    reasons = [failure["all"] for failure in results["failures"]]
    assert reasons[0] == "twisted was given 3 x 64 x 64 values and gave 3 x 32 x 64 back; only equal sizes can be compared"
    assert "not finite" in reasons[1]
    assert "empty.png" in reasons[2]
    assert len(reasons) == 3
    assert results["values"]["psnr"]["value"] == 100


class Pixels(distribution.Gaussians):
    """Frechet distance of mean colours."""

    def features(self, image: torch.Tensor) -> Any:
        return image.mean((1, 2)).numpy()


def test_a_set_too_small_for_a_distance_keeps_its_other_numbers(tmp_path: Path) -> None:
    plan = suite(PHOTOS, tmp_path)
    metrics = {"frechet": Pixels(), **plan.build()[0]}
    rows = Data(str(DATA)).rows("image")
    results = evaluate(Original(), plan, metrics, rows[:1], tmp_path / "one")
    assert results["failures"] == [{"path": "all items", "frechet": "a Frechet distance needs at least 2 images, better 2,000"}]
    assert results["values"]["psnr"]["value"] == 100
    assert evaluate(Original(), plan, metrics, rows, tmp_path / "all")["values"]["frechet"]["value"] == pytest.approx(0, abs=1e-6)


def test_captions_reach_the_tokenizer_and_count(tmp_path: Path) -> None:
    plan = suite(PHOTOS | {"image_size": 16}, tmp_path)
    rows = [Row(DATA / "chelsea.jpg", "a cat"), Row(DATA / "coffee.jpg"), Row(DATA / "astronaut.jpg", 13 * "x")]
    results = evaluate(Tokenized(toys.captioned()), plan, plan.build()[0], rows, tmp_path / "captioned")
    assert [failure["path"] for failure in results["failures"]] == ["astronaut.jpg"]
    assert "shorten" in results["failures"][0]["all"]
    codes = toys.captioned().spec.bits_per_image
    assert results["values"]["bits_per_second_or_pixel"] == pytest.approx((2 * codes + 8 * len("a cat")) / (2 * 16 * 16))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["metrics.stoi=Nonsense"], "known: .*STOI"),
        (["metrics.none.init_args.x=1"], "has no 'metrics.none"),
        (['metrics.stoi={"class_path": "STOI", "init_args": {"depth": 3}}'], "STOI cannot be built"),
        (["colour=red"], "is no suite"),
    ],
)
def test_bad_suites(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(tz.InputError, match=message):
        suite(SPEECH, tmp_path, *overrides).build()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(tz.InputError, match=r"needs the package torchvision: pip install 'tokenizers-zoo\[eval-image\]'"):
        suite(PHOTOS, tmp_path, "metrics={lpips: LPIPS}").build()


def test_a_suite_is_for_one_modality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite(PHOTOS, tmp_path)
    assert (
        main(["eval", "dm-codec-tiny", "--suite", str(tmp_path / "suite.yaml"), "--data", str(DATA), "-o", str(tmp_path / "o")])
        == 1
    )
    assert "dm-codec-tiny is for audio" in capsys.readouterr().err


def test_a_second_output_is_a_row_of_the_table() -> None:
    tokenizer, clip = small("lm-spt-12.5hz-24k"), tz.Audio(torch.randn(1, 1, 9000) * 0.1, 16000)
    system = Tokenized(tokenizer, output="auxiliary")
    assert system.name == "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"
    names = [listed.name for listed in systems.tokenized(tokenizer, [], [])]
    assert names == ["lm-spt-12.5hz-24k", "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"]
    decoded, found = system.roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape[-1]) == (16000, 9000)
    assert found["codes"].shape == (1, 8)  # 9000 samples at 16 kHz are 7.03 frames of 1920 at 24 kHz
    assert found["bits"] == 8 * 14 + 32


def test_only_what_a_tokenizer_can_decode_is_listed() -> None:
    speech = [listed.name for listed in systems.tokenized(small("lm-spt-tiny"), [1, 7, 8], [32])]
    assert [name.removeprefix("lm-spt-tiny") for name in speech][:3] == ["", ", 1 codebook", ", 7 codebooks"]
    assert "lm-spt-tiny, 8 codebooks" not in speech
    assert [listed.name for listed in systems.tokenized(small("titok-tiny"), [1], [32])] == ["titok-tiny"]


def test_clips_come_back_at_the_suites_rate_and_length() -> None:
    clip = tz.Audio(torch.randn(1, 1, 24001) * 0.1, 24000)
    decoded, found = Tokenized(tz.load("dm-codec-tiny"), codebooks=2).roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape) == (24000, (1, 1, 24001))
    assert found["codes"].shape == (2, 51)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_pictures_fit_into_their_bits(format: str) -> None:
    photo = tz.Images.load(DATA / "coffee.jpg").resize_crop(64)
    decoded, found = Picture(format, 2000).roundtrip(photo)
    assert 0 < found["bits"] <= 2000
    assert decoded.pixels.shape == photo.pixels.shape
    error = [
        (p.roundtrip(photo)[0].pixels - photo.pixels).square().mean() for p in (Picture(format, 1000), Picture(format, 20000))
    ]
    assert error[1] < error[0]


@pytest.mark.parametrize("delay", [0, 400, 1200])
def test_a_codecs_delay_is_taken_out(delay: int, speech: Path) -> None:
    clip = tz.Audio.load(speech)
    late = torch.nn.functional.pad(clip.waveform[0, 0], (delay, 0))
    aligned = systems._aligned(clip, late).waveform
    torch.testing.assert_close(aligned, clip.waveform)


def test_ogg_payload_counts_packets_alone() -> None:
    page = lambda body: b"OggS" + bytes(22) + bytes([1, len(body)]) + body  # noqa: E731
    assert ogg_payload(page(b"head") + page(b"tags") + page(b"12345") + page(b"678")) == 8
