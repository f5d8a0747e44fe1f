"""Images: reading, resizing, cropping, writing."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import DATA
from PIL import Image, ImageOps

import tokenizers_zoo as tz
from tokenizers_zoo import Images, InputError
from tokenizers_zoo.media import as_images, resize


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_image_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    pixels = torch.from_numpy(photo()).permute(2, 0, 1)[None] / 255
    Images(pixels).save(tmp_path / f"x{suffix}")
    loaded = Images.load(tmp_path / f"x{suffix}").pixels
    assert loaded.shape == pixels.shape
    error = (loaded - pixels).abs().mean()
    assert error <= (1e-6 if suffix in (".png", ".bmp") else 0.05)


def test_image_path_is_array_is_tensor_is_pil(tmp_path: Path) -> None:
    array = photo()
    Image.fromarray(array).save(tmp_path / "x.png")
    images = [
        as_images(source, 32).pixels
        for source in (tmp_path / "x.png", array, torch.from_numpy(array).permute(2, 0, 1), Image.fromarray(array))
    ]
    assert all(torch.equal(image, images[0]) for image in images)
    assert torch.equal(as_images([array, tmp_path / "x.png"], 32).pixels, torch.cat([images[0]] * 2))
    assert torch.equal(as_images(array.astype(np.float64) / 255, 32).pixels.round(decimals=5), images[0].round(decimals=5))


def test_exif_orientation_turns_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(photo()).save(tmp_path / "x.png", exif=exif)
    expected = torch.from_numpy(photo()).permute(2, 0, 1).rot90(-1, (1, 2)) / 255
    assert torch.equal(Images.load(tmp_path / "x.png").pixels[0], expected)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    rgba[2:, :, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "x.png")
    for source in (tmp_path / "x.png", rgba, torch.from_numpy(rgba).permute(2, 0, 1)):
        pixels = as_images(source, 4).pixels
        assert pixels[0, :, :2].abs().max() == 0
        torch.testing.assert_close(pixels[0, :, 2:], torch.full((3, 2, 4), 0.8))
    palette = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    palette.info["transparency"] = 0
    assert Images.from_pil(palette).pixels.min() == 1


def test_16_bit_greyscale_keeps_its_precision(tmp_path: Path) -> None:
    grey = (np.arange(16, dtype=np.uint16) * 4097 + 3).reshape(4, 4)
    Image.fromarray(grey).save(tmp_path / "x.png")
    for source in (tmp_path / "x.png", grey):
        pixels = as_images(source, 4).pixels
        torch.testing.assert_close(pixels[0, 1], torch.from_numpy(grey.astype(np.float32)) / 65535)
        assert torch.equal(pixels[0, 0], pixels[0, 2])


def test_cmyk_jpeg_looks_like_its_source(tmp_path: Path) -> None:
    Image.fromarray(photo()).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    pixels = Images.load(tmp_path / "x.jpg").pixels[0]
    assert (pixels - torch.from_numpy(photo()).permute(2, 0, 1) / 255).abs().mean() < 0.05


def test_resize_takes_the_shorter_side_and_the_centre() -> None:
    array = np.zeros((30, 90, 3), np.uint8)
    array[:, 30:60] = 255
    assert as_images(array, 30).pixels.min() == 1
    assert as_images(array, 15).pixels.mean() > 0.97
    assert as_images(photo(1, 7), 16).pixels.shape == (1, 3, 16, 16)
    square = torch.rand(1, 3, 16, 16)
    assert torch.equal(Images(square).resize_crop(16).pixels, square)


def test_image_batches() -> None:
    batch = as_images(torch.rand(3, 3, 8, 8), 8)
    assert len(batch) == 3
    assert torch.equal(batch[1].pixels[0], batch.pixels[1])
    assert [len(image) for image in batch] == [1, 1, 1]


def test_byte_order_of_images_does_not_matter() -> None:
    grey = (np.arange(16, dtype=np.uint16) * 4097).reshape(4, 4)
    assert torch.equal(as_images(grey.astype(">u2"), 4).pixels, as_images(grey, 4).pixels)


def test_pil_images_that_are_read_late(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert torch.equal(as_images(image, 64).pixels, as_images(noise, 64).pixels)
    with Image.open(io.BytesIO(data[:3000])) as image, pytest.raises(InputError, match="export it again"):
        as_images(image, 64)


def test_pil_images_of_plugins_are_images() -> None:
    class HeifImageFile(Image.Image):
        """Stands for a class that Pillow's plugins define elsewhere."""

    image = HeifImageFile()
    image.im, image._mode, image._size = Image.fromarray(photo()).im, "RGB", (60, 40)
    assert torch.equal(as_images(image, 16).pixels, as_images(photo(), 16).pixels)


