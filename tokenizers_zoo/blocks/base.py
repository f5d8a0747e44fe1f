"""The two halves of a tokenizer: the types of its `encoder` and `decoder`."""

from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from ..errors import InputError
from ..part import Part

Count = TypeVar("Count", int, Tensor)


class AudioEncoder(Part):
    """forward(waveform (B, 1, S), lengths (B,) in samples or None) -> latents (B, ceil(S / hop), dim).

    hop: samples a frame. causal: whether a frame depends on no later sample. receptive_field: frames on each side of a frame that
    can influence it; None if unbounded.
    """

    dim: int
    hop: int
    causal: bool
    receptive_field: int | None

    def frames(self, samples: Count) -> Count:
        """How many frames so many samples give."""
        return -(-samples // self.hop)


class Decoder(Part):
    """What audio and image decoders share.

    options: keywords of forward that a user may choose at decoding (steps, guidance). noise_shape: of the noise that forward
    takes as `noise`, one draw an item (None: it is deterministic).
    """

    options: tuple[str, ...] = ()
    noise_shape: tuple[int, ...] | None = None


class AudioDecoder(Decoder):
    """forward(latents (B, T, dim), lengths (B,) in frames or None) -> waveform (B, 1, T * hop); attributes as AudioEncoder."""

    dim: int
    hop: int
    causal: bool
    receptive_field: int | None

    def samples(self, frames: Count) -> Count:
        """How many samples so many frames give."""
        return frames * self.hop


@dataclass(frozen=True)
class Sizes:
    """Heights and widths in pixels that an encoder takes: multiples of `multiple` from `least` to `most`."""

    multiple: int
    least: int
    most: int

    def check(self, height: int, width: int) -> None:
        """Raises InputError for a size that is not among them, with the nearest one that is."""
        if (height, width) != (near := self.nearest(height, width)):
            raise InputError(
                f"sizes are multiples of {self.multiple} from {self.least} to {self.most} pixels, got {height} x {width}; "
                f"the nearest is {near[0]} x {near[1]}"
            )

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The allowed size that is nearest to a picture's: scaled as a whole into the range, then each side rounded."""
        height, width = max(1, height), max(1, width)
        scale = max(self.least / min(height, width), min(1.0, self.most / max(height, width)))
        low, high = -(-self.least // self.multiple), self.most // self.multiple
        sides = [min(max(round(side * scale / self.multiple), low), high) * self.multiple for side in (height, width)]
        return sides[0], sides[1]


class ImageEncoder(Part):
    """forward(images (B, 3, H, W) in [0, 1]) -> latents (B, positions, dim).

    image_size: pixels a side, the only size or, with `sizes`, the default. layout: how positions are arranged. ordered: whether
    the first n positions alone can be decoded; the decoder then takes `lengths` (B,) where they differ.
    """

    dim: int
    image_size: int
    positions: int
    layout: Literal["sequence", "grid"] = "sequence"
    ordered: bool = False
    sizes: Sizes | None = None


class ImageDecoder(Decoder):
    """forward(latents (B, n, dim)) -> pixels (B, 3, H, W), unbounded; n = positions, or fewer where the encoder is ordered.

    Keywords, each only where the tokenizer has it: `size` (height, width), `lengths` (B,), `text` (a string an item), `noise`,
    and its own `options`.
    """

    dim: int
    image_size: int
    positions: int
