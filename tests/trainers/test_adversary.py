"""What an adversary teaches both sides, against four passes written out."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import fit, image_data, image_module
from torch import Tensor, nn

from tokenizers_zoo.blocks.gaussian import GaussianPosterior
from tokenizers_zoo.discriminators.patch import PatchDiscriminator
from tokenizers_zoo.discriminators.spectrum import MultiResolutionDiscriminator
from tokenizers_zoo.losses.adversarial import FeatureMatching, Hinge, LeastSquares, LeCam
from tokenizers_zoo.losses.latent import KLDivergence
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.adaptive import AdaptiveWeight
from tokenizers_zoo.trainers.cli import HARMLESS
from tokenizers_zoo.trainers.objective import Adversary, Objective, Term

CASES = {
    "audio": (lambda: MultiResolutionDiscriminator([256, 128], 4), LeastSquares, (3, 1, 2000), None),
    "window": (lambda: MultiResolutionDiscriminator([256], 4), LeastSquares, (3, 1, 2000), 700),
    "images": (lambda: PatchDiscriminator(8), Hinge, (3, 3, 32, 32), None),
}


class Counted(nn.Module):
    """A discriminator, and what it was shown."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.shown = inner, []

    def forward(self, x: Tensor) -> Any:
        """As the inner one's."""
        self.shown.append(x)
        return self.inner(x)


def side_by_side(case: str) -> tuple[Adversary, Tensor, Tensor, Tensor]:
    """An adversary, the one weight of a generator, its output, and the media."""
    make, loss, shape, window = CASES[case]
    torch.manual_seed(0)
    adversary = Adversary(Counted(make()), loss(), 0.3, feature_matching=2.0, lecam=0.5, window=window)
    adversary.lecam.running.copy_(torch.tensor([0.4, -0.3]))
    weight = torch.tensor(0.7, requires_grad=True)
    return adversary, weight, weight * torch.randn(shape).sin(), torch.rand(shape)


