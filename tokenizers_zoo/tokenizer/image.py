"""What every image tokenizer does."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..blocks.base import ImageDecoder, ImageEncoder
from ..errors import InputError, TokenError
from ..media import Images, ImageSource, as_images
from ..part import agree
from ..quantizers import Quantizer
from ..spec import is_integer
from ..tokens import Tokens, TokenSpec
from .base import Reconstruction, Tokenizer, as_seeds

Size = int | tuple[int, int] | Literal["source"] | None


class ImageTokenizer(Tokenizer):
    """RGB images <-> `positions` of codes.

    Images come at `image_size`, square, unless the encoder states other `sizes`; what has another size is resized (shorter side,
    bicubic, antialiased) and centre-cropped. Ordered encoders and scales decode any prefix (`spec.prefix_lengths`).
    moments: the encoder emits mean and log variance of a KL autoencoder, twice as many channels as the decoder takes.
    """

    modality = "image"
    role = "pixel"

    encoder: ImageEncoder
    decoder: ImageDecoder

    def __init__(self, encoder: ImageEncoder, quantizer: Quantizer | None, decoder: ImageDecoder, moments: bool = False):
        super().__init__()
        for size in ("image_size", "positions"):
            agree({f"encoder.{size}": getattr(encoder, size, None), f"decoder.{size}": getattr(decoder, size, None)})
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.image_size, self.moments = encoder.image_size, moments
        if encoder.sizes:
            encoder.sizes.check(encoder.image_size, encoder.image_size)
        self.check_sizes()

    @property
    def spec(self) -> TokenSpec:
        """What the tokens mean."""
        quantizer = self.discrete()
        sides = quantizer.scales
        return TokenSpec(
            name=self.name,
            modality=self.modality,
            codebook_sizes=quantizer.codebook_sizes,
            roles=self.roles,
            layout="scales" if sides else self.encoder.layout,
            position_prefixes=self.encoder.ordered or bool(sides),
            codebook_prefixes=quantizer.codebook_prefixes,
            image_size=self.image_size,
            positions=sum(side * side for side in sides) or self.encoder.positions,
            license=self.license,
            weights=self.weights,
            conditions=(*self.takes, *(("height", "width") if self.encoder.sizes else ())),
            scales=sides,
            **self._decodable(),
        )

    def _encoder_dim(self) -> dict[str, float | None]:
        return {"encoder.dim / 2": self.encoder.dim / 2} if self.moments else super()._encoder_dim()

    def encode_latents(self, media: Tensor, **given: Any) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> latents before the quantizer, (B, positions, D)."""
        self._trained_extent(media)
        return self.encoder(media.to(self.dtype), **given)

    def decode_latents(self, latents: Tensor, **how: Any) -> Tensor:
        """Latents (B, positions, D) -> pixels (B, 3, H, W), unbounded."""
        return self.decoder(latents.to(self.dtype), **how)

    @torch.no_grad()
    def encode(self, source: ImageSource, size: Size = None, **given: Any) -> Tokens:
        """Tokens of a path, array, tensor, PIL image, Images, or a list of them.

        size: pixels a side, (height, width), or "source" for the allowed size that is nearest to the image's own; by default
        `image_size`. A batch has one size. Raises InputError for what cannot be encoded.
        """
        quantizer, images = self.discrete(), as_images(source, self.target(size))
        given = self.accepted(given, len(images))
        codes = quantizer.encode(self.encode_latents(images.pixels.to(self.device, self.dtype), **given))
        spec, count = self.spec, codes.shape[-1]
        if count != spec.positions and count not in (spec.prefix_lengths or ()):
            raise InputError(f"the encoder of {self.name} gave {count} positions; by its attribute it has {spec.positions}")
        if self.encoder.sizes:
            height, width = images.pixels.shape[-2:]
            given |= {k: torch.full((len(images),), v, dtype=torch.int16) for k, v in (("height", height), ("width", width))}
        return Tokens(codes, spec, **given)

    def target(self, size: Size) -> Any:
        """What `as_images` makes of every image: a size, or a rule from an image's own size to one that is allowed."""
        sizes, own = self.encoder.sizes, (self.image_size, self.image_size)
        if size is None or size == "source":
            return sizes.nearest if size and sizes else own
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        if len(sides) != 2 or not all(is_integer(side) and side > 0 for side in sides):
            raise InputError(f'size must be pixels a side, (height, width), or "source", got {size!r:.80}')
        if sizes is None and sides != own:
            raise InputError(f"{self.name} takes images of {own[0]} x {own[1]} alone, not size={size!r}")
        if sizes and sides != own:
            sizes.check(*sides)
        return sides

    @torch.no_grad()
    def decode(self, tokens: Tokens, output: str = "main", seed: int | Sequence[int] = 0, **options: Any) -> Images:
        """Images of tokens at the size that they carry, clamped to [0, 1]. Raises TokenError for tokens of another tokenizer."""
        if "size" in options:
            raise InputError(
                f"{self.name} decodes tokens at the size that they carry; encode(source, size=...), or resize what comes"
            )
        moved = self.checked(tokens, output)
        how = self._how(moved, output, as_seeds(seed, len(moved)), options) | self._extent(tokens)
        latents = self.latents(moved.codes, moved.spec.codebook_ids)
        return Images(self.decode_latents(latents.to(self.dtype), **how).float().clamp(0, 1).cpu())

    def _extent(self, tokens: Tokens) -> dict[str, Any]:
        """Lengths and size as keywords of `decode_latents`, where they vary. Raises TokenError for those that do not decode."""
        spec, counts = self.spec, sorted(set(tokens.lengths.tolist()))
        allowed = spec.prefix_lengths if spec.position_prefixes else (spec.positions,)
        if not set(counts) <= set(allowed or ()):
            raise TokenError(f"{self.name} decodes {_some(allowed)} positions an image, got {_some(counts)}")
        how: dict[str, Any] = {}
        if len(counts) > 1:
            if spec.scales:
                raise TokenError(f"a batch ends on one scale, these have {_some(counts)} positions: group them by length")
            how["lengths"] = tokens.lengths.to(self.device)
        if self.encoder.sizes:
            default = torch.full((len(tokens),), self.image_size)
            sides = [tokens.conditions.get(name, default) for name in ("height", "width")]
            if any(side.ndim != 1 or side.is_floating_point() or side.is_complex() for side in sides):
                raise TokenError("conditions 'height' and 'width' must be integers, one an item; they count pixels")
            pairs = set(zip(*(side.tolist() for side in sides), strict=True))
            if len(pairs) > 1:
                raise TokenError(f"a batch has one image size, these have {_some(sorted(pairs))}: group them by size")
            how["size"] = pairs.pop()
            try:  # a file may ask for any size
                self.encoder.sizes.check(*how["size"])
            except InputError as error:
                raise TokenError(f"{self.name} cannot decode these tokens: {error}") from error
        return how

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """One training pass over images (B, 3, H, W) in [0, 1]."""
        how = given | self._trained_extent(media) | self._noise(len(media))
        latents = self.encode_latents(media, **given)
        quantized = self.discrete()(latents)
        return Reconstruction(self.decode_latents(quantized.latents.to(self.dtype), **how), latents, quantized)

    def _trained_extent(self, media: Tensor) -> dict[str, Any]:
        """Size of images (B, 3, H, W) as a keyword of `decode_latents`, where it varies. Raises InputError for another one."""
        height, width = media.shape[-2:]
        if self.encoder.sizes:
            self.encoder.sizes.check(height, width)
            return {"size": (height, width)}
        if (height, width) != (self.image_size, self.image_size):
            side = self.image_size
            raise InputError(f"{self.name} encodes and trains on {side} x {side} images, got {tuple(media.shape)}: resize them")
        return {}


def _some(values: Any) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:2], "...", shown[-1]])
