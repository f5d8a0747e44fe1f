"""Dimension-wise quantization: the tables and codes are those recorded of the reference (YuqingWang1029/TokenBridge)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tokenizers_zoo import InputError
from tokenizers_zoo.quantizers import DimensionWiseQuantizer, FittedDimensionWiseQuantizer

IO = load_file(Path(__file__).parent / "dimension_wise.safetensors")
RULES = {"8": (8, 5.0), "16": (16, 5.0), "32": (32, 5.0), "64": (64, 5.0), "128_range3p5": (128, 3.5), "64_range8p0": (64, 8.0)}


@pytest.mark.parametrize("name", RULES)
def test_recorded(name: str) -> None:
    """Every code is; the tables up to what another machine's exponential rounds."""
    levels, limit = RULES[name]
    quantizer = DimensionWiseQuantizer(16, levels, limit)
    for row, found in zip(quantizer.values, quantizer.table, strict=True):
        torch.testing.assert_close(row, IO[f"output.reconstruction_values_{name}"], rtol=0, atol=1.2e-5)
        torch.testing.assert_close(found, IO[f"output.levels_{name}"], rtol=0, atol=3e-5)
    codes = quantizer.encode(IO["input.latents"])
    assert torch.equal(codes.transpose(1, 2), IO[f"output.indices_{name}"].long())
    one = DimensionWiseQuantizer(1, levels, limit)
    special = one.encode(IO["input.special"][None, :, None])
    assert torch.equal(special[0, 0], IO[f"output.special_indices_{name}"].long())
    assert torch.equal(one.decode(special)[0, :, 0], one.table[0, special[0, 0]])


def test_what_is_no_number() -> None:
    quantizer = DimensionWiseQuantizer(1, 8)
    codes = quantizer.encode(torch.tensor([[[float("nan")], [float("inf")], [-float("inf")]]]))
    assert codes.tolist() == [[[0, 7, 0]]]


@pytest.mark.parametrize(("levels", "limit", "width"), [(2, 1.0, 3.0), (5, 4.0, 2.0), (256, 5.0, 3.0)])
def test_nearest_of_any_table(levels: int, limit: float, width: float) -> None:
    quantizer = DimensionWiseQuantizer(3, levels, limit, width)
    table, latents = quantizer.table.double(), 3 * torch.randn(2, 200, 3)
    assert (table.diff() > 0).all()
    assert table.abs().max() < limit
    far = (latents.double()[..., None] - table).abs()
    chosen = far.gather(-1, quantizer.encode(latents).transpose(1, 2)[..., None])[..., 0]
    torch.testing.assert_close(chosen, far.min(-1).values, rtol=0, atol=1e-5)


def test_a_scale_brings_latents_to_the_units_of_the_limit() -> None:
    plain, scaled = DimensionWiseQuantizer(3, 16), DimensionWiseQuantizer(3, 16, scale=0.25)
    latents = torch.randn(2, 50, 3)
    assert torch.equal(scaled.encode(4 * latents), plain.encode(latents))
    assert torch.equal(scaled.table, 4 * plain.table)


def test_only_fitted_tables_are_weights() -> None:
    assert not DimensionWiseQuantizer(3, 8).state_dict()
    assert {k: v.shape for k, v in FittedDimensionWiseQuantizer(3, 8).state_dict().items()} == {"values": (3, 8)}


def test_fitted_tables_follow_each_dimension() -> None:
    """Of 8 levels: Max's least squared error of a normal variable is 0.0345, whatever its place and width."""
    quantizer, published = FittedDimensionWiseQuantizer(3, 8), DimensionWiseQuantizer(3, 8)
    assert torch.equal(quantizer.table, published.table)
    place, width = torch.tensor([0.0, -2.0, 30.0]), torch.tensor([1.0, 0.1, 10.0])
    latents = place + width * torch.randn(20, 1000, 3)
    quantizer.fit(latents)
    fitted, fixed = (((q(latents).values - latents) / width).square().mean((0, 1)) for q in (quantizer, published))
    torch.testing.assert_close(fitted, torch.full((3,), 0.0345), rtol=0.05, atol=0)
    assert (fixed > fitted * torch.tensor([1.1, 2, 2])).all()
    assert (quantizer(latents).usage == 1).all()


def test_fitting_to_few_different_latents() -> None:
    quantizer = FittedDimensionWiseQuantizer(1, 4)
    latents = torch.tensor([1.0, 2.0]).repeat(8)[None, :, None]
    quantizer.fit(latents)
    torch.testing.assert_close(quantizer(latents).values, latents)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        DimensionWiseQuantizer(4, 1)
    with pytest.raises(ValueError, match="a scale above 0"):
        DimensionWiseQuantizer(4, 8, scale=0.0)
    with pytest.raises(ValueError, match="larger width"):
        DimensionWiseQuantizer(4, 16, width=1.0)
    with pytest.raises(InputError, match="give more"):
        FittedDimensionWiseQuantizer(4, 64).fit(torch.randn(1, 10, 4))
    with pytest.raises(InputError, match="finite"):
        FittedDimensionWiseQuantizer(1, 4).fit(torch.full((1, 10, 1), float("nan")))
