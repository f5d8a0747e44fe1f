"""Metrics of images: batches and single images, small images, sets of one, intervals of Frechet distances, AVIF."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import DATA
from PIL import AvifImagePlugin
from torch import Tensor, nn
from trainers.models import classifier

import tokenizers_zoo as tz
from tokenizers_zoo.eval import image
from tokenizers_zoo.eval.codecs import Picture
from tokenizers_zoo.eval.distribution import FrechetDistance, Gaussians, InceptionScore, frechet, moments
from tokenizers_zoo.frozen import stacked
from tokenizers_zoo.losses import dists, lpips
from tokenizers_zoo.manifest import Row

ROW = Row(DATA / "chelsea.jpg")
JUDGE = "tf_efficientnet_lite2"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return classifier(tmp_path_factory.mktemp("judge"), JUDGE)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Tensor, Tensor]]:
    """Photos and coarser ones; the last are smaller."""
    found = []
    for name, size in (("chelsea", 64), ("coffee", 64), ("astronaut", 64), ("coffee", 48)):
        photo = tz.Images.load(DATA / f"{name}.jpg").resize_crop(size).pixels
        coarse = F.interpolate(F.avg_pool2d(photo, 4), scale_factor=4)
        found.append(((255 * photo[0]).round() / 255, (255 * coarse[0]).round() / 255))
    return found


def test_stacks_keep_order_and_shapes() -> None:
    seen: list[Any] = []

    def run(x: Tensor) -> list[float]:
        seen.append(tuple(x.shape))
        return x.sum(1).tolist()

    inputs = [torch.full((size,), float(i)) for i, size in enumerate((2, 3, 2, 2, 3))]
    assert stacked(run, inputs, 2) == [0, 3, 4, 6, 12]
    assert seen == [(2, 2), (1, 2), (2, 3)]
    assert stacked(run, []) == []


def test_perceptual_distance_is_what_it_says(weights: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    metric = image.Perceptual(weights=weights)
    originals, decoded = (list(side) for side in zip(*pairs, strict=True))
    found = metric.items(metric.prepare(originals), decoded, [ROW] * 4)
    for pair, item in zip(pairs, found, strict=True):
        assert item == {"perceptual": pytest.approx(metric.item(*pair, ROW)["perceptual"], rel=1e-5)}
    network, total = metric.distance.network.network, 0.0
    sides = [network.bn1(network.conv_stem((255 * side[None] - 127) / 128)) for side in pairs[0]]
    with torch.no_grad():
        for index, stage in enumerate(network.blocks):
            sides = [stage(side) for side in sides]
            if index in (0, 1, 2, 4, 6):
                a, b = (side / side.square().sum(1, keepdim=True).sqrt() for side in sides)
                total += float((a - b).square().sum(1).mean())
    assert found[0] == {"perceptual": pytest.approx(total, rel=1e-4)}
    assert metric.item(pairs[0][0], pairs[0][0], ROW) == {"perceptual": 0.0}
    with pytest.raises(tz.InputError, match=r"measured at 31 x 40 pixels; the network's stride needs at least 32"):
        metric.item(torch.rand(3, 40, 31), torch.rand(3, 40, 31), ROW)


@pytest.mark.parametrize("metric", [image.LPIPS, image.DISTS])
def test_losses_judge_each_image(
    metric: type[image.Perceptual], monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    torch.manual_seed(0)
    layers = lpips.vgg16_layers(random=True)
    for module in (lpips, dists):
        monkeypatch.setattr(module, "vgg16_layers", lambda *_: layers)
    judge, loss = metric(), {image.LPIPS: lpips.LPIPS, image.DISTS: dists.DISTS}[metric]()
    originals, decoded = (list(side) for side in zip(*pairs[1:], strict=True))
    found = judge.items(judge.prepare(originals), decoded, [ROW] * 3)
    for item, a, b in zip(found, originals, decoded, strict=True):
        with torch.no_grad():
            assert item == {metric.__name__.lower(): pytest.approx(float(loss(b[None], a[None])), rel=1e-4)}
    with pytest.raises(tz.InputError, match="stride needs at least 16"):
        judge.item(originals[0][:, :15], decoded[0][:, :15], ROW)


def test_features_of_a_frechet_distance_are_the_judges(weights: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    metric = FrechetDistance(weights=weights)
    originals, decoded = (list(side) for side in zip(*pairs, strict=True))
    prepared = metric.prepare(originals)
    found = metric.items(prepared, decoded, [ROW] * 4)
    network = metric.network.network
    for index, (original, other) in enumerate(pairs):
        item = found[index]
        assert not isinstance(item, tz.InputError)
        assert item["fid_effnet2_original"] is prepared[index]  # once for all systems
        for side, key in ((original, "fid_effnet2_original"), (other, "fid_effnet2_decoded")):
            with torch.no_grad():
                x = F.interpolate(side[None], (128, 128), mode="bicubic", antialias=True).clamp(0, 1) * 255
                x = network.bn1(network.conv_stem((x - 127) / 128))
                wanted = network.blocks[:5](x).mean((2, 3))[0]
            assert wanted.shape == (120,)
            np.testing.assert_allclose(item[key], wanted, rtol=1e-3, atol=1e-4)
        again = metric.item(original, other, ROW)
        np.testing.assert_allclose(again["fid_effnet2_decoded"], item["fid_effnet2_decoded"], rtol=1e-4, atol=1e-5)


def test_the_smallest_image_of_ssim() -> None:
    picture = torch.rand(3, 11, 11)
    assert image.SSIM().item(picture, picture, ROW)["ssim"] == pytest.approx(1)
    with pytest.raises(tz.InputError, match=r"measured at 11 x 10 pixels; SSIM's window needs at least 11"):
        image.SSIM().item(picture[:, :10], picture[:, :10], ROW)


class Values(Gaussians):
    """Features that are given."""

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def items(original: np.ndarray, decoded: np.ndarray) -> list[dict[str, Any]]:
    return [{"frechet_original": a, "frechet_decoded": b} for a, b in zip(original, decoded, strict=True)]


def test_interval_of_a_frechet_distance() -> None:
    """Both sides are drawn alike: a shift by a constant is the same in every draw, and so is no difference at all."""
    random = np.random.default_rng(0)
    original = random.standard_normal((60, 5))
    shifted = Values().summary(items(original, original + np.array([3, 4, 0, 0, 0])))["frechet"]
    assert shifted == {"value": pytest.approx(25), "low": pytest.approx(25), "high": pytest.approx(25), "items": 60}
    same = Values().summary(items(original, original))["frechet"]
    assert same == {
        "value": pytest.approx(0, abs=1e-9),
        "low": pytest.approx(0, abs=1e-9),
        "high": pytest.approx(0, abs=1e-9),
        "items": 60,
    }
    found = Values().summary(items(original, original * 1.5 + random.standard_normal((60, 5))))["frechet"]
    assert 0 < found["low"] < found["value"] < found["high"]
    few = Values().summary(items(*random.standard_normal((2, 30, 10))))["frechet"]  # draws of so few are all above the value
    assert 0 < few["low"] < few["value"] < few["high"]
    wide = random.standard_normal((3, 513))
    assert set(Values().summary(items(wide, wide))["frechet"]) == {"value", "items"}


def test_the_interval_is_as_wide_as_the_value_varies() -> None:
    random = np.random.default_rng(1)
    widths, values = [], []
    for _ in range(12):
        original = random.standard_normal((80, 4))
        found = Values().summary(items(original, 2 * original + random.standard_normal((80, 4))))["frechet"]
        widths.append(found["high"] - found["low"])
        values.append(found["value"])
    assert np.mean(widths) == pytest.approx(3.92 * np.std(values, ddof=1), rel=0.5)


def test_a_distance_is_never_below_nothing() -> None:
    features = np.random.default_rng(3).standard_normal((8, 40)) * 100  # fewer than dimensions
    assert 0 <= frechet(moments(features), moments(features)) < 1e-2


def test_parts_of_one_image_have_no_inception_score() -> None:
    score = InceptionScore.__new__(InceptionScore)
    score.splits = 2
    one = {"logits": np.zeros(4, np.float32)}
    with pytest.raises(tz.InputError, match="2 splits needs at least 4 images, got 3"):
        score.summary([one] * 3)
    sure = [{"logits": np.eye(4, dtype=np.float32)[i % 2] * 1000} for i in range(64)]
    found = score.summary(sure)["inception_score"]
    assert found["value"] == pytest.approx(2, abs=0.1)  # two classes, each certain
    assert found["items"] == 64


def test_avif_does_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tz.Images.load(DATA / "coffee.jpg").resize_crop(256)  # at 64 pixels one thread does all anyway
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 1)
    one = Picture("AVIF", 60000).roundtrip(photo)
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 8)
    many = Picture("AVIF", 60000).roundtrip(photo)
    assert one[1] == many[1]
    assert torch.equal(one[0].pixels, many[0].pixels)


def test_a_network_goes_where_it_is_sent(weights: str) -> None:
    metric = FrechetDistance(weights=weights)
    metric.to("meta")
    assert {parameter.device.type for parameter in metric.network.parameters()} == {"meta"}
    assert isinstance(metric.network, nn.Module)


def test_suites_judge_images_by_a_network_that_no_recipe_trains_on() -> None:
    folder = Path(tz.__file__).parents[1]
    suite = (folder / "eval/image-64.yaml").read_text()
    assert suite.count(f"name: {JUDGE}") == 2
    assert not [recipe.name for recipe in folder.glob("trainers/*.yaml") if "lite2" in recipe.read_text()]


@pytest.mark.parametrize("make", [image.LPIPS, image.DISTS])
def test_a_judge_without_its_package_says_how_to_get_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(tz.InputError, match=r"needs the package torchvision: pip install 'tokenizers-zoo\[eval-image\]'"):
        make()
