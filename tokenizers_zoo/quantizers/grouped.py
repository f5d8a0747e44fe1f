"""Several quantizers for several streams of latents, side by side."""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import TokenError
from .base import Quantized, Quantizer


class GroupedQuantizer(Quantizer):
    """Latents (B, N, sum of the groups' dims): each group, in order, has its own quantizer; codebooks are listed group by group.

    groups: quantizer by role ("semantic", "acoustic", ...). Losses are named ROLE_NAME: semantic_commitment, ...
    subtract: a group quantizes what the quantized groups before it leave of its latents (LM-SPT as released; kakao/lmspt, after
    jiaqili3/DualCodec); the gradient passes. Otherwise groups are independent (Mimi, arXiv 2410.00037). alone: probability
    that, in training, all groups but the first are zeros for an item, so that the decoder learns to do without. Groups whose
    codebooks are left out at the end, or are -1, decode to zeros.
    """

    def __init__(self, groups: Mapping[str, Quantizer], subtract: bool = False, alone: float = 0.0):
        super().__init__()
        dims = {role: group.dim for role, group in groups.items()}
        if not groups:
            raise ValueError("groups is empty: give at least one quantizer by its role")
        if subtract and len(set(dims.values())) > 1:
            raise ValueError(f"only latents of one width can be subtracted, got {dims}")
        self.dims, self.subtract, self.alone = dims, subtract, alone
        self.dim = sum(dims.values())
        self.codebook_sizes = tuple(size for group in groups.values() for size in group.codebook_sizes)
        self.codebook_prefixes = all(group.codebook_prefixes or len(group.codebook_sizes) == 1 for group in groups.values())
        for role, group in groups.items():
            if not role.isidentifier() or hasattr(self, role):
                raise ValueError(f"a group cannot be called {role!r}; choose a word like semantic, acoustic or pixel")
            self.add_module(role, group)

    @property
    def groups(self) -> dict[str, Quantizer]:
        """Quantizers by role, in order."""
        return {role: getattr(self, role) for role in self.dims}

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of codebooks of each group."""
        return tuple(len(group.codebook_sizes) for group in self.groups.values())

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each codebook."""
        return tuple(role for role, count in zip(self.dims, self.counts, strict=True) for _ in range(count))

    def split(self, latents: Tensor) -> dict[str, Tensor]:
        """Latents (B, N, dim), quantized or not -> (B, N, dim of the group) by role."""
        return dict(zip(self.dims, latents.split(list(self.dims.values()), dim=-1), strict=True))

    def forward(self, latents: Tensor) -> Quantized:
        before: Tensor | float = 0.0
        parts: list[Quantized] = []
        losses: dict[str, Tensor] = {}
        for role, own in self.split(latents).items():
            parts.append(self.groups[role](own - before))
            before = before + parts[-1].latents if self.subtract else 0.0
            losses |= {f"{role}_{name}": loss for name, loss in parts[-1].losses.items()}
        drop = torch.zeros(len(latents), 1, 1, dtype=torch.bool, device=latents.device)
        if self.training:
            drop = torch.rand(drop.shape, dtype=latents.dtype, device=latents.device) < self.alone

        def join(tensors: list[Tensor], dim: int, nothing: int) -> Tensor:
            return torch.cat([tensors[0]] + [x.masked_fill(drop, nothing) for x in tensors[1:]], dim)

        quantized, values = join([part.latents for part in parts], -1, 0), join([part.values for part in parts], -1, 0)
        return Quantized(quantized, join([part.codes for part in parts], 1, -1), self.codebook_sizes, losses, values)

    def encode(self, latents: Tensor) -> Tensor:
        before: Tensor | float = 0.0
        codes = []
        for role, own in self.split(latents).items():
            codes.append(self.groups[role].encode(own - before))
            before = before + self.groups[role].decode(codes[-1]) if self.subtract else 0.0
        return torch.cat(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        parts = codes.tensor_split(list(itertools.accumulate(self.counts))[:-1], 1)
        return torch.cat([self._decode(role, part) for role, part in zip(self.dims, parts, strict=True)], -1)

    def _decode(self, role: str, codes: Tensor) -> Tensor:
        """Latents of one group, of none to all of its codebooks."""
        group, count = self.groups[role], codes.shape[1]
        if not count:
            return torch.zeros(len(codes), codes.shape[-1], group.dim, dtype=torch.float32, device=codes.device)
        if count < len(group.codebook_sizes) and not group.codebook_prefixes:
            raise TokenError(f"the {role} group needs all of its {len(group.codebook_sizes)} codebooks or none, got {count}")
        return group.decode(codes)


class SplitQuantizer(GroupedQuantizer):
    """Two groups: `semantic` and `acoustic`."""

    def __init__(self, semantic: Quantizer, acoustic: Quantizer, subtract: bool = False, alone: float = 0.0):
        super().__init__({"semantic": semantic, "acoustic": acoustic}, subtract, alone)
