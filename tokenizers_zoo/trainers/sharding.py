"""Fully sharded data parallelism: weights, gradients and optimizer states in shares, whole only while a block computes."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from ..quantizers import Quantizer
from ..weights import compare, shapes


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's strategy over all processes, with checkpoints of one file that any number of processes resumes from.

    `--trainer.strategy fsdp2`. (Lightning's own FSDPStrategy is FSDP1, and on GPUs only.)
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Counts the processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Raises WeightsError, with their names, unless the checkpoint holds just what one of this module holds."""
        module: Any = self.lightning_module
        saved = torch.load(self.broadcast(checkpoint_path), mmap=True, map_location="cpu", weights_only=True)["state_dict"]
        compare(
            shapes(module.kept(module.state_dict())),
            shapes(saved),
            f"{module.tokenizer.name}, which is trained here ({checkpoint_path})",
        )
        return super().load_checkpoint(checkpoint_path, weights_only)


StrategyRegistry.register("fsdp2", FSDP2Strategy)


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shards `module` in place over a one-dimensional mesh: each block of its stacks by itself, the rest as one.

    Shares are taken up again after every forward pass, because the average of the weights is moved between two of them.
    """
    stacks = [part for part in module.modules() if type(part) is nn.ModuleList]  # a weight norm's list is of a subclass
    for block in (block for stack in reversed(stacks) for block in stack):  # inner blocks before those that hold them
        if not isinstance(block, nn.ModuleList | Quantizer):  # these are not only called by their forward
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for name in ("encode", "decode"):  # what is called in place of forward
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)
