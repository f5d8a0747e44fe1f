"""Specs and tokens that several tests share."""

import torch

from tokenizers_zoo import Tokens, TokenSpec

SPEECH = TokenSpec(
    name="codec",
    modality="audio",
    codebook_sizes=(1024, 5, 2),
    roles=("semantic", "acoustic", "acoustic"),
    layout="time",
    position_prefixes=True,
    codebook_prefixes=True,
    sample_rate=16_000,
    hop=320,
)
CAPTIONED = TokenSpec(
    name="captioned",
    modality="image",
    codebook_sizes=(4096,),
    roles=("pixel",),
    layout="sequence",
    position_prefixes=True,
    image_size=64,
    positions=32,
    conditions=("text", "height"),
)
GROUPED = TokenSpec(
    name="grouped",
    modality="image",
    codebook_sizes=(100, 100, 7, 7),
    roles=("semantic", "semantic", "pixel", "pixel"),
    layout="grid",
    image_size=64,
    positions=16,
    decodable=(("semantic",), ("pixel",), ("semantic", "pixel")),
)
SCALES = TokenSpec(
    name="scales",
    modality="image",
    codebook_sizes=(64,),
    roles=("pixel",),
    layout="scales",
    position_prefixes=True,
    image_size=64,
    positions=21,
    scales=(1, 2, 4),
)


def random_codes(spec: TokenSpec, lengths: tuple[int, ...]) -> torch.Tensor:
    """(B, K, longest), -1 after each item's length."""
    wide = max(lengths, default=0)
    codes = torch.stack([torch.randint(0, size, (len(lengths), wide)) for size in spec.codebook_sizes], dim=1)
    mask = torch.arange(wide) < torch.tensor(lengths, dtype=torch.int64)[:, None]
    return codes.masked_fill(~mask[:, None], -1)


def speech(lengths: tuple[int, ...] = (50, 3, 20), spec: TokenSpec = SPEECH, missing: int = 5) -> Tokens:
    """Clips that end `missing` samples before their last frame does."""
    samples = torch.tensor([max(0, n * 320 - missing) for n in lengths], dtype=torch.int32)
    return Tokens(random_codes(spec, lengths), spec, lengths, num_samples=samples)


def images(spec: TokenSpec, count: int = 2, **given: object) -> Tokens:
    return Tokens(random_codes(spec, (spec.positions or 0,) * count), spec, **given)


def captioned() -> Tokens:
    return images(CAPTIONED, text=["a cat", ""], height=torch.tensor([64, 32], dtype=torch.int16))
