"""The command line: files, folders, patterns, errors, and a run that is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DATA

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main, verbs

CLIP, PHOTO = DATA / "sense_and_sensibility_0880.wav", DATA / "chelsea.jpg"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_list_and_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "titok-*-vae") == 0
    assert capsys.readouterr().out.count("\n") == 3
    assert run("list", "nothing") == 1
    assert run("info", "dm-codec-tiny") == 0
    out = capsys.readouterr().out
    assert "bits_per_second        4000.0" in out
    assert "parameters (all)" in out
    assert run("info", "titok-nano") == 1
    assert "neither a variant" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "source", "suffix"), [("dm-codec-tiny", CLIP, ".wav"), ("titok-tiny", PHOTO, ".png")])
def test_encode_and_decode_equal_the_library(name: str, source: Path, suffix: str, tmp_path: Path) -> None:
    assert run("encode", name, source, "-o", tmp_path / "x.tok") == 0
    assert run("decode", tmp_path / "x.tok", "-o", tmp_path / f"x{suffix}") == 0
    tokenizer = tz.load(name)
    tokens = tz.Tokens.load(tmp_path / "x.tok")
    assert tokens == tokenizer.encode(source)
    if suffix == ".wav":
        wave = tz.Audio.load(tmp_path / "x.wav").waveform
        expected = tokenizer.decode(tokens).waveform
        assert wave.shape == expected.shape == tz.Audio.load(source).waveform.shape
        assert (wave - expected.clamp(-1, 1)).abs().max() <= 1 / 32768
    else:
        assert (tz.Images.load(tmp_path / "x.png").pixels - tokenizer.decode(tokens).pixels).abs().max() <= 0.5 / 255 + 1e-6


def test_roundtrip_prints_bits_and_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("roundtrip", "dm-codec-tiny", CLIP, "-o", tmp_path) == 0
    assert "1200 tokens, 12032 bits, 4.02 kbit/s, SNR" in (out := capsys.readouterr().out)
    assert "STOI" in out
    assert (tmp_path / CLIP.name).exists()
    assert run("roundtrip", "titok-tiny", PHOTO) == 0
    assert "84 tokens, 1016 bits, 0.248 bit/pixel, PSNR" in capsys.readouterr().out


def test_folders_patterns_and_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(CLIP, tmp_path / "in" / "a.wav")
    shutil.copy(DATA / "sense_and_sensibility_0920.flac", tmp_path / "in" / "deep" / "b.FLAC")
    (tmp_path / "in" / "notes.txt").write_text("ignored")
    (tmp_path / "in" / ".half.wav").write_bytes(b"hidden")
    assert run("encode", "dm-codec-tiny", tmp_path / "in", "-o", tmp_path / "out", "--batch-size", 2) == 0
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == ["a.tok", "deep/b.tok"]
    alone = tz.load("dm-codec-tiny").encode(tmp_path / "in" / "a.wav")
    assert tz.Tokens.load(tmp_path / "out" / "a.tok") == alone
    assert run("decode", f"{tmp_path}/out/**/*.tok", "-o", tmp_path / "back") == 0
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["a.wav", "b.wav"]
    capsys.readouterr()
    assert run("encode", "dm-codec-tiny", tmp_path / "in", "-o", tmp_path / "out") == 0
    assert "2 of 2 outputs exist already" in capsys.readouterr().err


def test_one_bad_file_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(CLIP, tmp_path / "b.wav")
    (tmp_path / "a.wav").write_text("not audio")
    assert run("encode", "dm-codec-tiny", tmp_path, "-o", tmp_path / "out", "--batch-size", 2) == 1
    err = capsys.readouterr().err
    assert "a.wav" in err
    assert "1 of 2 files failed" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.tok"]
    (tmp_path / "out" / "a.tok").write_bytes(b"not tokens")
    assert run("decode", tmp_path / "out", "-o", tmp_path / "back") == 1
    assert [p.name for p in (tmp_path / "back").iterdir()] == ["b.wav"]


def test_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["fly"], ["encode", "dm-codec-tiny"], ["encode", "dm-codec-tiny", CLIP]):
        with pytest.raises(SystemExit, match="2"):
            run(*words)
    assert run("encode", "dm-codec-tiny", tmp_path / "none.wav", "-o", tmp_path / "x.tok") == 1
    assert "no such file" in capsys.readouterr().err
    assert run("encode", "dm-codec-tiny", CLIP, "-o", tmp_path / "x.tok", "--batch-size", 0) == 1
    assert "at least 1" in capsys.readouterr().err
    assert run("encode", "titok-l32", PHOTO, "-o", tmp_path / "x.tok") == 1
    assert "load_official" in capsys.readouterr().err
    assert run("encode", "dm-codec-tiny", CLIP, "-o", tmp_path / "x.tok", "--device", "tpu9") == 1
    assert run("import", "dm-codec", tmp_path / "none.pt", "-o", tmp_path / "w") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_take_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["fly"], ["encode", "dm-codec-tiny"], ["decode", "x"], ["encode", "a", "b", "-o", "c", "--batchsize", "2"]):
        with pytest.raises(SystemExit, match="2"):
            run(*words)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("error: ")
        assert re.fullmatch(r"see: tokenizers-zoo( \w+)? --help", lines[1])


def test_mistakes_in_training_verbs_are_short(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tokenizers-zoo"])
    with pytest.raises(SystemExit, match="2"):
        run("fit", "-c", Path(__file__).parents[2] / "trainers/titok-tiny.yaml", "--trainer.nonsense", 1)
    lines = capsys.readouterr().err.splitlines()
    assert any("nonsense" in line for line in lines)
    assert any("--help" in line for line in lines)
    assert len(lines) < 6


def test_start_up_imports_nothing_that_encoding_does_not_need(tmp_path: Path) -> None:
    """Each of these takes a second or more."""
    code = f"""
