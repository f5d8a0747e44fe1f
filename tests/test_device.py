"""The script for a GPU, rehearsed on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["--device", "cpu", "--published", "titok-s128", "--recipes", "titok-tiny", "dm-codec-tiny"]


@pytest.mark.slow
def test_the_script_for_a_gpu(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = ["sh", str(ROOT / "benchmarks/device.sh"), *SMALL, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(path.read_text())
    assert found["complete"]
    assert not found["skipped"]
    assert set(found["parity"]) == {"dm-codec-tiny", "lm-spt-tiny", "titok-tiny", "titok-s128"}
    for figures in found["parity"].values():  # a CPU and itself
        assert figures["exact"]["all"] == figures["exact"]["decoded"] == figures["tf32"]["all"] == 0
        assert figures["exact"]["codes"] > 0
        assert 0 < figures["bfloat16"]["all"] < 0.5
    for figures in found["training"].values():
        assert figures["resumed_differs"] == figures["repeated_differs"] == 0
        assert figures["reconstruction"]["samples_a_second"] > 0 < figures["with_adversary"]["samples_a_second"]
    assert found["speed"].keys() == {"dm-codec-tiny", "lm-spt-tiny", "titok-tiny"}
    assert all(
        value > 0
        for table in (found["memory_gb"], *(ways["float32"] for ways in found["speed"].values()))
        for value in table.values()
    )
    assert found["compiled"].keys() == {"titok-tiny"}
