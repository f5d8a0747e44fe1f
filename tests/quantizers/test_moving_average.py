"""The codebook of moving averages: steps, start, revival, accumulation; several processes: test_distributed.py."""

import copy
from typing import Any

import pytest
import torch
from kinds import started
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

from tokenizers_zoo.quantizers import EMAVectorQuantizer, ProjectedQuantizer, Quantizer, ResidualQuantizer, base


class Reference:
    """vector-quantize-pytorch's codebook by the same rules: its counts and sums are of one-hot tables (N, K)."""

    def __init__(self, size: int, dim: int, decay: float, revive_below: float):
        self.revive_below = revive_below
        self.learner = Codebook(dim, size, kmeans_init=True, decay=decay, threshold_ema_dead_code=1)

    def __call__(self, latents: Tensor) -> Tensor:
        uniform = latents.shape[:-1].numel() / self.learner.codebook_size
        self.learner.threshold_ema_dead_code, self.learner.reset_cluster_size = self.revive_below * uniform, uniform
        return self.learner(latents)[1]


def mixture(count: int, dim: int = 6, spread: float = 0.3) -> Tensor:
    """(2, count / 2, dim) around 40 unequally likely centres."""
    centres = torch.randn(40, dim, generator=torch.Generator().manual_seed(7)) * 2
    chosen = torch.multinomial(torch.arange(1.0, 41) ** 2, count, replacement=True)
    return (centres[chosen] + spread * torch.randn(count, dim)).view(2, count // 2, dim)


@pytest.mark.parametrize("revive_below", [0.0, 0.3])
def test_steps_equal_an_independent_implementation(revive_below: float) -> None:
    """k-means start, ten steps of a drifting source, revival among them."""
    ours, theirs = EMAVectorQuantizer(32, 6, 0.8, revive_below).train(), Reference(32, 6, 0.8, revive_below)
    revived = 0
    for step in range(10):
        latents = mixture(400) + 0.2 * step
        before = ours.codebook.clone()
        torch.manual_seed(step)
        codes = theirs(latents)
        torch.manual_seed(step)
        assert torch.equal(ours(latents).codes[:, 0], codes)
        for name in ("embed", "embed_avg", "cluster_size", "initted"):
            mine, other = getattr(ours.learner, name), getattr(theirs.learner, name)
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5, msg=lambda m, n=name, s=step: f"{n}, step {s}: {m}")
        revived += int(((ours.learner.cluster_size[0] == 400 / 32) & (ours.codebook != before).any(1)).sum()) if step else 0
    assert (revived > 0) == (revive_below > 0)


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_a_first_batch_smaller_than_the_codebook_fills_it(count: int) -> None:
    """vector-quantize-pytorch 1.32 leaves 924 of 1,024 rows at zero after 100 vectors."""
    quantizer = EMAVectorQuantizer(1024, 8).train()
    latents = torch.randn(1, count, 8) + 5
    codes = quantizer(latents).codes
    rows = quantizer.codebook
    assert len(rows.unique(dim=0)) == 1024
    assert codes.unique().numel() == count  # each vector keeps a row of its own
    distances = torch.cdist(rows, latents[0]).min(1).values
    assert distances.max() < 0.2
    assert distances.median() > 0 or count > 512
    assert (quantizer.learner.cluster_size > 0.1 * count / 1024).all()


def test_a_silent_first_batch_leaves_different_rows() -> None:
    quantizer = EMAVectorQuantizer(64, 8).train()
    quantizer(torch.zeros(2, 100, 8))
    assert len(quantizer.codebook.unique(dim=0)) == 64
    for _ in range(5):
        quantizer(torch.randn(2, 100, 8))
    assert quantizer.codebook.isfinite().all()


def pieces(quantizer: Quantizer, latents: Tensor, count: int) -> None:
    """`latents` (B, N, D) in `count` batches of one step."""
    parts = latents.chunk(count, 1)
    for number, part in enumerate(parts):
        for module in quantizer.modules():
            if isinstance(module, Quantizer):
                module.step_ends = number == count - 1
        quantizer(part)


