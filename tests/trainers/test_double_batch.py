"""Two processes take the steps of one process with the double batch."""

import copy
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.distributed as dist
from runs import fit
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from toy_steps import STEPS, Photos, module
from toys import Painted, Plain, Pooled

import tokenizers_zoo as tz
from tokenizers_zoo import assembly
from tokenizers_zoo.trainers.cli import HARMLESS
from tokenizers_zoo.trainers.objective import Objective, Term

pytestmark = pytest.mark.filterwarnings(*(f"ignore:{message}" for message in HARMLESS), "ignore:.*LeafSpec", "ignore:.*fork")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys may be named, for once."""
    monkeypatch.setattr(assembly, "_registered", {})
    for cls in (Plain, Pooled, Painted):
        tz.register(cls)


class Ends(lightning.Callback):
    """Keeps in a file what each process ends with: its state, how often it averaged gradients, and random numbers."""

    def __init__(self, folder: Path):
        self.folder, self.averaged = folder, 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        trainer.strategy.model.register_comm_hook(None, self._count)

    def _count(self, state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.averaged += 1
        return allreduce_hook(None, bucket)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        state = {**module.state_dict(), "averaged": torch.tensor(self.averaged), "drawn": torch.rand(8)}
        torch.save(state, self.folder / f"{trainer.global_rank}.pt")


def fit_two(module: Any, data: Any, folder: Path) -> None:
    """Trains in two forked processes, which need not import everything again."""
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork_find_unused_parameters_true",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        check_val_every_n_epoch=None,
        callbacks=[Ends(folder)],
    )
    trainer.fit(module, data)


@pytest.mark.parametrize("options", [{}, {"accumulate": 1, "clip": None}], ids=["accumulated", "plain"])
def test_two_processes_equal_one_with_the_double_batch(options: dict[str, Any], tmp_path: Path) -> None:
    start = module(**options)
    whole, pair = copy.deepcopy(start), copy.deepcopy(start)
    fit(whole, Photos(4), STEPS, tmp_path / "whole")
    fit_two(pair, Photos(4), tmp_path)
    wanted = whole.state_dict()
    assert any(not torch.equal(value, start.state_dict()[name]) for name, value in wanted.items() if "learner.embed" in name)
    ends = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert not (ends[0]["drawn"] == ends[1]["drawn"]).any()  # the toys draw nothing
    for found in ends:
        assert found["averaged"] == STEPS  # all gradients together, and not in each batch of a step
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


class Spoiled(nn.Module):
    """Infinite for the items of the second process."""

    def forward(self, output: torch.Tensor, media: torch.Tensor) -> torch.Tensor:
        """A scalar."""
        return (output - media).mean() / (1 - torch.distributed.get_rank())


def test_all_processes_end_together_where_one_has_no_finite_loss(tmp_path: Path) -> None:
    spoiled = module()
    spoiled.objective = Objective({"spoiled": Term(Spoiled())})
    backward = spoiled._backward

    def told(*args: Any) -> None:
        try:
            backward(*args)
        except tz.InputError as error:
            (tmp_path / f"{dist.get_rank()}.txt").write_text(str(error))
            dist.barrier()  # the first that ends has the other one killed
            raise

    spoiled._backward = told
    with pytest.raises(Exception, match="at step 0"):
        fit_two(spoiled, Photos(4), tmp_path)
    assert "a loss of another process" in (tmp_path / "0.txt").read_text()
    assert "the loss became" in (tmp_path / "1.txt").read_text()
