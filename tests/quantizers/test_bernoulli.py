"""Bernoulli bits: values, losses and gradients are those recorded of the reference (AMD-AGI/Instella-T2I, bae/bnl.py)."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenizers_zoo.quantizers import BernoulliQuantizer, Quantized

IO = load_file(Path(__file__).parent / "bernoulli.safetensors")


def quantizer(temperature: float) -> BernoulliQuantizer:
    made = BernoulliQuantizer(24, 16, temperature)
    made.load_state_dict({key: value for key, value in IO.items() if "." not in key or key.startswith("proj.")})
    return made


def check(found: Tensor, name: str) -> None:
    wanted = IO[f"output.{name}"]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize(("name", "temperature"), [("temp01", 0.1), ("temp1", 1.0)])
def test_training(name: str, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def draw(chance: Tensor) -> Tensor:
        drawn.append(chance)
        return (IO["input.uniform"] < chance).float()

    monkeypatch.setattr(torch, "bernoulli", draw)
    made, hidden = quantizer(temperature).train(), IO["input.hidden"].clone().requires_grad_()
    result: Quantized = made(hidden)
    check(drawn[0], f"{name}_probability")
    assert torch.equal(result.codes.transpose(1, 2).float(), IO[f"output.{name}_bits"])
    check(result.latents, f"{name}_quant")
    check(result.losses["uncertainty"], f"{name}_aux")
    parameters = {"hidden": hidden, "proj_weight": made.proj.weight, "proj_bias": made.proj.bias, "embed": made.embed}
    gradients = torch.autograd.grad((result.latents * IO["input.grad"]).sum(), [*parameters.values()], retain_graph=True)
    for key, gradient in zip(parameters, gradients, strict=True):
        check(gradient, f"{name}_grad_{key}")
    check(torch.autograd.grad(result.losses["uncertainty"], hidden)[0], "aux_grad_hidden")


def test_entropy_is_of_each_position_over_the_batch() -> None:
    made = BernoulliQuantizer(2, 2)
    made.proj.weight.data.copy_(50 * torch.eye(2))
    made.proj.bias.data.zero_()
    one = torch.tensor([[1.0, -1.0], [1.0, 1.0]])  # two positions
    assert made(torch.stack([one, -one])).losses["entropy"].item() == pytest.approx(-2 * math.log(2), abs=1e-3)
    assert made(torch.stack([one, one])).losses["entropy"].item() == pytest.approx(
        0, abs=1e-3
    )  # they differ from each other alone
    assert made(torch.zeros(2, 2, 2)).losses["entropy"].item() == pytest.approx(0, abs=1e-6)


def test_evaluation() -> None:
    made = quantizer(0.1).eval()
    check(made.proj(IO["input.hidden"]), "logits")
    codes = made.encode(IO["input.hidden"])
    assert torch.equal(codes.transpose(1, 2).float(), IO["output.eval_bits"])
    check(made.decode(codes), "eval_quant")
    check(made(IO["input.hidden"]).latents, "eval_quant")
