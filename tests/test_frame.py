"""What the coming tokenizers need of the frame, each on a toy assembly (tests/toys.py)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import toys

import tokenizers_zoo as tz

PHOTOS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TEXTS = ["a cat", "", "Kätzchen"]


def test_captions_go_through_encode_file_and_decode(tmp_path: Path) -> None:
    tokenizer = toys.captioned()
    tokens = tokenizer.encode(PHOTOS, text=TEXTS)
    assert tokens.text == tuple(TEXTS)
    assert not torch.equal(tokens.codes, tokenizer.encode(PHOTOS).codes)
    tokens.save(tmp_path / "x.tok")
    read = tz.Tokens.load(tmp_path / "x.tok")
    assert read == tokens
    decoded = tokenizer.decode(read).pixels
    for i, text in enumerate(TEXTS):
        alone = tokenizer.encode(PHOTOS[i : i + 1], text=text)
        assert alone == tokens[i]
        torch.testing.assert_close(tokenizer.decode(alone).pixels[0], decoded[i])
    assert not torch.allclose(tokenizer.decode(tz.Tokens(tokens.codes, tokens.spec)).pixels, decoded)
    assert float(tokens.bits[2] - tokens.code_bits[2]) == 8 * len(TEXTS[2].encode())


def test_no_caption_is_an_empty_one() -> None:
    tokenizer = toys.captioned()
    assert tokenizer.encode(PHOTOS) == tokenizer.encode(PHOTOS, text="") == tokenizer.encode(PHOTOS, text=["", "", ""])
    mixed = tz.Tokens.cat([tokenizer.encode(PHOTOS[:1]), tokenizer.encode(PHOTOS[1:2], text="a cat")])
    assert mixed.text == ("", "a cat")


def test_wrong_captions_are_refused() -> None:
    tokenizer = toys.captioned()
    with pytest.raises(tz.InputError, match="shorten"):
        tokenizer.encode(PHOTOS, text="a caption of many letters")
    for wrong in (["one"], 7, [1, 2, 3], b"bytes"):
        with pytest.raises(tz.InputError, match="text must be"):
            tokenizer.encode(PHOTOS, text=wrong)
    with pytest.raises(tz.InputError, match="takes media alone"):
        toys.noisy().encode(PHOTOS, text="a cat")
    with pytest.raises(tz.TokenError, match="text"):
        tz.Tokens(toys.noisy().encode(PHOTOS).codes, toys.noisy().spec, text=["a", "b", "c"])


def test_captions_that_are_too_long_are_cut_and_counted_in_training() -> None:
    tokenizer = toys.captioned().train()
    result = tokenizer(PHOTOS, text=["a caption of many letters", "", "b"])
    assert tokenizer.letters.cut == 2  # in encoder and decoder
    result.output.sum().backward()
    assert tokenizer.encoder.proj.weight.grad.abs().sum() > 0


def test_noise_depends_on_the_seed_alone() -> None:
    tokenizer = toys.noisy()
    tokens = tokenizer.encode(PHOTOS)
    together = tokenizer.decode(tokens, seed=[4, 5, 4]).pixels
    two = torch.cat([tokenizer.decode(tokens[[0]], seed=4).pixels, tokenizer.decode(tokens[1:], seed=[5, 4]).pixels])
    torch.testing.assert_close(together, two, rtol=0, atol=1e-6)
    alone = torch.cat([tokenizer.decode(item, seed=s).pixels for item, s in zip(tokens, (4, 5, 4), strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert not torch.allclose(tokenizer.decode(tokens, seed=5).pixels[0], together[0])
    torch.testing.assert_close(tokenizer.decode(tokens).pixels, tokenizer.decode(tokens, seed=0).pixels)


def test_noise_and_options_can_be_given() -> None:
    tokenizer = toys.noisy()
    tokens = tokenizer.encode(PHOTOS)
    noise = torch.stack([torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))] * 3)
    torch.testing.assert_close(tokenizer.decode(tokens, noise=noise).pixels, tokenizer.decode(tokens).pixels)
    assert not torch.allclose(tokenizer.decode(tokens, steps=9).pixels, tokenizer.decode(tokens).pixels)
    with pytest.raises(tz.InputError, match="there are noise, steps"):
        tokenizer.decode(tokens, guidance=2)
    with pytest.raises(tz.InputError, match="noise must be a tensor with shape"):
        tokenizer.decode(tokens, noise=noise[:2])
    with pytest.raises(tz.InputError, match="2 seeds for 3"):
        tokenizer.decode(tokens, seed=[1, 2])
    with pytest.raises(tz.InputError, match="seed must be"):
        tokenizer.decode(tokens, seed=1.5)
    with pytest.raises(tz.InputError, match="its decoder has none"):
        toys.captioned().decode(toys.captioned().encode(PHOTOS), steps=2)


def test_ordered_tokens_decode_at_any_length_alone_and_together() -> None:
    tokenizer = toys.noisy()
    tokens = tokenizer.encode(PHOTOS)
    few = tokens.prefix(5)
    assert few.spec.positions == 5
    assert few.spec.bits_per_image == pytest.approx(tokens.spec.bits_per_image * 5 / 16)
    mixed = tz.Tokens.cat([tokens[0].prefix(3), tokens[1], tokens[2].prefix(9)])
    assert mixed.lengths.tolist() == [3, 16, 9]
    decoded = tokenizer.decode(mixed).pixels
    alone = torch.cat([tokenizer.decode(item).pixels for item in mixed])
    torch.testing.assert_close(decoded, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(tokenizer.decode(few[0]).pixels, tokenizer.decode(tokens[0].prefix(5)).pixels)
    assert not torch.allclose(tokenizer.decode(few).pixels, tokenizer.decode(tokens).pixels)


def test_sizes_travel_as_conditions(tmp_path: Path, photo: Path) -> None:
    tokenizer, fixed = toys.sized(), toys.noisy()
    tokens = tokenizer.encode(PHOTOS, size=(24, 32))
    assert tokens.spec.conditions == ("height", "width")
    assert tokens.conditions["height"].tolist() == [24] * 3
    assert tokens.conditions["width"].dtype == torch.int16
    tokens.save(tmp_path / "x.tok")
    assert tokenizer.decode(tz.Tokens.load(tmp_path / "x.tok")).pixels.shape == (3, 3, 24, 32)
    assert tokenizer.decode(tokenizer.encode(PHOTOS)).pixels.shape[-2:] == (16, 16)
    assert tokenizer.decode(tokenizer.encode(PHOTOS, size=40)).pixels.shape[-2:] == (40, 40)
    assert tokenizer.decode(tokenizer.encode(photo, size="source")).pixels.shape[-2:] == (40, 64)  # of 300 x 451
    with pytest.raises(tz.InputError, match="the nearest is 24 x 32"):
        tokenizer.encode(PHOTOS, size=(24, 30))
    for other in (32, (16, 24)):
        with pytest.raises(tz.InputError, match="16 x 16 alone"):
            fixed.encode(PHOTOS, size=other)
    assert fixed.encode(PHOTOS, size=(16, 16)) == fixed.encode(PHOTOS)
    assert tokenizer.train()(torch.rand(2, 3, 24, 40)).output.shape == (2, 3, 24, 40)


def test_tokens_of_one_size_do_not_decode_at_another() -> None:
    for tokenizer in (toys.sized(), toys.noisy()):
        with pytest.raises(tz.InputError, match=r"at the size that they carry; encode\(source, size="):
            tokenizer.decode(tokenizer.encode(PHOTOS), size=32)
    large = toys.named(
        toys.Plain(toys.Pooled(image_size=32, sizes=True), toys.FSQ(toys.LEVELS), toys.Painted(image_size=32)), "sized"
    )
    with pytest.raises(tz.TokenError, match=r"has image_size 32, these tokens have 16"):
        large.decode(toys.sized().encode(PHOTOS))


def test_sizes_that_no_encoder_gave_are_refused() -> None:
    tokenizer = toys.sized()
    tokens = tokenizer.encode(PHOTOS[:1])
    for height, message in (
        (-16, "multiples"),
        (0, "multiples"),
        (20, "multiples"),
        (32760, "multiples"),
        (16.0, "must be integers"),
        ([16], "must be integers"),
    ):
        crafted = tz.Tokens(tokens.codes, tokens.spec, height=torch.tensor([height]), width=torch.tensor([16]))
        with pytest.raises(tz.TokenError, match=message):
            tokenizer.decode(crafted)


def test_a_batch_has_one_size(photo: Path) -> None:
    tokenizer = toys.sized()
    both = tz.Tokens.cat([tokenizer.encode(PHOTOS[:1]), tokenizer.encode(PHOTOS[:1], size=32)])
    with pytest.raises(tz.TokenError, match="group them by size"):
        tokenizer.decode(both)
    with pytest.raises(tz.InputError, match="one size"):
        tokenizer.encode([photo, PHOTOS[0]], size="source")


def test_scales_have_prefixes_that_end_on_them() -> None:
    tokenizer = toys.pyramid()
    tokens = tokenizer.encode(PHOTOS)
    assert tokens.spec.layout == "scales"
    assert tokens.spec.scales == (1, 2, 4)
    assert tokens.codes.shape == (3, 1, 21)
    assert tuple(tokens.spec.prefix_lengths) == (1, 5, 21)
    coarse = tokenizer.decode(tokens.prefix(5)).pixels
    assert coarse.shape == (3, 3, 16, 16)
    with pytest.raises(tz.TokenError, match="5"):
        tokens.prefix(6)
    with pytest.raises(tz.TokenError, match="group them by length"):
        tokenizer.decode(tz.Tokens.cat([tokens[0], tokens[1].prefix(5)]))


def test_two_groups_have_two_outputs() -> None:
    tokenizer = toys.two_outputs()
    tokens = tokenizer.encode(PHOTOS)
    assert tokens.spec.roles == ("semantic", "pixel")
    assert list(tokenizer.outputs) == ["sketch"]
    assert set(map(frozenset, tokens.spec.decodable)) == {
        frozenset({"semantic"}),
        frozenset({"pixel"}),
        frozenset({"semantic", "pixel"}),
    }
    pixels, sketch = tokenizer.decode(tokens).pixels, tokenizer.decode(tokens, output="sketch").pixels
    assert not torch.allclose(pixels, sketch)
    torch.testing.assert_close(tokenizer.decode(tokens.codebooks("pixel")).pixels, pixels)
    torch.testing.assert_close(tokenizer.decode(tokens.codebooks("semantic"), output="sketch").pixels, sketch)
    with pytest.raises(tz.TokenError, match="needs those with the roles pixel"):
        tokenizer.decode(tokens.codebooks("semantic"))
    with pytest.raises(tz.TokenError, match="it has main, sketch"):
        tokenizer.decode(tokens, output="auxiliary")
    again = tz.Tokens.combine([tokens.codebooks("pixel"), tokens.codebooks("semantic")])
    assert again == tokens


@pytest.mark.parametrize("outputs", [(), ("sketch",)])
@pytest.mark.parametrize(
    "needs", [{"main": ("pixel",), "sketch": ("semantic",)}, {"sketch": ("pixel",)}, {"main": ("semantic", "pixel")}]
)
def test_decodable_is_what_decodes(
    needs: dict[str, tuple[str, ...]], outputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = toys.two_outputs()
    monkeypatch.setattr(tokenizer, "needs", needs)
    monkeypatch.setattr(toys.TwoOutputs, "outputs", {name: tokenizer.sketch for name in outputs})
    tokens = tokenizer.encode(PHOTOS)

    def decodes(part: tz.Tokens, output: str) -> bool:
        try:
            tokenizer.decode(part, output=output)
        except tz.TokenError:
            return False
        return True

    parts = {("semantic",): tokens.codebooks("semantic"), ("pixel",): tokens.codebooks("pixel"), tokens.spec.roles: tokens}
    expected = {roles for roles, part in parts.items() if any(decodes(part, output) for output in ("main", *outputs))}
    assert set(tokens.spec.decodable) == expected


def test_features_of_a_role_for_understanding() -> None:
    tokenizer = toys.two_outputs()
    tokens = tokenizer.encode(PHOTOS)
    latents = tokenizer.quantizer.decode(tokens.codes)
    torch.testing.assert_close(tokenizer.embed(tokens, "pixel"), latents[..., 3:])
    torch.testing.assert_close(tokenizer.embed(tokens.codebooks("semantic"), "semantic"), latents[..., :3])
    torch.testing.assert_close(tokenizer.embed(tokens, "pooled"), latents[..., :3].mean(1))
    with pytest.raises(tz.TokenError, match="acoustic"):
        tokenizer.embed(tokens, "acoustic")


def test_features_are_of_own_tokens_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = toys.two_outputs()
    tokens, moved, to = tokenizer.encode(PHOTOS), [], tz.Tokens.to
    monkeypatch.setattr(tz.Tokens, "to", lambda self, device: moved.append(device) or to(self, device))
    tokenizer.embed(tokens, "pixel")
    assert moved == [tokenizer.device]
    for wrong in (tokens.codes, toys.noisy().encode(PHOTOS)):
        with pytest.raises(tz.TokenError, match=r"takes Tokens|load 'noisy'"):
            tokenizer.embed(wrong, "pooled")


def test_features_stop_at_an_items_end() -> None:
    tokenizer = toys.noisy()
    tokens = tokenizer.encode(PHOTOS)
    mixed = tz.Tokens.cat([tokens[0].prefix(3), tokens[1]])
    features = tokenizer.embed(mixed, "pixel")
    assert not features[0, 3:].any()
    torch.testing.assert_close(tokenizer.embed(mixed, "pooled")[0], features[0, :3].mean(0))


def test_features_of_scales_are_those_of_the_finest() -> None:
    tokenizer = toys.pyramid()
    tokens = tokenizer.encode(PHOTOS)
    features = tokenizer.embed(tokens, "pixel")
    torch.testing.assert_close(features, tokenizer.quantizer.decode(tokens.codes))
    torch.testing.assert_close(tokenizer.embed(tokens, "pooled"), features.mean(1))
    assert tokenizer.embed(tokens.prefix(5), "pixel").shape == (3, 16, 3)


def test_a_decoder_of_noise_trains_without_code_of_its_own() -> None:
    tokenizer = toys.noisy().train()
    first, second = tokenizer(PHOTOS).output, tokenizer(PHOTOS).output
    assert not torch.equal(first, second)
    first.sum().backward()
    assert tokenizer.encoder.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("toy", [toys.captioned, toys.noisy, toys.sized, toys.pyramid, toys.two_outputs])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_wiring_runs_in_another_precision(toy: Callable[[], tz.Tokenizer], dtype: torch.dtype) -> None:
    tokenizer = toy()
    tokens = tokenizer.encode(PHOTOS)
    decoded = {output: tokenizer.decode(tokens, output=output).pixels for output in ("main", *tokenizer.outputs)}
    other = tokenizer.to(dtype)
    assert (other.encode(PHOTOS).codes == tokens.codes).float().mean() > 0.9
    for output, pixels in decoded.items():
        torch.testing.assert_close(other.decode(tokens, output=output).pixels, pixels, atol=0.05, rtol=0)


def test_sizes_in_every_form() -> None:
    tokenizer, square = toys.sized(), toys.noisy()
    for size in (24, np.int64(24), (24, 24), [24, np.int32(24)]):
        assert tokenizer.encode(PHOTOS, size=size).conditions["height"].tolist() == [24] * 3
    for size in (16, np.int64(16), (16, 16), "source", None):
        assert square.encode(PHOTOS, size=size) == square.encode(PHOTOS)
    for wrong in ("sorce", 24.0, True, (24,), (24, 32, 8), {"height": 24}, 0, -8, (16, "x"), (0, 16)):
        for t in (tokenizer, square):
            with pytest.raises(tz.InputError, match="pixels a side"):
                t.encode(PHOTOS, size=wrong)
    with pytest.raises(tz.InputError, match="pixels a side"):
        next(tz.encode_many(tokenizer, [PHOTOS[0]], size="sorce"))


def test_seeds_and_noise_in_every_form() -> None:
    tokenizer = toys.noisy()
    tokens = tokenizer.encode(PHOTOS)
    wanted = tokenizer.decode(tokens, seed=[4, 5, 6]).pixels
    for seed in ((4, 5, 6), np.array([4, 5, 6]), torch.tensor([4, 5, 6])):
        assert torch.equal(tokenizer.decode(tokens, seed=seed).pixels, wanted)
    for wrong in (2**64, -(2**63) - 1, [1, 2, 2**80]):
        with pytest.raises(tz.InputError, match="64 bits"):
            tokenizer.decode(tokens, seed=wrong)
    for wrong in (3, "x", PHOTOS.tolist()):
        with pytest.raises(tz.InputError, match="noise must be a tensor with shape"):
            tokenizer.decode(tokens, noise=wrong)


def test_captions_of_tables() -> None:
    tokenizer = toys.captioned()
    wanted = tokenizer.encode(PHOTOS, text=TEXTS)
    for text in (tuple(TEXTS), np.array(TEXTS), ["a cat", None, "Kätzchen"]):
        assert tokenizer.encode(PHOTOS, text=text) == wanted
    (_, found), *_ = tz.encode_many(tokenizer, [{"media": PHOTOS[0], "text": None}])
    assert found == tokenizer.encode(PHOTOS[:1])


@pytest.mark.parametrize("size", [(23, 32), (2**30, 32), (0, 16), (-8, 8), (24.0, 32.0), ([24, 24], [32, 32])])
def test_sizes_of_foreign_tokens_are_checked(size: tuple[object, object]) -> None:
    tokenizer = toys.sized()
    tokens = tokenizer.encode(PHOTOS)
    sides = {name: torch.tensor([side] * 3) for name, side in zip(("height", "width"), size, strict=True)}
    with pytest.raises(tz.TokenError, match=r"cannot decode these tokens|must be integers"):
        tokenizer.decode(tz.Tokens(tokens.codes, tokens.spec, **sides))


def test_an_encoder_that_is_not_what_it_states_is_met_at_once() -> None:
    tokenizer = toys.sized()
    tokenizer.encoder.side = 3
    with pytest.raises(tz.InputError, match="gave 9 positions; by its attribute it has 16"):
        tokenizer.encode(PHOTOS)
    with pytest.raises(tz.InputError, match="the nearest is 16 x 16"):
        toys.Plain(toys.Pooled(image_size=18, sizes=True), toys.FSQ(toys.LEVELS), toys.Painted(image_size=18))
