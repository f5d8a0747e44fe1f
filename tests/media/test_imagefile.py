"""Which picture files are read, what may hold them, and what is said of those that cannot be."""

import io
import itertools
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA
from crafted import png
from PIL import Image

from tokenizers_zoo import Images, InputError
from tokenizers_zoo.manifest import read_manifest
from tokenizers_zoo.media import SUFFIXES, as_images

COFFEE = DATA / "coffee.jpg"
WRITTEN = [  # what Pillow can write, with a suffix that people use
    *[(suffix, "JPEG") for suffix in (".jpg", ".jpeg", ".jpe", ".jfif")],
    *[(".png", "PNG"), (".apng", "PNG"), (".gif", "GIF"), (".webp", "WEBP"), (".avif", "AVIF"), (".bmp", "BMP"), (".dib", "DIB")],
    *[(".tif", "TIFF"), (".tiff", "TIFF"), (".ppm", "PPM"), (".pnm", "PPM"), (".jp2", "JPEG2000"), (".j2k", "JPEG2000")],
    *[(".ico", "ICO"), (".pcx", "PCX"), (".qoi", "QOI"), (".sgi", "SGI"), (".dds", "DDS"), (".tga", "TGA"), (".mpo", "MPO")],
]


def encoded(kind: str = "PNG", **options: Any) -> bytes:
    """coffee.jpg at 96 x 64, written again."""
    buffer = io.BytesIO()
    with Image.open(COFFEE) as image:
        image.resize((96, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


EXPECTED = as_images(encoded(), 64).pixels


@pytest.mark.parametrize(("suffix", "kind"), WRITTEN)
def test_every_type_is_found_in_folders_and_read(suffix: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / f"x{suffix.upper()}").write_bytes(encoded(kind))
    (row,) = read_manifest(tmp_path, SUFFIXES["image"])
    assert (as_images(row.path, 64).pixels - EXPECTED).abs().mean() * 255 < 8  # GIF and JPEG lose


@pytest.mark.parametrize(("suffix", "kind"), WRITTEN)
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.99])
def test_every_type_is_refused_when_it_is_cut(suffix: str, kind: str, keep: float, tmp_path: Path) -> None:
    data = encoded(kind)
    (tmp_path / f"x{suffix}").write_bytes(data[: int(len(data) * keep)])
    for read in (Images.load, lambda path: as_images(path, 16)):
        with pytest.raises(InputError, match=rf"x\{suffix}.*export it again"):
            read(tmp_path / f"x{suffix}")


def test_files_that_start_programs_are_not_tried() -> None:
    with pytest.raises(InputError, match="type is not known"):
        as_images(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n", 4)


class Pipe(io.RawIOBase):
    """Bytes that come once."""

    def __init__(self, data: bytes):
        self.data = data

    def read(self, size: int = -1) -> bytes:
        data, self.data = self.data, b""
        return data


def written(data: bytes) -> io.BytesIO:
    """A buffer that stands at its end."""
    buffer = io.BytesIO()
    buffer.write(data)
    return buffer


SOURCES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "BytesIO at its end": lambda path: written(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "pipe": lambda path: Pipe(path.read_bytes()),
    "row of bytes": lambda path: {"bytes": path.read_bytes(), "path": "nowhere.png"},
    "row of a path": lambda path: {"bytes": None, "path": str(path)},
    "row of bytes alone": lambda path: {"bytes": path.read_bytes()},
    "list": lambda path: [path.read_bytes()],
    "PIL image": Image.open,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_what_may_hold_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded())
    source = SOURCES[kind](tmp_path / "x.png")
    assert torch.equal(as_images(source, 64).pixels, EXPECTED)
    if hasattr(source, "close"):
        source.close()


BAD_SOURCES: dict[str, tuple[Any, str]] = {
    "no bytes": (b"", "type is not known"),
    "other bytes": (b"RIFF....WAVE", "the bytes given.*export it again"),
    "text": (io.StringIO("x"), "mode 'rb'"),
    "empty row": ({}, "'bytes' or 'path'"),
    "row of audio": ({"array": np.zeros(4), "sampling_rate": 16_000}, "'bytes' or 'path'"),
    "row of nothing": ({"bytes": None, "path": None}, "'bytes' or 'path'"),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_what_holds_no_file(kind: str) -> None:
    source, fix = BAD_SOURCES[kind]
    with pytest.raises(InputError, match=fix):
        as_images(source, 4)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("x"), struct.error("x"), KeyError("x"), RecursionError(), IndexError("x")]
)
@pytest.mark.parametrize("place", ["open", "load"])
def test_whatever_pillow_raises_is_the_files_error(
    error: Exception, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    (tmp_path / "x.png").write_bytes(encoded())
    monkeypatch.setattr(*((Image, "open") if place == "open" else (Image.Image, "crop")), fail)
    with pytest.raises(InputError, match=rf"x\.png as an image \(.*{type(error).__name__ if not str(error) else 'x'}.*\); check"):
        as_images(tmp_path / "x.png", 4)


def test_bombs_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png((60_000, 60_000), 1, 0, b""))
    with pytest.raises(InputError, match=r"x\.png.*MAX_IMAGE_PIXELS if you trust it"):
        as_images(tmp_path / "x.png", 4)


