"""What the two halves of a tokenizer are: the types that an assembly may put into its `encoder` and `decoder`."""

from typing import TypeVar

from torch import Tensor, nn

Count = TypeVar("Count", int, Tensor)


class AudioEncoder(nn.Module):
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


class AudioDecoder(nn.Module):
    """forward(latents (B, T, dim), lengths (B,) in frames or None) -> waveform (B, 1, T * hop); attributes as AudioEncoder."""

    dim: int
    hop: int
    causal: bool
    receptive_field: int | None

    def samples(self, frames: Count) -> Count:
        """How many samples so many frames give."""
        return frames * self.hop


class ImageEncoder(nn.Module):
    """forward(images (B, 3, image_size, image_size) in [0, 1]) -> latents (B, positions, dim)."""

    dim: int
    image_size: int
    positions: int


class ImageDecoder(nn.Module):
    """forward(latents (B, positions, dim)) -> pixels (B, 3, image_size, image_size), unbounded."""

    dim: int
    image_size: int
    positions: int
