"""DualToken: the reference's codes, features and images from our importer, in a reduced configuration (no weights are public)."""

from typing import Any

import pytest
import torch
from conftest import media, small
from official import recorded
from official.test_parity import relative
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.official.dualtoken import DUALTOKEN
from tokenizers_zoo.weights import plain_state

OFFICIAL = DUALTOKEN["dualtoken-384"]
QUANTIZER = {"codebook_size": 2048, "levels": 4}
REDUCED: dict[str, Any] = {
    "encoder": {"image_size": 128, "width": 192, "depths": [2, 1, 4], "heads": 4, "hidden": 480},
    "quantizer.groups.pixel": QUANTIZER,
    "quantizer.groups.semantic": QUANTIZER,
    "decoder": {"image_size": 128, "width": 192, "channels": 64, "multipliers": [1, 1, 2, 2, 4]},
    "head": {"width": 192, "heads": 4, "hidden": 480},
}
OVERRIDES = {f"{part}.{name}": value for part, values in REDUCED.items() for name, value in values.items()}


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return recorded.io("dualtoken")


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return recorded.state("dualtoken")


@pytest.fixture(scope="module")
def reduced(published: dict[str, Tensor]) -> tz.Tokenizer:
    tokenizer = tz.create("dualtoken-384", **OVERRIDES)
    tokenizer.load_state_dict(OFFICIAL.convert(published, tokenizer))
    return tokenizer.eval()


@torch.no_grad()
def test_the_tower_and_both_latents(reduced: tz.Tokenizer, io: dict[str, Tensor]) -> None:
    states = reduced.encoder.states(io["input.image"])
    for name, state in zip(("shortcut", "recon", "sem"), states, strict=True):
        assert relative(state[:, ::9, ::2], io[f"output.hidden_{name}"]) <= 1e-5
    latents = reduced.encode_latents(io["input.image"]).unflatten(1, (9, 9))[:, ::2, ::2]
    for role, half in zip(("pixel", "semantic"), latents.chunk(2, -1), strict=True):
        assert relative(half, io[f"output.latent_{role}"]) <= 1e-5


@torch.no_grad()
def test_codes_features_and_images(reduced: tz.Tokenizer, io: dict[str, Tensor]) -> None:
    tokens = reduced.encode(io["input.image"])
    for role in ("pixel", "semantic"):
        wanted = io[f"output.codes_{role}"].flatten(1, 2).transpose(1, 2)
        assert torch.equal(tokens.codebooks(role).codes, wanted)  # the least recorded gap is 1.4e-3: no ties
    assert relative(reduced.embed(tokens, "semantic")[:, ::9], io["output.semantic_features_s"]) <= 1e-4
    assert relative(reduced.embed(tokens, "pooled"), io["output.pooled"]) <= 1e-4
    result = reduced(io["input.image"])
    assert relative(2 * result.output[..., ::4, ::4] - 1, io["output.image_s4"]) <= 1e-4
    assert relative(result.features["pooled"], io["output.pooled"]) <= 1e-4
    for role in ("pixel", "semantic"):
        torch.testing.assert_close(result.quantized.losses[f"{role}_commitment"], io[f"output.commit_{role}"], rtol=1e-5, atol=0)


@torch.no_grad()
def test_pixels_need_their_own_codes_alone(reduced: tz.Tokenizer, io: dict[str, Tensor]) -> None:
    tokens = reduced.encode(io["input.image"])
    whole = reduced.decode(tokens).pixels
    assert torch.equal(reduced.decode(tokens.codebooks("pixel")).pixels, whole)
    target = (io["input.image"] - whole).square().mean()
    assert (reduced.decode(tokens.codebooks(1)).pixels - whole).square().mean() < target  # a coarse one
    assert torch.equal(reduced.embed(tokens.codebooks("semantic"), "pooled"), reduced.embed(tokens, "pooled"))
    with pytest.raises(tz.TokenError, match="needs those with the roles pixel"):
        reduced.decode(tokens.codebooks("semantic"))


def test_a_published_tower_fills_the_tower(published: dict[str, Tensor]) -> None:
    """SigLIP 2 as Google names it, its text left out; all else keeps its random start."""
    siglip = {key.removeprefix("siglip_model."): value for key, value in published.items() if key.startswith("siglip_model.")}
    tokenizer = tz.create("dualtoken-384", **OVERRIDES)
    before = {key: value.clone() for key, value in plain_state(tokenizer).items()}
    converted = OFFICIAL.convert(siglip, tokenizer)
    whole = OFFICIAL.convert(published, tokenizer)
    assert all(torch.equal(value, whole[key]) for key, value in converted.items())
    tokenizer.load_state_dict(tokenizer.state_dict() | converted)
    after = plain_state(tokenizer)
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed == converted.keys() == OFFICIAL.shapes(tokenizer).keys()
    fresh = {key.split(".")[0] for key in after.keys() - changed}
    assert fresh == {"encoder", "quantizer", "decoder", "head"}
    vision = {key: value for key, value in siglip.items() if key.startswith("vision_model.")}
    assert sum(value.numel() for value in vision.values()) == sum(value.numel() for value in converted.values())


def test_other_states_are_refused(published: dict[str, Tensor]) -> None:
    tokenizer = tz.create("dualtoken-384", **OVERRIDES)
    query = "siglip_model.vision_model.encoder.layers.3.self_attn.q_proj.weight"
    for state, message in (
        ({k: v for k, v in published.items() if k != query}, r"1 missing: encoder\.layers\.3\.attention\.in_proj\.weight"),
        (published | {"extra": torch.zeros(1)}, "1 surplus: extra"),
        ({k: v for k, v in published.items() if k.startswith("siglip_model.")}, r"missing: decoder\.conv_in\.bias"),
        (
            published | {"quantizer_pix.codebooks.1.weight": published["quantizer_pix.codebooks.0.weight"] + 1},
            "codebooks of their own",
        ),
    ):
        with pytest.raises(tz.WeightsError, match=message):
            OFFICIAL.convert(state, tokenizer)
    names = {"quantizer_pix.codebooks.1.weight": published["quantizer_pix.codebooks.0.weight"]}  # as a checkpoint has them
    assert OFFICIAL.convert(published | names, tokenizer).keys() == plain_state(tokenizer).keys()


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(tz.WeightsError, match=r"head\.dim = 16"):
        tz.create("dualtoken-384", **OVERRIDES | {"head.dim": 16})
    with pytest.raises(tz.WeightsError, match="depths are three"):
        tz.create("dualtoken-384", **OVERRIDES | {"encoder.depths": [2, 1]})
    with pytest.raises(tz.WeightsError, match=r"decoder\.positions = 64"):
        tz.create("dualtoken-384", **OVERRIDES | {"decoder.patch_size": 16})


def test_embeddings_are_those_of_the_head() -> None:
    tokenizer = small("dualtoken-256")
    tokens, positions = tokenizer.encode(media(tokenizer, 2)), tokenizer.spec.positions
    assert tokenizer.embed(tokens, "pixel").shape == (2, positions, 32)
    assert tokenizer.embed(tokens, "semantic").shape[:2] == (2, positions)
    assert tokenizer.embed(tokens, "pooled").shape == (2, tokenizer.embed(tokens, "semantic").shape[-1])
