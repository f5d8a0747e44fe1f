"""Which files are found and which are to do: by names, in one pass."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenizers_zoo import InputError
from tokenizers_zoo.cli.files import Job, find, split_done

WAV = (".wav", ".flac")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def targets(jobs: list[Job], folder: Path) -> list[str]:
    return sorted(os.path.relpath(job.target, folder) for job in jobs)


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often the file system and paths are asked."""
    counted: Counter[str] = Counter()

    def count(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def wrapper(*args: object, **options: object) -> object:
            counted[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, name, wrapper)

    for name in ("scandir", "listdir", "stat", "open"):
        count(os, name)
    count(Path, "__eq__")
    return counted


@pytest.mark.parametrize("done", [0, 0.5, 1])
def test_listing_and_resuming_ask_once_a_folder(tmp_path: Path, operations: Counter[str], done: float) -> None:
    asked = []
    for count in (200, 800):
        root, out = tmp_path / f"in{count}", tmp_path / f"out{count}"
        touch(*(root / f"{i % 4}/{i}.wav" for i in range(count)))
        touch(*(out / f"{i % 4}/{i}.tok" for i in range(int(done * count))))
        operations.clear()
        todo, finished = split_done(find([str(root)], None, WAV, out), lambda job: ".tok", (".tok",))
        assert len(todo) == count - int(done * count)
        assert len(finished) == int(done * count)
        assert operations.pop("__eq__", 0) <= 2 * count
        asked.append(sum(operations.values()))
    assert asked[0] == asked[1] < 40  # by folders, of which both have five, not by files


def test_a_suffix_is_asked_for_only_where_something_is_there(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / f"{i}.tok" for i in range(9)), tmp_path / "out/3.wav", tmp_path / "out/4.png")
    asked = []
    jobs = find([str(tmp_path / "in")], None, (".tok",), tmp_path / "out")
    todo, done = split_done(jobs, lambda job: asked.append(str(job)) or ".wav", (".wav", ".png"))
    assert len(asked) == 2
    assert targets(done, tmp_path) == ["out/3"]
    assert len(todo) == 8


def test_other_types_are_counted_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(*(tmp_path / name for name in ("a.wav", "b.m4a", "c.M4A", "sub/d.m4a", "e.txt", "f.txt", "README", ".hidden.txt")))
    assert len(find([str(tmp_path)], None, WAV, tmp_path / "out")) == 1
    assert capsys.readouterr().err == "6 files of other types left out: .m4a (3), .txt (2), no suffix (1)\n"
    (tmp_path / "a.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.wav, \.flac files below it \(6 files of other types left out"):
        find([str(tmp_path)], None, WAV, tmp_path / "out")


def test_folders_patterns_and_files(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "in/out"
    touch(root / "a.wav", root / "deep/b.FLAC", root / "deep/.half.wav", root / "odd [1].wav", out / "back.wav")
    assert targets(find([str(root)], None, WAV, out), out) == ["a", "deep/b", "odd [1]"]  # not what an earlier run wrote
    assert targets(find([f"{root}/**/*.FLAC"], None, WAV, out), out) == ["b"]
    assert targets(find([str(root / "odd [1].wav"), str(root / "a.wav"), str(root / "a.wav")], None, WAV, out), out) == [
        "a",
        "odd [1]",
    ]
    assert find([str(root / "a.wav")], None, WAV, out / "x.tok")[0].output(".tok") == out / "x.tok"
    assert len(find([str(root / "a.wav"), str(root / "deep/b.FLAC")], None, WAV, None)) == 2
    with pytest.raises(InputError, match="is a file, and 4 outputs need a folder"):
        find([str(root)], None, WAV, root / "a.wav")


def test_one_output_for_two_inputs_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "1/a.wav", tmp_path / "2/a.wav", tmp_path / "1/a.flac")
    with pytest.raises(InputError, match="would both become"):
        find([str(tmp_path / "1"), str(tmp_path / "2")], None, WAV, tmp_path / "out")
    with pytest.raises(InputError, match="would both become"):
        find([str(tmp_path / "1")], None, WAV, tmp_path / "out")
    assert len(find([str(tmp_path / "1"), str(tmp_path / "2")], None, WAV, None)) == 3


def test_a_manifest_names_outputs_by_its_paths(tmp_path: Path) -> None:
    touch(tmp_path / "far/x/a.wav", tmp_path / "far/b.wav")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/m.csv").write_text("path\nc.wav\nsub/d.wav\n")
    assert targets(find([], str(tmp_path / "near/m.csv"), WAV, Path("o")), Path("o")) == ["c", "sub/d"]
    (tmp_path / "near/far.csv").write_text("path\n../far/x/a.wav\n../far/b.wav\n")
    assert targets(find([], str(tmp_path / "near/far.csv"), WAV, Path("o")), Path("o")) == ["b", "x/a"]
    assert targets(find([], str(tmp_path / "far"), WAV, Path("o")), Path("o")) == ["b", "x/a"]
