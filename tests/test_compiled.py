"""torch.compile changes no code, and no output beyond rounding."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from conftest import media, small
from torch._dynamo.testing import CompileCounterWithBackend

import tokenizers_zoo as tz
from tokenizers_zoo import ready
from tokenizers_zoo.streaming import decode_chunk, encode_chunk

NAMES = ["dm-codec-tiny", "lm-spt-tiny", "titok-tiny", "instella-tiny", "textok-tiny"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Compiles without a compiler, and counts how often."""
    backend = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(ready, "BACKEND", backend)
    return backend


def batches(tokenizer: tz.Tokenizer, kinds: int = 3) -> list[list[torch.Tensor]]:
    """One item, several lengths, several items of one; and all of this again with others."""
    sizes = [*([4000], [2000, 6000, 3000], [5000, 5000])[:kinds], *([7000], [6400, 1000], [3300, 3300, 3300])[:kinds]]
    if isinstance(tokenizer, tz.AudioTokenizer):
        return [[torch.randn(1, n) * 0.2 for n in lengths] for lengths in sizes]
    return [[torch.rand(3, tokenizer.image_size, tokenizer.image_size) for _ in lengths] for lengths in sizes]


def same(compiled: tz.Tokenizer, eager: tz.Tokenizer, items: list[torch.Tensor]) -> None:
    tokens, expected = compiled.encode(items), eager.encode(items)
    assert (tokens.codes != expected.codes).float().mean() <= 0.001  # what rounding may decide
    ours, theirs = (tokenizer.decode(expected) for tokenizer in (compiled, eager))
    ours, theirs = (found.waveform if isinstance(found, tz.Audio) else found.pixels for found in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_loaded_compiled(name: str, counted: CompileCounterWithBackend) -> None:
    eager, compiled = tz.load(name), tz.load(name, compile=True)
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    assert (compiled.config, compiled.weights) == (eager.config, eager.weights)
    some = batches(eager, 2)
    for items in some[:2]:
        same(compiled, eager, items)
    before = counted.frame_count
    assert before > 1
    for items in some[2:]:
        same(compiled, eager, items)
    assert counted.frame_count == before, "compiled again for another length or number of items"


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_tokenizer_streams_saves_and_is_copied(counted: CompileCounterWithBackend, tmp_path: Path) -> None:
    parts = ("encoder.semantic", "encoder.acoustic", "decoder", "auxiliary")
    causal = {f"{part}.causal": True for part in parts} | {f"{part}.depth": 1 for part in parts}
    live = tz.create("lm-spt-tiny", compile=True, **causal).eval()
    eager, wave = copy.deepcopy(live), torch.randn(1, 1, 8000) * 0.2
    heard, pieces = None, []
    for chunk in wave.split(3000, dim=-1):
        tokens, heard = encode_chunk(live, chunk, heard, last=chunk.shape[-1] < 3000)
        pieces.append(tokens)
    assert counted.frame_count > 1
    whole = eager.encode(wave)
    assert torch.equal(tz.Tokens.join(pieces).codes, whole.codes)
    torch.testing.assert_close(decode_chunk(live, whole)[0].waveform, eager.decode(whole).waveform, rtol=0, atol=1e-4)
    found = dict(tz.encode_many(live, [("a", wave[0]), ("b", wave[0, :, :5000])]))
    assert torch.equal(found["a"].codes, whole.codes)
    live.save_pretrained(tmp_path)
    again = tz.load(tmp_path)
    pickled = pickle.loads(pickle.dumps(live))
    counted.frame_count = 0
    for copied in (again, pickled, eager):
        assert torch.equal(copied.encode(wave).codes, whole.codes)
    assert counted.frame_count == 0  # a copy is as it was before


def test_what_cannot_be_compiled_is_said_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise FileNotFoundError("no g++ here")

    monkeypatch.setattr(ready, "BACKEND", broken)
    with pytest.raises(tz.InputError, match=r"compile=True fails on cpu \(.*no g\+\+ here.*\); install a C\+\+ compiler"):
        tz.load("titok-tiny", compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    ready._try.cache_clear()
    with pytest.raises(tz.InputError, match=r"compile=True fails on cpu \(InvalidCxxCompiler.*; install a C\+\+ compiler"):
        tz.load("titok-tiny", compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_loaded_compiled_by_inductor(name: str) -> None:
    try:
        compiled = tz.load(name, compile=True)
    except tz.InputError as error:
        pytest.skip(str(error))
    eager = tz.load(name)
    for items in batches(eager)[:3]:
        same(compiled, eager, items)


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
