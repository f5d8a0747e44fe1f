"""Values, losses and gradients of each quantizer, worked out by hand or written anew."""

import math

import pytest
import torch
from kinds import KINDS, started
from torch import Tensor

from tokenizers_zoo.quantizers import (
    FSQ,
    BernoulliQuantizer,
    BinaryQuantizer,
    EMAVectorQuantizer,
    FactorizedVectorQuantizer,
    ProjectedQuantizer,
    Quantized,
    Quantizer,
    ResidualQuantizer,
    SplitQuantizer,
    VectorQuantizer,
    base,
    moving_average,
    scalar,
)


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True))


def test_use_of_codebooks_by_hand() -> None:
    """Absent codes count nowhere; a codebook that was dropped everywhere has no use, and no NaN."""
    codes = torch.tensor([[[0, 0, 1, -1], [-1] * 4], [[0, 3, 0, -1], [-1] * 4]])
    found = Quantized(torch.zeros(2, 4, 1), codes, (4, 2), {}, torch.zeros(2, 4, 1))
    assert [x.tolist() for x in found.counts] == [[4, 1, 0, 1], [0, 0]]
    assert found.usage.tolist() == [0.75, 0]
    entropy = -(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(1 / 6))
    assert found.perplexity.tolist() == pytest.approx([math.exp(entropy), 1])


def rows_of(quantizer: Quantizer, rows: Tensor) -> None:
    """Puts `rows` into the codebook."""
    with torch.no_grad():
        (quantizer.learner.embed[0] if isinstance(quantizer, EMAVectorQuantizer) else quantizer.embedding.weight).copy_(rows)


