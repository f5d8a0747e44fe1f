"""Losses equal the recorded values of the reference functions, or differ where the reference is at fault, and both are pinned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.losses.adversarial import FeatureMatching, Hinge, LeastSquares, LeCam
from tokenizers_zoo.losses.distillation import CombinedDistillation, DAxisDistillation, PooledDistillation, TAxisDistillation
from tokenizers_zoo.losses.perceptual import FeatureDistance, LogitsDistance, TimmNetwork, TorchvisionNetwork
from tokenizers_zoo.losses.spectral import DACMelLoss, LogMel, MultiScaleMelLoss, STOILoss
from tokenizers_zoo.losses.waveform import WaveformCosine

FOLDER = Path(__file__).parent
SPEECH, IMAGE = load_file(FOLDER / "speech.safetensors"), load_file(FOLDER / "image.safetensors")


def check(found: Tensor, name: str, recorded: dict[str, Tensor] = SPEECH, rtol: float = 1e-5) -> None:
    wanted = recorded[f"output.{name}"]
    atol = 1e-5 * wanted.abs().max().item()  # gradients have entries that nearly cancel
    torch.testing.assert_close(found.reshape(wanted.shape), wanted, rtol=rtol, atol=atol)


def inputs(*names: str) -> list[Tensor]:
    return [SPEECH[f"input.{name}"].clone() for name in names]


def test_d_axis_distillation() -> None:
    student, speech, text = inputs("distill.student", "distill.teacher_sm", "distill.teacher_lm")
    student.requires_grad_()
    loss = DAxisDistillation()(student, speech)
    check(loss, "distill.d_axis_sm")
    check(torch.autograd.grad(loss, student)[0], "distill.d_axis_sm_grad")
    check(DAxisDistillation()(student, text), "distill.d_axis_lm")
    assert DAxisDistillation()(torch.ones_like(student), speech + 5).item() < 0.33  # a still student; the optimum is 0.313


def test_combined_distillation() -> None:
    student, second, *teachers = inputs("distill.student", "distill.student2", "distill.teacher_sm", "distill.teacher_lm")
    check(CombinedDistillation(DAxisDistillation())(student, *teachers), "distill.combined_average")
    check(CombinedDistillation(DAxisDistillation(), [0.8, 0.2])(student, *teachers), "distill.combined_0.8_0.2")
    locked = 0.3 * DAxisDistillation()(student, teachers[0]) + 0.7 * DAxisDistillation()(second, teachers[1])
    check(locked, "distill.combined_locked_0.3_0.7")


def test_t_axis_distillation() -> None:
    student, teacher = inputs("distill.student", "distill.teacher_sm")
    student.requires_grad_()
    loss = TAxisDistillation()(student, teacher)
    check(loss, "distill.t_axis_lambda1")
    check(torch.autograd.grad(loss, student)[0], "distill.t_axis_lambda1_grad")
    check(TAxisDistillation(0.5)(student, teacher), "distill.t_axis_lambda0.5")


def test_the_published_batch_axis_fault_is_refused() -> None:
    """The published data path hands over (B, 1, T, D): the cosine then runs over the batch, and the value is another."""
    student, teacher = inputs("distill.student", "distill.teacher_sm")
    with pytest.raises(ValueError, match=r"\(B, T, D\)"):
        DAxisDistillation()(student, teacher[:, None])
    wrong = SPEECH["output.distill.d_axis_unsqueezed_teacher"].item()
    assert DAxisDistillation()(student, teacher).item() != pytest.approx(wrong, rel=0.05)


def test_mel() -> None:
    real, fake = (wave[:, 0] for wave in inputs("wave16.real", "wave16.fake"))
    fake.requires_grad_()
    plan = {"n_ffts": (1024, 512, 256, 128), "hops": (240, 120, 60, 30), "n_mels": (80,) * 4}
    loss = MultiScaleMelLoss(16_000, **plan, weights=(45, 1, 1, 1))(fake, real)
    check(loss, "wave16.mel_total")
    check(torch.autograd.grad(loss, fake)[0], "wave16.mel_total_grad", rtol=1e-4)
    for scale in range(4):
        weights = [float(i == scale) for i in range(4)]
        check(MultiScaleMelLoss(16_000, **plan, weights=weights)(fake, real), f"wave16.mel_scale{scale}")
    check(LogMel(16_000, 1024, 240, 80)(real), "wave16.mel_spectrogram_scale0", rtol=1e-4)


def gan() -> tuple[list[Tensor], list[Tensor], list[list[Tensor]], list[list[Tensor]]]:
    logits = [[SPEECH[f"input.gan.{side}_logits.{d}"] for d in range(3)] for side in ("real", "fake")]
    maps = [[[SPEECH[f"input.gan.{s}_fmap.{d}.{layer}"] for layer in range(3)] for d in range(3)] for s in ("real", "fake")]
    return logits[0], logits[1], maps[0], maps[1]


def test_least_squares_and_feature_matching() -> None:
    real, fake, real_maps, fake_maps = gan()
    for family in ("seanet", "lmspt"):
        check(LeastSquares().discriminator(real, fake), f"gan.{family}_discriminator")
        check(LeastSquares().generator(fake), f"gan.{family}_adversarial")
    check(2 * FeatureMatching()(real_maps, fake_maps), "gan.seanet_feature")
    check(FeatureMatching()(real_maps, fake_maps), "gan.lmspt_feature")  # its list ends with the logits, which are left out


def test_feature_matching_has_a_fixed_target() -> None:
    real, fake = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    FeatureMatching()([[real]], [[fake]]).backward()
    assert real.grad is None
    assert fake.grad is not None


def test_hinge_and_lecam() -> None:
    real, fake = IMAGE["input.logits_real"], IMAGE["input.logits_fake"]
    check(Hinge().discriminator([real], [fake]), "hinge_d", IMAGE)
    torch.testing.assert_close(Hinge().generator([fake]), -fake.mean())
    found = []
    for means in IMAGE["input.lecam_ema"]:
        lecam = LeCam().eval()
        lecam.running.copy_(means)
        found.append(lecam(real, fake))
    check(torch.stack(found), "lecam", IMAGE)


def test_lecam_reads_its_means_before_it_moves_them() -> None:
    lecam, real, fake = LeCam().train(), torch.tensor([0.3186]), torch.tensor([0.3355])
    first = lecam(real, fake)
    assert first.item() == pytest.approx(0.3186**2, rel=1e-5)
    torch.testing.assert_close(lecam.running, torch.tensor([0.3186e-3, 0.3355e-3]))
    assert lecam(real, fake) < first


class StandIn(nn.Module):
    """The tiny classifier that the reference was recorded with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 10)
        self.load_state_dict({k.removeprefix("standin."): v for k, v in IMAGE.items() if k.startswith("standin.")})

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.gelu(self.conv(x)).mean((2, 3)))


