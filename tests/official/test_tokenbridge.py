"""KL-16 and TokenBridge on it: moments, codes and images from our importer, levels by options, and tables on other autoencoders.

`kl_16` is recorded of the reference implementation, at full size: slow. `kl_16_cut` has a quarter of the channels and 64 pixels,
recorded of this library when the full case held.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import media, small
from official import recorded
from official.test_parity import relative
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo import official
from tokenizers_zoo.quantizers import DimensionWiseQuantizer, FittedDimensionWiseQuantizer

CUT = {f"{side}.{name}": n for side in ("encoder", "decoder") for name, n in (("channels", 32), ("image_size", 64))}
CASES = [pytest.param("kl_16_cut"), pytest.param("kl_16", marks=pytest.mark.slow)]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tz.Tokenizer]:
    """load_official at the size of a case."""

    def of(variant: str, case: str, **overrides: object) -> tz.Tokenizer:
        cut = CUT if case.endswith("cut") else {}
        monkeypatch.setattr(official, "create", lambda name, **told: tz.create(name, **cut, **told))
        return tz.load_official(variant, {"model": recorded.state(case)}, **overrides)

    return of


def rows(maps: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, N, D)."""
    return maps.flatten(2).transpose(1, 2)


def rule(dim: int, levels: int = 64) -> dict[str, object]:
    return {"class_path": "DimensionWiseQuantizer", "init_args": {"dim": dim, "levels": levels}}


def pixels(tokenizer: tz.Tokenizer, latents: Tensor) -> Tensor:
    return 2 * tokenizer.decode_latents(latents)[..., ::4, ::4] - 1


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_kl_16(case: str, load: Callable[..., tz.Tokenizer]) -> None:
    tokenizer, io = load("kl-16", case), recorded.io(case)
    moments = tokenizer.encode_latents(io["input.image"], moments=True)
    assert relative(moments, rows(io["output.moments"])) <= 1e-4
    mean, log_variance = tokenizer.posterior.split(moments)
    torch.testing.assert_close(tokenizer.encode_latents(io["input.image"][:1]), mean[:1], rtol=1e-4, atol=1e-4)
    assert relative(mean + (log_variance / 2).exp() * rows(io["input.noise"]), rows(io["output.sample"])) <= 1e-4
    assert relative(tokenizer.posterior.kl(moments).sum(1), io["output.kl"]) <= 1e-4
    decoded = pixels(tokenizer, mean)
    assert relative(decoded[:1], io["output.image_s4"]) <= 1e-4
    assert relative(decoded[1:], io["output.image_1_s4"]) <= 1e-4
    assert relative(pixels(tokenizer, rows(io["input.z"])), io["output.image_of_z_s4"]) <= 1e-4


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_tokenbridge(case: str, load: Callable[..., tz.Tokenizer]) -> None:
    tokenizer, io = load("tokenbridge-kl16", case), recorded.io(case)
    codes = io["output.quantized_indices"].long().flatten(2)
    assert torch.equal(tokenizer.quantizer.encode(rows(io["output.sample"])), codes)
    tokens = tz.Tokens(codes, tokenizer.spec)
    found = pixels(tokenizer, tokenizer.latents(tokens.codes, tokens.spec.codebook_ids))
    assert relative(found, io["output.quantized_image_s4"]) <= 1e-4
    assert relative(2 * tokenizer.decode(tokens).pixels[..., ::4, ::4] - 1, io["output.quantized_image_s4"].clamp(-1, 1)) <= 1e-4


@torch.no_grad()
def test_training_decodes_a_sample_and_evaluation_the_mean() -> None:
    tokenizer = copy.deepcopy(small("kl-tiny"))
    images = media(tokenizer, 2)
    mean = tokenizer.decode_latents(tokenizer.encode_latents(images))
    first, second = tokenizer(images), tokenizer(images)
    assert torch.equal(first.output, second.output)
    torch.testing.assert_close(first.output, mean)
    assert first.features["kl"].shape == (2, 64)
    tokenizer.train()
    assert not torch.allclose(tokenizer(images).output, mean, atol=1e-3)


def test_parameters_and_bits_as_published() -> None:
    with torch.device("meta"):
        plain, bridged = tz.create("kl-16"), tz.create("tokenbridge-kl16")
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in bridged.parameters()) == 66_456_019
    assert bridged.spec.bits_per_image == 24_576
    assert (bridged.spec.layout, bridged.spec.positions, bridged.spec.codebook_sizes) == ("grid", 256, (64,) * 16)


@pytest.mark.parametrize("options", [{"levels": 8}, {"limit": 3.5, "width": 2.5}])
def test_a_rule_is_chosen_at_loading(options: dict[str, float], load: Callable[..., tz.Tokenizer], tmp_path: Path) -> None:
    """Its table is that of a new quantizer; nothing of the one before is left."""
    made = load("tokenbridge-kl16", "kl_16_cut", **{f"quantizer.{name}": value for name, value in options.items()})
    assert torch.equal(made.quantizer.table, DimensionWiseQuantizer(16, scale=0.2325, **options).table)
    assert made.weights != load("tokenbridge-kl16", "kl_16_cut").weights
    made.save_pretrained(tmp_path)
    again, images = tz.load(tmp_path), media(made, 2)
    assert torch.equal(again.quantizer.table, made.quantizer.table)
    assert again.decode(made.encode(images)).pixels.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", ["kl-tiny", "titok-bl64-vae", "ta-titok-bl64-vae", "textok-32"])
def test_any_continuous_tokenizer_takes_a_table(name: str) -> None:
    dim = small(name).decoder.dim
    bridged = copy.deepcopy(small(name)).replace(rule(dim))
    tokens = bridged.encode(media(bridged, 2))
    assert tokens.spec.codebook_sizes == (64,) * dim
    assert bridged.decode(tokens).pixels.shape == (2, 3, bridged.image_size, bridged.image_size)


@torch.no_grad()
def test_a_fitted_table_is_saved_and_its_tokens_are_its_own(tmp_path: Path) -> None:
    tokenizer, images = tz.create("kl-tiny").eval(), torch.rand(16, 3, 64, 64)
    tokenizer.save_pretrained(tmp_path / "plain")
    latents = tokenizer.encode_latents(images)
    quantizer = FittedDimensionWiseQuantizer(8, levels=8)
    quantizer.fit(latents)
    published, fitted = (tz.load(tmp_path / "plain").replace(part) for part in (rule(8, levels=8), quantizer))
    error = {part.weights: (part.quantizer(latents).values - latents).square().mean() for part in (published, fitted)}
    assert error[fitted.weights] < error[published.weights] / 10
    fitted.save_pretrained(tmp_path / "fitted")
    again = tz.load(tmp_path / "fitted")
    assert torch.equal(again.quantizer.table, quantizer.table)
    assert again.weights == fitted.weights
    other = FittedDimensionWiseQuantizer(8, levels=8)
    other.fit(latents[:8] + 1)
    with pytest.raises(tz.TokenError, match="other weights"):
        tz.load(tmp_path / "plain").replace(other).decode(fitted.encode(images))


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(tz.WeightsError, match="multiple of 16, got 100"):
        tz.create("kl-16", **{"encoder.image_size": 100, "decoder.image_size": 100})
