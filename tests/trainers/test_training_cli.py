"""What the training verbs answer to a wrong class."""

import re
from pathlib import Path

import pytest

from tokenizers_zoo import zoo
from tokenizers_zoo.assembly import registry
from tokenizers_zoo.cli import main
from tokenizers_zoo.trainers.callbacks import CodebookMonitor
from tokenizers_zoo.trainers.cli import cli

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
