"""A codebook that learns by moving averages."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from .base import nearest

ROUNDS = 10  # of k-means
SMOOTHING = 1e-5  # Laplace's, of the counts
JITTER = 0.01  # of the spread of the rows


class MovingAverageCodebook(nn.Module):
    """Rows (1, size, dim) that follow the vectors they are chosen for (arXiv 1711.00937, appendix A.1).

    Start: k-means over the first batch. A row that is nearest to none of its vectors, as when there are fewer than rows, starts
    at a random one of them plus normal noise of JITTER of the rows' standard deviation, so that all rows differ. Revival: a row
    whose average use falls below `revive_below` times the share `revived`, by default the uniform one, becomes a random vector of
    the batch with that share. decay: of the averages, a step.

    All processes learn one codebook: what one process would learn from all their batches, except which vectors revive rows. A
    step makes one collective call, holds nothing of the size vectors x rows and, once started, asks the device nothing (as
    `bincount` would). State: initted (), cluster_size (1, size), embed_avg and embed (1, size, dim), the names of EnCodec.
    """

    initted: Tensor
    cluster_size: Tensor
    embed_avg: Tensor
    embed: Tensor

    def __init__(self, size: int, dim: int, decay: float, revive_below: float, revived: float | None = None):
        super().__init__()
        self.decay, self.revive_below, self.revived = decay, revive_below, revived
        self.register_buffer("initted", torch.tensor(False))
        self.register_buffer("cluster_size", torch.ones(1, size))
        self.register_buffer("embed_avg", torch.zeros(1, size, dim))
        self.register_buffer("embed", torch.zeros(1, size, dim))
        self._forget()

    def _forget(self) -> None:
        self.started = False  # as `initted`, once the host has asked
        self._first: Tensor | None = None  # how many vectors the start saw, until the first step
        # by turn, sums and counts since the last step; no buffer, because DDP would overwrite it by that of the first process
        self._gathered: dict[int, Tensor] = {}

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._forget()

    @torch.no_grad()
    def learn(self, vectors: Tensor, codes: Tensor, step_ends: bool, turn: int = 0) -> None:
        """Gathers vectors (N, dim) and the codes (N,) they chose; where the step ends, moves the rows. For training mode only.

        turn: number of the call, where a pass makes several and the rows move at each.
        """
        size, dim = self.embed.shape[1:]
        found = _tally(vectors, codes, size)
        if turn in self._gathered:
            found += self._gathered.pop(turn)
        if not step_ends:
            self._gathered[turn] = found
            return
        sums, counts, candidates, there = _sum(torch.cat([found, _candidates(vectors, size)], 1)).split([dim, 1, dim, 1], 1)
        counts, uniform = counts[:, 0], counts.mean()
        if self._first is not None:  # the start saw the first batch of the step alone
            share = counts.sum() / self._first
            self.cluster_size *= share
            self.embed_avg *= share
            self._first = None
        self.cluster_size.lerp_(counts[None], 1 - self.decay)
        self.embed_avg.lerp_(sums[None], 1 - self.decay)
        self._set_rows()
        share = uniform if self.revived is None else torch.full_like(uniform, self.revived)
        dead = self.cluster_size[0] < self.revive_below * share
        slot = (dead.cumsum(0) - 1).clamp(min=0)  # dead rows take candidates in turn; those for whom none is left wait a step
        self._replace(dead & (there[slot, 0] > 0), candidates[slot], share)

    @_disable_dynamo  # torch.compiler.disable would import the compiler for everybody: a second
    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """k-means over (N, dim), unless the codebook has started."""
        if not self.initted:
            size, dim = self.embed.shape[1:]
            rows = _draw(vectors, size)
            for _ in range(ROUNDS):
                sums, counts = _sum(_tally(vectors, nearest(vectors, rows), size)).split([dim, 1], 1)
                rows = torch.where(counts > 0, sums / counts.clamp(min=1), rows)
            self._first = counts.sum()
            self.cluster_size.copy_(counts.T)
            self.embed_avg.copy_(rows * counts)
            self._set_rows()
            if not counts.all():
                noise = _sum(torch.randn_like(rows) if _place()[0] == 0 else torch.zeros_like(rows))
                noise *= (JITTER * rows.std(0, correction=0)).clamp(min=1e-4)
                self._replace(counts[:, 0] == 0, _draw(vectors, size) + noise, counts.mean())
            self.initted.fill_(True)
        self.started = True

    def _set_rows(self) -> None:
        total = self.cluster_size.sum()
        counts = (self.cluster_size + SMOOTHING) / (total + SMOOTHING * self.cluster_size.numel()) * total
        self.embed.copy_(self.embed_avg / counts[..., None])

    def _replace(self, which: Tensor, rows: Tensor, count: Tensor) -> None:
        """Where `which` (size,), `rows` (size, dim) as if `count` vectors had chosen them."""
        self.cluster_size.copy_(torch.where(which, count, self.cluster_size))
        self.embed.copy_(torch.where(which[:, None], rows, self.embed))
        self.embed_avg.copy_(torch.where(which[:, None], rows * count, self.embed_avg))


def _tally(vectors: Tensor, codes: Tensor, size: int) -> Tensor:
    """(size, dim + 1): for each code the sum of its vectors (N, dim), and their number."""
    table = vectors.new_zeros(size, vectors.shape[1] + 1)
    return table.index_add_(0, codes, F.pad(vectors, (0, 1), value=1.0))


def _candidates(vectors: Tensor, size: int) -> Tensor:
    """(size, dim + 1): different random vectors of (N, dim), a 1 behind each, in the places whose turn it is in this process."""
    rank, processes = _place()
    table = vectors.new_zeros(size, vectors.shape[1] + 1)
    mine = table[rank::processes]
    chosen = torch.randperm(len(vectors), device=vectors.device)[: len(mine)]
    mine[: len(chosen)] = F.pad(vectors[chosen], (0, 1), value=1.0)
    return table


def _draw(vectors: Tensor, count: int) -> Tensor:
    """(count, dim): random ones of all processes' vectors (N, dim), drawn by the first; none twice if there are enough."""
    rank, processes = _place()
    sizes = torch.zeros(processes, dtype=torch.long, device=vectors.device)
    sizes[rank] = len(vectors)
    ends = _sum(sizes).cumsum(0)
    total = int(ends[-1])
    places = torch.cat([torch.randperm(total), torch.randint(total, (max(0, count - total),))])[:count].to(vectors.device)
    if processes > 1:
        dist.broadcast(places, 0)
    places = places - (ends[rank] - len(vectors))
    mine = (places >= 0) & (places < len(vectors))
    return _sum(torch.where(mine[:, None], vectors[places.clamp(0, len(vectors) - 1)], 0))


def _place() -> tuple[int, int]:
    """Number of this process and of all; the process group may start after the codebook was built."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _sum(x: Tensor) -> Tensor:
    """`x` summed over all processes."""
    if _place()[1] > 1:
        dist.all_reduce(x)
    return x
