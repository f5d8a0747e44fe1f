"""Every loss equals its formula, written anew in numpy or by hand: unequal weights, several scales, terms, clamps, gradients."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tokenizers_zoo import WeightsError
from tokenizers_zoo.losses.adversarial import FeatureMatching, Hinge, LeastSquares, LeCam
from tokenizers_zoo.losses.distillation import CombinedDistillation, DAxisDistillation, PooledDistillation, TAxisDistillation
from tokenizers_zoo.losses.latent import KLDivergence, ProxyCodeLoss
from tokenizers_zoo.losses.perceptual import FeatureDistance, LogitsDistance, TimmNetwork, TorchvisionNetwork
from tokenizers_zoo.losses.spectral import DACMelLoss, LogMel, MultiScaleMelLoss, MultiScaleSTFTLoss, STOILoss
from tokenizers_zoo.losses.waveform import WaveformCosine

Array = np.ndarray


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


REAL, FAKE = [torch.tensor([0.5, 2.0]), torch.tensor([[-1.0]])], [torch.tensor([0.25, -3.0]), torch.tensor([[1.5]])]
ADVERSARIAL = {  # real, fake -> value, by hand for the two sub-discriminators above
    "squares, discriminator": (lambda r, f: LeastSquares().discriminator(r, f), (0.25 + 1) / 2 + (0.0625 + 9) / 2 + 4 + 2.25),
    "squares, generator": (lambda r, f: LeastSquares().generator(f), (0.5625 + 16) / 2 + 0.25),
    "hinge, discriminator": (lambda r, f: Hinge().discriminator(r, f), ((0.5 + 0) / 2 + (1.25 + 0) / 2 + 2 + 2.5) / 2),
    "hinge, generator": (lambda r, f: Hinge().generator(f), (-0.25 + 3) / 2 - 1.5),
    "features": (lambda r, f: FeatureMatching()([[*r], [r[0]]], [[*f], [f[0]]]), 2 * (0.25 + 5) / 2 + 2.5),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_terms_by_hand(name: str) -> None:
    term, wanted = ADVERSARIAL[name]
    assert term(REAL, FAKE).item() == pytest.approx(wanted)
    if "generator" not in name:
        for real in ([REAL[0]], [*REAL, REAL[0]]):
            with pytest.raises(ValueError, match="zip"):  # another number of sub-discriminators on the other side
                term(real, FAKE)


def test_feature_matching_pairs_every_map() -> None:
    for real in ([[REAL[0]], [REAL[0]]], [[*REAL]]):  # a layer too few, a sub-discriminator too few
        with pytest.raises(ValueError, match="zip"):
            FeatureMatching()(real, [[*FAKE], [FAKE[0]]])


def test_lecam_by_hand() -> None:
    real, fake = torch.tensor([0.5, 1.5], requires_grad=True), torch.tensor([-3.0, -1.0], requires_grad=True)
    lecam = LeCam(decay=0.9)
    lecam.running.copy_(torch.tensor([0.5, -0.25]))
    still = lecam.eval()(real, fake)
    assert lecam.running.tolist() == [0.5, -0.25]
    loss = lecam.train()(real, fake)
    assert still.item() == loss.item() == 1.25**2 + 2.5**2  # read before they move
    torch.testing.assert_close(lecam.running, torch.tensor([0.55, -0.425]))
    assert not lecam.running.requires_grad
    assert gradient(loss, real).tolist() == [1.25, 1.25]
    assert gradient(loss, fake).tolist() == [-2.5, -2.5]
    assert lecam.eval()(torch.tensor(-9.0), torch.tensor(9.0)) == 0  # one-sided
    assert LeCam().decay == 0.999
    assert LeCam().running.tolist() == [0, 0]


def log_sigmoid_of_cosine(student: Array, teacher: Array, axis: int) -> Array:
    cosine = (student * teacher).sum(axis) / np.linalg.norm(student, axis=axis) / np.linalg.norm(teacher, axis=axis)
    return np.log(1 + np.exp(-cosine)).mean()


@pytest.mark.parametrize("frames", [(5, 7), (7, 5)])
def test_distillation_by_hand(frames: tuple[int, int]) -> None:
    """The longer side is cut at its end; DM-Codec's weights; the published axes."""
    student, one, other = torch.randn(2, frames[0], 3), torch.randn(2, frames[1], 3), torch.randn(2, frames[1], 3)
    s, a, b = (x[:, :5].double().numpy() for x in (student, one, other))
    d, t = ([log_sigmoid_of_cosine(s, x, axis) for x in (a, b)] for axis in (1, 2))
    l1 = np.abs(s - a).mean()
    for loss, teachers, wanted in [
        (DAxisDistillation(), [one], d[0]),
        (TAxisDistillation(), [one], l1 + t[0]),
        (TAxisDistillation(0.3), [one], l1 + 0.3 * t[0]),
        (CombinedDistillation(DAxisDistillation()), [one, other], (d[0] + d[1]) / 2),
        (CombinedDistillation(DAxisDistillation()), [one, other, other], (d[0] + 2 * d[1]) / 3),
        (CombinedDistillation(DAxisDistillation(), [0.7, 0.1]), [one, other], 0.7 * d[0] + 0.1 * d[1]),
    ]:
        assert loss(student, *teachers).item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="zip"):
        CombinedDistillation(DAxisDistillation(), [1.0])(student, one, other)


