"""Discriminators layer by layer as published, and run by hand on their own weights."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tokenizers_zoo.discriminators.base import Discriminators
from tokenizers_zoo.discriminators.patch import BlurDownsample, BlurPatchDiscriminator, PatchDiscriminator
from tokenizers_zoo.discriminators.spectrum import (
    MultiBandSTFTDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleSTFTDiscriminator,
)
from tokenizers_zoo.discriminators.waveform import MultiPeriodDiscriminator, MultiScaleDiscriminator

PERIOD = [(i, o, (5, 1), (s, 1), (2, 0), 1, 1) for i, o, s in [(1, 4, 3), (4, 16, 3), (16, 64, 3), (64, 128, 3), (128, 128, 1)]]
SCALE = [
    (1, 16, 15, 1, 7, 1, 1),
    (16, 16, 41, 2, 20, 1, 4),
    (16, 32, 41, 2, 20, 1, 16),
    (32, 64, 41, 4, 20, 1, 16),
    (64, 128, 41, 4, 20, 1, 16),
    (128, 128, 41, 1, 20, 1, 16),
    (128, 128, 5, 1, 2, 1, 1),
]
STFT = [(2, 4, (3, 9), 1, (1, 4), 1, 1), *[(4, 4, (3, 9), (1, 2), (d, 4), (d, 1), 1) for d in (1, 2, 4)], (4, 4, 3, 1, 1, 1, 1)]
BAND = [(2, 4, (3, 9), 1, (1, 4), 1, 1), *[(4, 4, (3, 9), (1, 2), (1, 4), 1, 1)] * 3, (4, 4, 3, 1, 1, 1, 1)]
PATCH = [(3, 8, 4, 2, 1, 1, 1), (8, 16, 4, 2, 1, 1, 1), (16, 32, 4, 2, 1, 1, 1), (32, 64, 4, 1, 1, 1, 1), (64, 1, 4, 1, 1, 1, 1)]
BLUR = [(3, 32, 5, 1, 2, 1, 1), (32, 32, 3, 1, 1, 1, 1), (32, 64, 3, 1, 1, 1, 1), (64, 128, 3, 1, 1, 1, 1)]
CASES = {  # build; inputs, outputs, kernel, stride, padding, dilation, groups of every convolution
    "period": (lambda: MultiPeriodDiscriminator(width=4), [*PERIOD * 5, *[(128, 1, (3, 1), 1, (1, 0), 1, 1)] * 5]),
    "scale": (lambda: MultiScaleDiscriminator(width=16), [*SCALE * 3, *[(128, 1, 3, 1, 1, 1, 1)] * 3]),
    "stft": (lambda: MultiScaleSTFTDiscriminator(width=4), [*STFT * 5, *[(4, 1, 3, 1, 1, 1, 1)] * 5]),
    "resolution": (lambda: MultiResolutionDiscriminator((64,), 4), [*STFT, (4, 1, 3, 1, 1, 1, 1)]),
    "band": (lambda: MultiBandSTFTDiscriminator(width=4), [*BAND * 5 * 3, *[(4, 1, 3, 1, 1, 1, 1)] * 3]),
    "patch": (lambda: PatchDiscriminator(width=8), PATCH),
    "blur": (lambda: BlurPatchDiscriminator(width=32), [*BLUR, (128, 128, 1, 1, 0, 1, 1), (128, 1, 5, 1, 2, 1, 1)]),
}


def fields(conv: nn.Conv1d | nn.Conv2d) -> list[tuple[int, ...]]:
    return [conv.kernel_size, conv.stride, conv.padding, conv.dilation]


def wide(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * count


@pytest.mark.parametrize("name", CASES)
def test_convolutions_as_published(name: str) -> None:
    build, wanted = CASES[name]
    convs = [m for m in build().modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
    assert len(convs) == len(wanted)
    for conv, (inputs, outputs, *rest, groups) in zip(convs, wanted, strict=True):
        assert (conv.in_channels, conv.out_channels, conv.groups) == (inputs, outputs, groups)
        assert fields(conv) == [wide(x, len(conv.kernel_size)) for x in rest]


def test_norms_as_published() -> None:
    for name in ("period", "stft", "resolution", "band", "scale"):
        for key, conv in CASES[name][0]().named_modules():
            if isinstance(conv, nn.Conv1d | nn.Conv2d):
                (norm,) = conv.parametrizations.weight
                first = name == "scale" and key.startswith(("layers.0.", "last.0"))
                assert type(norm).__name__ == ("_SpectralNorm" if first else "_WeightNorm")
    for name in ("patch", "blur"):
        assert not any(parametrize.is_parametrized(m) for m in CASES[name][0]().modules())


def by_hand(layers: list[nn.Module], last: nn.Module, x: Tensor, slope: float) -> list[Tensor]:
    maps = []
    for layer in layers:
        x = layer(x)
        x = torch.where(x > 0, x, slope * x)
        maps.append(x)
    return [*maps, last(x)]


def equal(judgements: list, wanted: list[list[Tensor]]) -> None:
    assert len(judgements) == len(wanted)
    for (logits, features), (*maps, last) in zip(judgements, wanted, strict=True):
        for found, expected in zip([*features, logits], [*maps, last], strict=True):
            torch.testing.assert_close(found, expected)


def picture(x: Tensor, n_fft: int, centred: bool) -> Tensor:
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(n_fft) / n_fft)
    x = F.pad(x, (n_fft // 2, n_fft // 2), mode="reflect") if centred else x
    spectrum = torch.fft.rfft(x[:, 0].unfold(-1, n_fft, n_fft // 4) * window) / window.square().sum().sqrt()
    return torch.stack([spectrum.real, spectrum.imag], 1)


def test_waveforms_by_hand() -> None:
    x = torch.randn(2, 1, 600)
    period = MultiPeriodDiscriminator((2, 5), 4)
    folds = [torch.stack([x[:, 0, k::p] for k in range(p)], -1)[:, None] for p in (2, 5)]
    equal(period(x), [by_hand(*part, 0.1) for part in zip(period.layers, period.last, folds, strict=True)])
    scale = MultiScaleDiscriminator(2, 16).eval()
    padded = F.pad(x, (2, 2))
    half = (padded[..., :-3:2] + padded[..., 1:-2:2] + padded[..., 2:-1:2] + padded[..., 3::2]) / 4
    equal(scale(x), [by_hand(*part, 0.1) for part in zip(scale.layers, scale.last, (x, half), strict=True)])


def test_spectra_by_hand() -> None:
    x = torch.randn(2, 1, 600)
    stft = MultiScaleSTFTDiscriminator((128, 64), 4)
    pictures = [picture(x, n, centred=False) for n in (128, 64)]
    equal(stft(x), [by_hand(*part, 0.2) for part in zip(stft.layers, stft.last, pictures, strict=True)])
    resolution = MultiResolutionDiscriminator((64,), 4)
    level = torch.log(pictures[1].square().sum(1).clamp(min=1e-8)) / 2
    slope = torch.cat([torch.zeros_like(level[..., :1]), level[..., 1:] - level[..., :-1]], -1)
    torch.testing.assert_close(resolution.picture(x, 64), torch.stack([level / 3 + 1.5, slope], 1))
    assert resolution.picture(0 * x, 64).isfinite().all()
    band = MultiBandSTFTDiscriminator((128,), 4)
    ends = [0, 6, 16, 32, 48, 65]  # of 65 bins
    image = picture(x, 128, centred=True)
    parts = [
        by_hand(layers, nn.Identity(), image[..., a:b], 0.1)
        for layers, (a, b) in zip(band.layers[0], itertools.pairwise(ends), strict=True)
    ]
    maps = [x for *maps, _ in parts for x in maps]
    equal(band(x), [[*maps, band.last[0](torch.cat([part[-1] for part in parts], -1))]])


def test_defaults_as_published() -> None:
    with torch.device("meta"):
        period, scale, stft = MultiPeriodDiscriminator(), MultiScaleDiscriminator(), MultiScaleSTFTDiscriminator()
        band, patch, blur = MultiBandSTFTDiscriminator(), PatchDiscriminator(), BlurPatchDiscriminator()
    assert (period.periods, stft.n_ffts, band.n_ffts) == ((2, 3, 5, 7, 11), (1024, 2048, 512, 256, 128), (2048, 1024, 512))
    first = [
        period.layers[0][0],
        scale.layers[0][0],
        stft.layers[0][0],
        band.layers[0][0][0],
        patch.layers[0][0],
        blur.block_in[0],
    ]
    assert [conv.out_channels for conv in first] == [32, 128, 32, 32, 64, 128]
    assert len(scale.layers) == 3


def test_blur_and_patches_by_hand() -> None:
    for size in ((6, 8), (7, 9), (6, 9)):
        x = torch.randn(2, 3, *size)
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        padded = F.pad(x, (1, 2, 1, 2))
        height, width = ((s + 1) // 2 for s in size)
        pieces = padded.unfold(2, 4, 2).unfold(3, 4, 2)[:, :, :height, :width]
        torch.testing.assert_close(BlurDownsample()(x), torch.einsum("bchwij,i,j->bchw", pieces, row, row))
    patch = PatchDiscriminator(8)
    x, maps = torch.rand(2, 3, 40, 40), []
    h = x
    for i in range(4):
        h = patch.layers[i][0](h)
        if i:  # batch norm, of this batch
            h = (h - h.mean((0, 2, 3), keepdim=True)) / (h.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
            h = h * patch.layers[i][1].weight[:, None, None]
        h = torch.where(h > 0, h, 0.2 * h)
        maps.append(h)
    equal(patch(x), [[*maps, patch.last(h)]])
    assert patch(x)[0].logits.shape == (2, 1, 3, 3)
    assert [layer[0].bias is None for layer in patch.layers] == [False, True, True, True]
    convs = torch.cat([m.weight.detach().flatten() for m in patch.modules() if isinstance(m, nn.Conv2d)])
    gains = torch.cat([m.weight.detach() for m in PatchDiscriminator().modules() if isinstance(m, nn.BatchNorm2d)])
    assert (convs.mean().item(), convs.std().item()) == (pytest.approx(0, abs=1e-3), pytest.approx(0.02, rel=0.03))
    assert (gains.mean().item(), gains.std().item()) == (pytest.approx(1, abs=3e-3), pytest.approx(0.02, rel=0.15))
    assert BlurPatchDiscriminator(32)(torch.rand(1, 3, 32, 32))[0].logits.shape == (1, 1, 16, 16)
    assert sum(isinstance(m, nn.LeakyReLU) and m.negative_slope == 0.1 for m in BlurPatchDiscriminator(32).modules()) == 5


def test_which_logits_count_as_maps() -> None:
    parts = [MultiPeriodDiscriminator((2, 3), 4), MultiScaleSTFTDiscriminator((64,), 4)]
    x = torch.randn(2, 1, 300)
    plain, matched = Discriminators(parts)(x), Discriminators(parts, [True, False])(x)
    for i, (a, b) in enumerate(zip(plain, matched, strict=True)):
        assert torch.equal(a.logits, b.logits)
        assert len(b.features) == len(a.features) + (i < 2)
        assert i == 2 or torch.equal(b.features[-1], b.logits)
    with pytest.raises(ValueError, match="zip"):
        Discriminators(parts, [True])(x)


def test_normalised_clips_have_a_peak_of_eight_tenths() -> None:
    class Heard(nn.Module):
        def forward(self, x: Tensor) -> list:
            heard.append(x)
            return []

    heard: list[Tensor] = []
    x = torch.tensor([[[1.0, 3.0, 2.0]], [[0.5, 0.5, 0.5]]])
    Discriminators([Heard()], normalise=True)(x)
    Discriminators([Heard()])(x)
    torch.testing.assert_close(heard[0], torch.tensor([[[-0.8, 0.8, 0.0]], [[0.0, 0.0, 0.0]]]))
    assert torch.equal(heard[1], x)
