"""Codebooks as ratios in the same process: `python benchmarks/codebooks.py`; prints the table of codebooks.md.

`nearest` by a budget of memory against 16,384 latents at a time, whatever the codebook; a training step of the moving-average
codebook against that of vector-quantize-pytorch. 64 channels. Calls take turns; a ratio is the median over rounds of the other's
time by ours, so above 1 means that ours is the faster; memory is what the process grows by.
"""

import argparse

import torch
from measure import Call, interleaved, machine, peak_memory, ratio
from torch import Tensor
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

from tokenizers_zoo.quantizers import EMAVectorQuantizer
from tokenizers_zoo.quantizers.base import nearest

DIM = 64


def by_rows(latents: Tensor, codebook: Tensor, rows: int = 1 << 14) -> Tensor:
    norms = codebook.square().sum(-1)
    return torch.cat([torch.addmm(norms, piece, codebook.T, alpha=-2).argmin(-1) for piece in latents.split(rows)])


def searches(count: int, size: int) -> dict[str, Call]:
    latents, rows = torch.randn(count, DIM), torch.randn(size, DIM)
    assert torch.equal(nearest(latents, rows), by_rows(latents, rows))
    return {"ours": lambda: nearest(latents, rows), "16,384 at a time": lambda: by_rows(latents, rows)}


def steps(count: int, size: int) -> dict[str, Call]:
    latents, rows = torch.randn(1, count, DIM), torch.randn(size, DIM)
    ours, theirs = EMAVectorQuantizer(size, DIM).train(), Codebook(DIM, size, kmeans_init=True, threshold_ema_dead_code=0.1)
    for learner in (ours.learner, theirs):
        learner.embed.copy_(rows)
        learner.embed_avg.copy_(rows)
        learner.initted.fill_(True)
    return {"ours": lambda: ours(latents), "vector-quantize-pytorch": lambda: theirs(latents)}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"{machine()}\n\n| operation | latents | entries | other | ours, s | ratio | ours, MB | other, MB |")
    print("|---" * 8 + "|")
    for name, build, sizes in (("nearest", searches, (1024, 16_384)), ("training step", steps, (1024, 4096, 16_384))):
        for size in sizes:
            count = 16_384 if build is searches else 8192
            calls = build(count, size)
            other = list(calls)[1]
            times = interleaved(calls, args.rounds)
            seconds, memory = sorted(times["ours"])[args.rounds // 2], [peak_memory(call) or 0 for call in calls.values()]
            row = (name, f"{count:,}", f"{size:,}", other, f"{seconds:.3f}", f"{ratio(times, other, 'ours'):.2f}")
            print(f"| {' | '.join(row)} | {memory[0]:.0f} | {memory[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
