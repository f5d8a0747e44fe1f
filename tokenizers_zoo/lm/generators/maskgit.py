"""MaskGIT (arXiv 2202.04200) over the tokens of an image, as TiTok's authors sample them.

Source: bytedance/1d-tokenizer, modeling/maskgit.py. All positions start masked; in every step the network says all of them, those
that it is surest of stay, the others are masked again.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks.masked import PostNormTransformer
from ...errors import InputError
from ...spec import TokenSpec
from .base import Draw, Generator, Sampling, is_finite

DROPPED, SMOOTHING, UNMASKED = 0.1, 0.1, 0.1  # in training: classes that are left out, label smoothing, weight of what is seen


@dataclass(frozen=True)
class MaskGITSampling(Sampling):
    """temperature: of Gumbel noise on the logits and on how sure they are; falls linearly to 0 in the last step.

    guidance: the logits become logits + weight * (logits - those without a class), the weight being "constant" guidance,
    "linear" from 0 up to it, or "power-cosine": (guidance - 1) times a cosine ramp of (step / steps) ** power.
    annealing: logits are divided by 1.3 at first and by 0.5 in the end.
    """

    power: float = 3.0
    annealing: bool = False

    schedules: ClassVar[tuple[str, ...]] = ("constant", "linear", "power-cosine")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_finite(self.power) or self.power <= 0:
            raise InputError(f"power is a number above 0, got {self.power!r}")

    def weight(self, step: int) -> float:
        """Of the guidance in a step; 0 for none."""
        done = step / self.steps
        ramp = (1 - math.cos(math.pi * done**self.power)) / 2
        return {"constant": self.guidance, "linear": self.guidance * done, "power-cosine": (self.guidance - 1) * ramp}[
            self.schedule
        ]


class MaskGIT(Generator):
    """Tokens of one codebook; the network reads [class, token, token, ...], masked ones being number `codes`.

    transformer: of width, depth, heads. No dropout (the authors' BERT had 0.1).
    """

    sampling: MaskGITSampling

    def __init__(
        self,
        spec: TokenSpec,
        classes: int,
        width: int,
        depth: int,
        heads: int,
        transformer: Callable[[int, int, int], nn.Module] = PostNormTransformer,
        sampling: MaskGITSampling = MaskGITSampling(8, 4.5, 3.0, "constant"),
    ):
        super().__init__(spec, classes, sampling)
        if len(spec.codebook_sizes) != 1:
            raise InputError(f"MaskGIT writes one codebook, {spec.name} has {len(spec.codebook_sizes)}; grouping joins codes")
        self.codes = spec.codebook_sizes[0]
        self.embedding = nn.Embedding(self.codes + 1 + classes + 1, width)  # codes, mask, classes, no class
        self.position_embed = nn.Parameter(torch.empty(1 + self.positions, width))
        self.transformer = transformer(width, depth, heads)
        self.to_logits = nn.Linear(width, self.codes)
        nn.init.trunc_normal_(self.position_embed, std=0.02)
        for part in self.modules():
            if isinstance(part, nn.Embedding | nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def forward(self, ids: Tensor, condition: Tensor) -> Tensor:
        """Ids (B, N), `codes` where masked, and classes (B,), `classes` for none -> logits (B, N, codes)."""
        sequence = torch.cat([self.codes + 1 + condition[:, None], ids], dim=1)
        return self.to_logits(self.transformer(self.embedding(sequence) + self.position_embed)[:, 1:])

    def guided(self, ids: Tensor, condition: Tensor, weight: float) -> Tensor:
        """Logits as `forward`, in float32, `weight` times further away from those without a class."""
        if not weight:
            return self(ids, condition).float()
        both = torch.cat([condition, torch.full_like(condition, self.classes)])
        logits, null = self(ids.repeat(2, 1), both).float().chunk(2)
        return logits + weight * (logits - null)

    def sample(self, condition: Tensor, how: MaskGITSampling, draw: Draw) -> Iterator[Tensor]:
        """Codes (B, 1, N) as they enter each step, `codes` where masked, then whole ones."""
        ids = condition.new_full((len(condition), self.positions), self.codes)
        for step in range(how.steps):
            yield ids[:, None]
            done = (step + 1) / how.steps
            temperature = how.temperature * (1 - done)
            logits = self.guided(ids, condition, how.weight(step))
            if how.annealing:
                logits = logits / (0.5 + 0.8 * (1 - done))
            masked = ids == self.codes
            best = _noisy(logits, temperature, draw).argmax(dim=-1)
            sure = logits.gather(-1, best[..., None])[..., 0].where(masked, math.inf)
            ids = best.where(masked, ids)
            if step + 1 < how.steps:
                most = math.floor(self.positions * (math.acos(done) / (math.pi / 2)))
                again = (masked.sum(dim=1, keepdim=True) - 1).clamp(max=most).clamp(min=1)
                sure = _noisy(sure, temperature, draw)
                ids = ids.masked_fill(sure <= sure.sort(dim=1).values.gather(1, again - 1), self.codes)
        yield ids[:, None]

    def masked(self, ids: Tensor, share: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (B, N) with some masked, and which. share (B,) and order (B, N): uniform numbers that say how many, and where."""
        count = (self.positions * (share.acos() / (math.pi / 2)).clamp(min=1e-6)).round().clamp(min=1)
        hidden = order.argsort(dim=-1) < count[:, None]
        return ids.masked_fill(hidden, self.codes), hidden

    def loss(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Cross entropy of all positions, those that are seen counting little: codes (B, 1, N), classes (B,) -> a number."""
        ids = codes[:, 0]
        seen, hidden = self.masked(ids, *(torch.rand(shape, device=ids.device) for shape in (ids.shape[:1], ids.shape)))
        logits = self(seen, self.dropped(condition, DROPPED))
        losses = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), label_smoothing=SMOOTHING, reduction="none")
        weights = torch.where(hidden, 1.0, UNMASKED).flatten()
        return (losses * weights).sum() / weights.sum()


def _noisy(values: Tensor, temperature: float, draw: Draw) -> Tensor:
    """Values (B, ...) with Gumbel noise times a temperature: their largest is then a draw from softmax(values / temperature)."""
    if not temperature:
        return values
    uniform = draw(*values.shape[1:])
    return values - temperature * (-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
