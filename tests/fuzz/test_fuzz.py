"""Hypothesis looks for a file that ends in anything but a documented error, or costs more than it may.

The default run takes a fiftieth of the examples of the slow one, which are 20,000.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bytestreams import damaged, png, small_audio, small_images, tok, wav
from conftest import DATA, small
from documents import config, manifest, yaml_text
from harness import frugally, fuzz
from hypothesis import strategies as st
from PIL import Image
from tables import shard, whole

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import read_manifest
from tokenizers_zoo.media import as_audio, as_images

Call = Callable[[Any], Any]


def of_file(folder: Path, read: Callable[[Path], Any]) -> Call:
    """A call for (suffix, content)."""

    def call(example: tuple[str, bytes]) -> None:
        path = folder / f"x{example[0]}"
        path.write_bytes(example[1])
        read(path)

    return call


def hear(folder: Path) -> Call:
    as_audio(DATA / "sense_and_sensibility_0870.wav", 8000)  # what is imported once is no example's cost
    return of_file(folder, lambda path: as_audio(path, 16_000))


def see(folder: Path) -> Call:
    as_images(DATA / "chelsea.jpg", 64)
    return of_file(folder, lambda path: as_images(path, 64))


def load(folder: Path) -> Call:
    small("titok-bits").save_pretrained(folder)
    digest = tz.weights.read_config(folder / "config.json")["sha256"].encode()

    def call(content: bytes) -> None:
        (folder / "config.json").write_bytes(content.replace(b"SHA256", digest))
        tz.load(folder)

    return call


def read_corpus(folder: Path) -> Call:
    pytest.importorskip("pyarrow.parquet")

    def call(content: bytes) -> None:
        (folder / "x.parquet").write_bytes(content)
        for row in tz.TokenDataset(folder):
            _ = row.tokens

    call(whole())  # what is imported once is no example's cost
    return call


# what: strategy, call, examples in the slow run
CASES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Path], Call], int]] = {
    "wav": (wav(), hear, 3500),
    "other audio": (damaged(small_audio()), hear, 2500),
    "png": (png(), see, 3500),
    "other images": (damaged(small_images()), see, 3000),
    "tok": (tok(), lambda folder: of_file(folder, tz.Tokens.load), 2500),
    "config": (config(), load, 1500),
    "yaml": (yaml_text(), lambda folder: of_file(folder, lambda path: tz.create(str(path))), 500),
    "manifest": (manifest(), lambda folder: of_file(folder, lambda path: read_manifest(path, ())), 2000),
    "shard": (shard(), read_corpus, 1000),
}
assert sum(examples for _, _, examples in CASES.values()) == 20_000


@pytest.mark.parametrize("what", CASES)
def test_a_few_hostile_files(what: str, tmp_path: Path) -> None:
    strategy, call, examples = CASES[what]
    fuzz(strategy, call(tmp_path), examples // 50)


LAUGHS = "\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])


@pytest.mark.parametrize("text", [LAUGHS, "class_path: &a [*a]", "init_args: &a {b: *a}", "x: 1e9\n" + "- [" * 5000])
def test_small_yaml_that_unfolds(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for content in (
        text,
        f"class_path: TiTok\ninit_args:\n  encoder:\n    {text}".replace("\n", "\n    "),
        "class_path: TiTok\n" + text,
    ):
        path.write_text(content)
        frugally(tz.create, str(path))


def test_small_images_that_unfold(tmp_path: Path) -> None:
    """One bit a pixel, at the edge of what Pillow opens: 11 MB once inflated, 4 bytes a pixel once decoded."""
    Image.new("1", (9400, 9400)).save(tmp_path / "large.png")
    Image.new("1", (60_000, 1)).save(tmp_path / "thin.png")
    call = see(tmp_path)
    for name in ("large", "thin"):
        frugally(call, (".png", (tmp_path / f"{name}.png").read_bytes()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", CASES)
def test_20_000_hostile_files(what: str, tmp_path: Path) -> None:
    strategy, call, examples = CASES[what]
    fuzz(strategy, call(tmp_path), examples)
