"""On a GPU nothing stays behind on the CPU, and what the host waits for is known: on pretended.py's, which needs no driver."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import is_discrete, media, once, small
from discriminators.test_discriminators import CASES as DISCRIMINATORS
from pretended import pretended_cuda, stand_in
from torch import Tensor, nn
from trainers.models import classifier, speech_model

import tokenizers_zoo as tz
from tokenizers_zoo.losses.adversarial import FeatureMatching, Hinge, LeastSquares, LeCam
from tokenizers_zoo.losses.alignment import FeatureAlignment, SquaredCosine, TowerDistillation
from tokenizers_zoo.losses.distillation import CombinedDistillation, DAxisDistillation, PooledDistillation, TAxisDistillation
from tokenizers_zoo.losses.dists import DISTS
from tokenizers_zoo.losses.latent import KLDivergence, ProxyCodeLoss
from tokenizers_zoo.losses.lpips import LPIPS
from tokenizers_zoo.losses.perceptual import FeatureDistance, LogitsDistance, TimmNetwork, TorchvisionNetwork
from tokenizers_zoo.losses.resynthesis import ResynthesisDistillation
from tokenizers_zoo.losses.spectral import DACMelLoss, LogMel, MultiScaleMelLoss, MultiScaleSTFTLoss, STOILoss
from tokenizers_zoo.losses.waveform import WaveformCosine
from tokenizers_zoo.teachers.proxy import ProxyTeacher
from tokenizers_zoo.teachers.vision import VisionTeacher
from tokenizers_zoo.teachers.whisper import WhisperEncoder
from tokenizers_zoo.trainers.cli import classes

WAVE, IMAGE, SERIES = (2, 1, 16_000), (2, 3, 64, 64), (2, 50, 16)
NAMES = once(tz.list_tokenizers())
ENCODED = {"tokens.py:_check_codes": 1}  # a batch
DECODED = {  # a batch; tokens are checked as they come, and again on the device
    "audio": {"tokens.py:_check_codes": 2, "tokens.py:_check_conditions": 2, "audio.py:_decode": 2},
    "image": {"tokens.py:_check_codes": 1, "image.py:decode": 1},
}


@pytest.mark.parametrize("name", NAMES)
def test_variants(name: str) -> None:
    tokenizer = stand_in(copy.deepcopy(small(name)))
    x = media(tokenizer, 2, 3200)
    kind = "audio" if isinstance(tokenizer, tz.AudioTokenizer) else "image"
    source = [x[0], x[1][:, :2500]] if kind == "audio" else x
    with pretended_cuda() as asked:
        result = tokenizer.to("cuda").train()(x.to("cuda"))
        output = result.features["velocity"] if result.output is None else result.output  # of a flow
        assert output.device.type == "cuda"
        assert not {where: n for where, n in asked.items() if where != "moving_average.py:start"}  # once, not once a step
        tokenizer.eval()
        if not is_discrete(name):
            latents = tokenizer.encode_latents(x.to("cuda"), generator=torch.Generator())
            assert tokenizer.decode_latents(latents).device.type == "cuda"
            return
        asked.clear()
        tokens = tokenizer.encode(source)
        assert tokens.codes.device.type == "cuda"
        assert asked == ENCODED | ({"conv1d.py:forward": 1} if looks_back(tokenizer.encoder) else {})
        asked.clear()
        decoded = tokenizer.decode(tokens)
        assert asked == DECODED[kind] | ({"conv1d.py:forward": 1} if looks_back(tokenizer.decoder) else {})
        assert (decoded.waveform if kind == "audio" else decoded.pixels).device.type == "cpu"


def looks_back(part: nn.Module) -> bool:
    """Whether an LSTM of two directions needs lengths on the host."""
    return any(getattr(module, "bidirectional", False) for module in part.modules())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


class Tower(nn.Module):
    """Places and their mean."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 64, 64) -> (B, 64, 3), (B, 3)."""
        places = nn.functional.avg_pool2d(images, 8).flatten(2).mT
        return places, places.mean(1)


