"""TokenFlow's codes, features and images, at both of its sizes, and what its importer takes and leaves.

The cases without `cut` are recorded of the reference implementation, at full size: slow. The cut ones have one block a stack and
a few channels, recorded of this library when the full cases held.
"""

import math
from itertools import accumulate
from typing import Any

import pytest
import torch
from official import recorded
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo import official
from tokenizers_zoo.official import importer

Case = tuple[tz.Tokenizer, dict[str, Tensor], str]
CONVOLUTIONS = {"channels": 32, "hidden": 32, "blocks": 1}
CLIP, SIGLIP = {"width": 32, "depth": 1, "heads": 2}, {"width": 32, "depth": 1, "heads": 2, "hidden": 40}
SIZES = {  # of the cut cases: pixels a side, grid, patches a side that the tables of positions have, scales
    "tokenflow-clipb": (48, 3, None, [1, 2, 3]),
    "tokenflow-clipb-256": (64, 4, 3, [1, 2, 3, 4]),
    "tokenflow-siglip-xl": (50, 3, None, [1, 2, 3]),
}
CASES = [  # case, variant, prefix of the outputs
    pytest.param(("tokenflow_cut", "tokenflow-clipb", "")),
    pytest.param(("tokenflow_cut", "tokenflow-clipb-256", "interp_")),
    pytest.param(("tokenflow_siglip_cut", "tokenflow-siglip-xl", "")),
    pytest.param(("tokenflow_clipb", "tokenflow-clipb", ""), marks=pytest.mark.slow),
    pytest.param(("tokenflow_clipb", "tokenflow-clipb-256", "interp_"), marks=pytest.mark.slow),
    pytest.param(("tokenflow_siglip_xl", "tokenflow-siglip-xl", ""), marks=pytest.mark.slow),
]
PUBLISHED = [("tokenflow_clipb", "tokenflow-clipb", 649, 1), ("tokenflow_siglip_xl", "tokenflow-siglip-xl", 848, 32)]


