"""On a GPU the networks of metrics meet nothing of the CPU: on pretended.py's, where numbers are zeros."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from pretended import pretended_cuda
from trainers.models import classifier, recognizer

from eval import test_distribution, test_speech_edges
from tokenizers_zoo.eval import distribution, image, speech
from tokenizers_zoo.eval.base import Metric
from tokenizers_zoo.losses import dists, lpips
from tokenizers_zoo.manifest import Row

LITE, WAVES, PHOTOS = "tf_efficientnet_lite0", (2, 16_000), (2, 3, 64, 64)
METRICS: dict[str, tuple[Callable[[Path], Metric], tuple[int, ...]]] = {
    "MelDistance": (lambda _: speech.MelDistance(), WAVES),
    "WER": (lambda folder: speech.WER(recognizer(folder)), WAVES),
    "Perceptual": (lambda folder: image.Perceptual(LITE, classifier(folder, LITE)), PHOTOS),
    "FrechetDistance": (lambda folder: distribution.FrechetDistance(LITE, classifier(folder, LITE)), PHOTOS),
    "LPIPS": (lambda _: vgg(image.LPIPS, lpips.LPIPS(random=True)), PHOTOS),
    "DISTS": (lambda _: vgg(image.DISTS, dists.DISTS(random=True)), PHOTOS),
}


def vgg(kind: type[Metric], distance: Any) -> Metric:
    """A metric of random weights; its own constructor downloads."""
    metric = kind.__new__(kind)
    metric.distance = distance  # type: ignore[attr-defined]
    return metric


weights, voices = test_distribution.weights, test_speech_edges.voices  # fixtures: Inception and an x-vector model


@pytest.mark.parametrize("name", METRICS)
def test_networks_and_what_they_get_are_on_one_device(name: str, tmp_path: Path) -> None:
    build, shape = METRICS[name]
    check(build(tmp_path), shape)


def test_fid_is_on_one_device(weights: str) -> None:
    for kind in (distribution.FID, distribution.InceptionScore):
        check(kind(weights), PHOTOS)
        distribution.inception.cache_clear()  # it stays on the pretended device


def test_voices_are_on_one_device(voices: speech.SpeakerSimilarity) -> None:
    check(voices, WAVES)


def check(metric: Metric, shape: tuple[int, ...]) -> None:
    """Measures two items on the device."""
    random = torch.Generator().manual_seed(0)
    originals, decoded = (list(torch.rand(shape, generator=random)) for _ in range(2))
    rows = [Row(DATA / "chelsea.jpg", "a")] * 2
    with pretended_cuda() as asked:
        metric.to("cuda")
        found = metric.items(metric.prepare(originals), decoded, rows)
    assert [type(item) for item in found] == [dict, dict]
    assert asked, "nothing ran on the device"
