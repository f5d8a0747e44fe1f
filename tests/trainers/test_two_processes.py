"""Two processes train one tokenizer: same parameters, codebooks and averages in both, and none waits for the other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokenizers_zoo.trainers.export import export

SCRIPT = """
import os, sys, warnings
warnings.filterwarnings("ignore")
sys.path[:0] = {paths!r}
import lightning, torch
from torch.distributed.tensor import DTensor
torch.set_num_threads(1)
from runs import audio_data, audio_module

module, checkpoint = audio_module(), {folder!r} + "/last.ckpt"
data = audio_data()
data.batch_size = 13  # does not divide the epoch
trainer = lightning.Trainer(
    max_steps={steps}, accelerator="cpu", devices=2, strategy="{strategy}", use_distributed_sampler=False, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1,
    val_check_interval=2, check_val_every_n_epoch=None,
)
trainer.fit(module, data, ckpt_path=checkpoint if os.path.exists(checkpoint) else None, weights_only=True)
trainer.save_checkpoint(checkpoint)
state = module.state_dict()
assert any(isinstance(v, DTensor) for v in state.values()) == ("{strategy}" == "fsdp2")
state = {{k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}}
torch.save(state, f"{folder}/{{trainer.global_rank}}.pt")
"""


def launch(strategy: str, folder: Path, steps: int = 5) -> list[dict[str, torch.Tensor]]:
    """What each process has learned after `steps`; goes on from `folder`/last.ckpt, and leaves it."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = folder / "run.py"
    script.write_text(SCRIPT.format(paths=paths, folder=str(folder), strategy=strategy, steps=steps))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK"))} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    return launch("ddp_find_unused_parameters_true", tmp_path_factory.mktemp("whole"))


def test_two_processes_end_with_the_same_weights(whole: list[dict[str, torch.Tensor]]) -> None:
    first, second = whole
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    codebooks = [value for name, value in first.items() if name.endswith("learner.embed") and name.startswith("tokenizer")]
    assert len(codebooks) == 3
    assert all(float(book.std()) > 1e-3 for book in codebooks)


def test_shares_of_the_weights_learn_what_whole_weights_learn(whole: list[dict[str, torch.Tensor]], tmp_path: Path) -> None:
    """FSDP with a break against DDP without: adversary, clipping, average and random numbers among it; checkpoints are whole."""
    launch("fsdp2", tmp_path, steps=3)
    shared = launch("fsdp2", tmp_path)[0]
    for name, value in whole[0].items():
        torch.testing.assert_close(shared[name], value, rtol=1e-4, atol=1e-6)
    exported = export(tmp_path / "last.ckpt", tmp_path / "exported")
    for name, value in exported.state_dict().items():
        assert torch.equal(value, shared[f"ema.module.{name}"]), name
