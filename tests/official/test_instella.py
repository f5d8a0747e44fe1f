"""Instella BAE: the reference's bits and images from our importer, and what the importer reads from the published tensors."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import media, small
from official import recorded
from official.test_parity import relative
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.official.instella import INSTELLA
from tokenizers_zoo.weights import plain_state

UNSCALED = {"encoder.position_scale": None, "decoder.position_scale": None}


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return recorded.io("instella_bae")


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return recorded.state("instella_bae")


@pytest.mark.slow
@pytest.mark.parametrize(("run", "overrides"), [("a", {}), ("b", {}), ("c", UNSCALED)])
@torch.no_grad()
def test_runs(run: str, overrides: dict[str, Any], io: dict[str, Tensor], published: dict[str, Tensor]) -> None:
    tokenizer = tz.load_official("instella-bae", published, **overrides)
    assert sum(p.numel() for p in tokenizer.parameters()) == 427_754_560
    small = io["input.a.image_quarter"]
    images = small.repeat_interleave(4, -2).repeat_interleave(4, -1) if run == "a" else io["input.b.image"]
    latents = tokenizer.encode_latents(images)
    assert relative(tokenizer.quantizer.proj(latents), io[f"output.{run}.logits"]) <= 1e-4
    tokens = tokenizer.encode(images, size="source")
    bits = io[f"output.{run}.bits"].long().transpose(1, 2)
    assert torch.equal(tokens.codes, bits)
    size = tuple(images.shape[-2:])
    pixels = tokenizer.decode_latents(tokenizer.quantizer.decode(bits), size=size)
    assert relative(2 * pixels[..., ::4, ::4] - 1, io[f"output.{run}.decoded_s4"]) <= 1e-4
    torch.testing.assert_close(tokenizer.decode(tokens).pixels, pixels.clamp(0, 1))


@torch.no_grad()
def test_first_blocks(io: dict[str, Tensor]) -> None:
    """Order of the sequence, positions, mixed rotation, normalised queries and keys, and the halved grid, of 34 M weights."""
    tokenizer = tz.create("instella-bae", **{"encoder.depths": [1, 0], "decoder.depths": [1, 0]})
    shapes = INSTELLA.shapes(tokenizer)
    later = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items() if ".conv." in key}  # change the grid afterwards
    state = recorded.state("instella_bae", shapes.keys() - later.keys()) | later
    tokenizer.load_state_dict(INSTELLA.convert(state, tokenizer))
    seen: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        block = tokenizer.get_submodule(f"{side}.transformer.blocks.0")
        block.register_forward_hook(lambda module, given, x, side=side: seen.update({side: x[0, [0, 127, 128, 129, -1]]}))
    tokenizer.encode_latents(io["input.b.image"])
    latents = tokenizer.quantizer.decode(io["output.b.bits"].long().transpose(1, 2))
    tokenizer.decode_latents(latents, size=(256, 384))
    for side, found in seen.items():
        assert relative(found, io[f"output.b.probe.{side}_block0"]) <= 1e-5


def as_published(tokenizer: tz.Tokenizer, bits: int) -> dict[str, Tensor]:
    """A state dict in the authors' names with so many bits a token."""
    state = {INSTELLA.key(key): value for key, value in plain_state(tokenizer).items()}
    for key in ("quantizer.proj.0.weight", "quantizer.proj.0.bias", "quantizer.embed"):
        state[key] = torch.randn(bits, *state[key].shape[1:])
    return state


@pytest.mark.parametrize("bits", [8, 64, 128])
def test_bits_are_those_of_the_published_table(bits: int, tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(small("instella-bae"))
    state = as_published(tokenizer, bits)
    tokenizer.load_state_dict(INSTELLA.convert(state, tokenizer))
    assert torch.equal(tokenizer.quantizer.embed, state["quantizer.embed"])
    assert tokenizer.spec.codebook_sizes == (2,) * bits
    tokens = tokenizer.encode(media(tokenizer), size=256)
    tokenizer.save_pretrained(tmp_path)
    assert (
        tz.load(tmp_path).encode(media(tokenizer), size=256).codes.shape
        == tokens.codes.shape
        == (1, bits, tokenizer.spec.positions)
    )


def test_other_states_are_refused() -> None:
    tokenizer = copy.deepcopy(small("instella-bae"))
    state = as_published(tokenizer, 64)
    state["extra"] = state.pop("decoder.mask_tokens")
    state["quantizer.proj.0.bias"] = torch.zeros(32)
    with pytest.raises(tz.WeightsError) as error:
        INSTELLA.convert(state, tokenizer)
    for part in ("missing: decoder.mask_tokens", "surplus: extra", r"proj.0.bias: (32,) instead of (64,)"):
        assert part in str(error.value)
    with pytest.raises(tz.WeightsError, match=r"missing: quantizer\.embed"):
        INSTELLA.convert({k: v for k, v in as_published(tokenizer, 64).items() if k != "quantizer.embed"}, tokenizer)