@pytest.mark.parametrize("build", [VectorQuantizer, EMAVectorQuantizer])
def test_look_ups_by_hand(build: type[Quantizer]) -> None:
    quantizer = build(2, 2).eval()
    rows_of(quantizer, torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    latents = torch.tensor([[[2.0, 1.0], [1.0, -3.0]]], requires_grad=True)
    result = quantizer(latents)
    assert result.codes.tolist() == [[[0, 1]]]
    assert result.latents.tolist() == result.values.tolist() == [[[1, 0], [0, -2]]]
    assert not result.values.requires_grad
    assert {k: v.item() for k, v in result.losses.items()} == dict.fromkeys(result.losses, 1.0)  # mean of 1, 1, 1, 1
    assert gradients(result.losses["commitment"], latents)[0].tolist() == [[[0.5, 0.5], [0.5, -0.5]]]
    assert gradients((result.latents * torch.tensor([1.0, 3.0])).sum(), latents)[0].tolist() == [[[1, 3], [1, 3]]]
    if build is VectorQuantizer:
        weight = quantizer.embedding.weight
        assert gradients(result.losses["commitment"], weight) == [None]
        (found,) = gradients(result.losses["codebook"], weight)
        assert found.tolist() == [[-0.5, -0.5], [-0.5, 0.5]]
        assert gradients(result.losses["codebook"], latents) == [None]
        assert set(result.losses) == {"commitment", "codebook"}


def test_directions_by_hand() -> None:
    """l2_norm compares and gives unit vectors; the factorized look-up compares them and gives the row as it is."""
    rows, latents = torch.tensor([[10.0, 0.0], [0.3, 0.4]]), torch.tensor([[[3.0, 4.1], [2.0, -0.1]]])
    unit = VectorQuantizer(2, 2, l2_norm=True)
    rows_of(unit, rows)
    torch.testing.assert_close(unit(latents).latents, torch.tensor([[[0.6, 0.8], [1.0, 0.0]]]))
    lengths = latents.norm(dim=-1, keepdim=True)
    wanted = (latents / lengths - torch.tensor([[[0.6, 0.8], [1.0, 0.0]]])).square().mean()
    torch.testing.assert_close(unit(latents).losses["commitment"], wanted)
    factorized = FactorizedVectorQuantizer(2, 2, 2)
    rows_of(factorized, rows)
    for projection, scale in ((factorized.in_proj, 1.0), (factorized.out_proj, 2.0)):
        projection.weight = scale * torch.eye(2)
        torch.nn.init.constant_(projection.bias, 0.5)
    latents = (latents - 0.5).requires_grad_()
    result = factorized(latents)
    torch.testing.assert_close(result.values, torch.tensor([[[1.1, 1.3], [20.5, 0.5]]]))
    inner = torch.tensor([[[0.3, 0.4], [10.0, 0.0]]]) - (latents.detach() + 0.5)
    for name, loss in result.losses.items():
        assert loss.item() == pytest.approx(inner.square().mean().item())
        book, latent = gradients(loss, factorized.embedding.weight, latents)
        assert (book is None) == (name == "commitment")
        assert (latent is None) == (name == "codebook")
    torch.testing.assert_close(gradients(result.losses["commitment"], latents)[0], -inner / 2)
    torch.testing.assert_close(gradients(result.latents.sum(), latents)[0], torch.full((1, 2, 2), 2.0))


def test_the_direction_nearest_to_each_latent_wins() -> None:
    factorized, unit = FactorizedVectorQuantizer(50, 6, 3), VectorQuantizer(50, 3, l2_norm=True)
    latents = torch.randn(2, 40, 6) * torch.rand(2, 40, 1)
    projected = factorized.in_proj(latents)
    for quantizer, own in ((factorized, latents), (unit, projected)):
        with torch.no_grad():
            quantizer.embedding.weight.copy_(torch.randn(50, 3) * torch.rand(50, 1))
        cosines = torch.cosine_similarity(projected[:, :, None], quantizer.embedding.weight, dim=-1)
        assert torch.equal(quantizer.encode(own)[:, 0], cosines.argmax(-1))
        assert torch.equal(quantizer(own).codes[:, 0], cosines.argmax(-1))


def test_starts_as_published() -> None:
    vector, bernoulli = VectorQuantizer(64, 32).embedding.weight, BernoulliQuantizer(64, 100)
    assert (vector.min().item(), vector.max().item()) == (pytest.approx(-1 / 64, rel=0.02), pytest.approx(1 / 64, rel=0.02))
    assert bernoulli.embed.std().item() == pytest.approx(0.1, rel=0.05)
    assert (bernoulli.temperature, BinaryQuantizer(3).inverse_temperature) == (0.1, 1)
    learner = EMAVectorQuantizer(8, 2).learner
    assert (learner.decay, learner.revive_below) == (0.99, 0.1)
    assert FactorizedVectorQuantizer(8, 16).in_proj.out_features == 8


@pytest.mark.parametrize("spherical", [False, True])
def test_bits_by_hand(spherical: bool) -> None:
    quantizer = BinaryQuantizer(4, spherical, inverse_temperature=0.3)
    latents = torch.randn(2, 5, 4, dtype=torch.double).requires_grad_()
    result, x = quantizer(latents), latents / latents.norm(dim=-1, keepdim=True) if spherical else latents
    scale = 0.5 if spherical else 1.0
    values = scale * x.sign()
    torch.testing.assert_close(result.latents, values.float())
    torch.testing.assert_close(result.values, values.float())
    assert torch.equal(result.codes, (x > 0).long().transpose(1, 2))
    p = 1 / (1 + torch.exp(-4 * 0.3 * scale * x))

    def entropy(p: Tensor) -> Tensor:
        return -(p * p.log() + (1 - p) * (1 - p).log())

    certainty = entropy(p).mean((0, 1)) - entropy(p.mean((0, 1)))
    assert result.losses["entropy"].item() == pytest.approx(certainty.sum().item(), abs=1e-6)
    assert result.losses["commitment"].item() == pytest.approx((x - values).square().mean().item())
    wanted = gradients(x.sum(), latents)[0]
    torch.testing.assert_close(gradients(result.latents.sum(), latents)[0], wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        quantizer.decode(torch.tensor([[[-1], [0], [1], [1]]])), scale * torch.tensor([[[-1.0, -1, 1, 1]]])
    )
    assert quantizer.encode(torch.zeros(1, 1, 4)).sum() == 0  # 1 stands for a positive latent, 0 for the rest
    assert quantizer(torch.zeros(1, 1, 4)).codes.sum() == 0


def test_stochastic_bits_by_hand() -> None:
    quantizer = BernoulliQuantizer(2, 3, temperature=0.5).eval()
    latents = torch.randn(4, 6, 2, requires_grad=True)
    result, logits = quantizer(latents), quantizer.proj(latents)
    chance, bits = logits.sigmoid(), (logits > 0).float()
    torch.testing.assert_close(result.latents, bits @ quantizer.embed)
    torch.testing.assert_close(result.losses["uncertainty"], (chance - chance.square()).mean())
    wanted = gradients((chance @ quantizer.embed).sum(), latents)[0]
    torch.testing.assert_close(gradients(result.latents.sum(), latents)[0], wanted)
    drawn = torch.stack([quantizer.train()(latents).codes for _ in range(400)]).float().mean(0)
    assert (drawn - (logits / 0.5).sigmoid().transpose(1, 2)).abs().mean() < 0.03
    torch.testing.assert_close(
        quantizer.decode(torch.tensor([[[1], [-1], [1]]])), (quantizer.embed[0] + quantizer.embed[2])[None, None]
    )


def test_digits_of_finite_scalars() -> None:
    """The first dimension is the least digit; pairs come last; levels from lowest to highest."""
    quantizer = FSQ([3, 2, 5])
    low, high = torch.tensor([[[-9.0, -9, -9]]]), torch.tensor([[[9.0, 9, 9]]])
    codes = [quantizer.encode(torch.where(torch.tensor(up), high, low)).item() for up in torch.eye(3).bool().tolist()]
    assert codes == [2, 15, 4 * 3]  # 3 x 5 codes of the wide dimensions come before the pair's
    assert quantizer.encode(low).item() == 0
    assert quantizer.encode(high).item() == 29
    assert quantizer.codebook_sizes == (30,)
    torch.testing.assert_close(
        quantizer.decode(torch.tensor([[[29, -1]], [[0, 1]]]))[:, :, 1], torch.tensor([[1.0, 0], [-1, -1]])
    )


def test_the_largest_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalar, "LARGEST", 8)
    assert FSQ([2, 2, 2]).codebook_sizes == (8,)
    with pytest.raises(ValueError, match="make more than 8 codes"):
        FSQ([3, 3])