@pytest.mark.parametrize("count", [2, 4])
def test_a_step_of_parts_is_the_step_of_the_whole(count: int) -> None:
    """Decay once an optimizer step: a codebook that decays once a batch comes to 181 for 200 (decay 0.9, two halves)."""

    def build() -> Quantizer:
        torch.manual_seed(3)
        stage = EMAVectorQuantizer(16, 6, decay=0.9, revive_below=0)
        return started(ProjectedQuantizer(ResidualQuantizer(stage, 2), 6), 200).train()

    whole, parts = build(), build()
    for _ in range(3):
        latents = torch.randn(1, 200, 6)
        whole(latents)
        pieces(parts, latents, count)
        for one, other in zip(whole.quantizer.stages, parts.quantizer.stages, strict=True):
            assert torch.equal(one.learner.cluster_size, other.learner.cluster_size)
            assert one.learner.cluster_size.sum() == pytest.approx(200, rel=1e-6)
            torch.testing.assert_close(one.codebook, other.codebook, rtol=1e-5, atol=1e-6)


def test_a_start_in_parts_counts_the_whole_step() -> None:
    """The start sees one of eight batches; its rows must not look dead beside the counts of all."""
    quantizer = EMAVectorQuantizer(16, 6, decay=0.9, revive_below=0.3).train()
    latents = mixture(1600)
    quantizer.step_ends = False
    quantizer(latents[:, :100])
    start = quantizer.codebook.clone()
    pieces(quantizer, latents[:, 100:], 7)
    assert quantizer.learner.cluster_size.sum() == pytest.approx(1600, rel=0.1)
    moved = (quantizer.codebook - start).norm(dim=1)
    assert moved.median() < 0.1


def test_nothing_is_learned_within_a_step() -> None:
    quantizer = started(EMAVectorQuantizer(16, 6)).train()
    before = quantizer.codebook.clone()
    quantizer.step_ends = False
    quantizer(torch.randn(1, 100, 6))
    assert torch.equal(quantizer.codebook, before)
    quantizer.eval()(torch.randn(1, 100, 6))
    assert torch.equal(quantizer.codebook, before)


def test_revived_code_survives_the_step() -> None:
    """In EnCodec's code a replaced row is overwritten by the moving average in the same step."""
    quantizer = started(EMAVectorQuantizer(16, 4)).train()
    quantizer.learner.embed[0, 3] = 100.0
    quantizer.learner.embed_avg[0, 3] = 100.0
    quantizer.learner.cluster_size[0, 3] = 1e-3
    latents = torch.randn(2, 200, 4)
    quantizer(latents)
    row = quantizer.codebook[3]
    assert row.norm() < 10
    assert (latents - row).norm(dim=-1).min() < 1e-5  # it is one of the batch's vectors
    assert quantizer.learner.cluster_size[0, 3] == pytest.approx(400 / 16)
    quantizer(latents)
    assert quantizer(latents).usage.item() == 1.0


def test_more_dead_rows_than_vectors_wait() -> None:
    quantizer = started(EMAVectorQuantizer(64, 4), 4096).train()
    quantizer.learner.cluster_size.zero_()
    quantizer.learner.embed_avg.zero_()
    for left in (64 - 24, 64 - 48, 0):
        quantizer(torch.randn(1, 24, 4))
        assert int((quantizer.learner.cluster_size < 0.1 * 24 / 64).sum()) <= left
    assert len(quantizer.codebook.unique(dim=0)) == 64  # none is there twice


def test_first_moving_average_step_keeps_the_centroids() -> None:
    """In EnCodec's code centroids shrink to about a hundredth at the first step after the k-means start."""
    quantizer = EMAVectorQuantizer(64, 8).train()
    latents = torch.randn(3, 300, 8)
    quantizer(latents)
    first = quantizer.codebook.norm(dim=-1).mean().item()
    quantizer(latents)
    assert quantizer.codebook.norm(dim=-1).mean().item() == pytest.approx(first, rel=0.05)


