"""Shapes, gradients, and TiTok's PatchGAN against recorded values."""

import pytest
import torch
from losses.test_losses import IMAGE
from torch import Tensor, nn

from tokenizers_zoo.discriminators.base import Discriminators
from tokenizers_zoo.discriminators.patch import BlurPatchDiscriminator, PatchDiscriminator
from tokenizers_zoo.discriminators.spectrum import MultiBandSTFTDiscriminator, MultiScaleSTFTDiscriminator
from tokenizers_zoo.discriminators.waveform import MultiPeriodDiscriminator, MultiScaleDiscriminator

CASES = {  # discriminator, sub-discriminators, feature maps of each
    "period": (lambda: MultiPeriodDiscriminator(width=4), 5, 5, torch.randn(2, 1, 4001)),
    "scale": (lambda: MultiScaleDiscriminator(width=16), 3, 7, torch.randn(2, 1, 4001)),
    "stft": (lambda: MultiScaleSTFTDiscriminator(width=4), 5, 5, torch.randn(2, 1, 4001)),
    "band": (lambda: MultiBandSTFTDiscriminator(width=4), 3, 25, torch.randn(2, 1, 4001)),
    "blur": (lambda: BlurPatchDiscriminator(width=32), 1, 4, torch.rand(2, 3, 64, 64)),
    "patch": (lambda: PatchDiscriminator(width=8), 1, 4, torch.rand(2, 3, 64, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_part_learns(name: str) -> None:
    make, count, maps, x = CASES[name]
    discriminator, x = make(), x.clone().requires_grad_()
    judgements = discriminator(x)
    assert [len(j.features) for j in judgements] == [maps] * count
    sum(j.logits.square().mean() for j in judgements).backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None for p in discriminator.parameters())


def test_several_are_one() -> None:
    both = Discriminators([MultiPeriodDiscriminator((2, 3), 4), MultiScaleSTFTDiscriminator((256,), 4)])
    assert len(both(torch.randn(1, 1, 2000))) == 3


def test_published_sizes() -> None:
    """Weight-normed parameters, as the published modules count them."""
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in make().parameters()) for make in (MultiPeriodDiscriminator, BlurPatchDiscriminator)]
    assert sizes[0] == pytest.approx(41.1e6, rel=0.01)  # HiFi-GAN's multi-period discriminator
    assert sizes[1] == pytest.approx(1.9e6, rel=0.05)


def test_period_folding_reflects_the_rest() -> None:
    discriminator = MultiPeriodDiscriminator((3,), 4)
    x = torch.randn(1, 1, 100)
    padded = torch.cat([x, x[..., -2:-1], x[..., -3:-2]], dim=-1)
    assert torch.equal(discriminator(x)[0].logits, discriminator(padded)[0].logits)


@pytest.fixture(scope="module")
def patch() -> nn.Module:
    discriminator = BlurPatchDiscriminator()
    import zlib

    import numpy as np

    def filled(key: str, value: Tensor) -> Tensor:
        deviation = {  # of the generated values, by key; gains are around 1
            "block_in.0.weight": 0.163299,
            "blocks.0.0.weight": 0.041667,
            "blocks.1.0.weight": 0.041667,
            "blocks.2.0.weight": 0.029463,
            "to_logits.0.weight": 0.0625,
            "to_logits.2.weight": 0.0125,
        }.get(key, 0.1)
        mean = 1.0 if key.endswith(".2.weight") and key.startswith("blocks") else 0.0
        random = np.random.RandomState(zlib.crc32(f"v1:discriminator.{key}".encode()))
        return torch.from_numpy(mean + deviation * random.standard_normal(tuple(value.shape))).float()

    discriminator.load_state_dict({k: filled(k, v) for k, v in discriminator.state_dict().items()})
    return discriminator


def test_blur_patch_equals_the_recorded_discriminator(patch: nn.Module) -> None:
    recon = IMAGE["input.image_recon"].clone().requires_grad_()
    (judgement,) = patch(recon)
    for name, found in {
        "disc_fake": judgement.logits,
        "disc_block_in": judgement.features[0][:, ::16, ::8, ::8],
        "disc_block0": judgement.features[1][:, ::16, ::4, ::4],
        "disc_block1": judgement.features[2][:, ::16],
        "disc_block2": judgement.features[3][:, ::16],
        "disc_real": patch(IMAGE["input.image_real"])[0].logits,
    }.items():
        torch.testing.assert_close(found, IMAGE[f"output.{name}"], rtol=1e-4, atol=2e-5)
    (gradient,) = torch.autograd.grad(-judgement.logits.mean(), recon)
    torch.testing.assert_close(gradient, IMAGE["output.disc_generator_grad"], rtol=1e-3, atol=1e-7)


def test_normalised_clips_are_judged_alike_whatever_their_level() -> None:
    judge = Discriminators([MultiPeriodDiscriminator(width=4)], normalise=True)
    x = torch.randn(2, 1, 4001)
    for a, b in zip(judge(x), judge(0.1 * x + 0.2), strict=True):
        torch.testing.assert_close(a.logits, b.logits, rtol=1e-3, atol=1e-5)
