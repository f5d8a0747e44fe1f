"""encode, decode, roundtrip: what is there already, batches, manifests, standard input, errors of single files."""

import io
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from conftest import DATA
from PIL import Image

import tokenizers_zoo as tz
from tokenizers_zoo import assembly, zoo
from tokenizers_zoo.cli import main
from tokenizers_zoo.tokfile import read_spec

CLIP, PHOTO = DATA / "sense_and_sensibility_0880.wav", DATA / "chelsea.jpg"


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Six clips of 0.2 to 0.7 s."""
    audio = tz.Audio.load(CLIP)
    for i in range(6):
        wave = audio.waveform[..., 1600 * i : 1600 * i + 3200 + (i * 7 % 6) * 1600]
        tz.Audio(wave, audio.sample_rate).save(tmp_path / f"in/{i}.wav")
    return tmp_path / "in"


def calls(monkeypatch: pytest.MonkeyPatch, verb: str) -> list[int]:
    """Sizes of the batches that a tokenizer is called with."""
    sizes: list[int] = []
    original = getattr(tz.AudioTokenizer, verb)

    def counted(self: tz.AudioTokenizer, source: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(source))
        return original(self, source, *args, **options)

    monkeypatch.setattr(tz.AudioTokenizer, verb, counted)
    return sizes


def test_batches_in_both_directions(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tz.load("dm-codec-tiny")
    encoded, decoded = calls(monkeypatch, "encode"), calls(monkeypatch, "decode")
    assert run("encode", "dm-codec-tiny", clips, "-o", tmp_path / "tok", "--batch-size", 4) == 0
    assert sorted(encoded) == [2, 4]
    loads, load = [], tz.Tokens.load
    monkeypatch.setattr(tz.Tokens, "load", staticmethod(lambda path: (loads.append(path), load(path))[1]))
    assert run("decode", tmp_path / "tok", "-o", tmp_path / "wav", "--batch-size", 3) == 0
    assert decoded == [3, 3]
    assert len(loads) == 6  # every file once
    monkeypatch.undo()
    for path in clips.iterdir():
        tokens = tz.Tokens.load(tmp_path / f"tok/{path.stem}.tok")
        assert tokens == codec.encode(path)
        wave, expected = tz.Audio.load(tmp_path / "wav" / path.name).waveform, codec.decode(tokens).waveform
        assert (wave - expected.clamp(-1, 1)).abs().max() <= 1 / 32768
    encoded = calls(monkeypatch, "encode")
    assert run("encode", "dm-codec-tiny", clips, "-o", tmp_path / "again") == 0
    assert encoded == [6]  # by default as many as are worth it
    with pytest.raises(SystemExit, match="2"):  # one after the other: it has no batches to set
        run("roundtrip", "dm-codec-tiny", clips, "--batch-size", 2)


def test_tokens_of_others_are_not_kept_as_done(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tok"
    assert run("encode", "dm-codec-tiny", clips, "-o", out) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    (out / "5.tok").unlink()
    assert run("encode", "lm-spt-tiny", clips, "-o", out) == 1
    assert "is of 'dm-codec-tiny', not of 'lm-spt-tiny', as are 4 more outputs" in (err := capsys.readouterr().err)
    assert "--overwrite" in err
    assert run("encode", "dm-codec-tiny", clips, "-o", out) == 0
    assert "5 of 6 outputs exist already" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert run("encode", "lm-spt-tiny", clips, "-o", out, "--overwrite") == 0
    assert {read_spec(p).name for p in out.iterdir()} == {"lm-spt-tiny"}


def test_other_weights_are_told_apart(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tz.load("dm-codec-tiny")
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    other.save_pretrained(tmp_path / "mine")
    for output in (tmp_path / "tok", tmp_path / "one.tok"):  # a folder, and a file that was named itself
        source = clips if output.suffix == "" else clips / "0.wav"
        assert run("encode", tmp_path / "mine", source, "-o", output) == 0
        assert run("encode", "dm-codec-tiny", source, "-o", output) == 1
        assert "other weights" in capsys.readouterr().err
        assert run("encode", tmp_path / "mine", source, "-o", output) == 0
        assert run("encode", "dm-codec-tiny", source, "-o", output, "--overwrite") == 0
    (tmp_path / "tok/3.tok").write_text("something else")
    assert run("encode", "dm-codec-tiny", clips, "-o", tmp_path / "tok") == 1
    assert re.search(r"3\.tok: .*remove it, or replace what is there by --overwrite", capsys.readouterr().err)
    assert (tmp_path / "tok/3.tok").read_text() == "something else"


def test_decode_and_roundtrip_keep_or_overwrite(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("encode", "dm-codec-tiny", clips / "0.wav", "-o", tmp_path / "tok/0.tok") == 0
    for command in (("decode", tmp_path / "tok"), ("roundtrip", "dm-codec-tiny", clips / "0.wav")):
        out = tmp_path / command[0]
        assert run(*command, "-o", out) == 0
        (out / "0.wav").write_bytes(b"old")
        assert run(*command, "-o", out) == 0
        assert "1 of 1 outputs exist already and are kept; --overwrite" in capsys.readouterr().err
        assert (out / "0.wav").read_bytes() == b"old"
        assert run(*command, "-o", out, "--overwrite") == 0
        assert len(tz.Audio.load(out / "0.wav")) == 1
    original = (clips / "0.wav").read_bytes()
    assert run("roundtrip", "dm-codec-tiny", clips, "-o", clips, "--overwrite") == 1
    assert "would replace its input" in capsys.readouterr().err
    assert (clips / "0.wav").read_bytes() == original


def test_manifests_bring_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = toys.captioned()
    monkeypatch.setattr(zoo, "load", lambda name, *how: tokenizer)
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        shutil.copy(PHOTO, tmp_path / name)
    (tmp_path / "m.csv").write_text("path,text\na.jpg,a cat\nsub/b.jpg,\nsub/c.jpg,a dog\n")
    assert run("encode", "captioned", "--data", tmp_path / "m.csv", "-o", tmp_path / "out") == 1
    assert "sub/c.jpg: no such file" in capsys.readouterr().err
    found = {str(p.relative_to(tmp_path / "out")): tz.Tokens.load(p) for p in (tmp_path / "out").rglob("*.tok")}
    assert found == {"a.tok": tokenizer.encode(PHOTO, text=["a cat"]), "sub/b.tok": tokenizer.encode(PHOTO)}
    for words in ((tmp_path, "--data", tmp_path / "m.csv"), ()):  # one of both
        with pytest.raises(SystemExit, match="2"):
            run("encode", "captioned", *words, "-o", tmp_path / "x")


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    pipe(CLIP.read_bytes())
    assert run("encode", "dm-codec-tiny", "-", "-o", tmp_path / "x.tok") == 0
    assert tz.Tokens.load(tmp_path / "x.tok") == tz.load("dm-codec-tiny").encode(CLIP)
    pipe((tmp_path / "x.tok").read_bytes())
    assert run("decode", "-", "-o", tmp_path / "x.wav") == 0
    assert tz.Audio.load(tmp_path / "x.wav").waveform.shape == tz.Audio.load(CLIP).waveform.shape
    pipe(PHOTO.read_bytes())
    assert run("encode", "titok-tiny", "-", "-o", tmp_path / "photos") == 0
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["stdin.tok"]


@pytest.mark.parametrize("verb", ["encode", "decode", "roundtrip"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("the kernel\nfailed at line 3"), "RuntimeError: the kernel"),
        (tz.InputError("too short"), "too short"),
    ],
)
def test_what_one_file_raises_is_its_error(
    verb: str, error: Exception, said: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Also where it is met in a batch, and where its message does not name the file."""
    codec = tz.load("dm-codec-tiny")
    for path in clips.iterdir():
        codec.encode(path).save(tmp_path / f"tok/{path.stem}.tok")
    worst = tz.Audio.load(clips / "5.wav").waveform.shape[-1]  # 0.7 s, the longest
    method = "decode" if verb == "decode" else "encode"
    original = getattr(tz.AudioTokenizer, method)

    def failing(self: tz.AudioTokenizer, source: Any) -> Any:
        lengths = source.lengths if method == "encode" else source.conditions["num_samples"]
        if int(lengths.max()) == worst:
            raise error
        return original(self, source)

    monkeypatch.setattr(tz.AudioTokenizer, method, failing)
    words = (verb, tmp_path / "tok") if verb == "decode" else (verb, "dm-codec-tiny", clips)
    assert run(*words, "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line.endswith(said)
    assert "/5." in line
    assert lines[-1] == "1 of 6 files failed"
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_a_header_tells_the_spec(tmp_path: Path) -> None:
    tokens = tz.load("dm-codec-tiny").encode(CLIP)
    tokens.save(tmp_path / "x.tok")
    assert read_spec(tmp_path / "x.tok") == tokens.spec
    shutil.copy(CLIP, tmp_path / "wav.tok")
    for data in (b"", b"1234567", (tmp_path / "x.tok").read_bytes()[:100], b"\x02" + bytes(7) + b"[]", b"\xff" * 99):
        (tmp_path / "bad.tok").write_bytes(data)
        for bad in ("bad.tok", "wav.tok"):
            with pytest.raises(tz.TokenError, match=bad):
                read_spec(tmp_path / bad)


@pytest.fixture
def toy(tmp_path: Path) -> Callable[[tz.Tokenizer], Path]:
    """Saves a toy tokenizer, whose classes are registered for this test, and two photos beside it."""
    before = dict(assembly._registered)

    def save(tokenizer: tz.Tokenizer) -> Path:
        for cls in {type(part) for part in tokenizer.modules() if type(part).__module__ == "toys"}:
            tz.register(cls)
        tokenizer.save_pretrained(tmp_path / "weights")
        for i, size in enumerate(((40, 24), (24, 40))):
            Image.new("RGB", size, (50 * i, 90, 10)).save(tmp_path / f"p{i}.png")
        return tmp_path

    yield save
    assembly._registered.clear()
    assembly._registered.update(before)


def test_sizes_of_images(toy: Callable[[tz.Tokenizer], Path], capsys: pytest.CaptureFixture) -> None:
    folder = toy(toys.sized())
    for text, sizes in (("24x32", [(24, 32)] * 2), ("32", [(32, 32)] * 2), ("source", [(24, 40), (40, 24)])):
        assert run("encode", folder / "weights", folder, "-o", folder / text, "--size", text) == 0
        tokens = [tz.Tokens.load(folder / text / f"p{i}.tok") for i in range(2)]
        assert [tuple(int(t.conditions[side]) for side in ("height", "width")) for t in tokens] == sizes
    for wrong in ("24x", "axb", "sorce", "1x2x3"):
        assert run("encode", folder / "weights", folder, "-o", folder / "x", "--size", wrong) == 1
        assert 'size must be pixels a side, (height, width), or "source"' in capsys.readouterr().err
    assert run("encode", "lm-spt-tiny", CLIP, "-o", folder / "x", "--size", "64") == 1
    assert "which has no size" in capsys.readouterr().err


def test_options_of_the_decoder(toy: Callable[[tz.Tokenizer], Path], capsys: pytest.CaptureFixture) -> None:
    folder = toy(toys.noisy())
    weights, tokens = folder / "weights", folder / "tokens"
    assert run("encode", weights, folder, "-o", tokens) == 0
    for number, options in enumerate((["seed=1"], ["seed=2"], ["seed=2", "steps=9"])):
        assert run("decode", tokens, "--weights", weights, "-o", folder / str(number), "--set", *options) == 0
    pixels = [tz.Images.load(folder / str(number) / "p0.png").pixels for number in range(3)]
    assert not torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[1], pixels[2])
    assert run("decode", tokens, "--weights", weights, "-o", folder / "x", "--set", "guidance=2") == 1
    assert "there are noise, steps" in capsys.readouterr().err
    for wrong in ("seed", "=3", "workers=3"):
        assert run("decode", tokens, "--weights", weights, "-o", folder / "x", "--set", wrong) == 1
        assert "--set takes KEY=VALUE" in capsys.readouterr().err


