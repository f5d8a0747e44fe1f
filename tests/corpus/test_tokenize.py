"""`tokenizers-zoo tokenize`: shards by content, resumed, refused, and complete whatever was killed."""

import shutil
from pathlib import Path

import pytest
from conftest import DATA
from corpora import NAME, clips, shards

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.corpus import alone, plan
from tokenizers_zoo.manifest import Row

pytest.importorskip("pyarrow")


def words(manifest: Path, out: Path, *more: str) -> list[str]:
    return ["tokenize", NAME, "--data", str(manifest), "-o", str(out), *more]


def test_a_corpus_holds_what_encode_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "corpus"
    assert main(words(DATA / "speech.csv", out, "--shard-size", "2")) == 0
    rows, codec = list(tz.TokenDataset(out)), tz.load(NAME)
    assert [row.key for row in rows] == [f"sense_and_sensibility_{name}" for name in ("0870.wav", "0880.wav", "0920.flac")]
    assert rows[1].text == "he was not an ill disposed young man"
    assert all(row.tokens == codec.encode(DATA / row.key) for row in rows)
    assert len(shards(out)) == 2
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    capsys.readouterr()
    assert main(words(DATA / "speech.csv", out, "--shard-size", "2")) == 0
    assert capsys.readouterr().err.startswith("2 of 2 shards exist already and are kept\n")
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before


def test_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("chelsea.jpg", "coffee.jpg"):
        (tmp_path / "in/deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / name, tmp_path / "in/deep")
    assert main(["tokenize", "titok-tiny", "--data", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    rows, tokenizer = list(tz.TokenDataset(tmp_path / "out")), tz.load("titok-tiny")
    assert [row.key for row in rows] == ["deep/chelsea.jpg", "deep/coffee.jpg"]
    assert all(row.tokens == tokenizer.encode(tmp_path / "in" / row.key) for row in rows)


def test_other_weights_settings_and_input_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = clips(tmp_path, 5), tmp_path / "corpus"
    assert main(words(manifest, out, "--shard-size", "2")) == 0
    whole = shards(out)

    def refused(*command: str) -> str:
        capsys.readouterr()
        assert main(command) == 1
        assert shards(out) == whole
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    err = refused("tokenize", "lm-spt-tiny", *words(manifest, out, "--shard-size", "2")[2:])
    assert "tokenizer 'dm-codec-tiny' instead of 'lm-spt-tiny', weights 'a46b" in err
    assert "as have 3 shards in all: give another folder, or --overwrite" in err
    codec = tz.load(NAME)
    next(codec.encoder.parameters()).data.mul_(1.01)
    codec.weights = "other"
    codec.save_pretrained(tmp_path / "trained")
    err = refused("tokenize", str(tmp_path / "trained"), *words(manifest, out, "--shard-size", "2")[2:])
    assert "has weights 'a46b4fa4be3d' instead of" in err
    assert "dtype 'float32' instead of 'bfloat16'" in refused(*words(manifest, out, "--shard-size", "2", "--dtype", "bfloat16"))
    assert "is of other input than this, as are 3 files in all" in refused(*words(manifest, out))
    (out / "mine.parquet").write_bytes(b"a table of the user's")
    capsys.readouterr()
    assert main(words(manifest, out, "--overwrite")) == 1
    assert "mine.parquet is not a whole Parquet file" in capsys.readouterr().err
    (out / "mine.parquet").unlink()
    assert main(words(manifest, out, "--overwrite")) == 0
    assert len(shards(out)) == 1
    assert len(tz.TokenDataset(out)) == 5


def test_a_manifest_that_grows_keeps_its_full_shards(tmp_path: Path) -> None:
    manifest, out = clips(tmp_path, 5), tmp_path / "corpus"
    assert main(words(manifest, out, "--shard-size", "2")) == 0
    before = shards(out)
    manifest.write_text(manifest.read_text() + "0000.wav,again,s9\n")
    assert main(words(manifest, out, "--shard-size", "2", "--overwrite")) == 0
    kept = before.items() & shards(out).items()
    assert len(kept) == 2
    assert [row.key for row in tz.TokenDataset(out)][-2:] == ["0004.wav", "0000.wav#2"]


def test_names_follow_the_content(tmp_path: Path) -> None:
    clips(tmp_path, 4)
    rows = [Row(tmp_path / f"{i:04d}.wav", "a") for i in range(4)]

    def names(rows: list[Row]) -> list[str]:
        return [shard.name for shard in plan(rows, tmp_path, 2)]

    first = names(rows)
    assert names(rows) == first
    assert names([*rows[:3], Row(rows[3].path, "b")])[0] == first[0]
    assert names([*rows[:3], Row(rows[3].path, "b")])[1] != first[1]
    data = bytearray(rows[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    rows[0].path.write_bytes(data)
    assert names(rows)[0] != first[0]
    assert names(rows)[1] == first[1]
    rows[2].path.unlink()
    assert names(rows)[1] != first[1]


def test_rows_that_fail_are_said_and_the_rest_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = clips(tmp_path, 6), tmp_path / "corpus"
    for name in ("0001.wav", "0004.wav", "0005.wav"):
        (tmp_path / name).write_text("no audio")
    assert main(words(manifest, out, "--shard-size", "2")) == 1
    err = capsys.readouterr().err
    assert "error: 0001.wav: " in err
    assert err.endswith("3 of 6 rows failed\n")
    assert [row.key for row in tz.TokenDataset(out)] == ["0000.wav", "0002.wav", "0003.wav"]
    assert len(shards(out)) == 2  # of the third all failed: it is tried again
    assert main(words(manifest, out, "--shard-size", "2")) == 1
    err = capsys.readouterr().err
    assert "0001.wav" not in err
    assert "error: 0004.wav: " in err
    assert "and 1 kept shards in all some rows failed; remove them to try again\n3 of 6 rows failed\n" in err


def test_one_run_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "corpus"
    with alone(out):
        assert main(words(DATA / "speech.csv", out)) == 1
    assert "another run is writing to" in capsys.readouterr().err
    (out / ".000000-x.half.parquet").write_bytes(b"half")
    with alone(out):
        assert shards(out) == {}
