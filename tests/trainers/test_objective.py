"""Terms of an objective: which are built, and under which names their inputs are found."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import DATA
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo import zoo
from tokenizers_zoo.quantizers import Quantized
from tokenizers_zoo.teachers.base import Teacher
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.audio_data import AudioData
from tokenizers_zoo.trainers.cli import cli
from tokenizers_zoo.trainers.objective import Objective, Term

pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args", "ignore::DeprecationWarning")


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    """Options of a run, one of whose losses cannot be built here."""
    network = {"class_path": "TimmNetwork", "init_args": {"name": "tf_efficientnet_lite0", "weights": str(tmp_path / "no.pt")}}
    distance = {"class_path": "FeatureDistance", "init_args": {"network": network, "taps": ["network.blocks.0"]}}
    described = {
        "model": {
            "name": "mine",
            "tokenizer": str(zoo.share("models") / "titok/titok-tiny.yaml"),
            "objective": {
                "squared": {"loss": "torch.nn.MSELoss", "weight": 3.0},
                "perceptual": {"loss": distance, "weight": 0.1},
            },
        },
        "data": {"class_path": "ImageData", "init_args": {"data": str(DATA), "image_size": 64, "workers": 0}},
        "trainer": {"accelerator": "cpu", "logger": False, "default_root_dir": str(tmp_path)},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(described))
    return ["-c", str(tmp_path / "recipe.yaml")]


@pytest.mark.parametrize("option", [["null"], [".weight", "0"]])
def test_what_is_left_out_is_not_built(option: list[str], recipe: list[str]) -> None:
    key = "--model.objective.perceptual" + (option[0] if len(option) > 1 else "")
    made = cli([*recipe, key, option[-1], "--model.objective.squared.loss", "torch.nn.L1Loss"], run=False)
    assert list(made.model.objective) == ["squared"]
    assert isinstance(made.model.objective["squared"], nn.L1Loss)
    result = Reconstruction(torch.ones(2, 3), torch.zeros(2, 3))
    assert made.model.objective(result, {"media": torch.zeros(2, 3)}) == {"squared": torch.tensor(3.0)}


def test_a_loss_that_cannot_be_built_says_why(recipe: list[str]) -> None:
    with pytest.raises((tz.InputError, tz.WeightsError, FileNotFoundError)) as error:
        cli(recipe, run=False)
    assert "no.pt" in str(error.value)
    assert "Union" not in str(error.value)


def test_terms_left_out_in_python() -> None:
    objective = Objective({"a": Term(nn.MSELoss()), "b": None, "c": Term(nn.Linear(2, 2), 0.0)})
    assert list(objective) == ["a"]
    assert not list(objective.parameters())


def result_of(**parts: Any) -> Reconstruction:
    x = torch.zeros(1, 2, 3)
    quantized = Quantized(x, torch.zeros(1, 1, 2).long(), (4,), parts.pop("losses", {}), x)
    return Reconstruction(x, x, quantized, parts.pop("features", {}))


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ({"semantic": 1}, {"features": {"semantic": torch.ones(1)}}),
        ({"commitment": 1}, {"losses": {"commitment": torch.ones(())}}),
        ({}, {"features": {"kl": torch.ones(1)}, "losses": {"kl": torch.ones(())}}),
        ({}, {"features": {"latents": torch.ones(1)}}),
        ({}, {"losses": {"output": torch.ones(())}}),
        ({"output": 1}, {}),
        ({"latents": 1}, {}),
        ({"quantized": 1}, {}),
        ({}, {"features": {"media": torch.ones(1)}}),
    ],
)
def test_two_inputs_of_one_name_are_refused(batch: dict[str, Any], parts: dict[str, Any]) -> None:
    objective = Objective({"squared": Term(nn.MSELoss())})
    with pytest.raises(tz.InputError, match="two inputs of the losses are called"):
        objective(result_of(**parts), {"media": torch.zeros(1, 2, 3), **batch})


@pytest.mark.parametrize("name", ["adversarial", "matching", "discriminator", "total"])
def test_a_term_cannot_have_a_name_of_the_logs(name: str) -> None:
    with pytest.raises(tz.InputError, match=f"cannot be called {name}"):
        Objective({name: Term(nn.MSELoss())})


class Silent(Teacher):
    """Hears nothing."""

    def forward(self, waveform: Tensor, text: str) -> Tensor:
        """Nothing."""
        return torch.zeros(1, 1)


@pytest.mark.parametrize("name", ["text", "media"])
def test_a_teacher_cannot_have_a_name_of_the_batch(name: str) -> None:
    with pytest.raises(tz.InputError, match=f"a batch has {name} of its own"):
        AudioData(str(DATA), 16000, teachers={name: Silent()})


def test_weights_of_terms_and_inputs_in_order() -> None:
    class Difference(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            """Signed."""
            return (a - b).mean()

    objective = Objective({"x": Term(Difference(), 0.5, ("media", "output")), "q": Term(nn.Identity(), -2.0, ("commitment",))})
    found = objective(result_of(losses={"commitment": torch.tensor(3.0)}), {"media": torch.ones(1, 2, 3)})
    assert {name: float(value) for name, value in found.items()} == {"x": 0.5, "q": -6.0}
    with pytest.raises(tz.InputError, match="the loss 'x' needs speech; there are commitment, latents, media, output"):
        Objective({"x": Term(Difference(), 1.0, ("output", "speech"))})(
            result_of(losses={"commitment": torch.tensor(3.0)}), {"media": torch.ones(1, 2, 3)}
        )
