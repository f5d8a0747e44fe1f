"""Masked autoregression (MAR, arXiv 2406.11838) over a grid of latents whose dimensions are quantized one by one.

Source: TokenBridge (arXiv 2503.16430; YuqingWang1029/TokenBridge, models/tokenbridge.py). An encoder reads the known positions, a
decoder writes features for all, and `DimensionHead` says the codes of those whose turn it is. Positions come in random order.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks.causal import EPS
from ...blocks.transformer import TransformerBlock
from ...errors import InputError
from ...quantizers import DimensionWiseQuantizer, Quantizer
from ...spec import PAD, TokenSpec
from .base import Draw, Generator, Sampling
from .dimensions import DimensionHead

DROPPED, LEAST, SPREAD = 0.1, 0.7, 0.25  # in training: classes that are left out; the share that is masked, near 1


class MaskedAutoregressive(Generator):
    """Tokens with one codebook for each dimension of the latents, all of one size.

        generator = load_generator("tokenbridge-l")  # 487 M parameters, from the authors' Hub repository
        tokens = generator.generate(4, condition=207, seed=1, steps=64)  # published with 256: one or two positions a step

    width, depth, heads: of encoder and decoder each; head_...: of the head; order: of dimensions, as there. buffer: copies of the
    class that the encoder reads in front of the positions. quantizer: what turns codes into latents of about unit variance; by
    default the published table. guidance: features become those without a class + weight * what the class changes, the weight
    growing from 1 with the share of known positions, or "constant"; 1 is none. No dropout (the authors' blocks had 0.1).
    """

    def __init__(
        self,
        spec: TokenSpec,
        classes: int,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        head_depth: int,
        head_heads: int = 8,
        order: Sequence[int] | None = None,
        buffer: int = 64,
        quantizer: Quantizer | None = None,
        sampling: Sampling = Sampling(64, 1.0, 1.0),  # noqa: B008
    ):
        super().__init__(spec, classes, sampling)
        dimensions, levels = len(spec.codebook_sizes), spec.codebook_sizes[0]
        if len(set(spec.codebook_sizes)) > 1:
            raise InputError(f"all dimensions need as many levels, {spec.name} has {spec.codebook_sizes}")
        self.buffer = buffer
        self.quantizer = DimensionWiseQuantizer(dimensions, levels) if quantizer is None else quantizer
        self.class_embed = nn.Embedding(classes + 1, width)
        self.in_proj, self.norm_in = nn.Linear(dimensions, width), nn.LayerNorm(width, EPS)
        self.encoder, self.decoder = (nn.ModuleList(TransformerBlock(width, heads, EPS) for _ in range(depth)) for _ in range(2))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.decoder_proj, self.mask_token = nn.Linear(width, width), nn.Parameter(torch.empty(width))
        self.encoder_positions, self.decoder_positions, self.output_positions = (
            nn.Parameter(torch.empty(count, width))
            for count in (buffer + self.positions, buffer + self.positions, self.positions)
        )
        for start in (
            self.class_embed.weight,
            self.mask_token,
            *(p for n, p in self.named_parameters() if n.endswith("_positions")),
        ):
            nn.init.normal_(start, std=0.02)
        self.head = DimensionHead(width, dimensions, levels, head_width, head_depth, head_heads, order)

    def forward(self, codes: Tensor, masked: Tensor, condition: Tensor) -> Tensor:
        """Features of all positions, (B, N, width), for the head.

        codes (B, K, N); masked (B, N): which of them are not read, in each row as many; condition: classes (B,), `classes` for
        none.
        """
        count = len(codes)
        known = (~masked).nonzero()[:, 1].unflatten(0, (count, -1))[..., None]  # (B, n, 1)
        latents = self.quantizer.decode(codes).to(self.mask_token.dtype)
        x = self.in_proj(latents.gather(1, known.expand(-1, -1, latents.shape[-1])))
        classes = self.class_embed(condition)[:, None] + self.encoder_positions[: self.buffer]
        x = self.norm_in(torch.cat([classes, x + self.encoder_positions[self.buffer :][known[..., 0]]], dim=1))
        for block in self.encoder:
            x = block(x)
        x = self.decoder_proj(self.encoder_norm(x))
        grid = self.mask_token.to(x.dtype).expand(count, self.positions, -1)
        grid = grid.scatter(1, known.expand(-1, -1, x.shape[-1]), x[:, self.buffer :])
        x = torch.cat([x[:, : self.buffer], grid], dim=1) + self.decoder_positions
        for block in self.decoder:
            x = block(x)
        return self.decoder_norm(x)[:, self.buffer :] + self.output_positions

    def guided(self, codes: Tensor, masked: Tensor, condition: Tensor, weight: float) -> Tensor:
        """Features as `forward`, away from those without a class; weight 1: as they are."""
        if weight == 1:
            return self(codes, masked, condition)
        both = torch.cat([condition, torch.full_like(condition, self.classes)])
        features, null = self(codes.repeat(2, 1, 1), masked.repeat(2, 1), both).chunk(2)
        return null + weight * (features - null)

    def sample(self, condition: Tensor, how: Sampling, draw: Draw) -> Iterator[Tensor]:
        """Codes (B, K, N) as they enter each step, -1 where there is none yet, then whole ones."""
        count, dimensions = len(condition), len(self.spec.codebook_sizes)
        order = draw(self.positions).argsort(dim=-1)  # those at the end come first
        codes = condition.new_full((count, dimensions, self.positions), PAD)
        left = self.positions
        for step in range(how.steps):
            yield codes
            rest = max(1, min(left - 1, math.floor(self.positions * math.cos(math.pi / 2 * (step + 1) / how.steps))))
            weight = (
                1 + (how.guidance - 1) * (self.positions - rest) / self.positions if how.schedule == "linear" else how.guidance
            )
            rest = 0 if step + 1 == how.steps else rest
            if rest == left:  # more steps than positions
                continue
            masked = torch.zeros_like(codes[:, 0], dtype=torch.bool).scatter(1, order[:, :left], True)
            now = order[:, rest:left]
            features = self.guided(codes, masked, condition, weight)
            features = features.gather(1, now[..., None].expand(-1, -1, features.shape[-1])).flatten(0, 1)
            uniform = draw(left - rest, dimensions).flatten(0, 1) if how.temperature else None
            found = self.head.sample(features, how.temperature, uniform).unflatten(0, now.shape).transpose(1, 2)
            codes = codes.scatter(2, now[:, None].expand_as(found), found)
            left = rest
        yield codes

    def loss(self, codes: Tensor, condition: Tensor, sampling: bool = False) -> Tensor:
        """Cross entropy of masked positions' dimensions: codes (B, K, N), classes (B,) -> a number. sampling: as of the head."""
        below = torch.special.ndtr(torch.tensor((LEAST - 1) / SPREAD))
        share = 1 + SPREAD * torch.special.ndtri(below + torch.rand(()) * (0.5 - below))
        order = torch.rand(len(codes), self.positions, device=codes.device).argsort(dim=-1)
        masked = order < math.ceil(self.positions * min(1.0, float(share)))
        features = self(codes, masked, self.dropped(condition, DROPPED))[masked]
        wanted = codes.transpose(1, 2)[masked]
        return F.cross_entropy(self.head(features, wanted, sampling).flatten(0, 1), wanted.flatten())
