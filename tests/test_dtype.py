"""Half and double precision: encoder and decoder follow the cast, codebooks stay float32, codes change little."""

import copy

import pytest
import torch
from conftest import media, small
from torch import nn

import tokenizers_zoo as tz

NAMES = [
    "dm-codec",
    "dm-codec-tiny",
    "lm-spt-25hz",
    "lm-spt-12.5hz-24k",
    "titok-bl64-vq",
    "titok-tiny",
    "flextok-tiny",
    "instella-bae",
    "dualtoken-tiny",
    "tokenflow-tiny",
]  # every kind of block
DTYPES = [torch.float16, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_cast_tokenizer_encodes_and_decodes(name: str, dtype: torch.dtype) -> None:
    cast = copy.deepcopy(small(name)).to(dtype)
    x = media(cast, 1, 3200)
    tokens = cast.encode(x)
    decoded = cast.decode(tokens)
    decoded = decoded.waveform if isinstance(decoded, tz.Audio) else decoded.pixels
    assert decoded.isfinite().all()
    assert decoded.dtype == torch.float32
    assert {p.dtype for p in cast.quantizer.parameters()} | {
        b.dtype for b in cast.quantizer.buffers() if b.is_floating_point()
    } <= {torch.float32}
    if dtype == torch.float64:  # the same function, computed finer
        plain = small(name).decode(tokens)
        plain = plain.waveform if isinstance(plain, tz.Audio) else plain.pixels
        torch.testing.assert_close(decoded, plain, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["dm-codec-tiny", "lm-spt-tiny", "titok-tiny", "instella-tiny"])
def test_codes_change_little(name: str, speech: object, photo: object) -> None:
    tokenizer = tz.load(name)
    source = speech if isinstance(tokenizer, tz.AudioTokenizer) else photo
    exact = tokenizer.encode(source).codes
    for dtype, most in ((torch.float16, 0.02), (torch.bfloat16, 0.15), (torch.float64, 0.001)):
        changed = (tz.load(name).to(dtype).encode(source).codes[:, 0] != exact[:, 0]).float().mean()
        assert changed <= most, f"{dtype}: {float(changed):.3f} of the first codebook's codes"


def test_a_wrapper_that_is_cast_takes_its_tokenizer_along() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer, self.head = copy.deepcopy(small("dm-codec-tiny")), nn.Linear(4, 4)

    model = Model().bfloat16()
    tokens = model.tokenizer.encode(media(model.tokenizer))
    assert model.tokenizer.decode(tokens).waveform.isfinite().all()
    assert model.head.weight.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in model.tokenizer.quantizer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cast_tokenizer_trains(dtype: torch.dtype) -> None:
    tokenizer = copy.deepcopy(small("dm-codec-tiny")).to(dtype).train()
    result = tokenizer(media(tokenizer, 2, 3200).to(dtype))
    assert result.output is not None
    (result.output.float().square().mean() + sum(result.quantized.losses.values())).backward()
    assert all(p.grad is not None for p in tokenizer.encoder.parameters())
