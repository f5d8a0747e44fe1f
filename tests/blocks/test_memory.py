"""Ways that save memory traffic change no value, leave their input alone, and reach as far as they are meant to."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizers_zoo.blocks.conv2d import VQGANDecoder, VQGANEncoder, silu
from tokenizers_zoo.blocks.conv_grid import ConvGridDecoder, ConvGridEncoder
from tokenizers_zoo.blocks.grid_decoder import GridDecoder
from tokenizers_zoo.blocks.kl_autoencoder import KLDecoder, KLEncoder
from tokenizers_zoo.blocks.vocos import overlapped

SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1}
PICTURES = {
    "vqgan encoder": (lambda: VQGANEncoder(8, **SMALL), (2, 3, 16, 16)),
    "vqgan decoder": (lambda: VQGANDecoder(8, **SMALL), (2, 8, 8, 8)),
    "kl encoder": (lambda: KLEncoder(8, 32, (1, 2), attention=True), (2, 3, 16, 16)),
    "kl decoder": (lambda: KLDecoder(8, 32, (1, 2)), (2, 8, 8, 8)),
    "grid encoder": (lambda: ConvGridEncoder(8, 18, 8, hidden=32, **SMALL), (2, 3, 18, 18)),
    "grid decoder": (lambda: ConvGridDecoder(8, 18, 8, hidden=32, **SMALL), (2, 64, 8)),
    "dualtoken": (lambda: GridDecoder(8, 16, 4, 32, **SMALL), (2, 16, 8)),
}


@torch.no_grad()
@pytest.mark.parametrize("name", PICTURES)
def test_pixels_lie_side_by_side_from_the_first_convolution_to_the_last(name: str) -> None:
    make, shape = PICTURES[name]
    block = make()
    seen: list[bool] = []

    def look(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend(x.is_contiguous(memory_format=torch.channels_last) for x in (*inputs, output))

    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(look)
    block(torch.rand(shape))
    assert len(seen) > 10
    assert all(seen)
    assert all(weight.is_contiguous() for weight in block.state_dict().values())  # which a file could not say otherwise


def test_silu_is_the_same_without_gradients() -> None:
    x = torch.randn(2, 4, 50)
    wanted = silu(x.clone().requires_grad_())
    assert wanted.requires_grad
    with torch.no_grad():
        assert torch.equal(silu(x), wanted)


@pytest.mark.parametrize(("length", "stride"), [(8, 2), (7, 2), (7, 3), (3, 3)])
def test_overlapped_frames_add_as_fold_adds_them(length: int, stride: int) -> None:
    frames = torch.randn(2, 5, length)
    size = 4 * stride + length
    wanted = F.fold(frames.transpose(1, 2), (1, size), (1, length), stride=(1, stride))[:, 0, 0]
    found = overlapped(frames, stride)
    assert torch.equal(found[:, :size], wanted)
    assert not found[:, size:].any()