@pytest.mark.parametrize("shapes", [((2, 5, 3), (2, 1, 5, 3)), ((2, 5), (2, 5)), ((2, 5, 3), (1, 5, 3)), ((2, 5, 3), (2, 5, 1))])
def test_distillation_takes_frames_of_one_batch_and_width(shapes: tuple[tuple[int, ...], ...]) -> None:
    for loss in (DAxisDistillation(), TAxisDistillation()):
        for pair in (shapes, shapes[::-1]):
            with pytest.raises(ValueError, match=r"must be \(B, T, D\), got "):
                loss(*(torch.randn(shape) for shape in pair))


def test_pooled_distillation_takes_half_precision_teachers() -> None:
    student, teacher = torch.randn(2, 4, 3), torch.randn(2, 12, 3).bfloat16()
    wanted = TAxisDistillation()(student, teacher.float().unflatten(1, (4, 3)).mean(2))
    torch.testing.assert_close(PooledDistillation(TAxisDistillation())(student, teacher), wanted)


def test_latents_by_hand() -> None:
    assert KLDivergence()(torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])) == 5  # sum over tokens, mean over the batch
    logits = torch.randn(2, 7, 3, 3, requires_grad=True)
    codes = torch.randint(7, (2, 3, 3))

    class Teacher(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            return codes

    loss = ProxyCodeLoss(Teacher(nn.Linear(2, 2)).train())
    assert not any(p.requires_grad for p in loss.parameters())
    wanted = -logits.log_softmax(1).gather(1, codes[:, None]).mean()
    torch.testing.assert_close(loss.train()(logits, torch.rand(2, 3, 4, 4)), wanted)


def spectrum(wave: Array, n_fft: int, hop: int, size: int | None = None, centred: bool = True) -> Array:
    """Squared magnitudes (bins, frames) of a clip (S,), frame by frame."""
    size = size or n_fft
    edge, left = n_fft // 2 if centred else 0, (n_fft - size) // 2
    window = np.zeros(n_fft)
    window[left : left + size] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(wave, (edge, edge), mode="reflect")
    frames = [window * padded[i : i + n_fft] for i in range(0, len(padded) - n_fft + 1, hop)]
    return np.abs(np.fft.rfft(frames).T) ** 2


def waves(samples: int = 2000) -> tuple[Tensor, Tensor]:
    """Output and target (3, 1, S): a loud clip, a faint one, a silent target."""
    noise, rest = torch.randn(2, 3, 1, samples, dtype=torch.double)
    target = noise * torch.tensor([0.5, 0.001, 0.0])[:, None, None]
    return (0.7 * target + 0.1 * target.std((1, 2), keepdim=True) * rest + 1e-4 * rest), target


@pytest.mark.parametrize(("convergence", "log"), [(1.0, 1.0), (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)])
def test_stft_loss(convergence: float, log: float) -> None:
    output, target = waves()
    wanted = 0.0
    for n_fft in (256, 64, 128):
        sides = [[np.sqrt(np.maximum(spectrum(w[0].numpy(), n_fft, n_fft // 4), 1e-7)) for w in x] for x in (output, target)]
        pairs = list(zip(*sides, strict=True))
        ratios = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs]  # of each clip
        wanted += convergence * np.mean(ratios) + log * np.mean([np.abs(np.log(a) - np.log(b)) for a, b in pairs])
    loss = MultiScaleSTFTLoss((256, 64, 128), convergence, log)
    assert loss(output, target).item() == pytest.approx(wanted / 3, rel=1e-4)
    assert loss(output[:, 0], target[:, 0]).item() == loss(output, target).item()
    assert loss(output, 0.1 * target) != loss(0.1 * output, target)  # the target's norm divides


def test_stft_loss_as_published() -> None:
    loss = MultiScaleSTFTLoss()
    assert (loss.n_ffts, loss.convergence, loss.log) == ((1024, 512, 256), 1.0, 1.0)


def mel_filters(rate: int, n_fft: int, count: int, htk: bool) -> Array:
    import librosa

    return librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=count, htk=htk, norm="slaney")


def log_mel(wave: Array, n_fft: int, hop: int, count: int) -> Array:
    padded = np.pad(wave, ((n_fft - hop) // 2,) * 2, mode="reflect")
    magnitude = np.sqrt(spectrum(padded, n_fft, hop, centred=False) + 1e-9)
    return np.log(np.maximum(mel_filters(16000, n_fft, count, htk=True) @ magnitude, 1e-5))


def test_mel_loss() -> None:
    """Unequal weights and windows; the longer side is cut; either shape; silence meets the floor, not minus infinity."""
    output, target = waves()
    output = output[..., :1800]
    plan, weights = [(256, 60, 20), (128, 40, 12)], (3.0, 0.5)
    wanted = 0.0
    for weight, (n_fft, hop, count) in zip(weights, plan, strict=True):
        sides = [np.stack([log_mel(w[0].numpy(), n_fft, hop, count) for w in x]) for x in (output, target)]
        frames = sides[0].shape[-1]
        wanted += weight * np.abs(sides[0] - sides[1][..., :frames]).mean()
    loss = MultiScaleMelLoss(16000, *zip(*plan, strict=True), weights)
    assert loss(output, target).item() == pytest.approx(wanted, rel=1e-3)
    torch.testing.assert_close(loss(target, output), loss(output, target))
    assert loss(output[:, 0], target[:, 0]) == loss(output, target)
    wide = LogMel(16000, 256, 60, 20)(0 * target.float())
    assert wide.min() >= math.log(1e-5)
    with pytest.raises(ValueError, match="zip"):
        MultiScaleMelLoss(16000, (256, 128), (60,), (20, 12), weights)
    with pytest.raises(ValueError, match="zip"):
        MultiScaleMelLoss(16000, *zip(*plan, strict=True), (1.0,))(output, target)


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_dac_mel_loss(power: float) -> None:
    output, target = waves()
    wanted = 0.0
    for n_fft, count in ((256, 20), (64, 8)):
        filters = mel_filters(24000, n_fft, count, htk=False)
        sides = [np.stack([filters @ np.sqrt(spectrum(w[0].numpy(), n_fft, n_fft // 4)) for w in x]) for x in (output, target)]
        logs = [power * np.log10(np.maximum(x, 1e-5)) for x in sides]
        wanted += np.abs(sides[0] - sides[1]).mean() + np.abs(logs[0] - logs[1]).mean()
    loss = DACMelLoss(24000, (256, 64), (20, 8), power)
    assert loss(output, target).item() == pytest.approx(wanted, rel=1e-4)
    assert loss(output[:, 0], target[:, 0]) == loss(output, target)
    assert DACMelLoss(24000, (256,), (20,)).power == 2
    with pytest.raises(ValueError, match="zip"):
        DACMelLoss(24000, (256, 64), (20,))


def stoi(output: Array, target: Array, rate: int, step: int) -> float:
    """What STOILoss says that it is, segment by segment and band by band."""
    size = round(0.0256 * rate)
    n_fft = 2 ** math.ceil(math.log2(size + 1))
    frequencies = np.arange(n_fft // 2 + 1) * rate / n_fft
    edges = [(150 * 2 ** ((2 * k - 1) / 6), 150 * 2 ** ((2 * k + 1) / 6)) for k in range(15)]
    inside = np.array([(frequencies >= low) & (frequencies < high) for low, high in edges], dtype=float)
    total, count = 0.0, 0
    for a, b in zip(output, target, strict=True):
        a, b = (np.sqrt(inside @ spectrum(x, n_fft, size // 2, size) + 1e-8) for x in (a, b))
        starts = range(0, a.shape[1] - 29, step)
        loudest = max((b[:, i : i + 30] ** 2).sum(0).max() for i in starts)
        for i in starts:
            loud = (b[:, i : i + 30] ** 2).sum(0) > 1e-4 * loudest  # within 40 dB
            if loud.sum() > 15:
                for x, y in zip(a[:, i : i + 30], b[:, i : i + 30], strict=True):
                    x, y = (v[loud] - v[loud].mean() for v in (x, y))
                    total += (x / max(np.linalg.norm(x), 1e-4)) @ (y / max(np.linalg.norm(y), 1e-4))
                    count += 1
    return 1 - total / max(count, 1)


@pytest.mark.parametrize(("rate", "step"), [(16000, 1), (10000, 4)])
def test_stoi_loss_segment_by_segment(rate: int, step: int) -> None:
    target = torch.randn(2, 1, rate) * torch.tensor([0.5, 0.02])[:, None, None]
    target[0, :, : 3 * rate // 5], target[1, :, -rate // 5 :] = 1e-4 * target[0, :, : 3 * rate // 5], 0
    target = target * (1.2 + torch.sin(torch.arange(rate) / 700))
    output = target + 1.5 * target.std((1, 2), keepdim=True) * torch.randn(2, 1, rate)
    loss = STOILoss(rate, step)
    wanted = stoi(output[:, 0].double().numpy(), target[:, 0].double().numpy(), rate, step)
    assert 0.05 < wanted < 0.9
    assert loss(output, target).item() == pytest.approx(wanted, abs=1e-4)
    assert loss(output[:, 0], target[:, 0]) == loss(output, target)
    assert STOILoss(rate).step == 4
    assert loss(output, 0 * target) == pytest.approx(1, abs=1e-3)  # silence has no envelope to follow
    assert loss(0 * output, target) == pytest.approx(1, abs=1e-3)
    click = torch.zeros(1, rate).index_fill_(1, torch.arange(rate // 2, rate // 2 + 50), 0.5)
    assert loss(click, click) == 1  # too short for any segment to be heard


def test_waveform_cosine_by_hand() -> None:
    output, target = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]]), torch.tensor([[[5.0, 0.0]], [[1.0, 1.0]]])
    wanted = 1 - (0.6 + 0.5**0.5) / 2  # of each clip, over its samples
    for a, b in ((output, target), (output[:, 0], target[:, 0]), (output.bfloat16(), target.bfloat16())):
        loss = WaveformCosine()(a, b)
        assert loss.item() == pytest.approx(wanted)
        assert loss.dtype == torch.float32
    faint = torch.full((1, 2), 1e-5)  # below the floor of 1e-4 of norms it fades instead of shouting
    assert WaveformCosine()(faint, faint).item() == pytest.approx(1 - 2e-10 / 1e-8, rel=1e-4)


NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))


def test_feature_distance_by_hand() -> None:
    """Two taps of different size, in the order asked for; gradients reach the output alone."""
    output, target = torch.rand(2, 2, 3, 6, 6, requires_grad=True)
    loss = FeatureDistance(NETWORK.train(), ["2", "0"], mean=100.0, scale=50.0)
    found = loss.train()(output, target)
    maps = []
    for image in (output, target):
        first = NETWORK[0]((255 * image - 100) / 50)
        maps.append([NETWORK[2](first.relu()), first])
    pairs = [(a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)) for a, b in zip(*maps, strict=True)]
    torch.testing.assert_close(found, sum((a - b).square().sum(1).mean() for a, b in pairs))
    assert gradient(found, output).abs().sum() > 0
    with pytest.raises(RuntimeError, match="not have been used"):
        gradient(found, target)
    assert not NETWORK.training
    assert not any(p.requires_grad for p in loss.parameters())
    assert [x.flatten().tolist() for x in (FeatureDistance(NETWORK, ["0"]).mean, FeatureDistance(NETWORK, ["0"]).std)] == [
        [127],
        [128],
    ]
    assert not {"mean", "std"} & loss.state_dict().keys()
    empty = FeatureDistance(nn.Sequential(nn.ReLU()), ["0"])
    assert empty(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)).item() == pytest.approx(1)  # no map has a direction of zeros


def test_logits_distance_by_hand() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)).train()
    output, target = torch.rand(2, 1, 3, 30, 40, requires_grad=True)
    loss = LogitsDistance(classifier)
    found = loss(output, target)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    fed = [(nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True) - mean) / std for x in (output, target)]
    a, b = (classifier[1](x.flatten(1)) for x in fed)
    torch.testing.assert_close(found, (a - b).square().mean())
    with pytest.raises(RuntimeError, match="not have been used"):
        gradient(found, target)


def networks() -> dict[str, tuple[type, str, nn.Module]]:
    import timm

    return {
        "timm": (TimmNetwork, "timm.create_model", timm.create_model("test_efficientnet").eval()),
        "torchvision": (TorchvisionNetwork, "torchvision.models.get_model", nn.Sequential(nn.Conv2d(3, 2, 1))),
    }


@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_weights_of_a_network(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A local file is what the network holds, and nothing is asked for; without one, the published weights are."""
    wrapper, where, other = networks()[kind]
    asked: list[object] = []

    def make(name: str, **options: object) -> nn.Module:
        asked.extend([name, *options.values()])
        return copy.deepcopy(other)

    monkeypatch.setattr(where, make)
    state = {k: v + 0.1 * torch.rand(v.shape) for k, v in other.state_dict().items() if v.ndim}
    save_file(state, tmp_path / "weights.safetensors")
    network = wrapper("some_net", str(tmp_path / "weights.safetensors")).eval()
    assert asked == ["some_net", False if kind == "timm" else None]
    images = torch.rand(1, 3, 32, 32)
    other.load_state_dict(state, strict=False)
    torch.testing.assert_close(network(images), other(images))
    wrapper("some_net")
    assert asked[2:] == ["some_net", True if kind == "timm" else "DEFAULT"]
    for wrong in (dict(list(state.items())[1:]), state | {"more": torch.zeros(1)}):
        save_file(wrong, tmp_path / "weights.safetensors")
        with pytest.raises(WeightsError, match="some_net"):
            wrapper("some_net", str(tmp_path / "weights.safetensors"))
