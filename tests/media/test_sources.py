"""What may hold audio or pictures, at both entrances, and what is said of what cannot."""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from recordings import RATE, SAMPLES, wav

from tokenizers_zoo import InputError
from tokenizers_zoo.media import as_audio, as_images

PIXELS = np.random.default_rng(0).random((8, 8, 3))


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray((PIXELS * 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


READ: dict[str, tuple[Callable[[Any], torch.Tensor], bytes]] = {
    "audio": (lambda source: as_audio(source, RATE).waveform, wav()),
    "image": (lambda source: as_images(source, 8).pixels, png()),
}


class Named(os.PathLike[str]):
    def __init__(self, path: Path):
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def fifo(path: Path) -> Path:
    os.mkfifo(other := path.with_name("fifo"))
    threading.Thread(target=other.write_bytes, args=(path.read_bytes(),)).start()
    return other


HOLDERS: dict[str, Callable[[Path], Any]] = {
    "path of another class": Named,
    "named pipe": fifo,
    "every other byte": lambda path: memoryview(np.repeat(np.frombuffer(path.read_bytes(), np.uint8), 2))[::2],
    "row of a view": lambda path: {"bytes": memoryview(path.read_bytes())},
}


@pytest.mark.parametrize("kind", HOLDERS)
@pytest.mark.parametrize("medium", READ)
def test_what_holds_a_file(medium: str, kind: str, tmp_path: Path) -> None:
    read, data = READ[medium]
    (tmp_path / "x").write_bytes(data)
    assert torch.equal(read(HOLDERS[kind](tmp_path / "x")), read(data))


def closed() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.close()
    return file


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "closed file": (closed, "cannot read.*closed"),
    "name that is too long": (lambda: "x" * 5000, "cannot look at.*too long"),
    "text for bytes": (lambda: {"bytes": "RIFF"}, "bytes of a file come as bytes, not as str"),
    "sparse": (lambda: torch.ones(3, 8, 8).to_sparse(), "give a dense one"),
    "meta": (lambda: torch.ones(3, 8, 8, device="meta"), "give a dense one"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("medium", READ)
def test_what_holds_none(medium: str, kind: str) -> None:
    make, fix = REFUSED[kind]
    with pytest.raises(InputError, match=fix):
        READ[medium][0](make())


def test_long_doubles() -> None:
    torch.testing.assert_close(as_audio(SAMPLES.astype(np.longdouble), RATE).waveform[0, 0].numpy(), SAMPLES)
    assert torch.equal(as_images(PIXELS.astype(np.longdouble), 8).pixels, as_images(PIXELS, 8).pixels)


def test_lists_of_channels_in_a_row() -> None:
    row = {"array": [SAMPLES.tolist(), (-SAMPLES).tolist()], "sampling_rate": RATE}
    assert not as_audio(row, RATE).waveform.any()
    with pytest.raises(InputError, match="equally long channels"):
        as_audio({"array": [[0.1, 0.2], [0.3]], "sampling_rate": RATE}, RATE)


@pytest.mark.parametrize("size", [True, (8, True)])
def test_true_is_no_size(size: Any) -> None:
    with pytest.raises(InputError, match="a size is"):
        as_images(PIXELS, size)
