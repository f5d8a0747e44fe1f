"""The scripts that make a manifest: what is in it is true, and one bad file ends nothing."""

import runpy
import shutil
from pathlib import Path

import pytest
from conftest import DATA

from models import recognizer
from tokenizers_zoo.manifest import read_manifest

SCRIPTS = Path(__file__).parents[2] / "trainers"


def test_photos_are_listed_with_their_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class's first name; of Flickr8k a row for each caption, but for the last hundred photos."""
    tiny, flickr = tmp_path / "tiny", tmp_path / "flickr"
    for folder in ("train/n1/images", "train/n2/images", "val/images"):
        (tiny / folder).mkdir(parents=True)
    for photo in ("train/n1/images/n1_0.JPEG", "train/n2/images/n2_0.JPEG", "val/images/val_0.JPEG"):
        (tiny / photo).touch()
    (tiny / "words.txt").write_text("n1\tgoldfish, Carassius auratus\nn2\tsnail\n")
    (tiny / "val/val_annotations.txt").write_text("val_0.JPEG\tn2\t0\t0\t9\t9\n")
    flickr.mkdir()
    lines = [f"{n:03}.jpg,Photo {n} , {word} ." for n in range(102) for word in ("one", "two")]
    (flickr / "captions.txt").write_text("image,caption\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr("sys.argv", ["", f"tinyimagenet={tiny}", f"flickr8k={flickr}", "-o", str(tmp_path / "m.jsonl")])
    runpy.run_path(str(SCRIPTS / "captions.py"), run_name="__main__")
    rows = read_manifest(tmp_path / "m.jsonl", ())
    assert [(row.path.name, row.texts, row.split, row.label) for row in rows[:5]] == [
        ("n1_0.JPEG", ("goldfish",), "train", "n1"),
        ("n2_0.JPEG", ("snail",), "train", "n2"),
        ("val_0.JPEG", ("snail",), "valid", "n2"),
        ("000.jpg", ("Photo 0 , one .",), "train", ""),
        ("000.jpg", ("Photo 0 , two .",), "train", ""),
    ]
    assert [(len(row.texts), row.split) for row in rows[7:]] == [(2, "test")] * 100
    assert all(row.path.exists() for row in rows[:3])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_corpus_is_listed_with_true_lengths_and_gets_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(name: str, *args: object) -> str:
        monkeypatch.setattr("sys.argv", [name, *map(str, args)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return capsys.readouterr().err

    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("sense_and_sensibility_0880.wav", "sense_and_sensibility_0920.flac"):
        shutil.copy(DATA / name, clips)
    (clips / "sense_and_sensibility_0880.txt").write_text("said")
    (clips / "cut.wav").write_bytes((DATA / "sense_and_sensibility_0880.wav").read_bytes()[:9000])
    assert "left out: " in run("corpora.py", f"clips={clips}", "-o", tmp_path / "m.csv")
    rows = read_manifest(tmp_path / "m.csv", ())
    assert [(row.path.name[-8:], round(row.seconds, 2), row.text) for row in rows] == [
        ("0880.wav", 2.99, "said"),
        ("920.flac", 6.05, ""),
    ]
    with (tmp_path / "m.csv").open("a") as file:
        file.write("gone.wav,,,,,\n")
    assert "left without a text: " in run("transcribe.py", tmp_path / "m.csv", recognizer(tmp_path / "model"))
    again = read_manifest(tmp_path / "m.csv", ())
    assert again[0] == rows[0]
    assert again[1].path == rows[1].path
    assert again[1].text
    assert not again[2].text
