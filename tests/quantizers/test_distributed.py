"""Two processes on different data learn one codebook; evaluation makes no collective call."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tokenizers_zoo.quantizers import EMAVectorQuantizer, ResidualQuantizer


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(EMAVectorQuantizer(16, 4), 2).train()  # built before the group exists, as Lightning does
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    for _ in range(5):
        quantizer(torch.randn(2, 50 + 10 * rank, 4) + rank)  # unequal batches
    if rank == 0:
        quantizer.eval()(torch.randn(1, 5, 4))  # the other process takes no part
        quantizer.encode(torch.randn(1, 5, 4))
    torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_learn_one_codebook(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], msg=key)
    assert first["stages.0.learner.embed"].std() > 0.1