def test_logits_distance() -> None:
    distance, target, output = LogitsDistance(StandIn()), IMAGE["input.image_real"], IMAGE["input.image_recon"].clone()
    output.requires_grad_()
    loss = distance(output, target)
    check(loss, "perceptual_standin", IMAGE)
    check(torch.autograd.grad(loss, output)[0], "perceptual_standin_grad", IMAGE, rtol=1e-4)
    check(distance.prepare(target)[:, :, 3::13, 5::13], "perceptual_fed_small", IMAGE, rtol=1e-4)
    assert not distance.train().classifier.training
    assert not any(p.requires_grad for p in distance.parameters())


def test_feature_distance() -> None:
    distance = FeatureDistance(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3)), ["0", "2"])
    target, output = IMAGE["input.image_real"], IMAGE["input.image_recon"].clone().requires_grad_()
    assert distance(target, target) == 0
    loss = distance(output, target)
    loss.backward()
    assert output.grad.abs().sum() > 0
    x = (255 * target - 127) / 128
    first = distance.network[0](x)
    torch.testing.assert_close(distance.maps(target)[0], first / first.norm(dim=1, keepdim=True))
    assert 0 < loss.item() < 8  # two taps, unit vectors: at most 4 each


def test_a_wide_student_has_a_part_for_each_teacher() -> None:
    student, second, *teachers = inputs("distill.student", "distill.student2", "distill.teacher_sm", "distill.teacher_lm")
    distance = DAxisDistillation()
    wanted = 0.25 * distance(student, teachers[0]) + 0.75 * distance(second, teachers[1])
    wide = torch.cat([student, second], dim=-1)
    split = CombinedDistillation(distance, [0.25, 0.75], parts=True)
    torch.testing.assert_close(split(wide, *teachers), wanted)
    with pytest.raises(ValueError, match="takes 48 channels, got 24"):
        split(student, *teachers)
    with pytest.raises(ValueError, match=r"must be \(B, T, D\)"):  # never by its width alone
        CombinedDistillation(distance)(wide, *teachers)


