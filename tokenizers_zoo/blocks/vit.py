"""Vision transformers that write an image into a 1D sequence of latents and read it back.

Source: TiTok (arXiv 2406.07550; bytedance/1d-tokenizer, modeling/modules/blocks.py). Both sides see one sequence,
[class token, patches row by row, latents, caption]; learned absolute positions, so the image size is fixed. The class token and
the caption are there where an assembly has them.

The start is not the published one (normal, 0.02), under which a small model spends its first thousand steps on finding out
which latent should look where. Here positions start as sinusoids, a latent's as that of the patch at its place in raster order;
the first block's keys start as doubled queries, so that equal positions attend to each other; patches are centred and pixels
start at mid-grey.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ..part import Part, agree
from .base import ImageDecoder, ImageEncoder
from .conv2d import VQGANDecoder
from .text import TextFeatures, TextTokens
from .transformer import Transformer, TransformerBlock


class ViTEncoder1D(ImageEncoder):
    """Images (B, 3, S, S) in [0, 1] -> latents (B, positions, dim).

    legacy_reshape: the first published checkpoints (L-32, B-64, S-128) reinterpret the (positions, width) table in memory order
    as (width, positions) where a transpose was meant, so that every latent mixes all of them. ordered: the first latents alone
    can be decoded, and start spread over the image; for a training that cuts them.
    """

    undecayed = ("position_embed", "latent_embed", "latents", "patch_embed.weight")  # as in TiTok, scripts/train_titok.py

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        legacy_reshape: bool = False,
        class_token: bool = True,
        ordered: bool = False,
        text: TextTokens | None = None,
    ):
        super().__init__()
        self.dim, self.positions, self.image_size, self.legacy_reshape = dim, positions, image_size, legacy_reshape
        self.ordered = ordered
        self.grid = _grid(image_size, patch_size)
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
        with torch.no_grad():  # sees 4 (x - 0.5)
            self.patch_embed.bias.copy_(-2 * self.patch_embed.weight.sum((1, 2, 3)))  # type: ignore[union-attr]
            self.patch_embed.weight.mul_(4)
        self.class_token, self.position_embed, self.latent_embed = _embeddings(width, self.grid, positions, class_token, ordered)
        self.latents = nn.Parameter(torch.randn(positions, width) * width**-0.5)
        self.transformer = Transformer(width, depth, heads)
        align(self.transformer)
        self.out_proj = nn.Linear(width, dim)
        agree({"encoder.width": width, "encoder.text.width": getattr(text, "width", None)})
        self.text = text

    def forward(self, images: Tensor, text: TextFeatures | None = None) -> Tensor:
        """images (B, 3, image_size, image_size), and captions where the encoder has `text` -> (B, positions, dim)."""
        patches = rearrange(self.patch_embed(images), "b c h w -> b (h w) c")
        grid = with_class_token(patches, self.class_token) + self.position_embed
        latents = (self.latents + self.latent_embed).expand(len(images), -1, -1)
        x, mask = with_text([grid, latents], [None, None], self.text, text)
        x = self.transformer(x, slice(grid.shape[1], grid.shape[1] + self.positions), mask)
        if self.legacy_reshape:
            x = x.reshape(len(x), x.shape[2], x.shape[1]).transpose(1, 2)
        return self.out_proj(x)


class ViTDecoder1D(ImageDecoder):
    """Latents (B, positions, dim) -> images (B, 3, S, S), unbounded; `head` turns the patch features into pixels.

    The patches start as copies of one mask token. ordered: as the encoder's.
    """

    undecayed = ("position_embed", "latent_embed")

    def __init__(
        self,
        dim: int,
        positions: int,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        head: nn.Module,
        class_token: bool = True,
        ordered: bool = False,
        text: TextTokens | None = None,
    ):
        super().__init__()
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.grid = _grid(image_size, patch_size)
        self.in_proj = nn.Linear(dim, width)
        self.class_token, self.position_embed, self.latent_embed = _embeddings(width, self.grid, positions, class_token, ordered)
        self.mask_token = nn.Parameter(torch.randn(width) * width**-0.5)
        self.transformer = Transformer(width, depth, heads)
        align(self.transformer)
        agree({"decoder.width": width, "head.width": getattr(head, "width", None)})
        agree({"decoder.patch_size": patch_size, "head.patch_size": getattr(head, "patch_size", None)})
        self.head = head
        agree({"decoder.width": width, "decoder.text.width": getattr(text, "width", None)})
        self.text = text

    def features(self, latents: Tensor, lengths: Tensor | None = None, text: TextFeatures | None = None) -> Tensor:
        """(B, n, dim), lengths (B,) where they differ, captions -> patch features (B, width, grid, grid)."""
        count = latents.shape[1]
        latents = self.in_proj(latents) + self.latent_embed[:count]
        there = None if lengths is None else torch.arange(count, device=lengths.device) < lengths[:, None]
        masks = self.mask_token.expand(len(latents), self.grid**2, -1)
        grid = with_class_token(masks, self.class_token) + self.position_embed
        x, mask = with_text([grid, latents], [None, there], self.text, text)
        x = self.transformer(x, slice(grid.shape[1] - self.grid**2, grid.shape[1]), mask)
        return rearrange(x, "b (h w) c -> b c h w", h=self.grid)

    def forward(self, latents: Tensor, lengths: Tensor | None = None, text: TextFeatures | None = None) -> Tensor:
        """(B, n, dim), n = positions or, where tokens are ordered, fewer -> (B, 3, image_size, image_size)."""
        return self.head(self.features(latents, lengths, text))


class PatchHead(Part):
    """Patch features -> pixels: a linear map to each patch's pixels; smooth: then a 3x3 convolution over the whole image."""

    def __init__(self, width: int, patch_size: int, smooth: bool = True):
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.to_patch = nn.Conv2d(width, 3 * patch_size**2, 1)
        nn.init.constant_(self.to_patch.bias, 0.5)  # type: ignore[arg-type]
        self.smooth = nn.Conv2d(3, 3, 3, padding=1) if smooth else nn.Identity()
        if isinstance(self.smooth, nn.Conv2d):
            nn.init.dirac_(self.smooth.weight)
            nn.init.zeros_(self.smooth.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, 3, h * patch_size, w * patch_size)."""
        p = self.patch_size
        return self.smooth(rearrange(self.to_patch(x), "b (p q c) h w -> b c (h p) (w q)", p=p, q=p))


class ProxyLogitsHead(Part):
    """Patch features -> logits over proxy codes: what ProxyCodeHead starts with, alone, for TiTok's first stage."""

    def __init__(self, width: int, codebook_size: int):
        super().__init__()
        self.width = width
        self.to_logits = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.Tanh(), nn.Conv2d(2 * width, codebook_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, codebook_size, h, w)."""
        return self.to_logits(x)


class ProxyCodeHead(ProxyLogitsHead):
    """Patch features -> logits over the codes of a frozen 2D tokenizer -> its decoder (TiTok's two-stage training).

    Pixels come from the *expectation* over the proxy codebook, softmax without temperature, in training and inference alike.
    """

    def __init__(self, width: int, codebook_size: int, decoder: VQGANDecoder):
        super().__init__(width, codebook_size)
        self.codebook = nn.Embedding(codebook_size, decoder.dim)
        self.decoder, self.patch_size = decoder, decoder.patch_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, 3, H, W)."""
        chances = self.to_logits(x).softmax(dim=1)
        return self.decoder(torch.einsum("bkhw,kc->bchw", chances, self.codebook.weight))


def with_class_token(x: Tensor, token: Tensor | None) -> Tensor:
    """`token` (width,) in front of each sequence x (B, N, width); without one, x."""
    return x if token is None else torch.cat([token.expand(len(x), 1, -1), x], dim=1)


def with_text(
    parts: list[Tensor], masks: list[Tensor | None], tokens: TextTokens | None, text: TextFeatures | None
) -> tuple[Tensor, Tensor | None]:
    """Parts (B, n, width) of a sequence side by side, the caption's tokens last, and a transformer's mask of them all.

    masks: which positions of each part are there, (B, n), None for all.
    """
    if tokens is not None:
        if text is None:
            raise ValueError("these weights read captions: give their features, as the tokenizer does")
        parts, masks = [*parts, tokens(text.features)], [*masks, text.mask]
    if all(mask is None for mask in masks):
        return torch.cat(parts, dim=1), None
    there = [part.new_ones(part.shape[:2], dtype=torch.bool) if m is None else m for part, m in zip(parts, masks, strict=True)]
    return torch.cat(parts, dim=1), torch.cat(there, dim=1)[:, None, None]


def _grid(image_size: int, patch_size: int) -> int:
    if image_size % patch_size:
        raise ValueError(f"image_size {image_size} must be a multiple of patch_size {patch_size}")
    return image_size // patch_size


def _embeddings(
    width: int, grid: int, positions: int, class_token: bool, ordered: bool
) -> tuple[nn.Parameter | None, nn.Parameter, nn.Parameter]:
    """Class token (width,), positions of class token and patches, positions of the latents."""
    places, index = sinusoids(width, grid), torch.arange(positions)
    latents = nn.Parameter(places[coarse_first(grid)[index % grid**2] if ordered else index * grid**2 // positions])
    if not class_token:
        return None, nn.Parameter(places), latents
    token, position = torch.randn(2, width) * width**-0.5
    return nn.Parameter(token), nn.Parameter(torch.cat([position[None], places])), latents


def coarse_first(grid: int) -> Tensor:
    """Patches of a grid x grid picture in an order whose every beginning is spread over the picture, (grid^2,)."""
    bits = (grid - 1).bit_length()
    row, column = torch.arange(grid).repeat_interleave(grid), torch.arange(grid).repeat(grid)
    digits = [(row >> bit & 1) * 2 + (column >> bit & 1) for bit in range(bits)]  # the lowest one decides first
    return sum((digit << 2 * (bits - 1 - bit) for bit, digit in enumerate(digits)), torch.zeros_like(row)).argsort()


def sinusoids(width: int, grid: int) -> Tensor:
    """Positions of a grid x grid picture, (grid^2, width) of unit variance: sines and cosines of row and column."""
    half = torch.arange(grid)
    waves = math.pi / 2 * (2 * grid) ** -torch.linspace(0, 1, -(-width // 4))
    angles = [at[:, None] * waves for at in (half.repeat_interleave(grid), half.repeat(grid))]
    return math.sqrt(2) * torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)[:, :width]


def align(transformer: Transformer) -> None:
    """Lets equal positions attend to each other: the first block's keys become its queries, doubled."""
    first: TransformerBlock = transformer.blocks[0]  # type: ignore[assignment]  # a ModuleList forgets what it holds
    query, key, _ = first.attention.in_proj.weight.data.chunk(3)
    key.copy_(2 * query)
