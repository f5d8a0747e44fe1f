"""A step of training on a GPU, and what the host waits for in it: on pretended.py's, which needs no driver."""

from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from pretended import pretended_cuda, stand_in
from test_recipes import built

from tokenizers_zoo.trainers.callbacks import CodebookMonitor

STEP = {  # of training
    "module.py:_check": 1,  # whether the losses are finite
    "module.py:_step": 2,  # torch's AveragedModel asks whether it has averaged before
}


class OnPretended(SingleDeviceStrategy):
    """All on the pretended GPU, until the process ends."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda:0"), accelerator=Pretended())

    def teardown(self) -> None:
        """Nothing goes back."""


class Pretended(CPUAccelerator):
    """Takes any device."""

    def setup_device(self, device: torch.device) -> None:
        """No driver is asked."""


class Asked(lightning.Callback):
    """What was asked in the last batch."""

    def __init__(self, asked: Counter[str]):
        self.asked = asked

    def on_train_batch_start(self, *args: Any) -> None:
        self.asked.clear()

    def on_train_batch_end(self, *args: Any) -> None:
        self.of_last = self.asked.copy()


@pytest.mark.parametrize("name", [pytest.param("dm-codec-tiny", marks=pytest.mark.slow), "lm-spt-tiny", "titok-tiny"])
@pytest.mark.filterwarnings("ignore")
def test_training_step(name: str, tmp_path: Path) -> None:
    """With its objective, adversary, optimizers and average, by Lightning's loop and our callbacks."""
    made = built(name, tmp_path)
    module, data = made.model, made.datamodule
    assert module.adversary
    module.adversary.start = 0
    data.prepare_data()
    with pretended_cuda() as asked:
        seen = Asked(asked)
        trainer = lightning.Trainer(
            strategy=OnPretended(),
            max_steps=2,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[CodebookMonitor(), seen],
            default_root_dir=tmp_path,
        )
        trainer.fit(stand_in(module), data)
    assert seen.of_last == STEP  # in the first step codebooks start
    assert module.ema.module.device.type == "cuda"