def test_damaged_metadata_does_not_matter(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that lies behind the directory"
    Image.fromarray(photo()).save(tmp_path / "x.jpg", exif=exif)
    expected = Images.load(tmp_path / "x.jpg").pixels
    data = bytearray((tmp_path / "x.jpg").read_bytes())
    data[data.index(b"\x01\x0e") + 6] = 0xFF  # the description reaches past the end
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.warns(UserWarning, match="Tag data|Corrupt EXIF"), Image.open(tmp_path / "x.jpg") as image:
        image.getexif()
    assert torch.equal(Images.load(tmp_path / "x.jpg").pixels, expected)


def test_saving_says_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use one of"):
        Images(torch.zeros(1, 3, 4, 4)).save(tmp_path / "x.gif")
    with pytest.raises(InputError, match=r"images\[0\]"):
        Images(torch.zeros(2, 3, 4, 4)).save(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_images_say_what_they_are() -> None:
    images = Images(torch.zeros(2, 3, 4, 5, dtype=torch.float16))
    assert repr(images) == "Images(pixels (2, 3, 4, 5), torch.float16, cpu)"
    assert images.to("meta").pixels.is_meta


def resized_first(pixels: torch.Tensor, size: int, where: float) -> torch.Tensor:
    """All of the picture resized by torch, then cropped."""
    short = min(pixels.shape[-2:])
    scaled = [max(size, round(side * size / short)) for side in pixels.shape[-2:]]
    pixels = F.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (int((side - size) * where) for side in scaled)
    return pixels[..., top : top + size, left : left + size]


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
def test_cropping_first_is_resizing_first(name: str) -> None:
    pixels = Images.load(DATA / f"{name}.jpg").pixels
    for size, where in itertools.product((48, 64, 256, 400), (0.0, 0.37, 0.5, 1.0)):
        got = Images(pixels).resize_crop(size, where).pixels
        torch.testing.assert_close(got, resized_first(pixels, size, where), rtol=0, atol=0.01 / 255)


def test_codes_of_photos_are_those_of_resizing_first() -> None:
    tokenizer = tz.load("titok-tiny")
    for path in DATA.glob("*.jpg"):
        expected = tokenizer.encode(Images(resized_first(Images.load(path).pixels, 64, 0.5)))
        assert tokenizer.encode(path) == expected


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (2, 3000), (4, 900)])
def test_thin_pictures_are_cropped_before_they_are_resized(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    sizes = []
    fromarray = Image.fromarray
    monkeypatch.setattr(Image, "fromarray", lambda plane: (sizes.append(plane.shape), fromarray(plane))[1])
    images = [as_images(source, 256).pixels for source in (buffer, array, torch.from_numpy(array).permute(2, 0, 1))]
    assert all(torch.equal(image, images[0]) for image in images)
    assert max(height * width for height, width in sizes) <= 12 * 256
    middle = (
        array[:, shape[1] // 2 - 20 : shape[1] // 2 + 20]
        if shape[0] < shape[1]
        else array[shape[0] // 2 - 20 : shape[0] // 2 + 20]
    )
    middle = torch.from_numpy(middle.copy()).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(images[0], resized_first(middle, 256, 0.5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (64, 900), (9, 5)])
def test_strips_are_the_whole(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 255, (*shape, 4), np.uint8)
    sizes: list[Any] = [64, 9, (40, 24), shape]
    whole = [as_images(array, size, 0.3).pixels for size in sizes]
    monkeypatch.setattr(resize, "STRIP", 1000)
    for size, expected in zip(sizes, whole, strict=True):
        torch.testing.assert_close(as_images(array, size, 0.3).pixels, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_turned_pictures_are_resized_as_if_they_had_been_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(photo()).save(buffer, kind, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    for size, where in itertools.product((20, (20, 30), (30, 7)), (0.0, 0.3, 1.0)):
        got, expected = as_images(buffer, size, where).pixels, as_images(upright, size, where).pixels
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_sizes_are_sides_or_heights_and_widths() -> None:
    for size in (16, np.int64(16), (16, 16), [np.int32(16), 16]):
        assert torch.equal(as_images(photo(), size).pixels, as_images(photo(), 16).pixels)  # type: ignore[arg-type]
    assert as_images(photo(), (16, 40)).pixels.shape == (1, 3, 16, 40)
    assert Images(torch.rand(2, 3, 9, 9)).resize_crop((4, 5)).pixels.shape == (2, 3, 4, 5)
    for bad in (0, -4, 16.0, (16,), (16, 0), (4, 4, 4), "16", None):
        with pytest.raises(InputError, match="positive whole number of pixels"):
            as_images(photo(), bad)  # type: ignore[arg-type]


ARRAYS: dict[str, tuple[Any, float]] = {  # and the value that their first pixel has
    "grey": (np.full((5, 6), 51, np.uint8), 0.2),
    "one channel": (np.full((5, 6, 1), 51, np.uint8), 0.2),
    "alpha": (np.full((5, 6, 4), 51, np.uint8), 0.84),
    "batch": (np.full((2, 5, 6, 3), 51, np.uint8), 0.2),
    "uint16": (np.full((5, 6), 13_107, np.uint16), 0.2),
    "uint16 colour": (np.full((5, 6, 3), 13_107, np.uint16), 0.2),
    "float16": (np.full((5, 6, 3), 0.2, np.float16), 0.2),
    "float64 alpha": (np.full((5, 6, 4), 0.2), 0.84),
    "read-only": (np.broadcast_to(np.uint8(51), (5, 6, 3)), 0.2),
    "bfloat16 tensor": (torch.full((3, 5, 6), 0.2, dtype=torch.bfloat16), 0.2),
    "transposed tensor": (torch.full((5, 6, 3), 0.2).permute(2, 0, 1), 0.2),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_kind(kind: str) -> None:
    source, value = ARRAYS[kind]
    pixels = as_images(source, 4).pixels
    assert pixels.shape == (2 if kind == "batch" else 1, 3, 4, 4)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, torch.full_like(pixels, value), rtol=0, atol=1e-3)


def test_resizing_keeps_the_type_of_images() -> None:
    assert Images(torch.rand(1, 3, 8, 8, dtype=torch.float64)).resize_crop(4).pixels.dtype == torch.float64
    assert as_images(Images(torch.rand(1, 3, 8, 8, dtype=torch.float16)), 4).pixels.dtype == torch.float32