def test_stoi_loss(speech: Path) -> None:
    """Near pystoi, which cuts silence out, clips, and works at 10 kHz; in the same order; and with a gradient that helps."""
    from pystoi import stoi

    clean = Audio.load(speech).waveform[0]
    loss, found, wanted = STOILoss(16000, step=1), [], []
    for level in (0.1, 0.3, 1.0):
        noisy = clean + level * clean.std() * torch.randn_like(clean)
        found.append(1 - loss(noisy, clean).item())
        wanted.append(stoi(clean[0].numpy(), noisy[0].numpy(), 16000))
    assert found == sorted(found, reverse=True)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 0.1
    assert loss(0.3 * clean, clean).item() < 1e-3  # loudness does not matter
    noisy.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(noisy, clean), noisy)
    better = (noisy - 0.01 * gradient / gradient.std() * clean.std()).detach()
    assert stoi(clean[0].numpy(), better[0].numpy(), 16000) > wanted[-1]
    assert loss(clean, torch.zeros_like(clean)).isfinite()


def test_pooled_distillation() -> None:
    student, teacher = torch.randn(2, 10, 4), torch.randn(2, 20, 4)
    pooled = (teacher[:, ::2] + teacher[:, 1::2]) / 2
    found = PooledDistillation(DAxisDistillation())(student, teacher)
    torch.testing.assert_close(found, DAxisDistillation()(student, pooled))


def test_dac_mel_equals_librosa() -> None:
    import librosa

    output, target = 0.1 * torch.randn(2, 8000)
    loss = DACMelLoss(24000, [512], [80])(output[None], target[None])
    a, b = (
        librosa.feature.melspectrogram(y=x.numpy(), sr=24000, n_fft=512, hop_length=128, n_mels=80, power=1, pad_mode="reflect")
        for x in (output, target)
    )
    logs = [2 * np.log10(np.maximum(x, 1e-5)) for x in (a, b)]
    assert float(loss) == pytest.approx(np.abs(a - b).mean() + np.abs(logs[0] - logs[1]).mean(), rel=1e-4)


def test_waveform_cosine_is_si_sdr() -> None:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    target = torch.randn(1, 1, 1000)
    output = 0.2 * target + 0.3 * torch.randn(1, 1, 1000)
    cosine = 1 - WaveformCosine()(output, target)
    torch.testing.assert_close(
        10 * (cosine**2 / (1 - cosine**2)).log10(), scale_invariant_signal_distortion_ratio(output, target).mean()
    )
    torch.testing.assert_close(WaveformCosine()(torch.cat([target, -3 * target]), target.expand(2, 1, -1)), torch.tensor(1.0))
    assert WaveformCosine()(output, torch.zeros(1, 1, 1000)) == 1  # silence says nothing, and is no NaN


@pytest.mark.parametrize(
    ("kind", "where"), [(TimmNetwork, "timm.create_model"), (TorchvisionNetwork, "torchvision.models.get_model")]
)
def test_a_network_that_cannot_be_had_is_named(kind: type, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route\nand more")

    monkeypatch.setattr(where, offline)
    with pytest.raises(InputError, match=r"cannot get the network some_net \(no route\); weights=FILE"):
        kind("some_net")
