"""A rectified-flow transformer that draws a map while it looks at registers.

Source: FlexTok (arXiv 2502.13967; apple/ml-flextok). One sequence, [patches of the noisy map, registers], without a mask; the
time modulates patches and registers each in their way. For guidance it is also run with one null token for all registers.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..spec import is_integer
from .base import ImageDecoder
from .flow import euler, euler_times
from .guidance import ProjectedGuidance, guided
from .modulated import Attend, ModulatedBlock, Modulation, aligned, counting, normed
from .positions import time_features
from .registers import Patches, RegisterDecoder, RegisterInput


@dataclass
class Condition:
    """What a flow looks at: registers (B, n, width), the last of which counts as `last` equal ones, and a sketch of the map."""

    registers: Tensor
    last: int
    sketch: Tensor | None


class FlowDecoder(ImageDecoder):
    """Latents (B, n, dim) and noise (B, map_channels, side, side) -> a map of the same shape, by Euler steps from noise to data.

    image_size: pixels a side; the map has image_size / stride. width: 64 * depth by default, in `depth` heads. max_timestep:
    times are multiplied by 1000 / max_timestep before their sines are taken. learned_null: is the null token learned, or zeros.
    steps, guidance, apg: what `decode` does by default; guidance 1 is none, apg projects it (`ProjectedGuidance`).

    sketch: a decoder of the same latents in one pass. The flow then sees it beside the noisy map, and draws what is missing: the
    difference of map and sketch, divided by `spread`. For maps that are pixels in [-1, 1].
    """

    options = ("steps", "guidance", "apg")

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        depth: int,
        map_channels: int = 3,
        stride: int = 1,
        patch_size: int = 2,
        width: int | None = None,
        heads: int | None = None,
        temperature: float = 10000.0,
        max_timestep: float = 1.0,
        learned_null: bool = True,
        steps: int = 20,
        guidance: float = 7.5,
        apg: bool = True,
        sketch: RegisterDecoder | None = None,
        spread: float = 1.0,
    ):
        super().__init__()
        width, side = width or 64 * depth, image_size // stride
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.map_channels, self.stride, self.max_timestep = map_channels, stride, max_timestep
        self.steps, self.guidance, self.apg = _checked(steps, guidance, apg)
        self.noise_shape = (map_channels, side, side)
        self.sketch, self.spread = sketch, spread
        self.patches = Patches(map_channels * (2 if sketch else 1), side, patch_size, width, temperature)
        self.registers = RegisterInput(dim, positions, width, self.patches.grid, temperature)
        self.null_token = nn.Parameter(0.02 * torch.randn(width)) if learned_null else None
        self.embed_time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads or depth) for _ in range(depth))
        aligned(self.blocks[0])  # type: ignore[arg-type]  # a ModuleList forgets what it holds
        self.block_modulations = nn.ModuleList(Modulation(width, 2 * 6) for _ in range(depth))
        self.modulation = Modulation(width, 2)
        self.out_proj = nn.Linear(width, map_channels * patch_size**2)

    def condition(self, latents: Tensor, lengths: Tensor | None = None) -> Condition:
        """What follows from latents (B, n, dim) alone; lengths (B,) where they differ."""
        sketch = 2 * self.sketch(latents, lengths) - 1 if self.sketch else None
        registers, last = self.registers(latents, lengths)
        return Condition(registers, last, sketch)

    def null(self, like: Condition) -> Condition:
        """The null condition, of as many items: one token that counts as all registers, and no sketch."""
        registers = like.registers[:, :1]
        token = torch.zeros_like(registers) if self.null_token is None else self.null_token.expand_as(registers)
        return Condition(token, self.positions, None if like.sketch is None else torch.zeros_like(like.sketch))

    def without(self, condition: Condition, dropped: Tensor) -> Condition:
        """`condition`, for the items `dropped` (B,) the null condition."""
        null, sketch = self.null(condition), condition.sketch
        registers = torch.where(dropped[:, None, None], null.registers, condition.registers)
        kept = None if sketch is None else sketch * ~dropped[:, None, None, None]
        return Condition(registers, condition.last, kept)

    def modulations(self, time: Tensor) -> list[Tensor]:
        """Of times (B,) what modulates each block, and at the end the head: (B, 12, width), ..., (B, 2, width)."""
        features = time_features(time, 1000 / self.max_timestep).to(self.out_proj.weight.dtype)
        embedded = self.embed_time(features)
        return [part(embedded) for part in (*self.block_modulations, self.modulation)]

    def run(
        self, noisy: Tensor, modulations: list[Tensor], *conditions: Condition, layer: int = -1
    ) -> tuple[list[Tensor], Tensor]:
        """Velocities of noisy maps (B, channels, side, side) under each of the conditions, and patches after a block.

        All conditions are one pass: their tokens stand one after the other, and each attends to its own.
        """
        patches = [self.patches(noisy if c.sketch is None else torch.cat([noisy, c.sketch], dim=1)) for c in conditions]
        parts = [torch.cat([p, c.registers.to(p)], dim=1) for p, c in zip(patches, conditions, strict=True)]
        x, count, sizes = torch.cat(parts, dim=1), patches[0].shape[1], [part.shape[1] for part in parts]
        groups = torch.cat([torch.arange(size, device=x.device) >= count for size in sizes]).long()
        attend = side_by_side(sizes, [counting(part, c.last) for part, c in zip(parts, conditions, strict=True)])
        hidden = x
        for number, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=False)):
            x = block(x, attend, modulation, groups)
            hidden = x if number == layer else hidden
        shift, scale = modulations[-1].unsqueeze(2).unbind(1)
        outputs = [self.out_proj(normed(part[:, :count]) * (1 + scale) + shift) for part in x.split(sizes, dim=1)]
        return [self.patches.unpatched(output) for output in outputs], hidden[:, :count]

    def velocity(self, noisy: Tensor, time: Tensor, latents: Tensor | None, lengths: Tensor | None = None) -> Tensor:
        """noise - data, as noisy maps (B, channels, side, side) at times (B,) in [0, 1] suggest; latents None: unconditionally.

        Of a decoder with a sketch the data are the difference to it, divided by `spread`.
        """
        given = noisy.new_zeros(len(noisy), 1, self.dim) if latents is None else latents
        condition = self.condition(given, lengths)
        return self.run(noisy, self.modulations(time), condition if latents is not None else self.null(condition))[0][0]

    def forward(
        self,
        latents: Tensor,
        lengths: Tensor | None = None,
        noise: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        apg: bool | None = None,
    ) -> Tensor:
        """(B, n, dim), noise (B, channels, side, side) -> the map; None takes the decoder's own. Raises InputError.

        What does not depend on the step is computed once: registers, and all that follows from the times.
        """
        chosen = [own if given is None else given for given, own in zip((steps, guidance, apg), self._own(), strict=True)]
        count, weight, project = _checked(*chosen)
        condition = self.condition(latents, lengths)
        conditions = [condition] if weight == 1 else [condition, self.null(condition)]
        modulations, guide = self.modulations(euler_times(count).to(latents.device)), ProjectedGuidance() if project else guided

        def velocity(sample: Tensor, step: int) -> Tensor:
            found, _ = self.run(sample, [m[step : step + 1] for m in modulations], *conditions)
            return found[0] if weight == 1 else guide(found[0], found[1], weight)

        if noise is None:
            shape = (len(latents), *(self.noise_shape or ()))
            raise InputError(f"a flow starts from noise: give noise={shape}, or use decode, which draws it")
        sample = euler(velocity, noise, count)
        return sample if condition.sketch is None else condition.sketch + self.spread * sample

    def _own(self) -> tuple[int, float, bool]:
        return self.steps, self.guidance, self.apg


def side_by_side(sizes: list[int], attends: list[Attend]) -> Attend:
    """Attention within parts of so many tokens, one after the other."""
    if len(sizes) == 1:
        return attends[0]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = zip(*(x.split(sizes, dim=2) for x in (query, key, value)), strict=True)
        return torch.cat([one(*part) for one, part in zip(attends, parts, strict=True)], dim=2)

    return attend


def _checked(steps: Any, guidance: Any, apg: Any) -> tuple[int, float, bool]:
    """The three options. Raises InputError for what they cannot be."""
    if not is_integer(steps) or steps < 1:
        raise InputError(f"steps must be a whole number from 1 on, got {steps!r:.80}")
    if not isinstance(guidance, Real) or isinstance(guidance, bool) or not math.isfinite(guidance):
        raise InputError(f"guidance must be a number (1 is none), got {guidance!r:.80}")
    if not isinstance(apg, bool):
        raise InputError(f"apg must be True or False, got {apg!r:.80}")
    return int(steps), float(guidance), apg
