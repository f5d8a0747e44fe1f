"""Whisper's front end and the resynthesis distillation against LM-SPT's recorded values; where gradients go."""

from pathlib import Path

import pytest
import torch
from official import recorded
from torch import Tensor, nn
from trainers.models import speech_model

from tokenizers_zoo import create
from tokenizers_zoo.losses.resynthesis import ResynthesisDistillation
from tokenizers_zoo.teachers.whisper import WhisperEncoder, WhisperLogMel


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return recorded.io("lm_spt_12.5hz_24k")


def thirty_seconds(wave: Tensor) -> Tensor:
    return nn.functional.pad(wave, (0, 480_000 - wave.shape[-1]))


def test_log_mel(io: dict[str, Tensor]) -> None:
    mel, wave = WhisperLogMel(128), thirty_seconds(io["input.mel.wav16"])
    close = {"rtol": 0, "atol": 1e-4}  # the reference's own float64 run differs by 3e-5
    found = mel(wave)
    assert found.shape == (2, 128, 3000)
    for item in range(2):
        torch.testing.assert_close(found[item, :, :100], io[f"output.mel.item{item}"], **close)
    torch.testing.assert_close(mel(wave, batch_floor=True)[1, :, :100], io["output.mel.batch_item1"], **close)


class MelAlone(nn.Module):
    """A teacher that only listens."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = WhisperLogMel(128)

    def forward(self, waveform: Tensor, batch_floor: bool = False) -> Tensor:
        return self.mel(waveform, batch_floor)


def test_as_released(io: dict[str, Tensor]) -> None:
    student, target = io["output.a.aux"].requires_grad_(), io["input.mel.wav16"][:1, None]
    loss = ResynthesisDistillation(MelAlone(), as_released=True)(student, target)
    torch.testing.assert_close(loss, io["output.distill.mel_mse"].reshape(()), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss, student)
    wanted = io["output.distill.mel_mse_grad"].reshape(gradient.shape)
    assert (gradient - wanted).norm() <= 1e-5 * wanted.norm()
    l1 = ResynthesisDistillation(MelAlone(), distance="l1", as_released=True)(student, target)
    torch.testing.assert_close(l1, io["output.distill.mel_l1"].reshape(()), rtol=1e-5, atol=0)


def test_only_the_clips_own_frames_count(tmp_path: Path) -> None:
    teacher = WhisperEncoder(speech_model(tmp_path, "whisper"))
    student, target = 0.1 * torch.randn(2, 2, 1, 16000)
    loss = ResynthesisDistillation(teacher)(student, target)
    assert ResynthesisDistillation(teacher, as_released=True)(student, target) < loss  # the silence agrees
    alone = torch.stack([ResynthesisDistillation(teacher)(s[None], t[None]) for s, t in zip(student, target, strict=True)])
    torch.testing.assert_close(loss, alone.mean(), rtol=1e-4, atol=0)  # a loud neighbour changes nothing
    assert ResynthesisDistillation(teacher)(target, target) == 0


@pytest.mark.parametrize("variant", ["lm-spt-12.5hz-24k", "lm-spt-25hz"])
def test_gradients_reach_the_semantic_path_alone(variant: str, tmp_path: Path) -> None:
    cuts = {"decoder.filters": 4, "auxiliary.filters": 4} if variant.endswith("24k") else {"decoder.depth": 1}
    tokenizer = create(variant, **cuts).train()
    teacher = WhisperEncoder(speech_model(tmp_path, "whisper"))
    wave = 0.1 * torch.randn(1, 1, 4 * tokenizer.hop)
    result = tokenizer(wave)
    ResynthesisDistillation(teacher, tokenizer.sample_rate)(result.features["resynthesis"], wave).backward()
    touched = {k for k, p in tokenizer.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {k.split(".")[0] for k in touched} == {"encoder", "quantizer", "auxiliary"}
    assert not any("acoustic" in k for k in touched)
    assert not any(p.requires_grad for p in teacher.parameters())


class Heard(nn.Module):
    """A teacher that gives back what it hears, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.floors: list[bool] = []

    def forward(self, waveform: Tensor, batch_floor: bool = False) -> Tensor:
        self.floors.append(batch_floor)
        return 1 * waveform.bfloat16() if len(waveform) == 1 else 1 * waveform


@pytest.mark.parametrize("as_released", [False, True])
def test_both_sides_are_heard_at_16_khz(as_released: bool) -> None:
    """Each from its own rate, with a gradient to the resynthesis alone, features compared in float32."""
    teacher, seconds = Heard(), torch.arange(24000) / 24000
    fast = torch.sin(2 * torch.pi * 440 * seconds)[None, None].expand(2, 1, -1).clone().requires_grad_()
    slow = torch.sin(2 * torch.pi * 440 * seconds[:8000] * 3)[None, None].expand(2, 1, -1).clone().requires_grad_()
    options = {"sample_rate": 8000, "resynthesis_rate": 24000, "as_released": as_released}
    loss = ResynthesisDistillation(teacher, **options)(fast, slow)
    assert loss < 1e-3  # the same tone
    assert ResynthesisDistillation(teacher, **options)(fast, 0 * slow).item() == pytest.approx(
        0.5 / (30 if as_released else 1), rel=0.01
    )
    assert teacher.floors == 2 * [False, as_released]
    assert torch.autograd.grad(loss, fast, retain_graph=True)[0].abs().sum() > 0
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss, slow)
    equal = ResynthesisDistillation(teacher, as_released=as_released)(fast[:1], 0.5 * fast[:1])
    assert equal.dtype == torch.float32
    default = ResynthesisDistillation(teacher)
    assert (default.rates, default.as_released, default.distance) == ((16000, 16000), False, nn.functional.mse_loss)