@pytest.mark.parametrize("case", CASES)
def test_one_pass_of_each_side_teaches_what_four_did(case: str) -> None:
    adversary, weight, output, media = side_by_side(case)
    output.retain_grad()
    judged = adversary.judge(output, media)
    (judged.discriminator + judged.generator).backward()

    twin, own, again, _ = side_by_side(case)
    again.retain_grad()
    seen_media, seen_output = adversary.discriminator.shown
    start = next((i for i in range(1301) if torch.equal(media[..., i : i + 700], seen_media)), 0) if case == "window" else 0
    part = slice(start, start + seen_output.shape[-1])
    net, loss = twin.discriminator.inner, twin.loss
    assert len(adversary.discriminator.shown) == 2
    assert seen_output.shape[-1] == (700 if case == "window" else media.shape[-1])
    real, fake = net(media[..., part]), net(again[..., part].detach())
    logits = [[j.logits for j in side] for side in (real, fake)]
    learned = loss.discriminator(*logits)
    means = [torch.cat([x.flatten() for x in side]).mean() for side in logits]
    running = torch.tensor([0.4, -0.3])
    learned = learned + 0.5 * ((means[0] - running[1]).relu() ** 2 + (running[0] - means[1]).relu() ** 2)
    learned.backward()
    wanted = [p.grad.clone() for p in net.parameters()]
    real, fake = net(media[..., part]), net(again[..., part])
    matching = FeatureMatching()([j.features for j in real], [j.features for j in fake])
    terms = {"adversarial": 0.3 * loss.generator([j.logits for j in fake]), "matching": 2.0 * matching}
    (terms["adversarial"] + terms["matching"]).backward()

    torch.testing.assert_close(judged.discriminator, learned)
    assert judged.terms.keys() == terms.keys()
    for name, term in terms.items():
        torch.testing.assert_close(judged.terms[name], term.detach())
    torch.testing.assert_close(judged.generator, terms["adversarial"] + terms["matching"])
    for p, gradient in zip(adversary.discriminator.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.grad, again.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weight.grad, own.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(adversary.lecam.running, running + 0.001 * (torch.stack(means).detach() - running))


def test_a_window_can_be_anywhere() -> None:
    media = torch.arange(4.0)[None, None]
    adversary = Adversary(nn.Identity(), Hinge(), window=2)
    starts = {int(adversary._cut(media, media)[1][0, 0, 0]) for _ in range(100)}
    assert starts == {0, 1, 2}
    assert Adversary(nn.Identity(), Hinge(), window=4)._cut(media, media)[1] is media


def test_batch_norm_sees_each_side_once() -> None:
    adversary, _, output, media = side_by_side("images")
    adversary.judge(output, media)
    assert adversary.discriminator.inner.layers[1][1].num_batches_tracked == 2


def test_a_frozen_discriminator_stays_so() -> None:
    adversary, weight, output, media = side_by_side("audio")
    adversary.requires_grad_(False)
    judged = adversary.judge(output, media)
    (judged.discriminator + judged.generator).backward()
    assert all(p.grad is None and not p.requires_grad for p in adversary.parameters())
    assert weight.grad is not None


class Sensitive(nn.Module):
    """A loss that says in which types it was called and computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.types = nn.Linear(8, 8), set()

    def forward(self, output: Tensor, several: list[Tensor], named: dict[str, Tensor], count: Tensor, words: list[str]) -> Tensor:
        """All of them, and a product that autocast would round."""
        assert words == ["a"]
        assert count.dtype == torch.long
        found = [output, several[0], named["x"], self.layer(output)]
        self.types |= {x.dtype for x in found}
        return found[-1].square().mean()


def test_losses_compute_in_full_precision() -> None:
    rough = torch.randn(2, 1, 8).bfloat16()
    batch = {"several": [rough], "named": {"x": rough}, "count": torch.ones(2).long(), "words": ["a"]}
    loss = Sensitive()
    objective = Objective({"x": Term(loss, 2.0, ("output", *batch))})
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(Reconstruction(rough, rough), batch)["x"]
    assert loss.types == {torch.float32}
    torch.testing.assert_close(found, 2 * loss.layer(rough.float()).square().mean(), rtol=0, atol=0)


def test_adversarial_losses_compute_in_full_precision() -> None:
    adversary, _, output, media = side_by_side("images")
    twin = copy.deepcopy(adversary)
    with torch.autocast("cpu", torch.bfloat16):
        judged = adversary.judge(output, media)
        real, fake = (twin.discriminator(x)[0].logits for x in (media, output))
    assert fake.dtype == torch.bfloat16  # the network goes by the autocast around it
    real, fake = real.float(), fake.float()
    lecam = LeCam()
    lecam.running.copy_(twin.lecam.running)
    assert torch.equal(judged.discriminator, Hinge().discriminator([real], [fake]) + 0.5 * lecam(real, fake))
    assert torch.equal(judged.terms["adversarial"], 0.3 * Hinge().generator([fake]))
    adversary.judge(output.bfloat16(), media.bfloat16())  # whose weights have 32 bits


def test_kl_of_a_posterior_near_the_prior() -> None:
    """In bfloat16 this was off by 62 %."""
    parameters = 0.03 * torch.randn(4, 32, 16, generator=torch.Generator().manual_seed(0))
    wanted = KLDivergence()(GaussianPosterior().kl(parameters))
    with torch.autocast("cpu", torch.bfloat16):
        found = KLDivergence()(GaussianPosterior().kl(parameters.bfloat16()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0.01, atol=0)


@pytest.mark.filterwarnings(*(f"ignore:{message}" for message in HARMLESS), "ignore:.*LeafSpec")
def test_an_adaptive_weight_scales_what_the_generator_hears(tmp_path: Path) -> None:
    """Clamped to one value, to know it."""
    found = {}
    for factor in (1.0, 5.0):
        module = image_module()
        module.adversary.adaptive = AdaptiveWeight("decoder.head.smooth.weight", {"squared": 1.0}, factor, factor)
        (found[factor],) = fit(module, image_data(), 1, tmp_path / str(factor))
    (plain,) = fit(image_module(), image_data(), 1, tmp_path / "plain")
    assert found[1.0] == plain
    assert found[5.0]["adversarial"] == pytest.approx(5 * plain["adversarial"], rel=1e-6)
    assert found[5.0]["discriminator"] == plain["discriminator"]
    assert found[5.0]["total"] == pytest.approx(plain["total"] + 4 * plain["adversarial"], rel=1e-5)
