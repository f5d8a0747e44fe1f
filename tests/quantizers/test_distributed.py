"""Several processes learn one codebook, that of one process with all their batches; evaluation makes no collective call."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tokenizers_zoo.quantizers import EMAVectorQuantizer, Quantizer, ResidualQuantizer


def build(size: int) -> EMAVectorQuantizer:
    return EMAVectorQuantizer(size, 4, decay=0.9, revive_below=0).train()


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the two processes, unequal; clusters, so that rounding changes no choice."""
    generator = torch.Generator().manual_seed(step)
    centres = torch.randn(30, 4, generator=torch.Generator().manual_seed(99)) * 3
    chosen = torch.randint(30, (220,), generator=generator)
    first, second = (centres[chosen] + 0.1 * torch.randn(220, 4, generator=generator)).split([100, 120])
    return first[None], second[None]


def learn(quantizer: Quantizer, latents: torch.Tensor, parts: int = 1) -> None:
    """One step in so many batches."""
    for number, part in enumerate(latents.chunk(parts, 1)):
        for module in quantizer.modules():
            if isinstance(module, Quantizer):
                module.step_ends = number == parts - 1
        quantizer(part)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    quantizer = ResidualQuantizer(EMAVectorQuantizer(16, 4, decay=0.5), 2).train()
    same, small = build(16), build(512)  # all are built before the group exists, as Lightning does
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    for step in range(5):
        quantizer(torch.randn(2, 50 + 10 * rank, 4) + 3 * rank + step)  # unequal batches that leave rows behind
    torch.manual_seed(rank)
    for step in range(4):
        learn(same, batches(step)[rank], parts=1 if step == 0 else 2)
    small(batches(0)[rank])
    if rank == 0:
        quantizer.eval()(torch.randn(1, 5, 4))  # the other process takes no part
        quantizer.encode(torch.randn(1, 5, 4))
    torch.save([x.state_dict() for x in (quantizer, same, small)], f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_learn_one_codebook(learned: list[list[dict[str, torch.Tensor]]]) -> None:
    for first, second in zip(*learned, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
    assert learned[0][0]["stages.0.learner.embed"].std() > 0.1
    assert (learned[0][0]["stages.0.learner.cluster_size"] == 220 / 16).any()  # revived in the last step


def test_it_is_that_of_one_process_with_both_batches(learned: list[list[dict[str, torch.Tensor]]]) -> None:
    """k-means start, and steps whose batches come in two parts in each process."""
    alone = build(16)
    torch.manual_seed(0)  # the first process draws
    for step in range(4):
        learn(alone, torch.cat(batches(step), 1))
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(learned[0][1][key], value, rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_a_small_start_fills_all_rows(learned: list[list[dict[str, torch.Tensor]]]) -> None:
    rows = learned[0][2]["learner.embed"][0]
    assert len(rows.unique(dim=0)) == 512
    assert torch.cdist(rows, torch.cat(batches(0), 1)[0]).min(1).values.max() < 0.5
