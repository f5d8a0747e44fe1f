"""FlexTok's ids, velocities, Euler steps and images, and what an importer reads of its configuration.

`flextok_d12_d12` is recorded of the reference implementation, at full size: slow. `flextok_cut` has two blocks a side, 16
registers and 64 pixels, recorded of this library when the full case held.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official import recorded
from safetensors.torch import save_file
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo import official
from tokenizers_zoo.official import IMPORTERS, importer

VARIANT = "flextok-d12-d12"
SIDES = {
    f"{side}.{size}": n for side in ("encoder", "decoder") for size, n in (("depth", 2), ("positions", 16), ("image_size", 64))
}
CUT = {**SIDES, "autoencoder.channels": 32}
CASES = [pytest.param("flextok_cut"), pytest.param("flextok_d12_d12", marks=pytest.mark.slow)]
LOADED: dict[str, tz.Tokenizer] = {}


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """load_official builds the cut size."""
    monkeypatch.setattr(official, "create", lambda name, **told: tz.create(name, **CUT, **told))


@pytest.fixture
def load(request: pytest.FixtureRequest) -> Callable[[str], tz.Tokenizer]:
    """The tokenizer of a case; one large model is kept."""

    def of(case: str) -> tz.Tokenizer:
        if case not in LOADED:
            if case == "flextok_cut":
                request.getfixturevalue("cut")
            LOADED[case] = tz.load_official(VARIANT, recorded.state(case))
        return LOADED[case]

    return of


def equal(found: Tensor, wanted: Tensor) -> bool:
    return ((found - wanted).abs().max() / wanted.abs().max()).item() <= 1e-5


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_encoding(case: str, load: Callable[[str], tz.Tokenizer]) -> None:
    tokenizer, io = load(case), recorded.io(case)
    assert equal(tokenizer.map(io["input.image"]), io["output.vae_latents"])
    assert equal(tokenizer.encode_latents(io["input.image"]), io["output.registers"])
    tokens = tokenizer.encode(io["input.image"])
    assert torch.equal(tokens.codes[:, 0], io["output.tokens"].long())
    if "output.quantized" in io:
        assert equal(tokenizer.quantizer.decode(tokens.codes), io["output.quantized"])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_velocities(case: str, load: Callable[[str], tz.Tokenizer]) -> None:
    tokenizer, io = load(case), recorded.io(case)
    noise, latents = io["input.noise"], tokenizer.quantizer.decode(io["output.tokens"].long()[:, None])
    time, velocity = torch.full((2,), 0.75), tokenizer.decoder.velocity
    assert equal(velocity(noise, time, latents), io["output.velocity"])
    assert equal(velocity(noise, time, latents[:, :8]), io["output.velocity_k8"])
    assert equal(velocity(noise, time, latents, torch.tensor([8, 8])), io["output.velocity_k8"])
    mixed = velocity(noise, time, latents, torch.tensor([8, latents.shape[1]]))
    assert equal(mixed, torch.stack([io["output.velocity_k8"][0], io["output.velocity"][1]]))
    assert equal(velocity(noise, time, None), io["output.velocity_null"])
    tokenizer.decoder.max_timestep = 1000.0
    try:
        assert equal(velocity(noise, time, latents), io["output.velocity_max_timestep_1000"])
    finally:
        tokenizer.decoder.max_timestep = 1.0


@pytest.mark.parametrize("name", ["plain", "plain_k8", "cfg3", "apg7.5", "apg7.5_k8"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_sampling(case: str, name: str, load: Callable[[str], tz.Tokenizer]) -> None:
    tokenizer, io = load(case), recorded.io(case)
    wanted, pixels = io[f"output.euler4.{name}"], io[f"output.image.{name}_s4"]
    options = {"plain": {"guidance": 1}, "plain_k8": {"guidance": 1.0}, "cfg3": {"guidance": 3, "apg": False}}.get(name, {})
    count = len(wanted)
    tokens = tz.Tokens(io["output.tokens"].long()[:count, None], tokenizer.spec)
    tokens = tokens.prefix(8) if name.endswith("k8") else tokens
    how = {"noise": io["input.noise"][:count], "steps": 4, **options}
    found = tokenizer.decoder(tokenizer.quantizer.decode(tokens.codes), **how)
    assert equal(found, wanted)
    decoded = tokenizer.decode(tokens[:1], **{**how, "noise": how["noise"][:1]}).pixels[..., ::4, ::4]
    assert equal(decoded, ((pixels + 1) / 2).clamp(0, 1))
    if f"output.image.{name}_second_s4" in io:
        assert equal(2 * tokenizer.pixels(found[1:])[..., ::4, ::4] - 1, io[f"output.image.{name}_second_s4"])


def test_keys_and_parameter_counts_are_the_published_ones() -> None:
    wanted = recorded.manifest("flextok_d12_d12")
    with torch.device("meta"):
        tokenizer = tz.create(VARIANT)
    found = importer(VARIANT).shapes(tokenizer)
    assert found == {key: tuple(n for n in shape if n != 1) for key, shape in wanted.items()}
    assert sum(map(math.prod, wanted.values())) == 341_651_737


@pytest.mark.parametrize(
    ("variant", "transformers", "decoder"),
    [("flextok-d12-d12", 85e6, 170e6), ("flextok-d18-d18", 286.7e6, 573.6e6), ("flextok-d18-d28-dfn", 286.7e6, 2158.5e6)],
)
def test_sizes_without_weights(variant: str, transformers: float, decoder: float) -> None:
    with torch.device("meta"):
        tokenizer = tz.create(variant)
    parts = [[tokenizer.encoder.blocks], [tokenizer.decoder.blocks, tokenizer.decoder.block_modulations]]
    counts = [sum(p.numel() for part in side for p in part.parameters()) for side in parts]
    assert counts == pytest.approx([transformers, decoder], rel=2e-3)
    assert tokenizer.spec.bits_per_image == pytest.approx(256 * math.log2(64_000))


def test_options_of_a_published_tree_are_read_as_data(cut: None, tmp_path: Path) -> None:
    tree = {
        "vae": {"_target_": "os.system", "scaling_factor": 0.5},
        "decoder": {
            "module_dict": {
                "dec_time_embedder": {"_target_": "os.system", "dim": 128},
                "dec_latent_dropout": {"_target_": "flextok.model.preprocessors.nullcond.ZeroNullCond"},
            }
        },
    }
    state = recorded.state("flextok_cut")
    zeros = {k: v for k, v in state.items() if not k.endswith("nullcond")}
    literals = {key: repr(value) for key, value in tree.items()} | {"format": "pt"}
    (tmp_path / "a").mkdir()
    save_file(zeros, tmp_path / "a/model.safetensors", literals)
    (tmp_path / "b").mkdir()
    save_file(zeros, tmp_path / "b/model.safetensors")
    (tmp_path / "b/config.json").write_text(json.dumps(tree))
    for source in (tmp_path / "a/model.safetensors", tmp_path / "a", tmp_path / "b"):
        made = tz.load_official(VARIANT, source)
        assert (made.decoder.max_timestep, made.autoencoder.scale, made.decoder.null_token) == (1000.0, 0.5, None)
    save_file(state, tmp_path / "a/model.safetensors", literals)
    with pytest.raises(tz.WeightsError, match=r"1 surplus: .*nullcond"):
        tz.load_official(VARIANT, tmp_path / "a")
    tree["vae"]["scaling_factor"] = "__import__('os')"
    (tmp_path / "b/config.json").write_text(json.dumps(tree))
    with pytest.raises(tz.WeightsError, match=r"scaling_factor = .* no number"):
        tz.load_official(VARIANT, tmp_path / "b")
    (tmp_path / "b/config.json").write_text("{")
    with pytest.raises(tz.WeightsError, match=r"config\.json is not JSON"):
        tz.load_official(VARIANT, tmp_path / "b")


def test_forms_of_a_published_state(cut: None) -> None:
    state = recorded.state("flextok_cut")
    plain = tz.load_official(VARIANT, state)
    wrapped = {key.replace(".blocks.1.", ".blocks.1._checkpoint_wrapped_module."): value for key, value in state.items()}
    extra = {"vae.vae.logvar": torch.zeros(()), "decoder.module_dict.dec_repa_layer.mlp.0.weight": torch.zeros(3, 3)}
    made = tz.load_official(VARIANT, wrapped | extra)
    assert made.weights == plain.weights
    places = "decoder.module_dict.dec_patches_posemb_module.posembs"
    assert torch.equal(plain.decoder.patches.places, state[places][0])  # the stored table, not sines
    timed = tz.load_official(VARIANT, state, **{"decoder.max_timestep": 1000})
    assert timed.decoder.max_timestep == 1000
    assert torch.equal(timed.decoder.out_proj.weight, plain.decoder.out_proj.weight)
    del state[places]
    with pytest.raises(tz.WeightsError, match=f"1 missing: {places}"):
        tz.load_official(VARIANT, state)


def test_the_licence_is_said(cut: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMPORTERS, VARIANT, replace(importer(VARIANT), license="LICENCE"))
    with pytest.warns(UserWarning, match="licensed LICENCE: non-commercial"):
        assert tz.load_official(VARIANT, recorded.state("flextok_cut")).spec.license == "LICENCE"
