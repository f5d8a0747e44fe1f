"""Several codes of a position as few ids, and back: how 64 bits become what a language model reads.

Codebooks are taken in order into groups, each as large as `most` allows. A group is one id, its codes being the digits, the first
codebook's the most significant: with `most` 65,536 the 64 bits of an Instella token are 4 ids of 16 bits, and its image 512 ids.
An id says no more and no less than its codes; a position that holds PAD keeps it.
"""

import math
from collections.abc import Sequence
from reprlib import repr as short

import torch
from torch import Tensor

from .errors import TokenError
from .spec import PAD


def groups(sizes: Sequence[int], most: int = 1 << 16) -> list[list[int]]:
    """Codebook sizes in groups whose product is at most `most`; a codebook that is larger is a group alone.

    Ids of group g are 0 .. prod(groups[g]) - 1.
    """
    found: list[list[int]] = []
    for size in sizes:
        if found and math.prod(found[-1]) * size <= most:
            found[-1].append(size)
        else:
            found.append([size])
    return found


def to_ids(codes: Tensor, sizes: Sequence[int], most: int = 1 << 16) -> Tensor:
    """Codes (B, K, N) of codebooks of these sizes -> ids, int64 (B, groups, N). Raises TokenError for codes that are none."""
    _check("codes", codes, sizes)
    parts, ids = groups(sizes, most), []
    for part, digits in zip(parts, codes.split([len(part) for part in parts], dim=1), strict=True):
        value = torch.zeros_like(digits[:, 0])
        for size, digit in zip(part, digits.unbind(1), strict=True):
            value = value * size + digit
        ids.append(value.masked_fill((digits == PAD).any(1), PAD))
    return torch.stack(ids, dim=1)


def to_codes(ids: Tensor, sizes: Sequence[int], most: int = 1 << 16) -> Tensor:
    """The reverse: ids (B, groups, N) -> codes, int64 (B, K, N). Raises TokenError for ids that no codes have."""
    parts = groups(sizes, most)
    _check("ids", ids, [math.prod(part) for part in parts])
    codes = []
    for part, value in zip(parts, ids.unbind(1), strict=True):
        place = math.prod(part)
        for size in part:
            place //= size
            codes.append((value // place % size).masked_fill(value == PAD, PAD))
    return torch.stack(codes, dim=1)


def _check(what: str, values: Tensor, sizes: Sequence[int]) -> None:
    if values.dtype != torch.int64 or values.ndim != 3 or values.shape[1] != len(sizes):
        raise TokenError(f"{what} are int64 (B, {len(sizes)}, N) here, got {values.dtype} {tuple(values.shape)}")
    limits = torch.tensor([min(size, 2**63 - 1) for size in sizes], device=values.device)
    if ((values < PAD) | (values >= limits[:, None])).any():
        raise TokenError(f"{what} are {PAD}, or 0 to below {short(tuple(sizes))} here; these hold others")