def test_projected_by_hand() -> None:
    quantizer = ProjectedQuantizer(BinaryQuantizer(3), 2)
    latents = torch.randn(1, 5, 2)
    inner, result = quantizer.quantizer(quantizer.in_proj(latents)), quantizer(latents)
    torch.testing.assert_close(result.latents, quantizer.out_proj(inner.latents))
    assert result.values is result.latents  # differentiated, where it is a level of several
    assert all(torch.equal(result.losses[k], v) for k, v in inner.losses.items())
    assert quantizer.codebook_sizes == (2, 2, 2)
    assert not quantizer.codebook_prefixes


def test_levels_by_hand() -> None:
    """Losses are means over levels; each level gets what is left."""
    quantizer = started(ResidualQuantizer(EMAVectorQuantizer(16, 4), 3))
    latents, total, losses = torch.randn(2, 30, 4), torch.zeros(2, 30, 4), []
    for stage in quantizer.stages:
        part = stage(latents - total)
        losses.append(part.losses["commitment"])
        total = total + part.values
    result = quantizer(latents)
    torch.testing.assert_close(result.losses["commitment"], torch.stack(losses).mean())
    torch.testing.assert_close(result.values, total)
    assert ResidualQuantizer(BinaryQuantizer(2), 2).codebook_sizes == (2,) * 4
    one = started(ResidualQuantizer(EMAVectorQuantizer(16, 4), 1, dropout=1.0)).train()
    assert (one(latents).codes >= 0).all()  # the only level cannot be dropped


def test_later_levels_learn_through_the_chain() -> None:
    """With projections of their own, all levels' losses and outputs reach the encoder as in DAC."""
    quantizer = ResidualQuantizer(FactorizedVectorQuantizer(16, 6, 3), 2)
    latents = torch.randn(1, 20, 6, requires_grad=True)
    first = quantizer.stages[0](latents)
    second = quantizer.stages[1](latents - first.latents)
    result = quantizer(latents)
    torch.testing.assert_close(result.latents, first.latents + second.latents)
    for name, loss in result.losses.items():
        wanted = gradients((first.losses[name] + second.losses[name]) / 2, latents)[0]
        torch.testing.assert_close(gradients(loss, latents)[0], wanted)
    torch.testing.assert_close(
        gradients(result.latents.sum(), latents), gradients((first.latents + second.latents).sum(), latents)
    )


