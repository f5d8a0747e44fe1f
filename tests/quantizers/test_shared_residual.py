"""One codebook for all levels, with both ways to learn, against recorded steps of the reference."""

import copy

import pytest
import torch
from official import recorded
from torch import Tensor

from tokenizers_zoo.quantizers import SharedResidualQuantizer
from tokenizers_zoo.quantizers.moving_average import MovingAverageCodebook

IO = recorded.io("dualtoken_losses")


def recorded_quantizer(learns: str, restart: float) -> SharedResidualQuantizer:
    quantizer = SharedResidualQuantizer(24, 8, 3, decay=0.9, restart=restart, learns=learns)
    learner = quantizer.learner
    learner.embed.copy_(IO["input.rq_table"][None, :-1])  # the last row pads
    learner.cluster_size.copy_(IO["input.rq_cluster_size"][None])
    learner.embed_avg.copy_(IO["input.rq_embed_sum"][None])
    learner.initted.fill_(True)
    return quantizer.train()


def offered_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference offers vector i of a permutation to row i; ours, of another, to the rows in want of one, in turn."""
    learn, replace = MovingAverageCodebook.learn, MovingAverageCodebook._replace
    seen: list[Tensor] = []

    def noted(self: MovingAverageCodebook, vectors: Tensor, *rest: object) -> None:
        seen.append(vectors)
        learn(self, vectors, *rest)

    def replaced(self: MovingAverageCodebook, which: Tensor, rows: Tensor, count: Tensor) -> None:
        order = IO["input.rq_permutation"][0]
        replace(self, which, seen[-1][order[order < len(seen[-1])]][: len(rows)], count)

    monkeypatch.setattr(MovingAverageCodebook, "learn", noted)
    monkeypatch.setattr(MovingAverageCodebook, "_replace", replaced)


@pytest.mark.parametrize("restart", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["rq", "rq_ema"])
def test_a_step(kind: str, restart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    offered_as_recorded(monkeypatch)
    quantizer = recorded_quantizer({"rq": "level", "rq_ema": "rest"}[kind], restart)
    latents = IO["input.rq_x"].flatten(1, 2).requires_grad_()
    result = quantizer(latents)
    case = f"output.dt_{kind}_{'restart' if restart else 'plain'}"
    assert torch.equal(result.codes.transpose(1, 2), IO[f"{case}_codes"].flatten(1, 2))
    torch.testing.assert_close(result.latents, IO[f"{case}_quant"].flatten(1, 2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.losses["commitment"], IO[f"{case}_commit"], rtol=1e-5, atol=0)
    learner = quantizer.learner
    for found, name in ((learner.embed, "table"), (learner.cluster_size, "cluster_size"), (learner.embed_avg, "embed_sum")):
        wanted = IO[f"{case}_{name}_after"]
        torch.testing.assert_close(found[0], wanted[: len(found[0])], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    if not restart:
        loss = result.losses["commitment"] + (result.latents * IO["input.rq_grad"].flatten(1, 2)).sum()
        (gradient,) = torch.autograd.grad(loss, latents)
        torch.testing.assert_close(gradient, IO[f"{case}_grad_x"].flatten(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learns", ["step", "level", "rest"])
def test_accumulated_batches_are_one_step(learns: str) -> None:
    """Where the rows rest until the step ends, two halves learn what the whole does; a step forgets what it has learnt."""
    whole = recorded_quantizer(learns, 0.0)
    halves = copy.deepcopy(whole)
    latents = IO["input.rq_x"].flatten(1, 2)
    whole(latents)
    halves.step_ends = False
    before = halves.codebook.clone()
    halves(latents[:1])
    assert torch.equal(halves.codebook, before)
    halves.step_ends = True
    halves(latents[1:])
    assert not halves.learner._gathered
    torch.testing.assert_close(halves.learner.cluster_size.sum(), whole.learner.cluster_size.sum())
    if learns != "level":
        torch.testing.assert_close(halves.codebook, whole.codebook)


def test_evaluation_learns_nothing_and_prefixes_are_coarse() -> None:
    quantizer = recorded_quantizer("level", 1.0).eval()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    latents = IO["input.rq_x"].flatten(1, 2)
    codes = quantizer(latents).codes
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())
    errors = [float((quantizer.decode(codes[:, :n]) - latents).square().mean()) for n in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)


def test_what_is_learnt() -> None:
    """Of one level: the mean of the vectors, or half of it, where the rest is learnt in place of what was looked up."""
    vectors = torch.randn(1, 4000, 4) + torch.tensor([1.0, -2.0, 3.0, 0.5])
    rows = {}
    for learns in ("step", "level", "rest"):
        quantizer = SharedResidualQuantizer(1, 4, 1, decay=0.5, learns=learns).train()
        for _ in range(60):
            quantizer(vectors)
        rows[learns] = quantizer.codebook[0]
    mean = vectors.mean((0, 1))
    torch.testing.assert_close(rows["step"], mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rows["level"], mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rows["rest"], mean / 2, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match='"step", "level" or "rest"'):
        SharedResidualQuantizer(1, 4, 1, learns="never")


def test_a_first_batch_starts_the_rows() -> None:
    quantizer = SharedResidualQuantizer(64, 8, 4).train()
    vectors = torch.randn(4, 100, 8)
    first = float(quantizer(vectors).losses["commitment"])
    for _ in range(30):
        last = float(quantizer(vectors).losses["commitment"])
    assert last < 0.9 * first
    assert quantizer(vectors).usage.mean() > 0.5
