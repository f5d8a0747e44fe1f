"""Metrics of sets of images, and DISTS, against torchmetrics and torch-fidelity on the same generated weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import DATA
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo.eval import image
from tokenizers_zoo.eval.distribution import FID, FrechetDistance, InceptionScore, frechet, inception, moments
from tokenizers_zoo.manifest import Row

ROW = Row(DATA / "chelsea.jpg")


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Tensor, Tensor]]:
    """Five crops of real photos, and coarser ones, as multiples of 1/255."""
    photos = [tz.Images.load(DATA / f"{name}.jpg") for name in ("chelsea", "coffee")]
    crops = [photo.resize_crop(64, where).pixels for photo in photos for where in (0.0, 0.5, 1.0)][:5]
    coarse = [nn.functional.interpolate(nn.functional.avg_pool2d(crop, 4), scale_factor=4) for crop in crops]
    return [((255 * a[0]).round() / 255, (255 * b[0]).round() / 255) for a, b in zip(crops, coarse, strict=True)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Inception of generated weights, in the file's form."""
    source = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    state: dict[str, Tensor] = {}

    class Keys(source.FeatureExtractorInceptionV3):
        def load_state_dict(self, _: object) -> None:
            state.update(self.state_dict())

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    Keys("keys", ["2048"], path)
    for tensor in state.values():
        if tensor.ndim == 4:
            nn.init.kaiming_normal_(tensor)
    torch.save(state, path)
    yield str(path)
    inception.cache_clear()


class First(nn.Module):
    """The first 3 of Inception's features: what covariances of 5 images can have full rank in."""

    num_features = 3

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0][:, : self.num_features]


def test_fid_agrees_with_torchmetrics(weights: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    metric = FID(weights)
    items = [metric.item(*pair, ROW) for pair in pairs]
    sides = [(255 * torch.stack(side)).round().byte() for side in zip(*pairs, strict=True)]
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights, antialias=False)
    for side, key in zip(sides, ("fid_original", "fid_decoded"), strict=True):
        features = np.stack([item[key] for item in items])
        assert features.shape == (5, 2048)
        np.testing.assert_allclose(features, network(side), rtol=1e-4, atol=1e-5)
    other = FrechetInceptionDistance(feature=First(metric.network))
    for side, real in zip(sides, (True, False), strict=True):
        other.update(side, real=real)
    found = metric.summary([{key: value[:3] for key, value in item.items()} for item in items])["fid"]
    assert found["items"] == 5
    assert found["value"] > 1e-3
    assert found["value"] == pytest.approx(float(other.compute()), rel=1e-6)


def test_frechet_distance_of_features_agrees_with_torch_fidelity() -> None:
    source = pytest.importorskip("torch_fidelity.metric_fid")
    random = np.random.default_rng(2)
    sides = [random.standard_normal((200, 32)) @ random.standard_normal((32, 32)) for _ in range(2)]
    statistics = [source.fid_features_to_statistics(torch.from_numpy(side)) for side in sides]
    wanted = source.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet(*(moments(side) for side in sides)) == pytest.approx(wanted, rel=1e-9)


def test_inception_score_agrees_with_torch_fidelity(weights: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    score, random = InceptionScore(weights, splits=2), np.random.default_rng(1)
    items = [{"logits": random.normal(size=1008).astype(np.float32)} for _ in range(6)]
    shuffled = torch.from_numpy(np.stack([items[i]["logits"] for i in np.random.default_rng(0).permutation(6)]))
    wanted = isc_features_to_metric(shuffled, splits=2, shuffle=False)
    found = score.summary(items)["inception_score"]
    assert found["value"] == pytest.approx(wanted["inception_score_mean"], rel=1e-9)
    assert found["deviation"] == pytest.approx(wanted["inception_score_std"], rel=1e-9)
    assert score.item(*pairs[0], ROW)["logits"].shape == (1008,)
    with pytest.raises(tz.InputError, match="2 splits needs"):
        score.summary(items[:1])


def test_inception_says_which_file_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", offline)
    torch.save({"conv": torch.ones(1)}, tmp_path / "other.pth")
    for source, reason in (
        (None, "no network"),
        (tmp_path / "none.pth", "No such file"),
        (tmp_path / "other.pth", "Missing key"),
    ):
        with pytest.raises(tz.InputError, match=r"weights-inception-2015-12-05-6726825d\.pth as a local file") as caught:
            FID(source and str(source))
        assert reason in str(caught.value)


def test_dists_agrees_with_torchmetrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    import torchvision
    from torchmetrics.functional.image import dists

    network = torchvision.models.vgg16()
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    monkeypatch.setattr(dists, "vgg16", lambda weights: network)
    original, decoded = pairs[0]
    metric = image.DISTS(str(tmp_path / "vgg.pth"))
    wanted = float(dists.DISTSNetwork()(decoded[None], original[None]).detach())
    assert wanted > 0.01
    assert metric.item(original, decoded, ROW)["dists"] == pytest.approx(wanted, rel=3e-5)
    assert metric.item(original, original, ROW)["dists"] == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_known_gaussians() -> None:
    random = np.random.default_rng(0)
    maps = [random.standard_normal((6, 6)) for _ in range(2)]
    gaussians = [(random.standard_normal(6), m @ m.T) for m in maps]
    (m1, s1), (m2, s2) = gaussians
    wanted = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    assert frechet(*gaussians) == pytest.approx(wanted, rel=1e-9)
    assert frechet(gaussians[0], gaussians[0]) == pytest.approx(0, abs=1e-6)
    shifted = (m1 + 3.0, s1)
    assert frechet(gaussians[0], shifted) == pytest.approx(54.0)
    features = random.standard_normal((50, 6))
    mean, covariance = moments(features)
    np.testing.assert_allclose(covariance, np.cov(features.T))
    np.testing.assert_allclose(mean, features.mean(0))


def test_one_image_has_no_frechet_distance() -> None:
    item = {"frechet_original": np.zeros(4), "frechet_decoded": np.zeros(4)}
    with pytest.raises(tz.InputError, match="at least 2"):
        FrechetDistance.summary(FrechetDistance, [item])
