"""Transformers over latents and a grid of any size: positions, changes of the grid, any number of stages."""

import math

import pytest
import torch
import torch.nn.functional as F

from tokenizers_zoo.blocks.axial_rotary import axial_rotary, places, rotated
from tokenizers_zoo.blocks.resample2d import DownBlock2d, UpBlock2d
from tokenizers_zoo.blocks.rms_norm import RMSNorm
from tokenizers_zoo.blocks.rotary_vit import RotaryAttention, RotaryDecoder1D, RotaryEncoder1D
from tokenizers_zoo.errors import InputError

SIZE = {"dim": 12, "positions": 6, "image_size": 32, "patch_size": 4, "width": 32, "heads": 2}
CPU = torch.device("cpu")


def pair(stages: int, **options: object) -> tuple[RotaryEncoder1D, RotaryDecoder1D]:
    sizes = {**SIZE, "depths": [1] * stages, **options}
    return RotaryEncoder1D(**sizes, least=16, most=64), RotaryDecoder1D(**sizes)


@pytest.mark.parametrize("options", [{}, {"position_scale": 64}, {"spread": True}, {"mixed_rotary": True, "mlp_ratio": 2}])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_any_number_of_stages_and_any_aspect(stages: int, options: dict[str, object]) -> None:
    encoder, decoder = pair(stages, **options)
    assert encoder.sizes.multiple == 4 * 2 ** (stages - 1)
    for size in ((32, 32), (16, 48), (64, 32)):
        images = torch.rand(2, 3, *size)
        latents = encoder(images)
        assert latents.shape == (2, 6, 12)
        assert decoder(latents, size=size).shape == images.shape
    assert decoder(latents).shape == (2, 3, 32, 32)
    decoder(latents, size=size).square().mean().backward()
    for part in (encoder, decoder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    with pytest.raises(InputError, match="the nearest is"):
        encoder.sizes.check(16, 18)


def test_rows_are_not_columns() -> None:
    encoder, decoder = pair(2, position_scale=64)
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(encoder(images), encoder(images.transpose(2, 3)), atol=1e-3)
    pixels = decoder(encoder(images))
    assert not torch.allclose(pixels, pixels.transpose(2, 3), atol=1e-3)


def test_heads_of_odd_size_are_refused() -> None:
    with pytest.raises(ValueError, match="twice the number of heads"):
        RotaryAttention(24, 8)


def test_places_as_published() -> None:
    raw = places(3, 2, 3, None, False, CPU)
    assert raw[:3].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert raw[3:].tolist() == [[0, row, column] for row in range(2) for column in range(3)]
    scaled = places(1, 16, 24, 64, False, CPU)[1:].view(16, 24, 3)
    assert scaled[5, 7].tolist() == pytest.approx([0, 5 / 15 * 63, 7 / 23 * 63])
    assert scaled[-1, -1].tolist() == [0, 63, 63]


@pytest.mark.parametrize("count", [6, 7, 9, 81])
def test_spread_latents_cover_any_picture_alike(count: int) -> None:
    small, large = (places(count, *side, 64, True, CPU) for side in ((4, 4), (8, 12)))
    assert torch.equal(small[:count], large[:count])
    assert len(small[:count].unique(dim=0)) == count
    assert small[:count].amin(0).tolist() == [0, 0, 0]
    assert small[:count].amax(0).tolist() == [0, 63, 63]
    raw = places(count, 8, 12, None, True, CPU)
    assert raw[:count].amax(0).tolist() == raw[count:].amax(0).tolist() == [0, 7, 11]


@pytest.mark.parametrize("dim", [16, 32, 48, 64])
def test_products_of_turned_vectors_depend_on_distances_alone(dim: int) -> None:
    query, key = torch.randn(2, 1, 1, 1, dim)
    at = torch.randint(9, (5, 3)).double()
    shift = torch.tensor([[2.0, 3.0, 1.0]]).double()

    def products(moved: torch.Tensor, mixed: bool) -> torch.Tensor:
        q, k = (rotated(x, axial_rotary(moved, dim, mixed)) for x in (query.expand(1, 1, 5, dim), key.expand(1, 1, 5, dim)))
        return q @ k.transpose(2, 3)

    torch.testing.assert_close(products(at, False), products(at + shift, False), rtol=0, atol=1e-4)
    assert not torch.allclose(products(at, True), products(at + shift, True), atol=1e-2)
    turned = rotated(query.expand(1, 1, 5, dim), axial_rotary(at, dim))
    torch.testing.assert_close(turned.norm(dim=-1), query.norm().expand(1, 1, 5))


def test_mixed_rotation_by_hand() -> None:
    """Frequencies twice in a row, halves swapped: what the published weights were trained with."""
    x, place, wanted = torch.randn(64), (3.0, 5.0, 7.5), torch.zeros(64)
    angles = [at * 10000 ** (-2 * i / n) for at, n in zip(place, (8, 28, 28), strict=True) for i in range(n // 2) for _ in "ab"]
    for i, angle in enumerate(angles):
        other = -x[i + 32] if i < 32 else x[i - 32]
        wanted[i] = x[i] * math.cos(angle) + other * math.sin(angle)
    found = rotated(x.view(1, 1, 1, 64), axial_rotary(torch.tensor([place]).double(), 64, mixed=True))
    torch.testing.assert_close(found.flatten(), wanted)


def test_shortcuts_of_the_grid() -> None:
    x = torch.randn(2, 8, 6, 4)
    down, up = DownBlock2d(8), UpBlock2d(8)
    mean = F.pixel_unshuffle(x, 2).unflatten(1, (8, 4)).mean(2)
    torch.testing.assert_close(down(x) - down.conv(x), mean)
    doubled = F.pixel_shuffle(x.repeat_interleave(4, 1), 2)
    torch.testing.assert_close(up(x) - F.pixel_shuffle(up.conv(x), 2), doubled)
    torch.testing.assert_close(down.conv(x)[0, :, 1, 1], (down.conv.weight * x[0, :, 1:4, 1:4]).sum((1, 2, 3)) + down.conv.bias)


def test_norm_of_roots_of_mean_squares() -> None:
    norm, x = RMSNorm(8), torch.randn(3, 8)
    norm.weight.data.mul_(torch.arange(8.0))
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * torch.arange(8.0))
    assert norm(x.bfloat16()).dtype == torch.float32  # under autocast what a linear map gives is bfloat16
