"""Frozen networks, and the maps that are taken from them."""

import pytest
import torch
from torch import nn

from tokenizers_zoo.frozen import Frozen, feature_maps
from tokenizers_zoo.losses.dists import DISTS
from tokenizers_zoo.losses.latent import ProxyCodeLoss
from tokenizers_zoo.losses.lpips import LPIPS
from tokenizers_zoo.losses.perceptual import FeatureDistance, LogitsDistance

JUDGES = {
    "logits": lambda: LogitsDistance(network()),
    "features": lambda: FeatureDistance(network(), ["1"]),
    "proxy codes": lambda: ProxyCodeLoss(network()),
    "lpips": lambda: LPIPS(random=True),
    "dists": lambda: DISTS(random=True),
}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", JUDGES)
def test_what_judges_never_learns_and_never_trains(name: str) -> None:
    """Inside an objective that is put into training mode, as Lightning does."""
    judge = JUDGES[name]()
    nn.ModuleDict({"term": judge}).train()
    assert isinstance(judge, Frozen)
    assert not any(part.training for part in judge.modules())
    assert not any(p.requires_grad for p in judge.parameters())


def test_maps_come_in_the_order_asked_for_and_leave_no_hooks() -> None:
    layers = network().eval()
    x = torch.randn(2, 3, 8, 8)
    norm, convolution = feature_maps(layers, ["1", "0"], x)
    assert torch.equal(convolution, layers[0](x))
    assert torch.equal(norm, layers[:2](x))
    with pytest.raises(RuntimeError, match="channels"):
        feature_maps(layers, ["0"], x[:, :2])
    assert not any(part._forward_hooks for part in layers.modules())