def cuts(variant: str) -> dict[str, Any]:
    """Overrides that make the network of a cut case."""
    size, grid, trained, scales = SIZES[variant]
    tower = SIGLIP if "siglip" in variant else CLIP | {"trained": trained}
    parts = {
        "encoder.semantic": tower | {"image_size": size},
        "encoder.pixel": CONVOLUTIONS | {"image_size": size, "grid": grid},
        "decoder": CONVOLUTIONS | {"image_size": size, "grid": grid},
        "semantic_decoder": CLIP | {"grid": grid, "features": 12, "trained": trained},
        "quantizer": {"scales": scales},
        "quantizer.stage": {"codebook_size": 64},
    }
    return {f"{part}.{name}": value for part, arguments in parts.items() for name, value in arguments.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A tokenizer with the weights of a case, inputs and outputs, and the outputs' prefix."""
    name, variant, prefix = request.param
    if "cut" in name:
        monkeypatch.setattr(official, "create", lambda name, **told: tz.create(name, **cuts(name), **told))
    return tz.load_official(variant, recorded.state(name)), recorded.io(name), prefix


def equal(found: Tensor, wanted: Tensor) -> bool:
    """Within 1e-4 of the peak; of what was recorded with strides, every so many-th entry."""
    steps = tuple(slice(None, None, -(-n // m)) for n, m in zip(found.shape, wanted.shape, strict=True))
    return bool(((found[steps] - wanted).abs().max() / wanted.abs().max()) <= 1e-4)


def maps(rows: Tensor) -> Tensor:
    """(B, side^2, D) -> (B, D, side, side)."""
    return rows.transpose(1, 2).unflatten(2, (math.isqrt(rows.shape[1]),) * 2)


@torch.no_grad()
def test_recorded(case: Case) -> None:
    tokenizer, io, prefix = case
    image = io["input.image_256" if prefix else "input.image"]
    wanted = {key.removeprefix(f"output.{prefix}"): value for key, value in io.items() if key.startswith(f"output.{prefix}")}
    if "semantic_backbone" in wanted:
        assert equal(tokenizer.encoder.semantic(image), wanted["semantic_backbone"])
        assert equal(tokenizer.encoder.pixel.features(image), wanted["pixel_encoder"])
    for half, latents in tokenizer.encoder.split(tokenizer.encode_latents(image)).items():
        assert equal(maps(latents), wanted[f"latent_{half}"])
    tokens = tokenizer.encode(image)
    assert torch.equal(tokens.codes[:, 0], wanted["indices"])
    latents = tokenizer.latents(tokens.codes, (0,))
    assert equal(maps(latents), wanted["quant"])
    assert equal(tokenizer.embed(tokens, "semantic"), wanted["semantic_features"])
    assert equal(maps(tokenizer.embed(tokens, "pixel")), wanted["quant"][:, -tokenizer.decoder.dim :])
    pixels = 2 * tokenizer.decode_latents(latents) - 1
    assert equal(pixels[:1], wanted["image_strided"])
    if "image_1_strided" in wanted:
        assert equal(pixels[1:], wanted["image_1_strided"])
    assert equal(2 * tokenizer.decode(tokens[0]).pixels - 1, wanted["image_strided"].clamp(-1, 1))


@torch.no_grad()
def test_prefixes_end_on_scales(case: Case) -> None:
    tokenizer, io, prefix = case
    if prefix:
        return
    tokens, ends = tz.Tokens(io["output.indices"][:1, None], tokenizer.spec), tokenizer.spec.prefix_lengths
    assert tuple(ends) == tuple(accumulate(side**2 for side in tokenizer.quantizer.scales))
    sums = [maps(tokenizer.latents(tokens.prefix(end).codes, (0,))) for end in ends]
    assert equal(torch.stack(sums, 1), io["output.quant_cumulative"])
    if "output.prefix_image_strided" in io:
        first = tokens.prefix(ends[len(ends) // 2 - 1])
        assert equal(2 * tokenizer.decode(first).pixels - 1, io["output.prefix_image_strided"].clamp(-1, 1))
        assert equal(tokenizer.embed(first, "semantic"), io["output.prefix_semantic_features"])
    with pytest.raises(tz.TokenError, match="no prefix of 3 positions; the nearest has"):
        tokens.prefix(3)


@pytest.mark.parametrize(("name", "variant", "entries", "dropped"), PUBLISHED)
def test_every_published_entry_is_accounted_for(name: str, variant: str, entries: int, dropped: int) -> None:
    wanted = recorded.manifest(name)
    with torch.device("meta"):
        tokenizer = tz.create(variant)
    found = importer(variant).shapes(tokenizer)
    assert len(wanted) == entries
    assert found.items() <= {key: tuple(n for n in shape if n != 1) for key, shape in wanted.items()}.items()
    left = wanted.keys() - found.keys()
    assert len(left) == dropped
    beside = ("quantize.codebook_used", "scaling_layer.", *(f"encoder_vqkd.vision_model.{n}" for n in ("post_l", "head.")))
    assert all(key.startswith((*beside, "encoder_vqkd.vision_model.encoder.layers.26.")) for key in left)
    biases = [p for key, p in tokenizer.semantic_decoder.named_parameters() if key.endswith("attention.in_proj.bias")]
    read = sum(math.prod(shape) for key, shape in wanted.items() if key in found)
    assert sum(p.numel() for p in tokenizer.parameters()) == read + sum(b.numel() // 3 for b in biases)  # of keys: zero


def test_forms_of_a_published_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "create", lambda name, **told: tz.create(name, **cuts(name), **told))
    state = recorded.state("tokenflow_cut")
    plain = tz.load_official("tokenflow-clipb", state)
    assert plain.license == "MIT"
    for wrapped in ({"model": state, "steps": 3}, {"ema": {f"module.{k}": v for k, v in state.items()}, "model": {}}):
        assert tz.load_official("tokenflow-clipb", wrapped).weights == plain.weights
    bias = plain.semantic_decoder.blocks[0].attention.in_proj.bias.chunk(3)
    assert torch.equal(bias[0], state["decoder_vqkd.blocks.0.attn.q_bias"])
    assert not bias[1].any()
    assert torch.equal(bias[2], state["decoder_vqkd.blocks.0.attn.v_bias"])
    for change, message in (
        ({"decoder_vqkd.blocks.0.attn.k_bias": torch.zeros(32)}, r"1 surplus: decoder_vqkd\.blocks\.0\.attn\.k_bias"),
        ({"decoder_vqkd.blocks.0.attn.q_bias": torch.zeros(3)}, r"wrong shape: decoder_vqkd\.blocks\.0\.attn\.q_bias"),
    ):
        with pytest.raises(tz.WeightsError, match=message):
            tz.load_official("tokenflow-clipb", state | change)
    del state["decoder_vqkd.blocks.0.attn.v_bias"]
    with pytest.raises(tz.WeightsError, match=r"1 missing: decoder_vqkd\.blocks\.0\.attn\.v_bias"):
        tz.load_official("tokenflow-clipb", state)


def test_another_quantizer_and_one_scale() -> None:
    tokenizer = tz.create("tokenflow-clipb", **cuts("tokenflow-clipb")).eval()
    stage = {"class_path": "SharedIndexQuantizer", "init_args": {"codebook_size": 50, "semantic_dim": 32, "pixel_dim": 8}}
    one = tokenizer.replace(quantizer=stage)
    tokens = one.encode(torch.rand(2, 3, 48, 48))
    assert (one.spec.layout, one.spec.scales, tokens.codes.shape) == ("grid", (), (2, 1, 9))
    features = one.embed(tokens, "semantic")
    torch.testing.assert_close(one.embed(tokens, "pooled"), features.mean(1))
    with pytest.raises(tz.WeightsError, match=r"encoder\.positions = 9, the square of the last scale = 16"):
        one.replace(quantizer={"class_path": "MultiScaleQuantizer", "init_args": {"stage": stage, "scales": [1, 4]}})
    with pytest.raises(tz.WeightsError, match=r"encoder\.dim = 40, quantizer\.dim = 3"):
        one.replace(quantizer={"class_path": "FSQ", "init_args": {"levels": [5, 5, 5]}})
    with pytest.raises(tz.WeightsError, match=r"semantic_decoder\.dim"):
        tz.create("tokenflow-clipb", **cuts("tokenflow-clipb"), **{"semantic_decoder.dim": 8})
    with pytest.raises(tz.TokenError, match="no features of 'acoustic'"):
        one.embed(tokens, "acoustic")
