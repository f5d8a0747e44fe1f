"""Ranges, colour profiles, gamma and transparency of every mode and container."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA
from crafted import ADOBE, P3, PROPHOTO, SRGB, cmyk_profile, png, profile, tiff
from PIL import Image, ImageCms

import tokenizers_zoo as tz
from tokenizers_zoo import Images, InputError
from tokenizers_zoo.media import as_images

GREY = np.arange(16, dtype=np.uint16).reshape(4, 4)  # dark in every range
COFFEE = DATA / "coffee.jpg"


def pixels(source: Any) -> np.ndarray:
    """(H, W, 3)."""
    return as_images(source, 4).pixels[0].permute(1, 2, 0).numpy()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("white", [15, 100, 255, 256, 1023, 4095, 65_535])
@pytest.mark.parametrize("dark", [True, False])
def test_pgm_is_scaled_by_its_own_white(white: int, plain: bool, dark: bool) -> None:
    values = GREY if dark else white - GREY
    body = " ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2" if white > 255 else "u1").tobytes()
    data = b"P%d\n4 4\n%d\n" % (2 if plain else 5, white) + body
    step = 255 if white < 256 else 65_535  # Pillow rounds to these
    np.testing.assert_allclose(pixels(data)[..., 0], values / white, rtol=0, atol=0.51 / step)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_is_scaled_by_65535(order: str) -> None:
    data = tiff((4, 4), GREY.astype(f"{order}u2").tobytes(), 16, order=order)
    np.testing.assert_allclose(pixels(data)[..., 1], GREY / 65_535, rtol=1e-6)


def test_16_bit_png_and_compressed_tiff_are_scaled_by_65535() -> None:
    for kind, options in (("PNG", {}), ("TIFF", {"compression": "tiff_lzw"})):
        np.testing.assert_allclose(pixels(encoded(Image.fromarray(GREY), kind, **options))[..., 2], GREY / 65_535, rtol=1e-6)


def test_tiff_of_12_and_32_bits_is_scaled_by_its_own_white() -> None:
    bits = "".join(f"{value:012b}" for value in GREY.ravel())
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    np.testing.assert_allclose(pixels(tiff((4, 4), packed, 12))[..., 0], GREY / 4095, rtol=1e-6)
    wide = GREY.astype("<u4") * 286_331_153  # 0 to 2^32 - 1
    np.testing.assert_allclose(pixels(tiff((4, 4), wide.tobytes(), 32))[..., 0], GREY / 15, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiff_whose_zero_is_white(bits: int) -> None:
    values = np.array([[0, 1]] * 8, np.uint16) * ((1 << bits) - 1)
    data = np.packbits(values.astype(bool), axis=1).tobytes() if bits == 1 else values.astype(f"<u{bits // 8}").tobytes()
    assert as_images(tiff((2, 8), data, bits, photometric=0), (8, 2)).pixels[0, 0, 0].tolist() == [1, 0]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_signed_integers_are_refused(bits: int) -> None:
    data = tiff((4, 4), GREY.astype(f"<i{bits // 8}").tobytes(), bits, sample_format=2)
    with pytest.raises(InputError, match=r"signed integers.*unsigned"):
        as_images(data, 4)


def test_mode_i_without_a_file_is_16_bit() -> None:
    np.testing.assert_allclose(pixels(Image.fromarray(GREY.astype(np.int32)))[..., 0], GREY / 65_535, rtol=1e-6)
    with pytest.raises(InputError, match=r"16-bit grey, got -3\.\.7"):
        as_images(Image.fromarray(np.array([[-3, 7]], np.int32)), 4)


@pytest.mark.parametrize(
    ("value", "fix"), [(255.0, "divide 8-bit values by 255"), (-1.0, r"\(x \+ 1\) / 2"), (np.nan, "repair or drop")]
)
@pytest.mark.parametrize("place", [0, 5])
def test_float_tiff_is_between_0_and_1(value: float, fix: str, place: int, tmp_path: Path) -> None:
    values = (GREY / 15).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "x.tif")
    np.testing.assert_allclose(pixels(tmp_path / "x.tif")[..., 0], values)
    values.ravel()[place] = value
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=rf"x\.tif.*{fix}"):
        as_images(tmp_path / "x.tif", 4)


def test_16_bit_colour_is_its_upper_8_bits() -> None:
    colour = np.random.default_rng(0).integers(0, 65_536, (4, 4, 4)).astype(">u2")
    colour[..., 3] = 65_535
    expected = (colour[..., :3] >> 8) / np.float32(255)
    for kind, channels in ((2, 3), (6, 4)):
        np.testing.assert_allclose(pixels(png((4, 4), 16, kind, colour[..., :channels].tobytes())), expected, atol=1e-6)


TRANSPARENT: dict[str, bytes] = {  # one pixel of black that is transparent, one that is not
    "grey, 1 bit": png((2, 1), 1, 0, b"\x00", (b"tRNS", struct.pack(">H", 0))),
    "grey, 2 bits": png((2, 1), 2, 0, bytes([0b0110_0000]), (b"tRNS", struct.pack(">H", 1))),
    "grey, 4 bits": png((2, 1), 4, 0, bytes([0x12]), (b"tRNS", struct.pack(">H", 1))),
    "grey, 8 bits": png((2, 1), 8, 0, bytes([7, 8]), (b"tRNS", struct.pack(">H", 7))),
    "grey, 16 bits": png((2, 1), 16, 0, struct.pack(">2H", 7, 8), (b"tRNS", struct.pack(">H", 7))),
    "colour": png((2, 1), 8, 2, bytes([1, 2, 3, 3, 2, 1]), (b"tRNS", struct.pack(">3H", 1, 2, 3))),
    "colour, 16 bits": png((2, 1), 16, 2, struct.pack(">6H", 256, 2, 3, 3, 2, 1), (b"tRNS", struct.pack(">3H", 256, 2, 3))),
    "palette": png((2, 1), 8, 3, bytes([0, 1]), (b"PLTE", bytes([9, 9, 9, 8, 8, 8])), (b"tRNS", bytes([0]))),
    "palette, many": png((2, 1), 8, 3, bytes([0, 1]), (b"PLTE", bytes([9, 9, 9, 8, 8, 8])), (b"tRNS", bytes([0, 254]))),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_values_of_png_are_white(kind: str) -> None:
    first, second = as_images(TRANSPARENT[kind], (1, 2)).pixels[0, 0, 0].tolist()
    assert first == 1
    assert second < 0.7 or kind == "grey, 1 bit"  # whose pixels are both the transparent one


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "F", "LAB"]
)
def test_every_mode_is_its_colour(mode: str) -> None:
    grey = mode in ("1", "L", "LA", "La", "I;16", "F")
    colour = (255, 255, 255) if grey else (200, 100, 50)
    image = Image.new("RGB", (8, 8), colour)
    if mode == "LAB":
        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    elif mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65_535, np.uint16))
    elif mode == "F":
        image = Image.fromarray(np.ones((8, 8), np.float32))
    elif mode in ("La", "RGBa"):
        image = image.convert(mode[:-1] + "A").convert(mode)
    elif mode == "P":
        image = image.quantize(4)
    else:
        image = (image.convert("L") if grey else image.quantize(4) if mode == "PA" else image).convert(mode)
    expected = torch.tensor(colour)[:, None, None] / 255
    assert (Images.from_pil(image).pixels[0] - expected).abs().max() <= 3.1 / 255


def test_premultiplied_alpha_is_over_white() -> None:
    for straight, premultiplied in (("RGBA", "RGBa"), ("LA", "La")):
        image = Image.new(straight, (4, 4), (100, 51) if straight == "LA" else (100, 100, 100, 51))
        expected = Images.from_pil(image).pixels
        assert expected.mean() == pytest.approx(0.2 * 100 / 255 + 0.8, abs=1e-6)
        assert (Images.from_pil(image.convert(premultiplied)).pixels - expected).abs().max() <= 1.1 / 255


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF", "TIFF"])
def test_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("black", "white", "red")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert as_images(data, 16).pixels.max() < 0.05


def in_space(space: Any, icc: bytes) -> Image.Image:
    """coffee.jpg in the colours of another space, which the picture names."""
    with Image.open(COFFEE) as image:
        profiles = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return ImageCms.profileToProfile(image, *profiles)


@pytest.mark.parametrize(("space", "off"), [(ADOBE, 8), (P3, 8), (PROPHOTO, 18), (SRGB, 2.5)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_profiles_are_converted_to_srgb(space: Any, off: float, kind: str) -> None:
    original = Images.load(COFFEE).pixels
    copy = in_space(space, profile(space))
    data = encoded(copy, kind, icc_profile=profile(space), **({"lossless": True} if kind == "WEBP" else {}))
    assert (torch.from_numpy(np.array(copy)).permute(2, 0, 1) / 255 - original).abs().mean() * 255 > off
    assert (Images.from_pil(Image.open(io.BytesIO(data))).pixels - original).abs().mean() * 255 < 0.5


def test_a_copy_in_another_space_keeps_its_codes() -> None:
    tokenizer = tz.load("titok-tiny")
    codes = [
        tokenizer.encode(encoded(in_space(s, profile(s)), "PNG", icc_profile=profile(s))).codes for s in (ADOBE, P3, PROPHOTO)
    ]
    shared = [(code == tokenizer.encode(COFFEE).codes).float().mean().item() for code in codes]
    assert min(shared) > 0.9  # the profile ignored: 0.2 to 0.6


def test_srgb_profiles_change_nothing() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(COFFEE) as image:
        assert torch.equal(
            as_images(encoded(image, icc_profile=icc), 64).pixels, as_images(encoded(image, icc_profile=None), 64).pixels
        )


def test_profiles_of_palettes_and_of_transparent_pictures() -> None:
    icc = profile(PROPHOTO)
    flat = Image.new("RGB", (8, 8), (150, 90, 60))
    expected = Images.from_pil(Image.open(io.BytesIO(encoded(flat, icc_profile=icc)))).pixels
    assert (expected[0, 0, 0, 0] - 150 / 255).abs() > 0.05
    for mode in ("P", "RGBA"):
        image = flat.quantize(4) if mode == "P" else flat.convert(mode)
        assert torch.equal(as_images(encoded(image, icc_profile=icc), 8).pixels, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profiles_are_curves(mode: str) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(4, 0)
    image = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(ramp).convert(mode)
    data = encoded(image, icc_profile=profile(PROPHOTO, b"GRAY"))
    linear = (np.arange(256) / 255) ** 1.8
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(as_images(data, (4, 256)).pixels[0, 1, 2], expected, rtol=0, atol=1.5 / 255)


def test_cmyk_profiles_are_converted() -> None:
    image = Image.new("CMYK", (8, 8), (0, 0, 0, 255))  # ink at full strength, which this printer makes a grey
    plain, inked = (as_images(encoded(image, "TIFF", icc_profile=icc), 8).pixels for icc in (None, cmyk_profile()))
    assert plain.max() == 0
    assert inked.mean() == pytest.approx(0.44, abs=0.03)  # L* = 50, by the intent's black point


@pytest.mark.parametrize("damage", ["random", "cut", "empty", "of another kind"])
def test_profiles_that_cannot_be_used_are_passed_over(damage: str) -> None:
    icc = {"random": bytes(range(200)), "cut": profile(ADOBE)[:200], "empty": b"", "of another kind": cmyk_profile()}[damage]
    with Image.open(COFFEE) as image:
        assert torch.equal(
            as_images(encoded(image, icc_profile=icc), 64).pixels, as_images(encoded(image, icc_profile=None), 64).pixels
        )


GAMMA, SRGB_CHUNK = (b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")
RAMP = np.arange(16, dtype=np.uint8).repeat(3) * 17


def iccp(icc: bytes) -> tuple[bytes, bytes]:
    import zlib

    return b"iCCP", b"x\0\0" + zlib.compress(icc)


def ramp(*chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> np.ndarray:
    values = RAMP if colour == 2 else RAMP[::3]
    data = values.tobytes() if depth == 8 else (values.astype(">u2") * 257).tobytes()
    return as_images(png((16, 1), depth, colour, data, *chunks), (1, 16)).pixels[0, :, 0].numpy()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [0, 2])
@pytest.mark.parametrize("gamma", [0.3, 0.5556, 1.0])
def test_gamma_of_png_becomes_2_2(depth: int, colour: int, gamma: float) -> None:
    chunk = (b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    expected = (np.arange(16) / 15) ** (1 / (2.2 * gamma))
    np.testing.assert_allclose(ramp(chunk, depth=depth, colour=colour), np.stack([expected] * 3), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "chunks",
    [[], [(b"gAMA", struct.pack(">I", 45_455))], [GAMMA, SRGB_CHUNK], [(b"gAMA", bytes(4))], [(b"tEXt", b"gamma\x002.2")]],
)
def test_gammas_that_change_nothing(chunks: list) -> None:
    np.testing.assert_array_equal(ramp(*chunks), RAMP.reshape(16, 3).T / np.float32(255))


def test_a_profile_goes_before_gamma() -> None:
    icc = iccp(profile(PROPHOTO))
    assert np.array_equal(ramp(icc, GAMMA), ramp(icc))
    assert np.array_equal(ramp(icc, SRGB_CHUNK), ramp(icc))
    assert not np.array_equal(ramp(icc), ramp())
    assert np.array_equal(ramp(iccp(b"damaged"), GAMMA), ramp(GAMMA))


def test_linear_photos_come_back(tmp_path: Path) -> None:
    original = Images.load(COFFEE).pixels
    linear = torch.where(original <= 0.04045, original / 12.92, ((original + 0.055) / 1.055) ** 2.4)
    grey = linear[0].mean(0)
    data = png(grey.shape[::-1], 16, 0, (grey * 65_535).round().numpy().astype(">u2").tobytes(), GAMMA)
    (tmp_path / "x.png").write_bytes(data)
    expected = torch.where(grey <= 0.0031308, 12.92 * grey, 1.055 * grey ** (1 / 2.4) - 0.055)
    assert (Images.load(tmp_path / "x.png").pixels[0, 0] - expected).abs().mean() * 255 < 2  # sRGB's curve is nearly 2.2
