"""Half and double precision: encoder and decoder follow the cast, codebooks stay float32, codes change little."""

import copy
import inspect
from pathlib import Path

import pytest
import torch
from conftest import media, small
from torch import nn

import tokenizers_zoo as tz
from tokenizers_zoo.assembly import registry
from tokenizers_zoo.media import as_images

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


EMBEDDED = ["dm-codec-tiny", "lm-spt-tiny", "titok-tiny", "instella-tiny", "textok-tiny"]
FLIPS = {torch.float16: 0.02, torch.bfloat16: 0.2, torch.float64: 0.001}  # most of all codes
ERRORS = {torch.float16: 0.004, torch.bfloat16: 0.03, torch.float64: 1e-4}  # most of what is decoded, relative


def real(tokenizer: tz.Tokenizer, speech: Path, photo: Path) -> list[torch.Tensor]:
    """Two clips of speech of unequal length, or a photo and its mirror image."""
    if isinstance(tokenizer, tz.AudioTokenizer):
        wave = tz.Audio.load(speech).waveform[0]
        return [wave[:, 16_000:34_000], wave[:, 50_000:60_000]]
    pixels = as_images(photo, (tokenizer.image_size, tokenizer.image_size)).pixels[0]
    return [pixels, pixels.flip(-1)]


def content(decoded: tz.Audio | tz.Images) -> torch.Tensor:
    return decoded.waveform if isinstance(decoded, tz.Audio) else decoded.pixels


def flips(a: tz.Tokens, b: tz.Tokens) -> float:
    return float((a.codes != b.codes)[a.codes >= 0].float().mean())


@pytest.mark.parametrize("dtype", FLIPS, ids=str)
@pytest.mark.parametrize("name", EMBEDDED)
def test_a_tokenizer_in_another_precision(name: str, dtype: torch.dtype, speech: Path, photo: Path) -> None:
    exact = tz.load(name)
    cast = tz.load(name).double() if dtype == torch.float64 else tz.load(name, dtype=dtype)
    assert {p.dtype for p in (*cast.encoder.parameters(), *cast.decoder.parameters())} == {dtype}
    sources = real(exact, speech, photo)
    tokens = cast.encode(sources)
    assert flips(tokens, exact.encode(sources)) <= FLIPS[dtype]
    assert flips(tokens, tz.Tokens.cat([cast.encode(source) for source in sources])) <= FLIPS[dtype]  # batch = single
    ours, theirs = content(cast.decode(tokens)), content(exact.decode(tokens))  # which takes them: the weights are the same
    assert ours.dtype == torch.float32
    assert float((ours - theirs).norm() / theirs.norm()) <= ERRORS[dtype]
    assert cast.embed(tokens, "pooled").dtype == torch.float32
    with torch.no_grad():
        latents = cast.encode_latents(sources[0][None].to(dtype))
        assert cast.decode_latents(latents).dtype in (dtype, torch.float32)  # what an inverse Fourier transform gives
        trained = cast(sources[0][None])
    assert (latents.dtype, trained.latents.dtype, trained.quantized.latents.dtype) == (dtype, dtype, torch.float32)
    assert cast.dtype == dtype


def test_saved_in_another_precision_weights_are_others(tmp_path: Path, photo: Path) -> None:
    exact, cast = tz.load("titok-tiny"), tz.load("titok-tiny", dtype=torch.float16)
    assert cast.weights == exact.weights
    cast.encoder.transformer.blocks[0].mlp[0].weight.data.mul_(1.001)  # the file's own weights are float16: none would change
    cast.save_pretrained(tmp_path)
    again, wide = tz.load(tmp_path, dtype=torch.float16), tz.load(tmp_path)
    assert (again.dtype, wide.dtype) == (torch.float16, torch.float32)
    assert again.weights == wide.weights != exact.weights
    tokens = again.encode(photo)
    assert torch.equal(tokens.codes, cast.encode(photo).codes)
    wide.decode(tokens)
    with pytest.raises(tz.TokenError, match="other weights"):
        exact.decode(tokens)


def test_overrides_come_before_the_cast() -> None:
    table = {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}}
    made = tz.load("titok-tiny", dtype=torch.bfloat16, quantizer=table)
    assert (made.dtype, made.quantizer.codebook.dtype) == (torch.bfloat16, torch.float32)
    assert made.replace({"class_path": "FSQ", "init_args": {"levels": [4] * 5}}).dtype == torch.bfloat16
    fresh = tz.create("titok-tiny", dtype=torch.float16, **{"encoder.depth": 1, "decoder.depth": 1})
    assert {p.dtype for p in fresh.parameters()} == {torch.float16}


@pytest.mark.parametrize("wrong", ["bfloat16", torch.float64, torch.int8, 16, None], ids=str)
def test_another_type_is_refused(wrong: object) -> None:
    for make in (tz.load, tz.create):
        with pytest.raises(tz.InputError, match=r"dtype is one of torch\.float32, torch\.bfloat16, torch\.float16, got"):
            make("titok-tiny", dtype=wrong)
    with pytest.raises(tz.InputError, match="compile is True or False"):
        tz.load("titok-tiny", compile="inductor")


def test_no_tokenizer_has_an_argument_that_loading_takes() -> None:
    taken = {name for make in (tz.create, tz.load, tz.load_official) for name in inspect.signature(make).parameters} - {
        "overrides"
    }
    tokenizers = [cls for cls in registry().values() if issubclass(cls, tz.Tokenizer)]
    assert len(tokenizers) > 5
    assert [cls for cls in tokenizers if taken & inspect.signature(cls).parameters.keys()] == []


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
