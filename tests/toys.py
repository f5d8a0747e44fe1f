"""Assemblies of a few hundred weights, one for each thing that the frame must bear."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo.blocks.base import ImageDecoder, ImageEncoder, Sizes
from tokenizers_zoo.blocks.text import TextEncoder
from tokenizers_zoo.quantizers import FSQ, GroupedQuantizer, Quantized, Quantizer

LEVELS = [5, 5, 5]


class Letters(nn.Module):
    """Captions -> (B, dim): the mean of their letters' vectors; "" has a learned vector of its own."""

    saved = False  # a frozen helper: found by its name, never stored

    def __init__(self, dim: int, limit: int = 12):
        super().__init__()
        self.limit, self.cut = limit, 0
        table = torch.randn(128, dim, generator=torch.Generator().manual_seed(5))
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, text: list[str]) -> Tensor:
        """The caption's vector."""
        long = [t for t in text if len(t) > self.limit]
        if long and not self.training:
            raise tz.InputError(f"a caption has {len(long[0])} letters, the limit is {self.limit}; shorten it")
        self.cut += len(long)
        return torch.stack([self.table[[ord(c) % 127 for c in t[: self.limit]] or [127]].mean(0) for t in text])


class TwoLayers(nn.Module):
    """A language model of random weights: a table of letters, and a mixture of each with those before it."""

    def __init__(self, dim: int):
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        for name, rows in (("table", 128), ("mix", dim)):
            self.register_buffer(name, torch.randn(rows, dim, generator=generator))

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        """(B, L) -> (B, L, dim), as models of transformers give it."""
        x = self.table[input_ids]
        return SimpleNamespace(last_hidden_state=torch.tanh(x + x.cumsum(1) @ self.mix / len(self.mix)))


@tz.register
class StubText(TextEncoder):
    """A text encoder without a download, whose tokens are letters between two marks."""

    def __init__(self, dim: int, length: int):
        super().__init__("nobody/stub", dim, length)

    def opened(self) -> tuple[Any, Any]:
        """Words and network."""
        words = lambda text, verbose: {"input_ids": [[1, *(ord(c) % 128 for c in t), 2] for t in text]}  # noqa: E731
        return words, TwoLayers(self.dim)