@pytest.mark.parametrize("frames", [100, 10_000])
def test_dead_code_threshold_does_not_depend_on_the_batch(frames: int) -> None:
    """EnCodec's absolute threshold of 2 calls most codes dead in a small batch."""
    quantizer = started(EMAVectorQuantizer(64, 4, decay=1.0, revive_below=0.1)).train()
    uniform = frames / 64
    quantizer.learner.cluster_size.fill_(0.11 * uniform)[0, :5] = 0.09 * uniform
    quantizer(torch.randn(1, frames, 4))
    sizes = quantizer.learner.cluster_size[0]
    torch.testing.assert_close(sizes, torch.where(torch.arange(64) < 5, uniform, 0.11 * uniform))


def test_no_learning_in_evaluation() -> None:
    quantizer = started(EMAVectorQuantizer(64, 8))
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 100, 8) + 3)
    quantizer.encode(torch.randn(2, 100, 8) + 3)
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


def test_loading_brings_back_the_start() -> None:
    """What the host remembers of the start goes by the state that is loaded."""
    fresh = EMAVectorQuantizer(16, 4).state_dict()
    quantizer = started(EMAVectorQuantizer(16, 4))
    quantizer.load_state_dict(fresh)
    quantizer.train()(torch.randn(1, 300, 4) + 50)
    assert (quantizer.codebook - 50).abs().max() < 10
    assert list(fresh) == [f"learner.{name}" for name in ("initted", "cluster_size", "embed_avg", "embed")]


class Counted(TorchDispatchMode):
    """Sizes of all tensors that operations make, and the names of operations that ask the device."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.asked = 0, set[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "bincount", "nonzero", "masked_select"):
            self.asked.add(function.overloadpacket.__name__)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("training", [True, False])
def test_no_table_of_vectors_by_rows(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    """4,096 vectors against 1,024 rows: distances by the budget, nothing else above the vectors; the device is not asked."""
    quantizer, latents = started(EMAVectorQuantizer(1024, 4)), torch.randn(2, 2048, 4)
    monkeypatch.setattr(base, "TABLE", 1 << 15)
    with Counted() as counted:
        quantizer.train(training)(latents)
        quantizer.encode(latents)
    assert counted.largest == 1 << 15
    assert not counted.asked


@pytest.mark.parametrize("table", [1, 1000, 1 << 26])
def test_nearest_does_not_depend_on_its_budget(monkeypatch: pytest.MonkeyPatch, table: int) -> None:
    latents, rows = torch.randn(3, 50, 8), torch.randn(64, 8)
    whole = (latents[:, :, None] - rows).square().sum(-1).argmin(-1)
    monkeypatch.setattr(base, "TABLE", table)
    assert torch.equal(base.nearest(latents, rows), whole)
    assert base.nearest(latents[:, :0], rows).shape == (3, 0)


@pytest.mark.parametrize("training", [True, False])
def test_compiles_in_one_graph(training: bool) -> None:
    """vector-quantize-pytorch's codebook breaks it 14 to 18 times."""
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(32, 4), 2)).train(training)
    eager, latents = copy.deepcopy(quantizer), torch.randn(2, 100, 4)
    compiled = torch.compile(quantizer, backend="eager", fullgraph=True)
    for seed in range(2):
        torch.manual_seed(seed)
        expected = eager(latents).latents
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(latents).latents, expected)
    torch.testing.assert_close(quantizer.state_dict(), eager.state_dict())


def test_the_first_of_equally_near_rows_wins() -> None:
    rows = torch.tensor([[2.0], [1.0], [1.0], [-1.0]])
    assert base.nearest(torch.tensor([[0.9], [0.0], [5.0]]), rows).tolist() == [1, 1, 0]
