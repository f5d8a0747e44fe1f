"""What all quantizers promise, and the known faults of reference codebooks."""

import math

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as reference

from tokenizers_zoo.quantizers import (
    FSQ,
    BernoulliQuantizer,
    BinaryQuantizer,
    EMAVectorQuantizer,
    FactorizedVectorQuantizer,
    ProjectedQuantizer,
    Quantizer,
    ResidualQuantizer,
    SplitQuantizer,
    VectorQuantizer,
)


def started(quantizer: Quantizer, count: int = 2048) -> Quantizer:
    """`quantizer` after one training step on normal latents (the k-means start of moving-average codebooks)."""
    quantizer.train()(torch.randn(4, count // 4, quantizer.dim))
    return quantizer.eval()


CASES = {
    "vector": lambda: VectorQuantizer(64, 8),
    "vector l2": lambda: VectorQuantizer(64, 8, l2_norm=True),
    "ema": lambda: EMAVectorQuantizer(64, 8),
    "factorized": lambda: FactorizedVectorQuantizer(64, 16, 8),
    "residual ema": lambda: ResidualQuantizer(EMAVectorQuantizer(64, 8), 3),
    "residual factorized": lambda: ResidualQuantizer(FactorizedVectorQuantizer(64, 16, 8), 3),
    "split": lambda: SplitQuantizer(EMAVectorQuantizer(64, 8), ResidualQuantizer(EMAVectorQuantizer(32, 8), 2)),
    "split subtracting": lambda: SplitQuantizer(
        FactorizedVectorQuantizer(64, 16, 8), ResidualQuantizer(FactorizedVectorQuantizer(32, 16, 8), 2), subtract=True
    ),
    "projected": lambda: ProjectedQuantizer(ResidualQuantizer(EMAVectorQuantizer(64, 4), 3), 16),
    "fsq": lambda: FSQ([8, 5, 5]),
    "fsq 2": lambda: FSQ([2, 5]),
    "lfq": lambda: BinaryQuantizer(10),
    "bsq": lambda: BinaryQuantizer(10, spherical=True),
    "bernoulli": lambda: BernoulliQuantizer(16, 24),
}


@pytest.fixture(params=CASES)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return started(CASES[request.param]())


def test_protocol(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 7, quantizer.dim)
    result = quantizer(latents)
    books = len(quantizer.codebook_sizes)
    assert result.codes.shape == (2, books, 7)
    assert result.codes.dtype == torch.int64
    assert (result.codes >= 0).all()
    assert (result.codes < torch.tensor(quantizer.codebook_sizes)[:, None]).all()
    assert torch.equal(quantizer.encode(latents), result.codes)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents, rtol=1e-5, atol=1e-5)
    assert result.perplexity.shape == result.usage.shape == (books,)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in result.losses.values())


def test_decoded_codes_are_fixed_points(quantizer: Quantizer) -> None:
    codes = quantizer.encode(torch.randn(2, 9, quantizer.dim))
    if isinstance(quantizer, VectorQuantizer | EMAVectorQuantizer | BinaryQuantizer):  # FSQ bends its values by a tanh
        assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_gradients_reach_latents_and_weights(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 300, quantizer.dim, requires_grad=True)
    result = quantizer.train()(latents)
    (result.latents.square().sum() + sum(result.losses.values())).backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert all(p.grad is not None for p in quantizer.parameters())


def test_autocast_changes_no_code(quantizer: Quantizer) -> None:
    if isinstance(quantizer, ProjectedQuantizer):
        return  # its linear maps are the network's, and run in its precision
    latents = torch.randn(2, 50, quantizer.dim)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.encode(latents), quantizer(latents).codes)
        codes = quantizer.encode(latents)
    assert torch.equal(codes, quantizer.encode(latents))


def test_usage_and_perplexity() -> None:
    quantizer = VectorQuantizer(16, 2)
    result = quantizer(torch.zeros(1, 10, 2))
    assert result.perplexity.tolist() == [1.0]
    assert result.usage.tolist() == [1 / 16]
    all_rows = quantizer(quantizer.codebook[None])
    assert all_rows.perplexity.item() == pytest.approx(16, rel=1e-5)
    assert all_rows.usage.tolist() == [1.0]


def test_ema_decode_is_nearest_by_brute_force() -> None:
    quantizer = started(EMAVectorQuantizer(64, 8))
    latents = torch.randn(3, 40, 8)
    brute = (latents[:, :, None] - quantizer.codebook).square().sum(-1).argmin(-1)
    assert torch.equal(quantizer.encode(latents)[:, 0], brute)


def test_fsq_equals_the_reference_grid() -> None:
    latents = torch.randn(2, 50, 4) * 2
    _, codes = reference.FSQ([8, 8, 5, 5])(latents)
    assert torch.equal(FSQ([8, 8, 5, 5]).encode(latents)[:, 0], codes.long())


def test_signs_equal_lookup_free_quantization() -> None:
    latents = torch.randn(2, 50, 10)
    values, codes, _ = reference.LFQ(codebook_size=1024, dim=10).eval()(latents)
    ours = BinaryQuantizer(10)
    bits = ours.encode(latents)
    torch.testing.assert_close(ours.decode(bits), values)
    weights = 2 ** torch.arange(9, -1, -1)
    assert torch.equal((bits * weights[:, None]).sum(1), codes)


def test_entropy_loss_prefers_certain_and_balanced_bits() -> None:
    quantizer = BinaryQuantizer(4)
    balanced = torch.tensor([[[1.0] * 4, [-1.0] * 4]]) * 5
    assert quantizer(balanced).losses["entropy"].item() == pytest.approx(-4 * math.log(2), abs=1e-3)
    assert quantizer(balanced[:, :1]).losses["entropy"].item() == pytest.approx(0, abs=1e-3)
    assert quantizer(torch.zeros(1, 2, 4)).losses["entropy"].item() == pytest.approx(0, abs=1e-6)


