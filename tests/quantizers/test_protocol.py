"""What all quantizers promise, asked of each in kinds.KINDS."""

import copy

import pytest
import torch
from kinds import KINDS, started
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tokenizers_zoo import quantizers
from tokenizers_zoo.quantizers import BinaryQuantizer, EMAVectorQuantizer, MultiScaleQuantizer, Quantizer, VectorQuantizer

CASTS = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}


@pytest.fixture(params=KINDS)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return started(KINDS[request.param]())


def test_every_quantizer_joins() -> None:
    public = {getattr(quantizers, name) for name in quantizers.__all__}
    listed = {type(part) for build in KINDS.values() for part in build().modules()}
    listed.add(MultiScaleQuantizer)  # its codes are not at the positions of its latents: test_multiscale.py asks
    assert {x for x in public if issubclass(x, Quantizer) and x is not Quantizer} <= listed


def test_protocol(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 7, quantizer.dim)
    result = quantizer(latents)
    books = len(quantizer.codebook_sizes)
    assert result.codes.shape == (2, books, 7)
    assert result.codes.dtype == torch.int64
    assert (result.codes >= 0).all()
    assert (result.codes < torch.tensor(quantizer.codebook_sizes)[:, None]).all()
    assert torch.equal(quantizer.encode(latents), result.codes)
    assert torch.equal(quantizer.encode(latents=latents.double()), result.codes)
    assert quantizer.decode(result.codes).shape == result.latents.shape == result.values.shape == latents.shape
    torch.testing.assert_close(quantizer.decode(codes=result.codes), result.latents, rtol=1e-5, atol=1e-5)
    assert result.perplexity.shape == result.usage.shape == (books,)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in result.losses.values())


def test_decoded_codes_are_fixed_points(quantizer: Quantizer) -> None:
    codes = quantizer.encode(torch.randn(2, 9, quantizer.dim))
    if isinstance(quantizer, VectorQuantizer | EMAVectorQuantizer | BinaryQuantizer):  # FSQ bends its values by a tanh
        assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_gradients_reach_weights(quantizer: Quantizer) -> None:
    result = quantizer.train()(torch.randn(2, 300, quantizer.dim, requires_grad=True))
    (result.latents.square().sum() + sum(result.losses.values())).backward()
    assert [n for n, p in quantizer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_the_output_reaches_the_encoder(quantizer: Quantizer, training: bool) -> None:
    latents = torch.randn(2, 300, quantizer.dim, requires_grad=True)
    result = quantizer.train(training)(latents)
    (gradient,) = torch.autograd.grad((result.latents * torch.randn(2, 300, quantizer.dim)).sum(), latents)
    assert (gradient.flatten(0, 1).abs().sum(0) > 0).all()  # in every dimension


@pytest.mark.parametrize("cast", CASTS)
def test_whatever_the_type_all_is_float32(quantizer: Quantizer, cast: str) -> None:
    """Of this module, of one around it, of latents: weights keep every bit, codes do not change, float32 comes out."""
    latents = torch.randn(2, 50, quantizer.dim).to(CASTS[cast])
    codes = quantizer.encode(latents.float())
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    wrapper = nn.ModuleDict({"inner": nn.ModuleList([quantizer, nn.Linear(2, 2)])})
    getattr(wrapper, cast)()
    wrapper.to(CASTS[cast])
    assert wrapper["inner"][1].weight.dtype == CASTS[cast]
    assert all(torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in quantizer.state_dict().items())
    assert not any(x.is_floating_point() and x.dtype != torch.float32 for x in (*quantizer.parameters(), *quantizer.buffers()))
    assert torch.equal(quantizer.encode(latents), codes)
    result = quantizer(latents)
    assert torch.equal(result.codes, codes)
    assert {result.latents.dtype, result.values.dtype, quantizer.decode(codes).dtype} == {torch.float32}
    assert quantizer.train()(latents).latents.dtype == torch.float32


def test_moves_keep_moving(quantizer: Quantizer) -> None:
    moved = copy.deepcopy(quantizer).to("meta", torch.float16)
    tensors = [*moved.parameters(), *moved.buffers()]
    assert all(x.is_meta and x.dtype in (torch.float32, torch.int32, torch.bool) for x in tensors)
    moved = moved.to_empty(device="cpu")
    moved.load_state_dict(quantizer.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(moved.parameters(), quantizer.parameters(), strict=True))


def test_autocast_changes_nothing(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 50, quantizer.dim)
    codes, result = quantizer.encode(latents), quantizer(latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.encode(latents), codes)
        decoded, inside = quantizer.decode(codes), quantizer(latents)
    assert decoded.dtype == inside.latents.dtype == torch.float32
    assert torch.equal(decoded, quantizer.decode(codes))
    assert torch.equal(inside.latents, result.latents)


def test_absent_codes_are_zeros(quantizer: Quantizer) -> None:
    """-1 in all codebooks of a position, or of an item, is nothing, and changes nothing else."""
    codes = quantizer.encode(torch.randn(3, 6, quantizer.dim))
    whole = quantizer.decode(codes)
    codes[1], codes[2, :, 4:] = -1, -1
    decoded = quantizer.decode(codes)
    assert torch.equal(decoded[0], whole[0])
    assert torch.equal(decoded[2, :4], whole[2, :4])
    assert not decoded[1].any()
    assert not decoded[2, 4:].any()


def test_prefixes_decode_where_promised(quantizer: Quantizer) -> None:
    codes = quantizer.encode(torch.randn(2, 6, quantizer.dim))
    for count in range(1, len(quantizer.codebook_sizes)) if quantizer.codebook_prefixes else ():
        few = quantizer.decode(codes[:, :count])
        assert few.shape == (2, 6, quantizer.dim)
        absent = codes.clone()
        absent[:, count:] = -1
        torch.testing.assert_close(quantizer.decode(absent), few)  # left out, or -1


def test_on_a_gpu_all_stays_there(quantizer: Quantizer) -> None:
    """By fake tensors, which refuse other devices and whatever asks the device for a value: training included."""
    mode = FakeTensorMode()
    for tensors in (x for part in quantizer.modules() for x in (part._parameters, part._buffers)):
        for name, tensor in tensors.items():
            fake = mode.from_tensor(tensor.detach())
            with mode:
                tensors[name] = nn.Parameter(fake.to("cuda")) if isinstance(tensor, nn.Parameter) else fake.to("cuda")
    with mode:
        latents = torch.randn(2, 50, quantizer.dim, device="cuda")
        result = quantizer.train()(latents)
        codes = quantizer.eval().encode(latents)
        assert {x.device.type for x in (result.latents, result.codes, codes, quantizer.decode(codes))} == {"cuda"}


@pytest.mark.parametrize("kind", KINDS)
def test_state_tells_all(kind: str) -> None:
    quantizer, other = started(KINDS[kind]()), KINDS[kind]()
    other.load_state_dict(quantizer.state_dict())
    latents = torch.randn(2, 20, quantizer.dim)
    assert torch.equal(other.eval().encode(latents), quantizer.encode(latents))
