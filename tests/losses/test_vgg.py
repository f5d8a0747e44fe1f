"""DISTS and LPIPS step by step on VGGs of generated weights; whose weights they load."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchmetrics
import torchvision
from torch import Tensor, nn

from tokenizers_zoo import WeightsError
from tokenizers_zoo.losses.dists import DISTS, RootMeanPool
from tokenizers_zoo.losses.lpips import LPIPS, vgg16_layers

STATES = Path(torchmetrics.__file__).parent / "functional/image"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
VGG = (2, 2, 3, 3, 3)  # convolutions of each stage


@pytest.fixture(scope="module")
def layers() -> nn.Sequential:
    torch.manual_seed(3)
    return vgg16_layers(random=True)


def stages(layers: nn.Sequential, x: Tensor, root_mean: bool) -> list[Tensor]:
    """The last ReLU of each stage; between them the pool of either paper."""
    convolutions, maps = iter([layer for layer in layers if isinstance(layer, nn.Conv2d)]), []
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])[None, None] / 16
    for stage, count in enumerate(VGG):
        if stage and root_mean:
            squares = nn.functional.conv2d(x.square().flatten(0, 1)[:, None], kernel, stride=2, padding=1)
            x = (squares[:, 0].unflatten(0, x.shape[:2]) + 1e-12).sqrt()
        elif stage:
            x = nn.functional.max_pool2d(x, 2)
        for _ in range(count):
            x = next(convolutions)(x).relu()
        maps.append(x)
    return maps


def images() -> tuple[Tensor, Tensor]:
    """Output, which learns, and target; one is brighter and all differ in structure."""
    target = torch.rand(2, 3, 33, 32)
    return (0.5 * target + 0.3 * torch.rand(2, 3, 33, 32)).requires_grad_(), target


@pytest.mark.filterwarnings("ignore:.*non-commercial")
def test_dists(layers: nn.Sequential) -> None:
    loss, (output, target) = DISTS(random=True), images()
    loss.layers.load_state_dict(layers.state_dict())
    state = torch.load(STATES / "dists_models/weights.pt", weights_only=True, map_location="cpu")
    weights = [state[k].flatten() for k in ("alpha", "beta")]
    weights = [(w / sum(x.sum() for x in weights)).split((3, 64, 128, 256, 512, 512)) for w in weights]
    found = loss.distances(output, target)
    pairs = [[x, *stages(layers, (x - MEAN) / STD, root_mean=True)] for x in (output, target)]
    wanted = []
    for item in range(2):
        similarity = 0.0
        for a, b, texture, structure in zip(*pairs, *weights, strict=True):
            for x, y, alpha, beta in zip(a[item].flatten(1), b[item].flatten(1), texture, structure, strict=True):
                x, y = x.detach().double().numpy(), y.detach().double().numpy()
                shared = np.mean((x - x.mean()) * (y - y.mean()))
                similarity += float(alpha) * (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
                similarity += float(beta) * (2 * shared + 1e-6) / (x.var() + y.var() + 1e-6)
        wanted.append(1 - similarity)
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    assert min(wanted) > 0.02
    torch.testing.assert_close(loss(output, target), found.mean())
    (gradient,) = torch.autograd.grad(found.sum(), output)  # through every stage, as the distance itself moves along it
    step = 0.02 * gradient / gradient.norm()
    with torch.no_grad():
        slope = (loss.distances(output + step, target) - loss.distances(output - step, target)).sum() / 0.04
    assert gradient.norm().item() == pytest.approx(slope.item(), rel=0.02)
    assert not any(p.requires_grad for p in loss.parameters())
    assert loss.distances(target, target).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert loss.distances(*torch.zeros(2, 1, 3, 32, 32)).item() == pytest.approx(0, abs=1e-5)  # all maps flat, none is a NaN


def test_root_mean_pool() -> None:
    x = torch.rand(2, 3, 5, 4)
    found = RootMeanPool()(x)
    padded = nn.functional.pad(x, (1, 1, 1, 1)) ** 2
    weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    rows = [[(padded[:, :, i : i + 3, j : j + 3] * weights).sum((2, 3)).sqrt() for j in (0, 2)] for i in (0, 2, 4)]
    torch.testing.assert_close(found, torch.stack([torch.stack(row, -1) for row in rows], -2))
    assert "window" not in RootMeanPool().state_dict()
    empty = torch.zeros(1, 1, 4, 4, requires_grad=True)
    assert torch.autograd.grad(RootMeanPool()(empty).sum(), empty)[0].isfinite().all()


def test_lpips(layers: nn.Sequential) -> None:
    loss, (output, target) = LPIPS(random=True), images()
    loss.features.load_state_dict(layers.state_dict())
    heads = torch.load(STATES / "lpips_models/vgg.pth", weights_only=True, map_location="cpu")
    maps = [stages(layers, (x - MEAN) / STD, root_mean=False) for x in (output, target)]
    wanted = torch.zeros(2)
    for stage, (a, b) in enumerate(zip(*maps, strict=True)):
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        wanted += ((a - b).square() * heads[f"lin{stage}.model.1.weight"]).sum(1).mean((1, 2))
    found = loss.distances(output, target)
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=0)  # it rounds ImageNet's mean and deviation, as published
    torch.testing.assert_close(loss(output, target), found.mean())
    assert torch.autograd.grad(found.sum(), output)[0].abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())
    dark = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        for layer in loss.features:
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_(), layer.bias.fill_(-1.0)
    assert loss(dark, dark + 1) == 0  # maps of nothing but zeros have no direction, and no NaN


def test_weights_of_vgg(layers: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's, or those of a file; only the layers are read of it; all of them must be there; random asks for neither."""
    state = {f"features.{k}": v for k, v in layers.state_dict().items()}
    asked = []
    weights = SimpleNamespace(
        IMAGENET1K_V1=SimpleNamespace(get_state_dict=lambda: asked.append(1) or state | {"classifier.0.bias": MEAN})
    )
    monkeypatch.setattr(torchvision.models, "VGG16_Weights", weights)
    torch.save(state | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg.pth")
    for number, file in enumerate((str(tmp_path / "vgg.pth"), None)):
        found = vgg16_layers(file)
        assert len(asked) == number
        assert len(found) == 30
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), layers.parameters(), strict=True))
        assert not any(layer.inplace for layer in found if isinstance(layer, nn.ReLU))
    for random in (vgg16_layers(random=True), DISTS(random=True).layers, LPIPS(random=True).features):
        assert all(0 < p.abs().max() < 1 for p in random.parameters())
    assert len(asked) == 1
    torch.save(dict(list(state.items())[1:]), tmp_path / "vgg.pth")
    for build in (vgg16_layers, LPIPS, DISTS):
        with pytest.raises(WeightsError, match="VGG-16"):
            build(str(tmp_path / "vgg.pth"))