LOSSES: dict[str, tuple[Callable[[Path], nn.Module], list[tuple[int, ...]]]] = {
    "CombinedDistillation": (lambda _: CombinedDistillation(DAxisDistillation(), parts=True), [(2, 50, 48), SERIES, (2, 49, 32)]),
    "DACMelLoss": (lambda _: DACMelLoss(16_000, [512], [40]), [WAVE, WAVE]),
    "DAxisDistillation": (lambda _: DAxisDistillation(), [SERIES, SERIES]),
    "DISTS": (lambda _: DISTS(random=True), [IMAGE, IMAGE]),
    "FeatureAlignment": (
        lambda folder: FeatureAlignment(VisionTeacher(timm(folder), "network.blocks.4")),
        [(2, 112, 4, 4), IMAGE],
    ),
    "FeatureDistance": (
        lambda folder: FeatureDistance(timm(folder), ["network.blocks.0", "network.blocks.4"]),
        [IMAGE, IMAGE],
    ),
    "KLDivergence": (lambda _: KLDivergence(), [(2, 32)]),
    "LPIPS": (lambda _: LPIPS(random=True), [IMAGE, IMAGE]),
    "LeCam": (lambda _: LeCam(), [(2, 30), (2, 30)]),
    "LogMel": (lambda _: LogMel(16_000, 1024, 256, 80), [WAVE]),
    "LogitsDistance": (
        lambda folder: LogitsDistance(TorchvisionNetwork("mobilenet_v3_small", classifier(folder, "mobilenet_v3_small"))),
        [IMAGE, IMAGE],
    ),
    "MultiScaleMelLoss": (lambda _: MultiScaleMelLoss(16_000, [512], [128], [40], [1]), [WAVE, WAVE]),
    "MultiScaleSTFTLoss": (lambda _: MultiScaleSTFTLoss([512], convergence=1.0, log=1.0), [WAVE, WAVE]),
    "PooledDistillation": (lambda _: PooledDistillation(TAxisDistillation()), [(2, 25, 16), SERIES]),
    "ProxyCodeLoss": (lambda _: ProxyCodeLoss(ProxyTeacher(channels=32)), [(2, 1024, 4, 4), IMAGE]),
    "ResynthesisDistillation": (
        lambda folder: ResynthesisDistillation(WhisperEncoder(speech_model(folder, "whisper"))),
        [WAVE, WAVE],
    ),
    "SquaredCosine": (lambda _: SquaredCosine(), [SERIES, SERIES]),
    "STOILoss": (lambda _: STOILoss(16_000), [WAVE, WAVE]),
    "TAxisDistillation": (lambda _: TAxisDistillation(), [SERIES, SERIES]),
    "TowerDistillation": (lambda _: TowerDistillation(Tower()), [(2, 64, 3), (2, 3), IMAGE]),
    "WaveformCosine": (lambda _: WaveformCosine(), [WAVE, WAVE]),
}
INSIDE = {"RootMeanPool", "TimmNetwork", "TorchvisionNetwork"}  # others have them
OF_LOGITS = {"FeatureMatching", "Hinge", "LeastSquares"}


def timm(folder: Path) -> TimmNetwork:
    return TimmNetwork("tf_efficientnet_lite0", classifier(folder, "tf_efficientnet_lite0")).eval()


def test_every_loss_is_here() -> None:
    assert {*LOSSES, *INSIDE, *OF_LOGITS} == classes("losses")


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, folder: Path) -> None:
    build, shapes = LOSSES[name]
    loss, inputs = build(folder), [torch.rand(shape) for shape in shapes]
    with pretended_cuda() as asked:
        found = loss.to("cuda")(*(x.to("cuda") for x in inputs))
        assert found.device.type == "cuda"
    assert not asked


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_and_their_losses(name: str) -> None:
    make, *_, x = DISCRIMINATORS[name]
    discriminator = make()
    with pretended_cuda() as asked:
        discriminator.to("cuda")
        real, fake = discriminator(x.to("cuda")), discriminator(x.to("cuda"))
        logits = [[j.logits for j in side] for side in (real, fake)]
        losses = [of.discriminator(*logits) + of.generator(logits[1]) for of in (Hinge(), LeastSquares())]
        losses.append(FeatureMatching()([j.features for j in real], [j.features for j in fake]))
        assert {loss.device.type for loss in losses} == {"cuda"}
    assert not asked
