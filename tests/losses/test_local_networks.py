"""Networks of perceptual losses from local files, and what is said where none can be had."""

import time
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from tokenizers_zoo.errors import InputError, WeightsError
from tokenizers_zoo.losses.lpips import LPIPS
from tokenizers_zoo.losses.perceptual import TimmNetwork, TorchvisionNetwork

NAME = "tf_efficientnet_lite0"


def written(state: dict[str, torch.Tensor], kind: str, folder: Path) -> str:
    """A file as timm, torchvision, and timm's training write it."""
    path = folder / f"w.{kind.split()[-1]}"
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "arch": NAME, "state_dict": state} if kind.startswith("checkpoint") else state, path)
    return str(path)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("kind", ["safetensors", "pth", "checkpoint tar"])
def test_files_of_timm_load_whether_they_count_batches_or_not(kind: str, counts: bool, tmp_path: Path) -> None:
    state = timm.create_model(NAME).state_dict()
    state = {k: v for k, v in state.items() if counts or not k.endswith("num_batches_tracked")}
    loaded = TimmNetwork(NAME, written(state, kind, tmp_path)).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("counts", [True, False])
def test_files_of_torchvision_too(counts: bool, tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v3_small().state_dict()
    state = {k: v for k, v in state.items() if counts or not k.endswith("num_batches_tracked")}
    loaded = TorchvisionNetwork("mobilenet_v3_small", written(state, "pth", tmp_path)).network.state_dict()
    assert torch.equal(loaded["classifier.3.weight"], state["classifier.3.weight"])


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v3_small().state_dict()
    with pytest.raises(WeightsError, match=NAME):
        TimmNetwork(NAME, written(state, "pth", tmp_path))


def test_a_network_that_cannot_be_had_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a name server; torch's own downloads do not try again."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))

    def unknown(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    start = time.perf_counter()
    with pytest.raises(InputError, match=rf"cannot get the network {NAME} \(.*\); weights=FILE takes a local file"):
        TimmNetwork(NAME)
    with pytest.raises(InputError, match=r"cannot get the network mobilenet_v3_small \(.*not known.*weights=FILE"):
        TorchvisionNetwork("mobilenet_v3_small")
    with pytest.raises(InputError, match=r"cannot get the network VGG-16 of torchvision \(.*not known.*vgg=FILE"):
        LPIPS()
    assert time.perf_counter() - start < 20
    assert constants.HF_HUB_OFFLINE is False


def test_a_file_that_is_missing_is_not_taken_for_the_network(tmp_path: Path) -> None:
    with pytest.raises((OSError, WeightsError), match=r"x\.pth"):
        LPIPS(vgg=str(tmp_path / "x.pth"))
