"""A run that is stopped: one line, an exit code, everything finished is kept."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import DATA

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main, verbs

CLIP = DATA / "sense_and_sensibility_0870.wav"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_encode_says_how_far_it_came(tmp_path: Path, number: int, code: int) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(24):
        shutil.copy(CLIP, source / f"{index:02}.wav")
    command = [
        sys.executable,
        "-m",
        "tokenizers_zoo",
        "encode",
        "dm-codec-tiny",
        str(source),
        "-o",
        str(out),
        "--batch-size",
        "1",
    ]
    # a worker of pytest-xdist ignores SIGINT, and what it starts would, too
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.glob("[0-9]*.tok"))) < 2:
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    finished = list(out.iterdir())
    assert 2 <= len(finished) < 24
    assert err == f"stopped; {len(finished)} of 24 done, run again to go on\n"
    assert process.returncode == code
    expected = tz.load("dm-codec-tiny").encode(CLIP)
    assert all(tz.Tokens.load(path) == expected for path in finished)  # and nothing half or hidden is there
    assert main([*command[3:-2]]) == 0
    assert len(list(out.iterdir())) == 24


@pytest.mark.parametrize("verb", ["list", "info x", "import x -o y", "eval x --suite s --data d -o y", "export x -o y"])
def test_every_verb_stops_in_one_line(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "check_options", stop)
    before = signal.getsignal(signal.SIGTERM)
    assert main(verb.split()) == 130
    assert capsys.readouterr() == ("", "stopped\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_training_verbs_stop_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(argv: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "train", stop)
    assert main(["fit"]) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_reader_that_has_seen_enough() -> None:
    """`tokenizers-zoo list | head -1` is no error to be complained of."""
    command = f"{sys.executable} -u -m tokenizers_zoo list | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
