"""FlexTok's training parts equal the recorded values of its code and of REPA's, and a teacher is any vision model."""

from pathlib import Path

import pytest
import timm
import torch
from losses.test_losses import check
from safetensors.torch import load_file
from torch import Tensor, nn
from trainers.models import vision_model

from tokenizers_zoo import InputError
from tokenizers_zoo.blocks.flow import RectifiedFlow, Times, euler, euler_times
from tokenizers_zoo.blocks.nested import NestedDropout, masked, rounded_up
from tokenizers_zoo.blocks.projector import Projector
from tokenizers_zoo.losses.alignment import FeatureAlignment
from tokenizers_zoo.quantizers import FSQ
from tokenizers_zoo.teachers.vision import HubNetwork, VisionTeacher

RECORDED = load_file(Path(__file__).parent / "flow.safetensors")


def given(name: str) -> Tensor:
    return RECORDED[f"input.{name}"].clone()


@pytest.mark.parametrize(
    ("times", "name"), [("logit_normal", "ln"), ("stratified", "stratified"), ("uniform", "uniform"), ("mode", "mode")]
)
def test_times_and_noised_data(times: Times, name: str) -> None:
    flow = RectifiedFlow(times)
    draws = torch.special.ndtr(given("flow_normal")) if times == "logit_normal" else given("flow_uniform")
    time = flow.draw(draws)
    check(time, f"flow_{name}_sigma", RECORDED)
    noisy, target = flow.noised(given("flow_clean"), given("flow_noise"), time)
    check(noisy, f"flow_{name}_noised", RECORDED)
    check(target, "flow_target", RECORDED)


def test_flow_loss() -> None:
    prediction = given("flow_prediction").requires_grad_()
    _, target = RectifiedFlow().noised(given("flow_clean"), given("flow_noise"), given("flow_uniform"))
    loss = nn.MSELoss()(prediction, target)
    check(loss, "flow_loss", RECORDED)
    check(torch.autograd.grad(loss, prediction)[0], "flow_loss_grad", RECORDED)


def test_euler_steps_of_an_oracle() -> None:
    asked = []
    sample = euler(lambda _, step: asked.append(step) or given("flow_noise") - given("flow_clean"), given("flow_noise"), 4)
    check(sample, "flow_oracle_euler4", RECORDED)
    check(euler_times(4)[asked], "flow_oracle_times", RECORDED)


def test_nested_dropout() -> None:
    tokens, mask = given("nested_tokens").requires_grad_(), given("nested_mask_token").requires_grad_()
    lengths = given("nested_uniform_draws")
    out = masked(tokens, lengths, mask)
    check(out, "nested_uniform_out", RECORDED)
    (out * given("nested_grad")).sum().backward()
    check(tokens.grad, "nested_uniform_grad_tokens", RECORDED)
    check(mask.grad, "nested_uniform_grad_mask", RECORDED)
    assert torch.equal(rounded_up(torch.arange(1, 257)), RECORDED["output.nested_uniform_pow2_map"])


def test_null_condition() -> None:
    tokens, null = given("nested_tokens").requires_grad_(), given("null_token").requires_grad_()
    lengths = torch.where(given("null_uniform") < 0.2, 0, tokens.shape[1])
    out = masked(tokens, lengths, null)
    check(out, "null_out", RECORDED)
    (out * given("nested_grad")).sum().backward()
    check(tokens.grad, "null_grad_tokens", RECORDED)
    check(null.grad, "null_grad_token", RECORDED)


def test_how_many_tokens_are_kept() -> None:
    shares = {}
    for mode in ("uniform", "powers", "uniform_powers"):
        kept = NestedDropout(mode)(8000, 256)
        assert kept.dtype == torch.int64
        assert 1 <= kept.min() <= 2
        assert kept.max() == 256
        shares[mode] = {int(k): float((kept == k).float().mean()) for k in kept.unique()}
    assert len(shares["uniform"]) == 256
    assert sorted(shares["powers"]) == RECORDED["output.nested_pow2_choices"].tolist()
    assert list(shares["powers"].values()) == pytest.approx([1 / 9] * 9, abs=0.02)
    assert shares["uniform_powers"][256] == pytest.approx(0.5, abs=0.02)
    assert shares["uniform_powers"][128] == pytest.approx(0.25, abs=0.02)
    assert NestedDropout("uniform_powers")(100, 84).max() == 84
    with pytest.raises(ValueError, match="not 84"):
        NestedDropout("powers")(4, 84)
    with pytest.raises(ValueError, match="not 'pow2'"):
        NestedDropout("pow2")


