"""Codes of a position as ids of a language model, and back."""

import math

import pytest
import torch

import tokenizers_zoo as tz
from tokenizers_zoo.grouping import groups, to_codes, to_ids

SIZES = [
    ((2,) * 64, 1 << 16, [16] * 4),
    ((2,) * 64, 1 << 12, [12, 12, 12, 12, 12, 4]),
    ((2,) * 12, 1 << 16, [12]),
    ((7, 5, 5, 5, 5), 1000, [4, 1]),
    ((4096, 2**40, 2), 1 << 16, [1, 1, 1]),  # a large codebook is alone
    ((2,) * 128, 1 << 62, [62, 62, 4]),
]


@pytest.mark.parametrize(("sizes", "most", "counts"), SIZES)
def test_ids_and_codes_are_the_same_in_other_words(sizes: tuple[int, ...], most: int, counts: list[int]) -> None:
    assert [len(part) for part in groups(sizes, most)] == counts
    codes = torch.stack([torch.randint(size, (3, 50)) for size in sizes], dim=1)
    codes[:, :, 0], codes[:, :, 1] = 0, torch.tensor(sizes) - 1
    codes[1, :, 40:] = -1
    ids = to_ids(codes, sizes, most)
    assert ids.shape == (3, len(counts), 50)
    assert torch.equal(to_codes(ids, sizes, most), codes)
    assert ids[0, :, 0].tolist() == [0] * len(counts)
    assert ids[0, :, 1].tolist() == [math.prod(part) - 1 for part in groups(sizes, most)]
    assert (ids[1, :, 40:] == -1).all()
    assert int(ids[0].min()) >= 0


def test_the_first_codebook_is_the_most_significant_digit() -> None:
    assert to_ids(torch.tensor([[[1], [0], [1], [1]]]), (2,) * 4).tolist() == [[[11]]]
    assert to_ids(torch.tensor([[[1], [2], [0]]]), (2, 3, 4), 6).tolist() == [[[5], [0]]]


def test_every_id_of_a_group_has_codes_of_its_own() -> None:
    ids = torch.arange(2**12)[None, None]
    codes = to_codes(ids, (2,) * 12)
    assert len(codes[0].T.unique(dim=0)) == 2**12
    assert torch.equal(to_ids(codes, (2,) * 12), ids)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 2).long(), torch.zeros(4, 2).long(), torch.zeros(1, 4, 2)])
def test_codes_of_another_form_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(tz.TokenError, match=r"int64 \(B, 4, N\)"):
        to_ids(wrong, (2,) * 4)


def test_ids_out_of_range_are_refused() -> None:
    with pytest.raises(tz.TokenError, match=r"ids are -1, or 0 to below \(16,"):
        to_codes(torch.tensor([[[16]]]), (2,) * 4)
    with pytest.raises(tz.TokenError, match="codes are"):
        to_ids(torch.tensor([[[2], [0], [0], [-2]]]), (2,) * 4)
