"""The command itself with two processes, as Lightning starts them."""

import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_recipe import command, tiny_recipe

from tokenizers_zoo.trainers.checkpoints import last_checkpoint
from tokenizers_zoo.trainers.export import read_checkpoint

INSTALLED, MODULE = [str(Path(sys.executable).with_name("tokenizers-zoo"))], [sys.executable, "-m", "tokenizers_zoo"]
DDP = "ddp_find_unused_parameters_true"


def run(program: list[str], folder: Path, verb: str, *words: str, strategy: str = DDP) -> str:
    """Runs a verb with two processes that import this checkout; what both printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])}
    options = ["-c", tiny_recipe(folder), "--trainer.devices", "2", "--trainer.strategy", strategy]
    done = command(*program, verb, *options, *words, folder=folder, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_installed_command_fits_with_two_processes(tmp_path: Path) -> None:
    """With a module that is imported beforehand, from the working directory, in the other process too."""
    (tmp_path / "mine.py").write_text("import os\nopen(f'imported{os.environ.get(\"LOCAL_RANK\", 0)}', 'w').close()\n")
    program = INSTALLED if Path(INSTALLED[0]).exists() else MODULE
    told = run([*program, "--import", "mine"], tmp_path, "fit")
    assert {path.name for path in tmp_path.glob("imported*")} == {"imported0", "imported1"}
    assert told.count("its weights: tokenizers-zoo --import mine export") == 1  # by one process
    content = read_checkpoint(last_checkpoint(tmp_path / "out"))
    assert content["global_step"] == 2
    first, second = content["random"].view(2, torch.get_rng_state().numel())  # of both
    assert not torch.equal(first, second)
    assert content["fit"]["config"]["trainer"]["devices"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [DDP, "fsdp2"])
@pytest.mark.parametrize("program", [INSTALLED, MODULE], ids=["installed", "module"])
def test_every_verb_runs_with_two_processes(program: list[str], strategy: str, tmp_path: Path) -> None:
    run(program, tmp_path, "fit", strategy=strategy)
    for verb, prefix in (("validate", "valid"), ("test", "test")):
        assert f"{prefix}/total" in run(program, tmp_path, verb, "--ckpt_path", str(tmp_path / "out"), strategy=strategy)
    run(program, tmp_path, "fit", "--ckpt_path", "last", "--trainer.max_steps", "3", strategy=strategy)
    assert read_checkpoint(last_checkpoint(tmp_path / "out"))["global_step"] == 3
