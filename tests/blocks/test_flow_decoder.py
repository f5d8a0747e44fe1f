"""What the flow decoder saves changes nothing, and what it is asked for is checked."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import media, small
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.blocks.flow_decoder import Condition, FlowDecoder
from tokenizers_zoo.blocks.guidance import ProjectedGuidance
from tokenizers_zoo.blocks.kl_autoencoder import KLAutoencoder
from tokenizers_zoo.blocks.positions import coarse_to_fine
from tokenizers_zoo.blocks.registers import RegisterDecoder, RegisterEncoder

NAME = "flextok-d12-d12"
SIZE = {"dim": 3, "positions": 16, "image_size": 16, "patch_size": 4, "depth": 2, "width": 16, "heads": 2}


def decoder(**options: Any) -> FlowDecoder:
    """One whose gates and null token matter."""
    made = FlowDecoder(**SIZE, **options).eval()
    for name, p in made.named_parameters():
        if "modulation" in name or name.endswith("_token"):
            p.data.normal_(std=0.5)
    return made


def whole(model: FlowDecoder, latents: Tensor, lengths: Tensor) -> Condition:
    """All 16 registers written out."""
    padded = torch.zeros(len(latents), 16, 3)
    padded[:, : latents.shape[1]] = latents
    return model.condition(padded, lengths)


@torch.no_grad()
def test_equal_tokens_are_counted_and_branches_run_as_one() -> None:
    model, latents, noisy = decoder(), torch.randn(3, 5, 3), torch.randn(3, 3, 16, 16)
    modulations, lengths = model.modulations(torch.tensor([0.3])), torch.tensor([5, 1, 3])
    condition = model.condition(latents, lengths)
    assert condition.registers.shape[1] == 6
    null = model.null(condition)
    assert null.registers.shape[1] == 1
    together, _ = model.run(noisy, modulations, condition, null)
    (alone,), _ = model.run(noisy, modulations, whole(model, latents, lengths))
    torch.testing.assert_close(together[0], alone)
    everywhere = Condition(model.null_token.expand(3, 16, -1), 1, None)
    (unconditional,), _ = model.run(noisy, modulations, everywhere)
    torch.testing.assert_close(together[1], unconditional)
    torch.testing.assert_close(model.velocity(noisy, torch.full((3,), 0.3), None), unconditional)
    dropped = torch.tensor([False, True, False])
    (mixed,), _ = model.run(noisy, modulations, model.without(whole(model, latents, lengths), dropped))
    torch.testing.assert_close(mixed, torch.where(dropped[:, None, None, None], unconditional, alone))


@torch.no_grad()
def test_sampling_is_what_its_steps_say() -> None:
    model, latents, noise = decoder(), torch.randn(2, 16, 3), torch.randn(2, 3, 16, 16)
    for apg in (False, True):
        sample, guide = noise, ProjectedGuidance()
        for step in range(3):
            time = torch.full((2,), 1 - step / 3)
            with_tokens, without = model.velocity(sample, time, latents), model.velocity(sample, time, None)
            plain = without + 4 * (with_tokens - without)
            sample = sample - (guide(with_tokens, without, 4) if apg else plain) / 3
        torch.testing.assert_close(model(latents, noise=noise, steps=3, guidance=4, apg=apg), sample)
    torch.testing.assert_close(
        model(latents, noise=noise, steps=1, guidance=1), noise - model.velocity(noise, torch.ones(2), latents)
    )


@torch.no_grad()
def test_a_prefix_decodes_under_autocast() -> None:
    model, latents, noise = decoder(), torch.randn(2, 5, 3), torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(latents, noise=noise, steps=2)
    torch.testing.assert_close(found.float(), model(latents, noise=noise, steps=2), atol=0.3, rtol=0.1)


@torch.no_grad()
def test_a_sketch_is_what_the_flow_adds_to() -> None:
    model = decoder(sketch=RegisterDecoder(**SIZE), spread=0.25)
    latents, noise = torch.randn(2, 16, 3), torch.randn(2, 3, 16, 16)
    sketch = 2 * model.sketch(latents) - 1
    velocity = model.velocity(noise, torch.ones(2), latents)
    torch.testing.assert_close(model(latents, noise=noise, steps=1, guidance=1), sketch + 0.25 * (noise - velocity))
    assert not torch.allclose(model.velocity(noise, torch.ones(2), latents[:, :4]), velocity)


@torch.no_grad()
def test_a_sketch_is_an_output_of_its_own() -> None:
    tokenizer = small("flextok-tiny")
    tokens = tokenizer.encode(media(tokenizer, 2))
    sketch = tokenizer.decode(tokens, output="sketch").pixels
    torch.testing.assert_close(tokenizer.decoder.sketch(tokenizer.quantizer.decode(tokens.codes)).clamp(0, 1), sketch)
    assert not torch.allclose(tokenizer.decode(tokens).pixels, sketch)
    with pytest.raises(tz.InputError, match="its decoder has none"):
        tokenizer.decode(tokens, output="sketch", steps=2)
    images = media(tokenizer, 2)
    first, second = tokenizer(images), tokenizer(images)  # in evaluation mode: all tokens, and the same times and noise
    torch.testing.assert_close(first.output.clamp(0, 1), tokenizer.decode(tokenizer.encode(images), output="sketch").pixels)
    for name, value in first.features.items():
        assert value.shape == (2, 3, 64, 64)
        assert torch.equal(value, second.features[name])


def test_a_register_sees_none_after_it() -> None:
    encoder = RegisterEncoder(**SIZE)
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(images)[0, 6].sum(), encoder.registers, retain_graph=True)
    assert (gradient.abs().sum(1) > 0).tolist() == [True] * 7 + [False] * 9
    (gradient,) = torch.autograd.grad(encoder(images)[0, 0].sum(), images)
    assert (gradient.abs().sum(1) > 0).all()


def test_places_go_from_coarse_to_fine() -> None:
    places = coarse_to_fine(64, 8)
    assert places[0].tolist() == [3.5, 3.5]
    for count in (4, 16, 64):
        quarters = (places[:count] >= 4).long() @ torch.tensor([2, 1])
        assert quarters.bincount().tolist() == [count // 4] * 4
    assert len(places[16:].unique(dim=0)) == 48


def test_latents_of_the_autoencoder_are_its_mean_times_a_scale() -> None:
    made = KLAutoencoder(4, 32, (1, 2), scale=0.5)
    images = torch.rand(2, 3, 16, 24)
    latents = made.encode(images)
    assert latents.shape == (2, 4, 8, 12)
    torch.testing.assert_close(latents, made.encoder(images)[:, :4] / 2)
    torch.testing.assert_close(made.decode(latents), made.decoder(2 * latents))
    assert made.decode(latents).shape == images.shape


def test_wrong_options_are_refused() -> None:
    tokenizer = small(NAME)
    tokens = tokenizer.encode(media(tokenizer))
    for wrong, message in (
        ({"steps": 0}, "steps must be a whole number from 1 on, got 0"),
        ({"steps": 2.5}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"guidance": "7"}, "guidance must be a number"),
        ({"apg": 1}, "apg must be True or False"),
        ({"noise": torch.zeros(1, 16, 31, 32)}, r"noise must be a tensor with shape \(1, 16, 32, 32\)"),
        ({"temperature": 1}, "there are apg, guidance, noise, steps"),
    ):
        with pytest.raises(tz.InputError, match=message):
            tokenizer.decode(tokens, **wrong)
    with pytest.raises(tz.InputError, match=r"give noise=\(1, 16, 32, 32\)"):
        tokenizer.decode_latents(torch.zeros(1, 8, 6))
    for count in (0, -1):
        with pytest.raises(tz.TokenError, match="1"):
            tokens.prefix(count)
    other = tz.Tokens(tokens.codes, replace(tokens.spec, image_size=512))
    with pytest.raises(tz.TokenError, match="image_size 256, these tokens have 512"):
        tokenizer.decode(other)
    with pytest.raises(tz.WeightsError, match=r"encoder.map_channels = 3, decoder.map_channels = 16"):
        tz.create(NAME, **{"encoder.map_channels": 3, "encoder.depth": 1, "decoder.depth": 1, "autoencoder.channels": 32})
