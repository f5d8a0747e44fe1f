"""Systems of an evaluation: which rows a tokenizer gives, and what its items are."""

from pathlib import Path

import pytest
import torch
import toys
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.eval import systems
from tokenizers_zoo.eval.features import Features
from tokenizers_zoo.eval.systems import Tokenized, captions_of
from tokenizers_zoo.manifest import Row
from tokenizers_zoo.teachers.vision import VisionTeacher


def test_codebooks_are_measured_where_they_decode_alone() -> None:
    tokenizer = toys.two_outputs()  # its first codebook decodes by the sketch alone
    rows = [system.name for system in systems.tokenized(tokenizer, [1, 2, 3], [])]
    assert rows == ["two-outputs", "two-outputs, 2 codebooks", "two-outputs, 1 codebook, sketch decoder"]


def test_each_role_alone_is_a_row() -> None:
    """Codes that nothing decodes have bits and a meaning; what another output decodes is there already."""
    grouped, photo = small("dualtoken-tiny"), tz.Images.load(DATA / "chelsea.jpg").resize_crop(64)
    listed = systems.tokenized(grouped, [], [], "here", None, ["pixel", "semantic", "acoustic"])
    assert [(system.name, system.source) for system in listed] == [
        (name, "here") for name in ("dualtoken-tiny", "dualtoken-tiny, pixel codes", "dualtoken-tiny, semantic codes")
    ]
    found = [system.roundtrip(photo) for system in listed]
    tokens = grouped.encode(photo)
    assert torch.equal(found[0][0].pixels, found[1][0].pixels)
    assert found[2][0] is None
    assert [item["bits"] for _, item in found] == [
        pytest.approx(float(some.bits)) for some in (tokens, tokens.codebooks("pixel"), tokens.codebooks("semantic"))
    ]
    latents = [system.latents(photo, item) for system, (_, item) in zip(listed, found, strict=True)]
    wanted = [grouped.latents(tokens.codes, [0, 1]), grouped.embed(tokens, "pixel"), grouped.embed(tokens, "semantic")]
    for mine, theirs in zip(latents, wanted, strict=True):
        torch.testing.assert_close(mine, theirs[0])
    names = [system.name for system in systems.tokenized(toys.two_outputs(), [], [], roles=["pixel", "semantic"])]
    assert names == ["two-outputs", "two-outputs, 1 codebook, sketch decoder", "two-outputs, pixel codes"]
    assert len(systems.tokenized(small("titok-tiny"), [], [], roles=["pixel"])) == 1  # all codes are of this role


@pytest.mark.parametrize("name", ["tokenflow-tiny", "titok-tiny"])
def test_codes_of_one_role_are_taken_as_what_they_mean(name: str) -> None:
    """1D tokens all in one place."""
    tokenizer, photo = small(name), tz.Images.load(DATA / "chelsea.jpg").resize_crop(64)
    lengths = [*(tokenizer.spec.prefix_lengths or ())][:1]
    for system in systems.tokenized(tokenizer, [], lengths):
        tokens = tokenizer.encode(photo)
        tokens = tokens.prefix(system.positions) if system.positions else tokens
        latents = system.latents(photo, system.roundtrip(photo)[1])
        wanted = tokenizer.embed(tokens, tokenizer.roles[0])
        torch.testing.assert_close(latents, wanted.flatten(1) if name == "titok-tiny" else wanted[0])


def test_a_tokenizer_without_a_quantizer_is_one_row_without_bits() -> None:
    tokenizer, photo = small("kl-tiny"), tz.Images.load(DATA / "chelsea.jpg").resize_crop(64)
    (system,) = systems.tokenized(tokenizer, [1], [16], "here", {"no captions": {}}, ["pixel"])
    assert (system.name, system.source, system.sizes) == ("kl-tiny", "here", ())
    decoded, found = system.roundtrip(photo)
    latents = tokenizer.encode_latents(photo.pixels)
    assert found == {}
    torch.testing.assert_close(system.latents(photo, found), latents[0])
    torch.testing.assert_close(decoded.pixels, tokenizer.decode_latents(latents).clamp(0, 1))
    again, _ = system.roundtrip(photo)
    assert torch.equal(decoded.pixels, again.pixels)  # the mean, no sample


def test_features_are_a_layer_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the recipes' teacher gives them, place by place."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 16, 16), torch.nn.ReLU())
    monkeypatch.setattr("tokenizers_zoo.eval.features.TimmNetwork", lambda *_: network)
    system, photo = Features(tap="0"), tz.Images.load(DATA / "chelsea.jpg").resize_crop(64)
    assert system.roundtrip(photo) == (None, {})
    latents = system.latents(photo, {})
    teacher = VisionTeacher(network, "0", 128, [127 / 255] * 3, [128 / 255] * 3)
    torch.testing.assert_close(latents, teacher(photo.pixels)[0].flatten(1).T)
    before = system.weights
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert len(before) == 12
    assert Features(tap="0").weights != before