def test_threads_leave_the_filters_of_warnings_alone() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that lies behind the directory"
    data = bytearray(encoded("JPEG", exif=exif))
    data[data.index(b"\x01\x0e") + 6] = 0xFF  # it reaches past the end
    before, failures = list(warnings.filters), []

    def read() -> None:
        try:
            for _ in range(20):
                as_images(data, 16)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"heic") + b"\0" * 40


def test_heic_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.HEIC").write_bytes(HEIC)
    (row,) = read_manifest(tmp_path, SUFFIXES["image"])
    with pytest.raises(InputError, match=r"x\.HEIC.*pip install 'tokenizers-zoo\[heic\]'"):
        as_images(row.path, 4)
    for kind in ("PNG", "JPEG", "AVIF"):
        (tmp_path / "y.heic").write_bytes(encoded(kind))  # what it is decides, not what it is called
        assert len(as_images(tmp_path / "y.heic", 4)) == 1


def test_heic_is_read_with_its_package(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    (tmp_path / "x.heic").write_bytes(encoded("HEIF", quality=95))
    assert (as_images(tmp_path / "x.heic", 64).pixels - EXPECTED).abs().mean() * 255 < 6  # halves its colour resolution


def noise(height: int, width: int) -> np.ndarray:
    """A photo, enlarged, with grain."""
    with Image.open(COFFEE) as image:
        array = np.asarray(image.resize((width, height))).astype(np.int16)
    return (array + np.random.default_rng(0).normal(0, 5, array.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_jpegs_shrink_while_they_are_decoded(mode: str, progressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(811, 1203)).convert(mode).save(buffer, "JPEG", progressive=progressive, quality=90)
    data = buffer.getvalue()
    full = Images.load(io.BytesIO(data)).resize_crop  # type: ignore[arg-type]
    scales = []
    draft = type(Image.open(io.BytesIO(data))).draft
    monkeypatch.setattr(
        "PIL.JpegImagePlugin.JpegImageFile.draft",
        lambda self, *args: (draft(self, *args), scales.append(self.decoderconfig[0]))[0],
    )
    for size, where in itertools.product((16, 40, (64, 48), 150), (0.0, 0.7)):
        error = (as_images(data, size, where).pixels - full(size, where).pixels).double().square().mean()
        assert error < 10**-5.3  # 53 dB, of grain that is the worst case
    assert set(scales) == {1, 2, 4, 8}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(1003, 701), (63, 40)])
def test_turned_jpegs_shrink_and_are_cropped_alike(orientation: int, shape: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(noise(*shape)).save(buffer, "JPEG", exif=exif, quality=90)
    full = Images.load(io.BytesIO(buffer.getvalue()))  # type: ignore[arg-type]
    for size, where in itertools.product((40, (40, 24)), (0.0, 0.3, 1.0)):
        got, expected = as_images(buffer.getvalue(), size, where).pixels, full.resize_crop(size, where).pixels
        assert got.shape == expected.shape
        assert (got - expected).double().square().mean() < (10**-5.3 if shape[0] > 63 else 1e-13)


MEMORY = """
import io, sys
from pathlib import Path
import numpy as np
from PIL import Image
from tokenizers_zoo.media import as_images

def status(field):
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))[field].split()[0]) / 1024

for path in sys.argv[1:]:
    small = io.BytesIO()
    Image.new("RGBA", (1, 1)).save(small, "PNG")
    as_images(small, 4)  # what is loaded once
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    as_images(path, 64)
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured on Linux")
def test_memory_is_bounded_by_the_decoded_pixels(tmp_path: Path) -> None:
    height, width = 2400, 3200
    grey = (np.arange(height * width, dtype=np.uint32) % 251).astype(np.uint8).reshape(height, width)
    colour = np.stack([grey, grey, 255 - grey], -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    limits = {"turned.png": 95, "alpha.png": 95, "deep.png": 95, "photo.jpg": 65, "thin.png": 64}
    Image.fromarray(colour).save(tmp_path / "turned.png", compress_level=1, exif=exif)
    Image.fromarray(np.concatenate([colour, grey[..., None]], -1)).save(tmp_path / "alpha.png", compress_level=1)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png", compress_level=1)
    Image.fromarray(colour).save(tmp_path / "photo.jpg")
    Image.fromarray(np.full((1, 60_000, 3), 99, np.uint8)).save(tmp_path / "thin.png")  # resized first: 46 GB
    command = [sys.executable, "-c", MEMORY, *[str(tmp_path / name) for name in limits]]
    peaks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for peak, (name, limit) in zip(map(float, peaks), limits.items(), strict=True):
        assert peak < limit, name
