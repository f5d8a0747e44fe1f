"""torch.compile changes no code, and no output beyond rounding."""

import copy

import pytest
import torch
from conftest import media, small

import tokenizers_zoo as tz

NAMES = ["dm-codec-tiny", "lm-spt-tiny", "titok-tiny", "instella-tiny"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_codes_of_a_compiled_quantizer(name: str) -> None:
    tokenizer = tz.load(name)
    with torch.no_grad():
        latents = tokenizer.encode_latents(media(tokenizer, 2))
        compiled = torch.compile(tokenizer.quantizer.encode, fullgraph=True)(latents)
    flips = (compiled != tokenizer.quantizer.encode(latents)).float().mean()
    assert flips <= 0.001  # what rounding may decide


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_training_pass(name: str) -> None:
    eager = copy.deepcopy(small(name)).train()
    traced = copy.deepcopy(eager)
    x, found = media(eager, 2, 3200), []
    for model, forward in ((eager, eager), (traced, torch.compile(traced, backend="aot_eager"))):  # random numbers as eager's
        torch.manual_seed(0)
        result = forward(x)
        result.output.square().mean().backward()
        found.append((result, [p.grad for p in model.parameters()], [*model.buffers()]))
    (result, gradients, buffers), (other, *rest) = found
    assert torch.equal(result.quantized.codes, other.quantized.codes)
    torch.testing.assert_close(other.output, result.output, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip((gradients, buffers), rest, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)