def test_a_second_output_is_a_row_of_the_table() -> None:
    tokenizer, clip = small("lm-spt-12.5hz-24k"), tz.Audio(torch.randn(1, 1, 9000) * 0.1, 16000)
    system = Tokenized(tokenizer, output="auxiliary")
    assert system.name == "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"
    names = [listed.name for listed in systems.tokenized(tokenizer, [], [])]
    assert names == ["lm-spt-12.5hz-24k", "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"]
    decoded, found = system.roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape[-1]) == (16000, 9000)
    assert found["codes"].shape == (1, 8)  # 9000 samples at 16 kHz are 7.03 frames of 1920 at 24 kHz
    assert found["bits"] == 8 * 14 + 32


def test_photos_keep_the_size_of_a_suite_where_a_tokenizer_takes_it() -> None:
    photo, tokenizer = tz.Images.load(DATA / "chelsea.jpg").resize_crop(24), toys.sized()
    decoded, found = Tokenized(tokenizer).roundtrip(photo)
    assert decoded.pixels.shape == (1, 3, 24, 24)
    assert found["bits"] == pytest.approx(tokenizer.spec.bits_per_image + 32)  # height and width
    assert torch.equal(decoded.pixels, tokenizer.decode(tokenizer.encode(photo, size=24)).pixels)


def test_an_items_noise_has_its_own_seed() -> None:
    """Whatever is beside it."""
    tokenizer = toys.noisy()
    photos = [tz.Images.load(DATA / f"{name}.jpg").resize_crop(16) for name in ("chelsea", "coffee", "chelsea")]
    rows = [Row(DATA / "chelsea.jpg")] * 3
    together = [back for back, _ in Tokenized(tokenizer).roundtrips(photos, rows, [5, 6, 7])]
    for photo, seed, back in zip(photos, (5, 6, 7), together, strict=True):
        wanted = tokenizer.decode(tokenizer.encode(photo), seed=seed)
        torch.testing.assert_close(back.pixels, wanted.pixels)
    assert not torch.equal(together[0].pixels, together[2].pixels)


def test_captions_are_own_none_or_of_others() -> None:
    tokenizer, name = toys.captioned(), DATA / "chelsea.jpg"
    photo = tz.Images.load(name).resize_crop(16)
    texts = ["a cat", "cups", "a cat", "", "cups", "a cat"]
    rows = [Row(Path(f"{n}.jpg"), text) for n, text in enumerate(texts)]
    captions = captions_of(["none", "others"], rows)
    assert captions["no captions"] == {}
    assert [captions["others' captions"][row.path] for row in rows] == ["cups", "a cat", "cups", "a cat", "a cat", "cups"]
    listed = systems.tokenized(tokenizer, [], [], "x", captions)
    assert [(system.name, system.source) for system in listed] == [
        ("captioned", "x"),
        ("captioned, no captions", "x"),
        ("captioned, others' captions", "x"),
    ]
    for system, given in zip(listed, (texts, [""] * 6, captions["others' captions"].values()), strict=True):
        found = system.roundtrips([photo] * 6, rows, [0] * 6)
        for (back, item), text in zip(found, given, strict=True):
            tokens = tokenizer.encode(photo, text=text)
            torch.testing.assert_close(back.pixels, tokenizer.decode(tokens).pixels)
            assert item["side"] == 8 * len(text)
    assert len(systems.tokenized(toys.noisy(), [], [4], "", captions)) == 2  # takes none
    names = [system.name for system in systems.tokenized(small("textok-tiny"), [], [16, 65], "", captions)]
    assert names == [
        f"textok-tiny{few}{told}" for told in ("", ", no captions", ", others' captions") for few in ("", ", 16 tokens")
    ]
    with pytest.raises(tz.InputError, match="two captions at least"):
        captions_of(["others"], [rows[0], rows[3]])


def test_only_what_a_tokenizer_can_decode_is_listed() -> None:
    speech = [listed.name for listed in systems.tokenized(small("lm-spt-tiny"), [1, 7, 8], [32])]
    assert [name.removeprefix("lm-spt-tiny") for name in speech][:3] == ["", ", 1 codebook", ", 7 codebooks"]
    assert "lm-spt-tiny, 8 codebooks" not in speech
    assert [listed.name for listed in systems.tokenized(small("titok-tiny"), [1], [32])] == ["titok-tiny"]


def test_clips_come_back_at_the_suites_rate_and_length() -> None:
    clip = tz.Audio(torch.randn(1, 1, 24001) * 0.1, 24000)
    decoded, found = Tokenized(tz.load("dm-codec-tiny"), codebooks=2).roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape) == (24000, (1, 1, 24001))
    assert found["codes"].shape == (2, 51)


def test_originals_have_16_bits_a_sample_and_24_a_pixel() -> None:
    assert systems.Original().roundtrip(tz.Audio(torch.zeros(1, 1, 1000), 8000))[1] == {"bits": 16000.0}
    assert systems.Original().roundtrip(tz.Images(torch.zeros(1, 3, 4, 5)))[1] == {"bits": 480.0}
