"""Groups of quantizers by role."""

from pathlib import Path

import pytest
import torch
from kinds import started, three_groups

import tokenizers_zoo as tz
from tokenizers_zoo import zoo
from tokenizers_zoo.quantizers import (
    BinaryQuantizer,
    EMAVectorQuantizer,
    FactorizedVectorQuantizer,
    GroupedQuantizer,
    SplitQuantizer,
)


def test_groups_in_order() -> None:
    groups = three_groups() | {"depth": FactorizedVectorQuantizer(10, 6, 2)}
    quantizer = GroupedQuantizer(groups)
    assert quantizer.counts == (1, 2, 8, 1)
    assert quantizer.roles == ("semantic", *["acoustic"] * 2, *["pixel"] * 8, "depth")
    assert quantizer.codebook_sizes == (64, 32, 32, *[2] * 8, 10)
    latents = torch.randn(2, 5, quantizer.dim)
    split = quantizer.split(latents)
    assert list(split) == list(groups) == list(quantizer.groups)
    assert [part.shape[-1] for part in split.values()] == [8, 8, 8, 6]
    result = quantizer(latents)
    assert {"semantic_commitment", "acoustic_codebook", "pixel_entropy", "depth_commitment"} <= result.losses.keys()
    codes = torch.cat([group.encode(split[role]) for role, group in groups.items()], 1)
    assert torch.equal(result.codes, codes)
    assert torch.equal(quantizer.encode(latents), codes)
    parts = codes.split(list(quantizer.counts), 1)
    decoded = torch.cat([group.decode(part) for group, part in zip(groups.values(), parts, strict=True)], -1)
    assert torch.equal(quantizer.decode(codes), decoded)


def test_each_item_may_lack_other_groups() -> None:
    quantizer = GroupedQuantizer(three_groups(), subtract=True)
    codes = quantizer.encode(torch.randn(3, 5, quantizer.dim))
    whole = quantizer.split(quantizer.decode(codes))
    codes[0, 1:3], codes[1, :1], codes[2, 3:] = -1, -1, -1
    found = quantizer.split(quantizer.decode(codes))
    for item, absent in enumerate(("acoustic", "semantic", "pixel")):
        for role in whole:
            assert torch.equal(found[role][item], torch.zeros(5, 8) if role == absent else whole[role][item])


def test_groups_left_out_at_the_end() -> None:
    quantizer = GroupedQuantizer(three_groups())
    codes = quantizer.encode(torch.randn(2, 5, quantizer.dim))
    assert not quantizer.codebook_prefixes  # the bits cannot be cut
    for count in (1, 2, 3):
        found = quantizer.split(quantizer.decode(codes[:, :count]))
        assert not found["pixel"].any()
        assert found["acoustic"].any() == (count > 1)
    with pytest.raises(tz.TokenError, match="pixel group needs all of its 8 codebooks or none, got 2"):
        quantizer.decode(codes[:, :5])


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


def test_alone_goes_by_item_and_by_chance() -> None:
    quantizer = GroupedQuantizer(three_groups(), alone=0.5).train()
    result = quantizer(torch.randn(400, 3, quantizer.dim))
    absent = result.codes < 0
    assert not absent[:, :1].any()
    assert torch.equal(absent[:, 1:], absent[:, 1:2, :1].expand(-1, 10, 3))
    assert absent[:, 1, 0].float().mean().item() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)
    state = torch.get_rng_state()
    quantizer.eval()(torch.zeros(4, 3, quantizer.dim))
    assert torch.equal(torch.get_rng_state(), state)


def test_subtraction_passes_the_gradient() -> None:
    """The acoustic half's loss teaches the semantic encoder, with the sign of what is taken off."""
    quantizer = started(SplitQuantizer(EMAVectorQuantizer(32, 4), EMAVectorQuantizer(32, 4), subtract=True)).train()
    latents = torch.randn(2, 100, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(quantizer(latents).losses["acoustic_commitment"], latents)
    semantic, acoustic = gradient.split(4, -1)
    assert semantic.abs().sum() > 0
    torch.testing.assert_close(semantic, -acoustic)


@pytest.mark.parametrize(
    ("role", "message"), [("decode", "cannot be called 'decode'"), ("a.b", "cannot be called"), ("", "cannot be called")]
)
def test_roles_that_cannot_be(role: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupedQuantizer({role: BinaryQuantizer(3)})


def test_groups_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"one width can be subtracted, got \{'a': 3, 'b': 4\}"):
        GroupedQuantizer({"a": BinaryQuantizer(3), "b": BinaryQuantizer(4)}, subtract=True)
    with pytest.raises(ValueError, match="at least one"):
        GroupedQuantizer({})


def test_an_assembly_names_groups_by_role(tmp_path: Path) -> None:
    """The older word SplitQuantizer builds the same, with the same keys."""
    split = zoo.assembly("lm-spt-tiny")["init_args"]["quantizer"]["init_args"]
    halves = {role: split.pop(role) for role in ("semantic", "acoustic")}
    grouped = {"class_path": "GroupedQuantizer", "init_args": {"groups": halves, **split}}
    new = tz.create("lm-spt-tiny", quantizer=grouped)
    old = tz.create("lm-spt-tiny", **{"quantizer.acoustic.quantizer.levels": 6})
    assert isinstance(new.quantizer, GroupedQuantizer)
    assert {k: v.shape for k, v in new.state_dict().items()} == {k: v.shape for k, v in old.state_dict().items()}
    assert new.spec == old.spec
    new.save_pretrained(tmp_path)
    assert tz.load(tmp_path).quantizer.roles == old.quantizer.roles
    fewer = tz.create("lm-spt-tiny", quantizer=grouped, **{"quantizer.groups.acoustic.quantizer.levels": 2})
    assert fewer.roles == ("semantic", "acoustic", "acoustic")
