"""Two processes train one tokenizer: same parameters, codebooks and averages in both, and none waits for the other."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import sys, warnings
warnings.filterwarnings("ignore")
sys.path[:0] = {paths!r}
import lightning, torch
torch.set_num_threads(1)
from runs import audio_data, audio_module

module, folder = audio_module(), sys.argv[1]
data = audio_data()
data.batch_size = 13  # does not divide the epoch
trainer = lightning.Trainer(
    max_steps=5, accelerator="cpu", devices=2, strategy={strategy}, use_distributed_sampler=False, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1,
    val_check_interval=2, check_val_every_n_epoch=None,
)
trainer.fit(module, data)
torch.save({{k: v for k, v in module.state_dict().items()}}, f"{{folder}}/{{trainer.global_rank}}.pt")
"""


def launch(strategy: str, folder: Path) -> list[dict[str, torch.Tensor]]:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = folder / "run.py"
    script.write_text(SCRIPT.format(paths=paths, strategy=strategy))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK"))} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_end_with_the_same_weights(tmp_path: Path) -> None:
    first, second = launch('"ddp_find_unused_parameters_true"', tmp_path)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    codebooks = [value for name, value in first.items() if name.endswith("learner.embed") and name.startswith("tokenizer")]
    assert len(codebooks) == 3
    assert all(float(book.std()) > 1e-3 for book in codebooks)
