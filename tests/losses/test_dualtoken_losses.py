"""DualToken's training, part by part and in total, equals the recorded values of its code."""

import pytest
import torch
import torch.nn.functional as F
from official import recorded
from torch import Tensor, nn

from tokenizers_zoo.discriminators.base import Judgement
from tokenizers_zoo.discriminators.patch import ResidualPatchDiscriminator
from tokenizers_zoo.errors import InputError
from tokenizers_zoo.losses.adversarial import Hinge
from tokenizers_zoo.losses.alignment import TowerDistillation
from tokenizers_zoo.quantizers import Quantized
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.adaptive import AdaptiveWeight
from tokenizers_zoo.trainers.objective import Adversary, Objective, Term

IO = recorded.io("dualtoken_losses")


def check(found: Tensor, name: str, rtol: float = 1e-5) -> None:
    wanted = IO[f"output.dt_{name}"]
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol * float(wanted.abs().max()), msg=lambda m: f"{name}: {m}")


def test_discriminator() -> None:
    names = (
        ("first.", "main.0."),
        ("last.", "main.5."),
        (".conv.", ".conv1."),
        (".norm.", ".norm1."),
        (".shortcut.", ".nin_shortcut."),
    )
    state = recorded.state("dualtoken_losses")
    judge = ResidualPatchDiscriminator()
    ours = {}
    for key in judge.state_dict():
        theirs = key.replace("blocks.0", "main.2").replace("blocks.1", "main.3").replace("blocks.2", "main.4")
        for mine, other in names:
            theirs = theirs.replace(mine, other)
        ours[key] = state.pop(f"dualtoken_discriminator.{theirs}")
    assert not state
    judge.load_state_dict(ours)
    for side in ("real", "fake"):
        check(judge((IO[f"input.{side}"] + 1) / 2)[0].logits, f"disc_{side}")


def test_hinge_that_leaks() -> None:
    real, fake = (IO[f"input.logits_{side}"].clone().requires_grad_() for side in ("real", "fake"))
    loss = Hinge(slope=0.01)
    judged = loss.discriminator([real], [fake])
    check(judged, "hinge_d")
    for gradient, side in zip(torch.autograd.grad(judged, (real, fake)), ("real", "fake"), strict=True):
        check(gradient, f"hinge_d_grad_{side}")
    check(loss.generator([fake]), "g")


class LastLayer(nn.Module):
    """A convolution whose output is the reconstruction, in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(IO["input.last_weight"].clone())

    def forward(self) -> Tensor:
        """Of the recorded features."""
        return F.conv2d(IO["input.features"], self.weight, padding=1)


class OneLayer(nn.Module):
    """The recorded discriminator of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(IO["input.disc_weight"].clone())

    def forward(self, x: Tensor) -> list[Judgement]:
        """Of images in [-1, 1]."""
        return [Judgement(F.conv2d(x, self.weight, stride=2, padding=1), [])]


class Tower(nn.Module):
    """The recorded frozen tower."""

    def forward(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Its states and pooled output."""
        return IO["input.dt_sem_target"], IO["input.dt_pool_target"]


@pytest.mark.parametrize("step", ["warm", "gan"])
def test_stage_1(step: str) -> None:
    """Weights of [-1, 1]; a mean absolute difference stands in for the perceptual term, as in the recording."""
    last, image = LastLayer(), IO["input.image"]
    states, pooled, commit = (IO[f"input.dt_{name}"].clone().requires_grad_() for name in ("sem", "pool", "commit"))
    losses = {"pixel_commitment": commit[0], "semantic_commitment": commit[1]}
    nothing = torch.zeros(1, 1, 1)
    quantized = Quantized(nothing, nothing.long(), (2,), losses, nothing)
    result = Reconstruction(last(), nothing, quantized, {"semantic": states, "pooled": pooled})
    objective = Objective(
        {
            "meaning": Term(TowerDistillation(Tower()), 1.0, ("semantic", "pooled", "media")),
            "pixel": Term(nn.Identity(), 5.0, ("pixel_commitment",)),
            "semantics": Term(nn.Identity(), 5.0, ("semantic_commitment",)),
            "squared": Term(nn.MSELoss(), 5.0),
            "perceptual": Term(nn.L1Loss()),
        }
    )
    terms = objective(result, {"media": image})
    mse, cosine = (IO[f"output.dt_{step}_semantic_loss{kind}"] for kind in ("", "_cos"))
    mse_pooled, cosine_pooled = (IO[f"output.dt_{step}_semantic_loss_pooler{kind}"] for kind in ("", "_cos"))
    torch.testing.assert_close(terms["meaning"], 5 * (mse + cosine) + mse_pooled + cosine_pooled, rtol=1e-5, atol=0)
    check(terms["squared"] / 5, f"{step}_recon_loss")
    check(terms["perceptual"], f"{step}_perceptual_standin")
    total = torch.stack(list(terms.values())).sum()
    if step == "gan":
        adaptive = AdaptiveWeight("weight", {"squared": 0.2, "perceptual": 1.0}, 0.3, 10.0)
        adversary = Adversary(OneLayer(), Hinge(0.01), 0.75, adaptive=adaptive)
        judged = adversary.judge(result.output, image)
        check(judged.terms["adversarial"] / 0.75, "gan_gen_loss")
        check(judged.discriminator, "gan_disc_loss")
        (gradient,) = torch.autograd.grad(judged.discriminator, adversary.discriminator.weight, retain_graph=True)
        check(0.75 * gradient, "gan_disc_grad")  # the factor of later epochs, which Adam does not feel
        factor = adaptive(last.weight, terms, judged.generator / 0.75)
        check(factor, "gan_g_weight")
        scaled = judged.scaled(factor)
        torch.testing.assert_close(scaled.terms["adversarial"], scaled.generator.detach())
        total = total + scaled.generator
    check(total, f"{step}_total_loss")
    gradients = torch.autograd.grad(total, (states, pooled, commit, last.weight))
    for name, gradient in zip(("sem", "pool", "commit", "last_weight"), gradients, strict=True):
        check(gradient, f"{step}_grad_{name}")


def test_adaptive_weight_is_clamped() -> None:
    last = LastLayer()
    output = last()
    terms = {"squared": F.mse_loss(output, IO["input.image"])}
    adversarial = -OneLayer()(output)[0].logits.mean()
    adaptive = AdaptiveWeight("weight", {"squared": 1.0}, 0.3, 10.0)
    found = torch.stack([adaptive(last.weight, terms, scale * adversarial) for scale in (1, 100, 0.001)])
    check(found, "adaptive_weight")
    with pytest.raises(InputError, match="compares lpips"):
        AdaptiveWeight("weight", {"lpips": 1.0})(last.weight, terms, adversarial)
    with pytest.raises(InputError, match="no gradient reaches weight"):
        adaptive(nn.Parameter(torch.ones(3)), terms, adversarial)


def test_a_teacher_of_another_width_is_told_apart() -> None:
    with pytest.raises(InputError, match="of one shape"):
        TowerDistillation(Tower())(IO["input.dt_sem"][..., :3], IO["input.dt_pool"], IO["input.image"])
