"""Shared-index quantization: codes, losses and gradients are those recorded of the reference (ByteVisionLab/TokenFlow)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenizers_zoo.quantizers import SharedIndexQuantizer, base

IO = load_file(Path(__file__).parent / "tokenflow.safetensors")
BETA, RATIO = 0.25, 0.1  # weights inside the reference's losses


def quantizer(temperature: float | None = None) -> SharedIndexQuantizer:
    made = SharedIndexQuantizer(128, 32, 8, temperature=temperature)
    made.load_state_dict({"semantic.weight": IO["input.tf_table_semantic"], "pixel.weight": IO["input.tf_table_pixel"]})
    return made


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def positions(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("table", [base.TABLE, 128 * 10])  # at once, and ten latents at a time
def test_recorded(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "TABLE", table)
    made, latents = quantizer(0.01), positions(IO["input.tf_z"]).requires_grad_()
    result = made(latents)
    tables = [made.semantic.weight, made.pixel.weight]
    assert torch.equal(result.codes[:, 0], IO["output.tf_indices"].flatten(1))
    close(result.latents, positions(IO["output.tf_quant"]))
    close(result.losses["codebook"], IO["output.tf_codebook_loss"])
    close(BETA * result.losses["commitment"], IO["output.tf_commit_loss"])
    close(RATIO * result.losses["entropy"], IO["output.tf_entropy_loss"])
    look_up = result.losses["codebook"] + BETA * result.losses["commitment"]
    for loss, name in ((look_up, "vq"), (RATIO * result.losses["entropy"], "entropy")):
        by_latents, *by_tables = torch.autograd.grad(loss, [latents, *tables], retain_graph=True)
        close(by_latents, positions(IO[f"output.tf_grad_z_{name}"]))
        for found, half in zip(by_tables, ("semantic", "pixel"), strict=True):
            close(found, IO[f"output.tf_grad_{half}_table_{name}"])
    through = (result.latents * positions(IO["input.tf_grad"])).sum()
    found, *none = torch.autograd.grad(through, [latents, *tables], allow_unused=True)
    close(found, positions(IO["output.tf_grad_z_straight_through"]))
    assert none == [None, None]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 20.0])
def test_weight_of_the_pixel_distance(weight: float) -> None:
    made = SharedIndexQuantizer(50, 5, 3, weight)
    latents = torch.randn(2, 40, 8)
    halves = [(made.split(latents)[name], made.split(made.codebook)[name]) for name in ("semantic", "pixel")]
    semantic, pixel = (torch.cdist(x / x.norm(dim=-1, keepdim=True), rows[None]).square() for x, rows in halves)
    codes = made.encode(latents)[:, 0]
    wanted = semantic + weight * pixel
    torch.testing.assert_close(wanted.gather(-1, codes[..., None])[..., 0], wanted.min(-1).values)
    torch.testing.assert_close(made.codebook[:, :5].norm(dim=-1), torch.ones(50))
    torch.testing.assert_close(made.codebook[:, 5:].norm(dim=-1), torch.ones(50))


def test_without_a_temperature_nothing_of_the_entropy_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "log_softmax", None)
    monkeypatch.setattr(base, "TABLE", 100)
    result = SharedIndexQuantizer(64, 4, 4)(torch.randn(2, 30, 8))
    assert set(result.losses) == {"codebook", "commitment"}


def test_refusals() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        SharedIndexQuantizer(64, 4, 4, pixel_weight=-1)