def test_another_output(tmp_path: Path) -> None:
    assert run("encode", "lm-spt-tiny", CLIP, "-o", tmp_path / "x.tok") == 0
    assert run("decode", tmp_path / "x.tok", "-o", tmp_path / "x.wav", "--set", "output=auxiliary") == 0
    wanted = tz.load("lm-spt-tiny").decode(tz.Tokens.load(tmp_path / "x.tok"), output="auxiliary")
    torch.testing.assert_close(tz.Audio.load(tmp_path / "x.wav").waveform, wanted.waveform.clamp(-1, 1), atol=1e-4, rtol=0)


def test_classes_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    before = dict(assembly._registered)
    source = (
        "import tokenizers_zoo as tz\nfrom tokenizers_zoo.quantizers import FSQ\n@tz.register\nclass MyGrid(FSQ):\n    pass\n"
    )
    (tmp_path / "my_classes.py").write_text(source)
    (tmp_path / "mine.yaml").write_text(
        (zoo.share("models") / "titok/titok-tiny.yaml").read_text().replace("class_path: FSQ", "class_path: MyGrid")
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    try:
        with pytest.raises(tz.WeightsError, match="--import ITS_MODULE"):
            tz.create("mine.yaml")
        assert run("--import", "no_such_module", "list") == 1
        assert "no_such_module" in capsys.readouterr().err
        assert run("--import", "my_classes", "list", "titok-tiny") == 0
        tz.create("mine.yaml").save_pretrained("weights")
        assert run("--import", "my_classes", "encode", "weights", PHOTO, "-o", "x.tok") == 0
    finally:
        assembly._registered.clear()
        assembly._registered.update(before)
