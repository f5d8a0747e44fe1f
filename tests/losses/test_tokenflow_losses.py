"""TokenFlow's recipe gives the losses that were recorded of its training code (ByteVisionLab/TokenFlow, vq_loss.py)."""

from pathlib import Path

import pytest
import torch
from losses.test_losses import check
from official import recorded
from safetensors.torch import load_file
from torch import Tensor, nn

from tokenizers_zoo.discriminators.base import Judgement
from tokenizers_zoo.discriminators.patch import PatchDiscriminator
from tokenizers_zoo.losses.adversarial import Hinge
from tokenizers_zoo.losses.alignment import FeatureAlignment
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.objective import Adversary, Objective, Term

IO = load_file(Path(__file__).parent / "tokenflow.safetensors")
REAL, FAKE = IO["input.image"], nn.functional.conv2d(IO["input.features"], IO["input.last_weight"], padding=1)


def maps(tokens: Tensor) -> Tensor:
    """(B, 9, D) -> (B, D, 3, 3)."""
    return tokens.transpose(1, 2).unflatten(2, (3, 3))


class Teacher(nn.Module):
    """Gives the recorded features."""

    def forward(self, images: Tensor) -> Tensor:
        return maps(IO["input.sem_target"])


class OneLayer(nn.Module):
    """The recorded discriminator, of images in [-1, 1]."""

    def forward(self, x: Tensor) -> list[Judgement]:
        return [Judgement(nn.functional.conv2d(2 * x - 1, IO["input.disc_weight"], stride=2, padding=1), [])]


def test_semantic() -> None:
    """The recorded distance is 1 - cosine, ours - cosine."""
    decoded = IO["input.sem_decoded"].clone().requires_grad_()
    loss = FeatureAlignment(Teacher())(maps(decoded), torch.rand(2, 3, 8, 8))
    check(1 + loss, "tf_semantic_loss", IO)
    check(torch.autograd.grad(loss, decoded)[0], "tf_semantic_grad", IO)


def test_hinge() -> None:
    real, fake = (IO[f"input.logits_{side}"].clone().requires_grad_() for side in ("real", "fake"))
    loss = Hinge().discriminator([real], [fake])
    check(loss, "tf_hinge_d", IO)
    for side, found in zip(("real", "fake"), torch.autograd.grad(loss, [real, fake]), strict=True):
        check(found, f"tf_hinge_d_grad_{side}", IO)
    check(Hinge().generator([fake]), "tf_hinge_g", IO)


@pytest.mark.parametrize("step", ["before", "after"])
def test_total(step: str) -> None:
    """Images are in [0, 1] here, so that the recipe's weight of the squared error is 4."""
    media, output = (REAL + 1) / 2, ((FAKE + 1) / 2).requires_grad_()
    codebook, commitment, entropy = IO["input.codebook_terms"][:3]
    features = {"semantic": maps(IO["input.sem_decoded"]), "lpips": IO["input.perceptual"].mean()}
    features |= {"codebook": codebook, "commitment": commitment / 0.25, "entropy": entropy}
    terms = {"squared": Term(nn.MSELoss(), 4.0), "semantic": Term(FeatureAlignment(Teacher()), 1.0, ("semantic", "media"))}
    terms |= {
        name: Term(nn.Identity(), 0.25 if name == "commitment" else 1.0, (name,)) for name in features if name != "semantic"
    }
    found = Objective(terms)(Reconstruction(output, output, features=features), {"media": media})
    check(found["squared"], "tf_reconstruction_loss", IO)
    total = 1 + torch.stack(list(found.values())).sum()
    if step == "after":  # the adversary's start; before it, neither side has anything of it
        judged = Adversary(OneLayer(), Hinge(), 0.5).judge(output, media)
        total = total + judged.generator
        check(0.5 * judged.discriminator, "tf_total_discriminator_after", IO)  # theirs is halved
    check(total, f"tf_total_generator_{step}", IO)


def test_discriminator() -> None:
    places = {"0.0": 0, "1.0": 2, "1.1": 3, "2.0": 5, "2.1": 6, "3.0": 8, "3.1": 9}
    deviations = {0: 0.144338, 2: 0.03125, 5: 0.022097, 8: 0.015625, 11: 0.011049}  # of the convolutions' weights
    norms = {"weight": ["normal", 1.0, 0.1], "bias": ["normal", 0.0, 0.1]}
    norms |= {"running_mean": ["normal", 0.0, 0.3], "running_var": ["uniform", 0.5, 1.5]}
    network = PatchDiscriminator()
    state = network.state_dict()
    for key, value in state.items():
        layer, _, kind = key.removeprefix("layers.").rpartition(".")
        place = places.get(layer, 11)
        fill = norms.get(kind)
        if place in deviations:
            fill = ["normal", 0.0, deviations[place] if kind == "weight" else 0.02]
        if fill:
            state[key] = recorded._tensor(f"v1:tokenflow_discriminator.main.{place}.{kind}", list(value.shape), fill)
    network.load_state_dict(state)
    for side in ("real", "fake"):
        check(network.eval()(IO[f"input.{side}"])[0].logits, f"tf_disc_eval_{side}", IO)
    check(network.train()(IO["input.fake"])[0].logits, "tf_disc_train_fake", IO)
    check(network.layers[1][1].running_mean, "tf_disc_running_mean_after", IO)
    check(network.layers[1][1].running_var, "tf_disc_running_var_after", IO)