import sys
from tokenizers_zoo.cli import main
assert main(["encode", "dm-codec-tiny", {str(CLIP)!r}, "-o", sys.argv[1]]) == 0
heavy = "lightning librosa pystoi scipy sympy torchaudio torch._dynamo transformers triton vector_quantize_pytorch"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.tok")], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--version")
    assert capsys.readouterr().out == f"tokenizers-zoo {tz.__version__}\n"


def test_exit_codes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["encode", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            run(*words)
        assert "130" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["info", "{}"], ["encode", "{}", CLIP, "-o", "x.tok"], ["import", "{}", "f", "-o", "x"]])
def test_near_names_are_suggested(words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*(str(word).format("dm-codec-tny") for word in words)) == 1
    assert "did you mean dm-codec-tiny" in capsys.readouterr().err


def test_import_takes_the_authors_hub_id_and_tells_the_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    for license in ("CC-BY-NC-4.0", "Apache-2.0"):
        tokenizer = tz.load("dm-codec-tiny")
        tokenizer.license = license
        monkeypatch.setattr(verbs, "load_official", lambda *args, found=tokenizer: (asked.append(args), found)[1])
        assert run("import", "dm-codec", "-o", tmp_path / license) == 0
        assert f"licence of the weights: {license}" in capsys.readouterr().out
    assert asked == [("dm-codec", None)] * 2


def test_dtype_changes_few_codes(tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        assert run("encode", "dm-codec-tiny", CLIP, "-o", tmp_path / f"{dtype}.tok", "--dtype", dtype) == 0
    full, half = (tz.Tokens.load(tmp_path / f"{dtype}.tok").codes for dtype in ("float32", "bfloat16"))
    assert (full[:, 0] == half[:, 0]).float().mean() > 0.9


def test_a_killed_run_leaves_whole_files_and_resumes(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(40):
        shutil.copy(CLIP, source / f"{index:02}.wav")
    command = [sys.executable, "-m", "tokenizers_zoo", "encode", "dm-codec-tiny", str(source), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.glob("[0-9]*.tok"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {p.name: p.read_bytes() for p in out.glob("[0-9]*.tok")}
    assert 3 <= len(finished) < 40
    expected = tz.load("dm-codec-tiny").encode(CLIP)
    assert all(tz.Tokens.from_bytes(data) == expected for data in finished.values())
    assert run("encode", "dm-codec-tiny", source, "-o", out) == 0
    assert len(list(out.glob("[0-9]*.tok"))) == 40
    assert all((out / name).read_bytes() == data for name, data in finished.items())
    assert all(tz.Tokens.load(p) == expected for p in out.glob("[0-9]*.tok"))