def test_fsq() -> None:
    latents = given("fsq_z").requires_grad_()
    quantized = FSQ([8, 8, 8, 5, 5, 5])(latents)
    check(quantized.latents, "fsq_quant", RECORDED)
    assert torch.equal(quantized.codes[:, 0], RECORDED["output.fsq_tokens"])
    (quantized.latents * given("fsq_grad")).sum().backward()
    check(latents.grad, "fsq_grad_z", RECORDED, rtol=1e-4)
    ids = torch.tensor([0, 1, 2, 7, 64_000 // 3, 63_998, 63_999])
    check(FSQ([8, 8, 8, 5, 5, 5]).decode(ids[None, None])[0], "fsq_embedding", RECORDED)


class Features(nn.Module):
    """A teacher that gives the recorded features as a map of 3 x 3."""

    def forward(self, images: Tensor) -> Tensor:
        return given("repa_features").transpose(1, 2).unflatten(2, (3, 3))


def aligned(hidden: Tensor, projector: Projector) -> tuple[Tensor, Tensor]:
    projected = projector(hidden)
    return projected, FeatureAlignment(Features())(projected.transpose(1, 2).unflatten(2, (3, 3)), torch.zeros(4, 3, 8, 8))


def test_alignment() -> None:
    projector, hidden = Projector(24, 20, 32), given("repa_hidden").requires_grad_()
    projector.layers.load_state_dict({k.removeprefix("repa.projector."): v for k, v in RECORDED.items() if k.startswith("repa.")})
    projected, loss = aligned(hidden, projector)
    check(projected, "repa_projected", RECORDED)
    check(loss, "repa_loss", RECORDED)
    loss.backward()
    check(hidden.grad, "repa_grad_hidden", RECORDED)
    check(projector.layers[4].bias.grad, "repa_grad_last_bias", RECORDED)
    check(projector.layers[0].weight.grad, "repa_grad_first_weight", RECORDED)


def test_a_projector_that_starts_at_zero_has_no_direction() -> None:
    """Why ours does not: the published first gradient is of the order 1e12."""
    projector, hidden = Projector(24, 20, 32), given("repa_hidden")
    nn.init.zeros_(projector.layers[4].weight)
    nn.init.zeros_(projector.layers[4].bias)
    _, loss = aligned(hidden, projector)
    loss.backward()
    assert loss == 0
    assert 1e9 < projector.layers[4].bias.grad.abs().max() < 1e13


class Timm(nn.Module):
    """As TimmNetwork, with random weights."""

    def __init__(self, name: str, **options: object):
        super().__init__()
        self.network = timm.create_model(name, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def test_any_vision_model_is_a_teacher(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 64)
    vit = Timm("vit_tiny_patch16_224", img_size=64, depth=1)
    for network, tap, size, shape in (
        (HubNetwork(vision_model(tmp_path)), "network.layernorm", 56, (2, 16, 4, 4)),
        (HubNetwork(vision_model(tmp_path)), "network.encoder.layer.0", 28, (2, 16, 2, 2)),
        (vit, "network.norm", None, (2, 192, 4, 4)),
        (Timm("tf_efficientnet_lite0"), "network.blocks.4", None, (2, 112, 4, 4)),
    ):
        teacher = VisionTeacher(network, tap, size).train()
        found = teacher(images)
        assert found.shape == shape
        assert found.std() > 0
        torch.testing.assert_close(found[1:], teacher(images[1:]), rtol=1e-3, atol=1e-4)
        projected = torch.randn(2, shape[1], 5, 5, requires_grad=True)
        loss = FeatureAlignment(teacher)(projected, images)
        loss.backward()
        assert -1 <= loss.item() <= 1
        assert projected.grad.abs().sum() > 0
        assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(InputError, match="set the projector's dim to 112"):
        FeatureAlignment(teacher)(torch.zeros(2, 16, 4, 4), images)
    with pytest.raises(InputError, match="choose one that gives maps or tokens"):
        VisionTeacher(vit, "network.head")(images)
