"""Ray writes the corpus that the local engine writes (what becomes of it when processes are killed: test_kills.py)."""

import gc
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from corpora import NAME, clips, shards

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.cli.verbs import load
from tokenizers_zoo.corpus import Origin, Work, encode_on_ray, plan
from tokenizers_zoo.manifest import read_manifest

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    with warnings.catch_warnings(action="ignore"):  # it leaves handles of processes that still end
        ray.shutdown()
        gc.collect()


def words(manifest: Path, out: Path, *more: str) -> list[str]:
    return ["tokenize", NAME, "--data", str(manifest), "-o", str(out), "--shard-size", "3", *more]


@pytest.mark.usefixtures("cluster")
def test_ray_and_local_write_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = clips(tmp_path, 20)
    (tmp_path / "0004.wav").write_text("no audio")
    assert main(words(manifest, tmp_path / "local")) == 1
    capsys.readouterr()
    assert main(words(manifest, tmp_path / "ray", "--engine", "ray", "--concurrency", "2")) == 1
    assert "error: 0004.wav: " in capsys.readouterr().err
    assert shards(tmp_path / "ray") == shards(tmp_path / "local")
    assert main(words(manifest, tmp_path / "ray", "--engine", "ray")) == 1  # once more adds nothing
    assert shards(tmp_path / "ray") == shards(tmp_path / "local")
    assert [row.key for row in tz.TokenDataset(tmp_path / "ray")] == [f"{i:04d}.wav" for i in range(20) if i != 4]


@pytest.mark.usefixtures("cluster")
def test_workers_with_other_weights_are_refused(tmp_path: Path) -> None:
    manifest = clips(tmp_path, 3)
    todo = plan(read_manifest(manifest, ()), tmp_path, 3)
    work = Work(partial(load, NAME), tmp_path / "out", Origin.of(tz.load("lm-spt-tiny")))
    with pytest.raises(tz.WeightsError, match="give all machines the same weights"):
        list(encode_on_ray(work, todo, 1))
