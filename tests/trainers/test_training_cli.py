"""What the training verbs answer to a wrong class."""

import re
from pathlib import Path

import pytest
from conftest import DATA
from tiny_recipe import tiny_recipe

from tokenizers_zoo import zoo
from tokenizers_zoo.assembly import registry
from tokenizers_zoo.cli import main
from tokenizers_zoo.errors import InputError
from tokenizers_zoo.trainers.audio_data import AudioData
from tokenizers_zoo.trainers.callbacks import CodebookMonitor
from tokenizers_zoo.trainers.cli import HARMLESS, cli

RECIPE = str(zoo.share("models").parent / "trainers" / "titok-tiny.yaml")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args")
@pytest.mark.parametrize(
    ("part", "names"), [("quantizer", ["BinaryQuantizer", "FSQ", "VectorQuantizer"]), ("encoder", ["ViTEncoder1D"])]
)
def test_a_wrong_class_name_lists_the_right_ones(part: str, names: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli(["-c", RECIPE, f"--model.tokenizer.init_args.{part}", "FQS"], run=False)
    told = capsys.readouterr().err.split("choose one of ")
    assert set(names) <= set(told[-1].strip().split(", ")) < set(registry())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args")
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--model.objective.squared.loss=MSELos", "choose one of .*DISTS.* torch.nn.L1Loss"),
        ("--model.adversary.loss=Hing", "choose one of .*Hinge"),
        ("--model.adversary.discriminator=Patch", "choose one of .*PatchDiscriminator"),
        ("--model.optimizer=AdamWW", "did you mean AdamW"),
        ("--model.schedule=Warmup", "did you mean WarmupCosine"),
        ("--model.tokenizer=TiTokk", "did you mean TiTok"),
        ("--data=ImageDat", "did you mean ImageData"),
        ("--model.objective.perceptual.loss.init_args.network=TimNetwork", "did you mean TimmNetwork"),
        ("--data=Xyz", "give its import path"),
    ],
)
def test_any_wrong_class_name_is_answered_by_names(option: str, told: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli(["-c", RECIPE, option], run=False)
    assert re.search(told, capsys.readouterr().err.strip().split("\n")[-1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args")
def test_a_second_run_in_one_process_starts_with_callbacks_of_its_own() -> None:
    runs = [cli(["-c", RECIPE, "--model.objective.perceptual.loss", "torch.nn.MSELoss"], run=False) for _ in range(2)]
    first, second = ({id(c) for c in run.trainer.callbacks if isinstance(c, CodebookMonitor)} for run in runs)
    assert first
    assert not first & second


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args")
def test_an_ablation_that_does_not_fit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    quantizer = "--model.tokenizer.init_args.quantizer"
    options = [
        quantizer,
        "FSQ",
        f"{quantizer}.init_args.levels",
        "[8,5,5,5]",
        "--model.objective.perceptual.loss",
        "torch.nn.MSELoss",
    ]
    assert main(["fit", "-c", RECIPE, *options, "--data.init_args.data", str(tmp_path)]) == 1
    assert "error: these must be equal: encoder.dim = 5, decoder.dim = 5, quantizer.dim = 4" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args", "ignore:.*configured so 1 batch")
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--model.frozen=[encodr]", "model.frozen: TiTok has no encodr; it has encoder, quantizer, decoder"),
        ("--model.accumulate=0", "model.accumulate must be at least 1 batch a step, got 0"),
        ("--model.clip=-1", "model.clip must be above 0, or null for none, got -1"),
        ("--model.ema=1.5", "model.ema must be between 0 and 1, or null for no average, got 1.5"),
        ("--model.schedule.init_args.total=50", "warmup must be shorter than total, got 100 of 50 steps"),
        ("--model.objective.squared=null", "all terms of the objective are left out"),
        ("--data.batch_size=0", "data.batch_size must be at least 1, got 0"),
        ("--data.workers=-1", "data.workers must be at least 0, got -1"),
        ("--data.valid_items=0", "data.valid_items must be at least 1, got 0"),
        ("--data.max_unreadable=-1", "data.max_unreadable must be at least 0, got -1"),
        ("--trainer.gradient_clip_val=1", "--model.clip is for both"),
        ("--trainer.accumulate_grad_batches=2", "--model.accumulate is for both"),
        ("--trainer.strategy=nonsense", "invalid strategy name"),
        ("--trainer.val_check_interval=1.0", "`val_check_interval` should be an integer"),
    ],
)
def test_options_that_cannot_be_are_one_line(option: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    quick = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.max_steps=1"]
    schedule = ["--model.schedule=WarmupCosine", "--model.schedule.init_args.warmup=100", "--model.schedule.init_args.total=200"]
    assert main(["fit", "-c", tiny_recipe(tmp_path), *schedule, *quick, option]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert told in line


def test_seconds_that_cannot_be_are_refused() -> None:
    for name in ("seconds", "valid_seconds"):
        with pytest.raises(InputError, match=rf"data\.{name} must be above 0, got 0\.0"):
            AudioData("nowhere", 16000, **{name: 0.0})


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:LightningCLI's args", *(f"ignore:{message}" for message in HARMLESS)
)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_what_a_loading_process_cannot_read_is_one_line(split: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos = {name: tmp_path / "photos" / name / "a.png" for name in ("train", "valid")}
    for name, path in photos.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no photo" if name == split else (DATA / "chelsea.jpg").read_bytes())
    options = ["--data.data", str(tmp_path / "photos"), "--data.workers=1", "--data.init_args.max_unreadable=0"]
    assert main(["fit", "-c", tiny_recipe(tmp_path), "--trainer.logger=false", *options]) == 1
    told = capsys.readouterr().err.partition("error: ")[2].strip()
    assert "\n" not in told
    assert f"cannot read {photos[split]} as an image" in told
