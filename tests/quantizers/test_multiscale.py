"""Multi-scale residual quantization: TokenFlow's as recorded (ByteVisionLab/TokenFlow), VAR's against a loop of its own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tokenizers_zoo import TokenError
from tokenizers_zoo.quantizers import FSQ, EMAVectorQuantizer, MultiScaleQuantizer, SharedIndexQuantizer, VectorQuantizer

IO = load_file(Path(__file__).parent / "tokenflow.safetensors")
SCALES = [1, 2, 3, 4, 6]


def positions(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


@pytest.mark.parametrize("name", ["multi", "multi_drop"])
def test_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = SharedIndexQuantizer(128, 32, 8, temperature=0.01)
    stage.load_state_dict({"semantic.weight": IO["input.tf_table_semantic"], "pixel.weight": IO["input.tf_table_pixel"]})
    made = MultiScaleQuantizer(stage, SCALES, dropout=float(name == "multi_drop")).train()
    monkeypatch.setattr(torch, "randint", lambda low, high, size: torch.tensor(high - 1))  # the last
    latents = positions(IO["input.tf_z"]).requires_grad_()
    result = made(latents)
    codes = result.codes[:, 0]
    assert torch.equal(codes[:, : IO[f"output.tf_{name}_indices"].shape[1]], IO[f"output.tf_{name}_indices"])
    assert (codes[:, IO[f"output.tf_{name}_indices"].shape[1] :] == -1).all()
    close(result.latents, positions(IO[f"output.tf_{name}_quant"]))
    close(result.values, positions(IO[f"output.tf_{name}_quant"]))
    close(made.decode(result.codes), result.values)
    losses = [result.losses["codebook"], 0.25 * result.losses["commitment"], 0.1 * result.losses["entropy"]]
    close(torch.stack(losses), IO[f"output.tf_{name}_losses"])
    total = sum(losses) + (result.latents * positions(IO["input.tf_grad"])).sum()
    close(torch.autograd.grad(total, latents)[0], positions(IO[f"output.tf_{name}_grad_z"]))
    if name == "multi":
        assert torch.equal(made.eval().encode(latents), result.codes)


def var(made: MultiScaleQuantizer, rows: Tensor, latents: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Codes, sum and two losses as VAR's paper writes them, with all distances at once."""
    side = made.scales[-1]
    whole = latents.transpose(1, 2).reshape(len(latents), -1, side, side)
    left, total, codes = whole.detach(), torch.zeros_like(whole), []
    commitment, codebook = torch.zeros(()), torch.zeros(())
    ticks = torch.tensor([1 / 12, 13 / 36, 23 / 36, 11 / 12])
    for scale, own in enumerate(made.scales):
        small = F.adaptive_avg_pool2d(left, own)
        codes.append((small.movedim(1, -1)[..., None, :] - rows).square().sum(-1).argmin(-1).flatten(1))
        values = rows[codes[-1]].transpose(1, 2).reshape(len(latents), -1, own, own)
        grown = F.interpolate(values, size=(side, side), mode="bicubic") if own != side else values
        convolution = made.phi[int((ticks - scale / (len(made.scales) - 1)).abs().argmin())]
        grown = 0.5 * grown + 0.5 * convolution(grown)
        total, left = total + grown, left - grown.detach()
        commitment = commitment + (total.detach() - whole).square().mean() / len(made.scales)
        codebook = codebook + (total - whole.detach()).square().mean() / len(made.scales)
    return codes, positions(total), commitment, codebook


def test_loss_on_the_cumulative_sum() -> None:
    stage = VectorQuantizer(40, 6)
    torch.nn.init.normal_(stage.embedding.weight)
    made = MultiScaleQuantizer(stage, [1, 2, 3, 5, 8], cumulative=True, phi=4)
    latents = torch.randn(3, 64, 6, requires_grad=True)
    codes, total, commitment, codebook = var(made, stage.codebook, latents)
    result = made(latents)
    assert torch.equal(result.codes[:, 0], torch.cat(codes, -1))
    assert torch.equal(made.encode(latents), result.codes)
    close(result.values, total)
    close(made.decode(result.codes), total)
    assert not result.values.requires_grad
    weights = list(made.parameters())
    for found, wanted in ((result.losses["commitment"], commitment), (result.losses["codebook"], codebook)):
        close(found, wanted)
        for a, b in zip(*(torch.autograd.grad(x, [latents, *weights], allow_unused=True) for x in (found, wanted)), strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                close(a, b)
    through = torch.randn(3, 64, 6)
    assert torch.equal(torch.autograd.grad((result.latents * through).sum(), latents)[0], through)  # once, around the whole


@pytest.mark.parametrize("phi", [0, 2])
def test_prefixes_and_absent_scales(phi: int) -> None:
    made = MultiScaleQuantizer(FSQ([5, 5, 5]), [1, 2, 4], phi=phi).eval()
    codes = made.encode(torch.randn(2, 16, 3))
    assert codes.shape == (2, 1, 21)
    for end in (1, 5, 21):
        absent = codes.clone()
        absent[..., end:] = -1
        assert torch.equal(made.decode(codes[..., :end]), made.decode(absent))
    assert not made.decode(torch.full_like(codes, -1)).any()
    with pytest.raises(TokenError, match="inside the scale of side 2; give 5"):
        made.decode(codes[..., :3])


def test_one_scale_is_its_stage() -> None:
    stage = VectorQuantizer(30, 4, l2_norm=True)
    latents = torch.randn(2, 9, 4)
    whole, alone = MultiScaleQuantizer(stage, [3])(latents), stage(latents)
    assert torch.equal(whole.codes, alone.codes)
    assert torch.equal(whole.latents, alone.latents)
    assert whole.losses == alone.losses


@pytest.mark.parametrize("cumulative", [False, True])
def test_float32_whatever_the_type(cumulative: bool) -> None:
    made = MultiScaleQuantizer(VectorQuantizer(40, 6), [1, 2, 4], cumulative, phi=2)
    latents = torch.randn(2, 16, 6).bfloat16()
    codes = made.encode(latents.float())
    made.half()
    with torch.autocast("cpu", torch.bfloat16):
        result = made(latents)
        assert torch.equal(made.encode(latents), codes)
        assert torch.equal(result.codes, codes)
        assert {x.dtype for x in (result.latents, result.values, made.decode(codes))} == {torch.float32}


def test_one_scale_at_most_is_left_out_and_never_the_first() -> None:
    made, latents = MultiScaleQuantizer(FSQ([5, 5, 5]), [1, 2, 4], dropout=0.5), torch.randn(2, 16, 3)
    seen = set()
    for _ in range(40):
        absent = made.train()(latents).codes[0, 0] < 0
        seen.add(tuple(bool(part.all()) for part in absent.split([1, 4, 16])))
    assert seen == {(False, False, False), (False, True, False), (False, False, True)}
    assert (made.eval()(latents).codes >= 0).all()


def test_refusals() -> None:
    for scales in ([], [0, 2], [2, 1], [2, 2]):
        with pytest.raises(ValueError, match="growing sides"):
            MultiScaleQuantizer(FSQ([5, 5]), scales)
    with pytest.raises(ValueError, match="by gradient"):
        MultiScaleQuantizer(EMAVectorQuantizer(16, 4), [1, 2])
