"""What single quantizers promise, and the known faults of reference codebooks; what all promise: test_protocol.py."""

import math

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as reference
from kinds import started

from tokenizers_zoo.quantizers import (
    FSQ,
    BernoulliQuantizer,
    BinaryQuantizer,
    EMAVectorQuantizer,
    FactorizedVectorQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)


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


SWEEP = torch.linspace(-6, 6, 1201)


@pytest.mark.parametrize("levels", [[2], [2, 5], [5, 2, 4, 2, 3], [8, 2, 7], [8, 5, 5]])
def test_fsq_levels_do_not_bend_each_other(levels: list[int]) -> None:
    """Each dimension has its levels, evenly spaced and all reachable, and is rounded as if it were alone."""
    quantizer = FSQ(levels)
    for place, level in enumerate(levels):
        latents = torch.zeros(1, len(SWEEP), len(levels))
        latents[..., place] = SWEEP
        values = quantizer(latents).latents[0, :, place]
        assert torch.equal(values, FSQ([level])(SWEEP[None, :, None]).latents[0, :, 0])
        assert torch.equal(values, values.sort().values)
        steps = values.unique().diff()
        assert len(steps) == level - 1
        torch.testing.assert_close(steps, steps[:1].expand(level - 1))
    assert FSQ([2])(torch.tensor([[[-0.1], [0.1]]])).latents.flatten().tolist() == [-1, 1]


@pytest.mark.parametrize("levels", [[2], [2, 5], [5, 2, 4, 2, 3], [8, 5, 5]])
def test_fsq_codes_and_values_are_inverse(levels: list[int]) -> None:
    quantizer = FSQ(levels)
    codes = torch.arange(math.prod(levels))[None, None]
    values = quantizer.decode(codes)
    assert len(values[0].unique(dim=0)) == math.prod(levels)
    latents = torch.randn(8, 4000, len(levels)) * 3
    result = quantizer(latents)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)
    assert result.codes.unique().numel() == math.prod(levels)  # every code is reached


@pytest.mark.parametrize("levels", [[], [1, 5], [0], [-3]])
def test_fsq_needs_two_levels(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 2 levels"):
        FSQ(levels)


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


@pytest.mark.parametrize("spherical", [False, True])
def test_certain_bits_have_finite_gradients(spherical: bool) -> None:
    latents = torch.tensor([[[50.0, -50.0, 1.0, 0.0]]], requires_grad=True)
    quantizer = BinaryQuantizer(4, spherical, inverse_temperature=100.0)
    (gradient,) = torch.autograd.grad(quantizer(latents).losses["entropy"], latents)
    assert gradient.isfinite().all()


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
    """As DAC and LM-SPT draw it: 1 to all levels for the first half of a batch (dropout 0.5), all for the rest."""
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(64, 8), 4, dropout=0.5))
    latents = torch.randn(201, 20, 8)
    assert (quantizer(latents).codes >= 0).all()
    result = quantizer.train()(latents)
    used = (result.codes[:, :, 0] >= 0).sum(1)
    assert used[:100].unique().tolist() == [1, 2, 3, 4]
    assert (used[100:] == 4).all()
    assert (result.codes[:, 0] >= 0).all()
    assert result.perplexity.isfinite().all()
    assert (quantizer(latents[:1]).codes >= 0).all()  # a batch of one is never cut


def test_a_level_learns_from_the_items_that_use_it() -> None:
    quantizer = ResidualQuantizer(FactorizedVectorQuantizer(32, 16, 8), 3, dropout=0.5).train()
    latents = torch.randn(8, 6, 16)
    result = quantizer(latents)
    assert (result.codes < 0).any()
    used = (result.codes[:, :, 0] >= 0).T
    expected, residual = {"commitment": torch.zeros(()), "codebook": torch.zeros(())}, latents
    for level, stage in enumerate(quantizer.stages):
        part = stage(residual)
        for name in expected:  # the mean over all items of the errors of those that use it
            alone = [stage(item[None]).losses[name] * on for item, on in zip(residual, used[level], strict=True)]
            expected[name] = expected[name] + torch.stack(alone).mean() / 3
        residual = residual - part.values
    for name, value in expected.items():
        torch.testing.assert_close(result.losses[name], value)
    wanted, found = (
        torch.autograd.grad(x["codebook"], quantizer.stages[2].embedding.weight)[0] for x in (expected, result.losses)
    )
    torch.testing.assert_close(found, wanted)


def test_residual_codes_of_dropped_levels_decode_to_what_was_left() -> None:
    quantizer = ResidualQuantizer(FactorizedVectorQuantizer(64, 16, 8), 4, dropout=1.0).train()
    result = quantizer(torch.randn(20, 6, 16))
    assert (result.codes < 0).any()
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)


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


def test_residual_copies_start_different() -> None:
    stages = ResidualQuantizer(FactorizedVectorQuantizer(32, 16, 8), 2).stages
    assert not torch.equal(stages[0].embedding.weight, stages[1].embedding.weight)
    assert not torch.equal(stages[0].in_proj.weight, stages[1].in_proj.weight)