def test_subtraction_teaches_by_the_acoustic_output_too() -> None:
    """Two linear halves of one chain: what is taken off is differentiated, with its sign, in losses and in the output."""
    quantizer = SplitQuantizer(FactorizedVectorQuantizer(16, 6, 3), FactorizedVectorQuantizer(16, 6, 3), subtract=True)
    latents = torch.randn(1, 20, 12, requires_grad=True)
    semantic = quantizer.semantic(latents[..., :6])
    acoustic = quantizer.acoustic(latents[..., 6:] - semantic.latents)
    result = quantizer(latents)
    torch.testing.assert_close(result.latents, torch.cat([semantic.latents, acoustic.latents], -1))
    for mine, wanted in [
        (result.latents[..., 6:].sum(), acoustic.latents.sum()),
        (result.losses["acoustic_commitment"], acoustic.losses["commitment"]),
    ]:
        (gradient,) = gradients(mine, latents)
        torch.testing.assert_close(gradient, gradients(wanted, latents)[0])
        assert gradient[..., :6].abs().sum() > 0


def test_distances_are_held_in_pieces() -> None:
    assert base.TABLE == 2**26
    assert base.nearest(torch.randn(2, 3, 4), torch.randn(1, 4)).tolist() == [[0] * 3] * 2
    learning = torch.randn(5, 3, requires_grad=True)
    rows = torch.randn(7, 3)
    assert torch.equal(base.nearest(learning, rows), torch.cdist(learning, rows).argmin(1))


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_rows_without_vectors_start_near_one(scale: float) -> None:
    """Noise of a hundredth of the rows' spread, whatever the scale of the latents."""
    quantizer = EMAVectorQuantizer(400, 4).train()
    latents = scale * torch.randn(1, 50, 4)
    quantizer(latents)
    distances = torch.cdist(quantizer.codebook, latents[0]).min(1).values / latents[0].std(0).norm()
    assert distances[distances > 1e-4].median() == pytest.approx(0.01, rel=0.3)


def test_no_row_is_revived_where_none_shall_be() -> None:
    quantizer = started(EMAVectorQuantizer(8, 2, revive_below=0.0)).train()
    quantizer.learner.cluster_size[0, 3], quantizer.learner.embed_avg[0, 3] = 0, 0
    far = torch.randn(1, 40, 2) + torch.tensor([50.0, 0])
    quantizer.learner.embed[0, 3] = -100.0
    quantizer(far)
    assert quantizer.learner.cluster_size[0, 3] == 0


def test_who_decodes_prefixes() -> None:
    """Levels, and groups all of which are levels or one codebook; never bits."""
    promised = {kind for kind, build in KINDS.items() if build().codebook_prefixes}
    shared = {"shared residual", "shared residual level", "shared residual rest"}
    assert promised == {"residual ema", "residual factorized", "split", "split subtracting", "projected"} | shared


@pytest.mark.parametrize("count", [5, 7, 9])
def test_a_draw_is_of_all_processes_vectors(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Two processes of 3 and 4 vectors, one after the other: together they give whole vectors, none twice if there are enough."""
    vectors, rows = (torch.arange(7.0)[:, None] + 1).split([3, 4]), torch.zeros(count, 1)
    monkeypatch.setattr(moving_average.dist, "broadcast", lambda places, source: None)  # both draw by one seed
    monkeypatch.setattr(moving_average, "_sum", lambda x: torch.tensor([3, 4]) if x.dtype == torch.long else x)
    for rank in (0, 1):
        monkeypatch.setattr(moving_average, "_place", lambda rank=rank: (rank, 2))
        torch.manual_seed(5)
        rows += moving_average._draw(vectors[rank], count)
    assert set(rows.flatten().tolist()) <= set(range(1, 8))
    assert len(rows.unique()) == min(count, 7)


def test_candidates_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three processes offers its vectors in every third place, a 1 behind each, and no vector twice."""
    monkeypatch.setattr(moving_average, "_place", lambda: (1, 3))
    for count, places in ((2, [1, 4]), (5, [1, 4, 7])):
        table = moving_average._candidates(torch.arange(1.0, count + 1)[:, None], 8)
        assert table[:, 1].nonzero().flatten().tolist() == places
        assert len(table[places, 0].unique()) == len(places)
        assert table[:, 1].sum() == table[places, 1].sum() == len(places)
        assert not table[table[:, 1] == 0].any()
