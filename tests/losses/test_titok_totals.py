"""TiTok's losses, part by part and in total, equal the recorded values of its training code."""

import itertools
import math
import zlib

import numpy as np
import pytest
import torch
from discriminators.test_discriminators import patch  # noqa: F401  # the recorded discriminator, a fixture
from losses.test_losses import IMAGE, StandIn, check
from torch import Tensor, nn

from tokenizers_zoo.blocks.gaussian import GaussianPosterior
from tokenizers_zoo.losses.adversarial import Hinge
from tokenizers_zoo.losses.latent import KLDivergence, ProxyCodeLoss
from tokenizers_zoo.losses.lpips import LPIPS, TAPS
from tokenizers_zoo.losses.perceptual import LogitsDistance
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.objective import Adversary, Objective, Term

TARGET, OUTPUT = IMAGE["input.image_real"], IMAGE["input.image_recon"]


def generated(key: str, shape: tuple[int, ...], low: float | None = None, high: float = 0.0) -> Tensor:
    """The recorded case's VGG: He-normal kernels, biases of deviation 0.05, uniform channel weights."""
    random = np.random.RandomState(zlib.crc32(f"v1:perceptual_loss.lpips.{key}".encode()))
    if low is not None:
        return torch.from_numpy(random.uniform(low, high, shape)).float()
    deviation = 0.05 if len(shape) == 1 else round(math.sqrt(2 / math.prod(shape[1:])), 6)
    return torch.from_numpy(deviation * random.standard_normal(shape)).float()


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    distance = LPIPS(random=True)
    for stage, (start, end) in enumerate(itertools.pairwise((0, *TAPS)), start=1):
        for index in range(start, end):
            for name, parameter in distance.features[index].named_parameters():
                parameter.data = generated(f"net.slice{stage}.{index}.{name}", tuple(parameter.shape))
    for stage, head in enumerate(distance.heads):
        channels = head.shape[1]
        head.data = generated(f"lin{stage}.model.1.weight", (1, channels, 1, 1), 0.0, round(4 / channels, 6))
    return distance


class Codes(nn.Module):
    """A proxy teacher that gives the recorded codes."""

    def forward(self, images: Tensor) -> Tensor:
        return IMAGE["input.stage1_codes"].unflatten(1, (4, 4))


def test_stage_1() -> None:
    logits = IMAGE["input.stage1_logits"].clone().requires_grad_()
    loss = ProxyCodeLoss(Codes())(logits, TARGET)
    check(loss, "stage1_reconstruction", IMAGE)
    check(loss + IMAGE["input.quantizer_losses"][0], "stage1_total", IMAGE)
    check(torch.autograd.grad(loss, logits)[0], "stage1_grad", IMAGE, rtol=1e-4)


@pytest.mark.parametrize("kind", ["kl", "kl_wide"])
def test_kl(kind: str) -> None:
    parameters = IMAGE[f"input.{kind}_parameters"][:, :, 0].transpose(1, 2).clone().requires_grad_()
    per_token = GaussianPosterior().kl(parameters)
    check(per_token, f"{kind}_per_token", IMAGE)
    loss = KLDivergence()(per_token)
    check(loss, f"{kind}_loss", IMAGE)
    gradient = torch.autograd.grad(loss, parameters)[0].transpose(1, 2)[:, :, None]
    check(gradient, f"{kind}_grad", IMAGE, rtol=1e-4)


def test_lpips(lpips: LPIPS) -> None:
    output = OUTPUT.clone().requires_grad_()
    check(lpips.distances(output, TARGET), "perceptual_lpips", IMAGE)
    check(torch.autograd.grad(lpips(output, TARGET), output)[0], "perceptual_lpips_grad", IMAGE, rtol=1e-3)


def total(terms: dict[str, Term], adversary: Adversary | None, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Weighted terms, and the gradient of their sum by the output."""
    output = OUTPUT.clone().requires_grad_()
    found = Objective(terms)(Reconstruction(output, output, features=features), {"media": TARGET})
    loss = torch.stack(list(found.values())).sum()
    if adversary:
        judged = adversary.judge(output, TARGET)
        found, loss = found | judged.terms, loss + judged.generator
    return found, torch.autograd.grad(loss, output)[0]


@pytest.mark.parametrize("step", ["before", "after"])
def test_stage_2(step: str, patch: nn.Module) -> None:  # noqa: F811
    terms = {"squared": Term(nn.MSELoss()), "logits": Term(LogitsDistance(StandIn()), 0.1)}
    adversary = Adversary(patch, Hinge(), 0.01, lecam=0.001)
    found, gradient = total(terms, adversary if step == "after" else None, {})
    check(found["squared"], f"stage2_{step}_reconstruction_loss", IMAGE)
    check(found["logits"], f"stage2_{step}_perceptual_loss", IMAGE)
    check(torch.stack(list(found.values())).sum(), f"stage2_{step}_total", IMAGE)
    check(gradient, f"stage2_{step}_grad", IMAGE, rtol=1e-3)
    if step == "after":
        check(found["adversarial"], "stage2_after_weighted_gan_loss", IMAGE)
        adversary.lecam.running.zero_()  # `total` has moved them
        for count in (1, 2):
            check(adversary.judge(OUTPUT, TARGET).discriminator, f"stage2_disc{count}_loss", IMAGE)
            check(adversary.lecam.running, f"stage2_disc{count}_ema_after", IMAGE)


@pytest.mark.parametrize("kind", ["vq", "vae"])
@pytest.mark.parametrize("step", ["before", "after"])
def test_single_stage(kind: str, step: str, lpips: LPIPS, patch: nn.Module) -> None:  # noqa: F811
    """The reference's perceptual weight 1.1 on (1.0 LPIPS + 0.1 logits) / 1.1 is 1.0 and 0.1."""
    terms = {"squared": Term(nn.MSELoss()), "lpips": Term(lpips), "logits": Term(LogitsDistance(StandIn()), 0.1)}
    if kind == "vq":
        terms["quantizer"] = Term(nn.Identity(), 1.0, ("quantizer",))
        features = {"quantizer": IMAGE["input.quantizer_losses"][0]}
    else:
        terms["kl"] = Term(KLDivergence(), 1e-6, ("kl",))
        features = {"kl": GaussianPosterior().kl(IMAGE["input.kl_parameters"][:, :, 0].transpose(1, 2))}
    adversary = Adversary(patch, Hinge(), 0.1, lecam=0.001) if step == "after" else None
    found, gradient = total(terms, adversary, features)
    check(found["lpips"] + found["logits"], f"single_{kind}_{step}_perceptual_loss", IMAGE)
    check(torch.stack(list(found.values())).sum(), f"single_{kind}_{step}_total", IMAGE, rtol=3e-5)
    if kind == "vq" and step == "after":
        check(gradient, "single_vq_after_grad", IMAGE, rtol=1e-3)