class Pooled(ImageEncoder):
    """Means over a grid of cells, and a linear map: any size that `sizes` allows gives the same positions."""

    def __init__(self, dim: int = 3, side: int = 4, image_size: int = 16, ordered: bool = False, sizes: bool = False):
        super().__init__()
        self.dim, self.image_size, self.positions, self.side = dim, image_size, side * side, side
        self.ordered = ordered
        self.sizes = Sizes(8, 8, 64) if sizes else None
        self.proj = nn.Linear(3, dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, positions, dim)."""
        cells = nn.functional.adaptive_avg_pool2d(images, self.side).flatten(2).transpose(1, 2)
        return 4 * self.proj(cells - 0.5)


class Painted(ImageDecoder):
    """The mean of the latents that are there, as one colour."""

    def __init__(self, dim: int = 3, image_size: int = 16):
        super().__init__()
        self.dim, self.image_size, self.positions = dim, image_size, 16
        self.proj = nn.Linear(dim, 3)

    def forward(self, latents: Tensor, lengths: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """(B, n, dim) -> (B, 3, H, W)."""
        count = latents.shape[1]
        lengths = torch.full((len(latents),), count) if lengths is None else lengths
        inside = (torch.arange(count) < lengths[:, None])[..., None]
        mean = (latents * inside).sum(1) / lengths[:, None]
        return torch.sigmoid(self.proj(mean))[..., None, None].expand(-1, 3, *(size or (self.image_size,) * 2))


class Noisy(Painted):
    """`Painted`, from noise in `steps` steps."""

    options = ("steps",)
    noise_shape = (3, 16, 16)

    def forward(self, latents: Tensor, lengths: Tensor | None = None, noise: Tensor | None = None, steps: int = 2) -> Tensor:  # type: ignore[override]
        """(B, n, dim), noise (B, 3, 16, 16) -> (B, 3, 16, 16)."""
        assert noise is not None
        goal = super().forward(latents, lengths)
        for _ in range(steps):
            noise = noise + (goal - noise) / (steps + 1)
        return noise


class Captioned(tz.ImageTokenizer):
    """Encoder and decoder lean on a caption."""

    takes = ("text",)

    def __init__(self, encoder: ImageEncoder, quantizer: Quantizer, decoder: ImageDecoder, limit: int = 12):
        super().__init__(encoder, quantizer, decoder)
        self.letters = Letters(encoder.dim, limit)

    def encode_latents(self, media: Tensor, text: list[str], **given: Any) -> Tensor:  # type: ignore[override]
        """Images and captions -> (B, positions, dim)."""
        return super().encode_latents(media, **given) + self.letters(text)[:, None]

    def decode_latents(self, latents: Tensor, text: list[str], **how: Any) -> Tensor:  # type: ignore[override]
        """Latents and captions -> pixels."""
        return super().decode_latents(latents - self.letters(text)[:, None], **how)


class Plain(tz.ImageTokenizer):
    """Nothing of its own."""


class TwoOutputs(tz.ImageTokenizer):
    """Pixels of the pixel codes; a sketch of the semantic ones alone."""

    needs: Mapping[str, tuple[str, ...]] = {"main": ("pixel",), "sketch": ("semantic",)}
    quantizer: GroupedQuantizer

    def __init__(self, encoder: ImageEncoder, quantizer: Quantizer, decoder: ImageDecoder, sketch: ImageDecoder):
        super().__init__(encoder, quantizer, decoder)
        self.sketch = sketch

    def check_sizes(self) -> None:
        """Each decoder takes its half."""
        assert self.quantizer.dims == {"semantic": 3, "pixel": 3}

    @property
    def outputs(self) -> dict[str, nn.Module]:
        """The sketch."""
        return {"sketch": self.sketch}

    def decode_latents(self, latents: Tensor, output: str = "main", **how: Any) -> Tensor:
        """One of the halves -> pixels."""
        halves = self.quantizer.split(latents)
        return self.decoder(halves["pixel"], **how) if output == "main" else self.sketch(halves["semantic"], **how)


class Pyramid(Quantizer):
    """Residual maps of growing side (VAR's idea, with FSQ at each scale)."""

    def __init__(self, scales: tuple[int, ...] = (1, 2, 4)):
        super().__init__()
        self.scales, self.grid = tuple(scales), FSQ(LEVELS)
        self.dim, self.codebook_sizes = 3, self.grid.codebook_sizes

    def _maps(self, latents: Tensor) -> list[Tensor]:
        left = latents.transpose(1, 2).unflatten(2, (self.scales[-1],) * 2)
        codes = []
        for side in self.scales:
            small = nn.functional.interpolate(left, (side, side), mode="area").flatten(2).transpose(1, 2)
            codes.append(self.grid.encode(small))
            left = left - self._grown(codes[-1], side)
        return codes

    def _grown(self, codes: Tensor, side: int) -> Tensor:
        values = self.grid.decode(codes).transpose(1, 2).unflatten(2, (side, side))
        return nn.functional.interpolate(values, (self.scales[-1],) * 2, mode="bicubic")

    def encode(self, latents: Tensor) -> Tensor:
        """(B, 16, 3) -> (B, 1, 21)."""
        return torch.cat(self._maps(latents.float()), dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, 1, n) that end on a scale -> (B, 16, 3)."""
        total, done = torch.zeros(len(codes), 3, self.scales[-1], self.scales[-1]), 0
        for side in self.scales:
            if done < codes.shape[-1]:
                total = total + self._grown(codes[..., done : done + side * side], side)
                done += side * side
        return total.flatten(2).transpose(1, 2)

    def forward(self, latents: Tensor) -> Quantized:
        """Straight through the sum of all scales."""
        codes = self.encode(latents)
        values = self.decode(codes)
        return Quantized(latents + (values - latents).detach(), codes, self.codebook_sizes, {}, values)


def named(tokenizer: tz.Tokenizer, name: str) -> tz.Tokenizer:
    tokenizer.name = name
    return tokenizer.eval()


def captioned() -> tz.Tokenizer:
    return named(Captioned(Pooled(), FSQ(LEVELS), Painted()), "captioned")


def noisy() -> tz.Tokenizer:
    return named(Plain(Pooled(ordered=True), FSQ(LEVELS), Noisy()), "noisy")


def sized() -> tz.Tokenizer:
    return named(Plain(Pooled(sizes=True), FSQ(LEVELS), Painted()), "sized")


def pyramid() -> tz.Tokenizer:
    return named(Plain(Pooled(), Pyramid(), Painted()), "pyramid")


def two_outputs() -> tz.Tokenizer:
    groups = GroupedQuantizer({"semantic": FSQ([7, 7, 7]), "pixel": FSQ(LEVELS)})
    return named(TwoOutputs(Pooled(dim=6), groups, Painted(), Painted()), "two-outputs")
