"""Nothing is lost, doubled or half there, whenever SIGKILL comes, and whoever it hits.

The local engine is one process, its workers are threads: who kills one kills all and the driver. Ray's workers are processes.
"""

import random
import shutil
import time
from pathlib import Path

import pytest
from corpora import NAME, clips, shards
from kills import LONGEST, another, begin, kill, whole

import tokenizers_zoo as tz

pytest.importorskip("pyarrow")
SMALL = ("--shard-size", "3", "--batch-size", "1")


def words(manifest: Path, out: Path, *more: str) -> list[str]:
    return ["tokenize", NAME, "--data", str(manifest), "-o", str(out), *SMALL, *more]


def undisturbed(manifest: Path, out: Path) -> tuple[dict[str, bytes], float]:
    """The shards that there must be, and the seconds that it took."""
    start, process = time.monotonic(), begin(words(manifest, out))
    process.join(LONGEST)
    assert process.exitcode == 0
    return shards(out), time.monotonic() - start


def test_a_killed_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    manifest, out = clips(tmp_path, 24), tmp_path / "killed"
    expected, _ = undisturbed(manifest, tmp_path / "expected")
    process = begin(words(manifest, out))
    assert another(out, process)
    assert kill(process)
    assert 1 <= whole(out, expected) < 8
    assert undisturbed(manifest, out)[0] == expected
    assert [row.key for row in tz.TokenDataset(out)] == [f"{index:04d}.wav" for index in range(24)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_at_random_times(tmp_path: Path) -> None:
    """At any time of a run, its beginning and its end included; a run that gets through in between starts a new corpus."""
    manifest, out = clips(tmp_path, 90), tmp_path / "killed"
    expected, seconds = undisturbed(manifest, tmp_path / "expected")
    draws, kills, found = random.Random(18), 0, set()
    while kills < 20:
        process = begin(words(manifest, out))
        process.join(draws.uniform(0, seconds))
        kills += kill(process)
        found.add(whole(out, expected))
        if process.exitcode == 0:
            assert shards(out) == expected
            shutil.rmtree(out)
    assert len(found) > 3  # they hit runs that had come differently far
    assert undisturbed(manifest, out)[0] == expected
    assert [row.key for row in tz.TokenDataset(out)] == [f"{index:04d}.wav" for index in range(90)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_workers_of_ray(tmp_path: Path) -> None:
    """One, then both, five times; the driver has others take over, and ends well."""
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    manifest, out = clips(tmp_path, 90), tmp_path / "ray"
    expected, _ = undisturbed(manifest, tmp_path / "expected")
    driver = begin(words(manifest, out, "--engine", "ray", "--concurrency", "2"))
    draws, kills = random.Random(18), 0
    while kills < 10 and another(out, driver):
        time.sleep(draws.uniform(0, 0.05))
        below = psutil.Process(driver.pid).children(recursive=True)
        actors = [child for child in below if any(word.startswith("ray::") and "Map" in word for word in child.cmdline())]
        for actor in actors[: 1 + kills % 2]:
            actor.kill()
            kills += 1
        whole(out, expected)
    driver.join(LONGEST)
    assert driver.exitcode == 0
    assert kills >= 10
    assert shards(out) == expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_driver_of_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    manifest, out = clips(tmp_path, 60), tmp_path / "ray"
    expected, _ = undisturbed(manifest, tmp_path / "expected")
    driver = begin(words(manifest, out, "--engine", "ray", "--concurrency", "2"))
    assert another(out, driver)
    assert kill(driver)
    assert 1 <= whole(out, expected) < len(expected)
    time.sleep(5)  # Ray's own processes end
    assert undisturbed(manifest, out)[0] == expected  # an engine goes on where the other was