def test_bernoulli_bits_are_random_in_training_only() -> None:
    quantizer = BernoulliQuantizer(8, 16, temperature=1.0)
    latents = torch.randn(1, 200, 8)
    assert not torch.equal(quantizer.train()(latents).codes, quantizer(latents).codes)
    chance = torch.sigmoid(quantizer.proj(latents)).transpose(1, 2)
    drawn = torch.stack([quantizer(latents).codes for _ in range(200)]).float().mean(0)
    assert (drawn - chance).abs().mean() < 0.04
    assert torch.equal(quantizer.eval()(latents).codes, (chance > 0.5).long())


def test_factorized_gradient_reaches_both_projections() -> None:
    quantizer = FactorizedVectorQuantizer(32, 16, 4)
    quantizer(torch.randn(1, 20, 16)).latents.sum().backward()
    for projection in (quantizer.in_proj, quantizer.out_proj):
        assert projection.parametrizations.weight.original1.grad.abs().sum() > 0
    assert quantizer.embedding.weight.grad is None  # the codebook learns from its own loss


def test_residual_prefix_sums_levels() -> None:
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 3))
    latents = torch.randn(2, 30, 8)
    codes = quantizer.encode(latents)
    errors = [(latents - quantizer.decode(codes[:, :n])).square().mean().item() for n in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


def test_residual_equals_an_independent_implementation() -> None:
    ours = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 3))
    theirs_all = reference.ResidualVQ(dim=8, codebook_size=64, num_quantizers=3).eval()
    for mine, theirs in zip(ours.stages, theirs_all.layers, strict=True):
        theirs._codebook.embed.copy_(mine.learner.embed)
    latents = torch.randn(2, 30, 8)
    values, codes, _ = theirs_all(latents)
    assert torch.equal(ours.encode(latents), codes.transpose(1, 2))
    torch.testing.assert_close(ours.decode(ours.encode(latents)), values)


def test_quantizer_dropout_uses_fewer_levels_in_training_only() -> None:
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 4, dropout=1.0))
    latents = torch.randn(64, 20, 8)
    assert (quantizer(latents).codes >= 0).all()
    result = quantizer.train()(latents)
    used = (result.codes[:, :, 0] >= 0).sum(1)
    assert used.min() == 1
    assert used.max() == 3
    assert (result.codes[:, 0] >= 0).all()
    assert result.perplexity.isfinite().all()


def test_every_level_commits_the_encoder() -> None:
    """In EnCodec's code a residual of straight-through values cancels the gradient of all levels but the first."""
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 3)).train()
    latents = torch.randn(2, 300, 8, requires_grad=True)
    residual, total = latents, torch.zeros_like(latents)
    expected = torch.zeros(())
    for stage in quantizer.stages:
        rows = F.embedding(stage.encode(residual.detach())[:, 0], stage.codebook)
        expected = expected + F.mse_loss(latents - total, rows) / 3
        total = total + rows
        residual = latents - total
    (wanted,) = torch.autograd.grad(expected, latents)
    (found,) = torch.autograd.grad(quantizer(latents).losses["commitment"], latents)
    torch.testing.assert_close(found, wanted)


def test_reconstruction_gradient_is_straight_through_once() -> None:
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 3)).train()
    latents = torch.randn(2, 300, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(quantizer(latents).latents.sum(), latents)
    torch.testing.assert_close(gradient, torch.ones_like(latents))


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
    quantizer = EMAVectorQuantizer(64, 4, revive_below=0.1).train()
    quantizer._scale_thresholds(torch.randn(1, frames, 4))
    assert quantizer.learner.threshold_ema_dead_code == pytest.approx(0.1 * frames / 64)


def test_no_learning_in_evaluation() -> None:
    quantizer = started(EMAVectorQuantizer(64, 8))
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 100, 8) + 3)
    quantizer.encode(torch.randn(2, 100, 8) + 3)
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


def test_residual_copies_start_different() -> None:
    stages = ResidualQuantizer(FactorizedVectorQuantizer(32, 16, 8), 2).stages
    assert not torch.equal(stages[0].embedding.weight, stages[1].embedding.weight)
    assert not torch.equal(stages[0].in_proj.weight, stages[1].in_proj.weight)


def test_split_halves() -> None:
    """Independent or by subtraction; alone, the acoustic half is nothing in training and everything after it."""
    parts = {"semantic": FactorizedVectorQuantizer(64, 16, 8), "acoustic": FactorizedVectorQuantizer(32, 16, 8)}
    semantic, acoustic = torch.randn(2, 4, 30, 16)
    both = torch.cat([semantic, acoustic], dim=-1)
    parallel, subtracting = SplitQuantizer(**parts), SplitQuantizer(**parts, subtract=True, alone=1.0)
    first = parts["semantic"].encode(semantic)
    rest = acoustic - parts["semantic"].decode(first)
    assert torch.equal(parallel.encode(both), torch.cat([first, parts["acoustic"].encode(acoustic)], dim=1))
    assert torch.equal(subtracting.encode(both), torch.cat([first, parts["acoustic"].encode(rest)], dim=1))
    decoded = subtracting.decode(first)
    assert torch.equal(decoded[..., :16], parts["semantic"].decode(first))
    assert not decoded[..., 16:].any()
    training = subtracting.train()(both)
    torch.testing.assert_close(training.latents, decoded)
    assert (training.codes[:, 1] == -1).all()
    assert (subtracting.eval()(both).codes >= 0).all()
