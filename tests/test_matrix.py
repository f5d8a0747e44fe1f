"""Every registered variant keeps the promises of the contract. A new YAML is tested by being there.

So do the variants of tests/data/variants, which show what no shipped one does yet: images of several codebooks.
"""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import FIXTURES, is_discrete, media, once, small

import tokenizers_zoo as tz
from tokenizers_zoo.weights import plain_state

NAMES = [*once(tz.list_tokenizers()), *FIXTURES]
DISCRETE = [name for name in NAMES if is_discrete(name)]
AUDIO = [name for name in DISCRETE if small(name).spec.modality == "audio"]
IMAGE = [name for name in DISCRETE if small(name).spec.modality == "image"]


def content(decoded: tz.Audio | tz.Images) -> torch.Tensor:
    return decoded.waveform if isinstance(decoded, tz.Audio) else decoded.pixels


def untaught(module: torch.nn.Module) -> list[str]:
    """What learns without a gradient, or with one that is zero or not finite. (Codebooks by moving averages are buffers.)"""
    grads = {k: torch.zeros(1) if p.grad is None else p.grad for k, p in module.named_parameters() if p.requires_grad}
    return [k for k, grad in grads.items() if not (grad.isfinite().all() and grad.any())]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    tokenizer = copy.deepcopy(small(name)).train()  # codebooks learn
    if flow := getattr(tokenizer, "flow", None):
        tokenizer.null_rate, tokenizer.nested.mode = 0.5, "uniform"  # so that few items show all that training does
    torch.manual_seed(0)
    result = tokenizer(media(tokenizer, 4 if flow else 2, 3200))
    # a flow decodes nothing in training, and of two vocabularies one makes no pixels
    others = ("velocity", "pooled", *(["semantic"] if hasattr(tokenizer, "semantic_decoder") else []))
    outputs = [x for x in (result.output, *map(result.features.get, others)) if x is not None]
    sum(output.square().mean() for output in outputs).backward(retain_graph=True)
    assert untaught(tokenizer.encoder) == untaught(tokenizer.decoder) == [], "by the output alone, through the quantizer"
    rest = [*result.features.values(), *(result.quantized.losses.values() if result.quantized else ())]
    if rest:
        sum(part.square().mean() for part in rest).backward()
    assert untaught(tokenizer) == []


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    tokenizer = small(name)
    tokenizer.save_pretrained(tmp_path)
    loaded = tz.load(tmp_path)
    assert loaded.name == name
    assert loaded.weights
    x = media(tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_latents(x), tokenizer.encode_latents(x), rtol=1e-4, atol=1e-5)
    plain = plain_state(tokenizer)
    assert all(torch.equal(plain[k], v) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("name", [n for n in NAMES if n not in DISCRETE])
def test_continuous_variants_say_what_to_do(name: str) -> None:
    tokenizer = small(name)
    with pytest.raises(tz.TokenError, match="encode_latents"):
        tokenizer.encode(media(tokenizer))
    latents = tokenizer.encode_latents(media(tokenizer))
    assert tokenizer.decode_latents(latents).shape == (1, 3, tokenizer.image_size, tokenizer.image_size)


@pytest.mark.parametrize("name", DISCRETE)
def test_spec_tells_the_truth(name: str) -> None:
    tokenizer = small(name)
    tokens, spec = tokenizer.encode(media(tokenizer)), tokenizer.spec
    assert spec.name == name
    assert tokens.spec == spec
    assert tokens.codes.shape[1] == len(spec.codebook_sizes) == len(spec.roles)
    assert tz.TokenSpec.from_json(spec.to_json()) == spec
    if spec.modality == "audio":
        assert tokens.codes.shape[-1] == -(-16_000 // spec.hop)
        assert spec.bits_per_second == pytest.approx(spec.frame_rate * spec.bits_per_position)
    else:
        assert tokens.codes.shape[-1] == spec.positions
        assert float(tokens.code_bits) == pytest.approx(spec.bits_per_image)


@pytest.mark.parametrize("name", DISCRETE)
def test_tokens_survive_the_file(name: str, tmp_path: Path) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer, 2))
    tokens.save(tmp_path / "x.tok")
    assert tz.Tokens.load(tmp_path / "x.tok") == tokens
    nominal = sum((n - 1).bit_length() for n in tokens.spec.codebook_sizes) * int(tokens.lengths.sum())
    assert (tmp_path / "x.tok").stat().st_size <= nominal / 8 + 2048


@pytest.mark.parametrize("name", [n for n in DISCRETE if len(small(n).spec.roles) > 1])
def test_codebook_prefixes_decode_where_the_spec_says_so(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer))
    whole, count = content(tokenizer.decode(tokens)), len(tokens.spec.roles)
    assert torch.equal(content(tokenizer.decode(tokens.codebooks(count))), whole)
    for fewer in range(1, count):
        few = tokens.codebooks(fewer)
        if tokens.spec.codebook_prefixes:
            decoded = content(tokenizer.decode(few))
            assert decoded.shape == whole.shape
            pixels = [roles.count("pixel") for roles in (few.spec.roles, tokens.spec.roles)]
            assert torch.equal(decoded, whole) == (0 < pixels[1] == pixels[0])  # what comes behind all pixels' is not seen
        else:
            with pytest.raises(tz.TokenError, match="codebooks"):
                tokenizer.decode(few)


@pytest.mark.parametrize("name", IMAGE)
def test_batch_is_single_images(name: str) -> None:
    tokenizer = small(name)
    images = media(tokenizer, 3)
    batch = tokenizer.encode(images)
    assert tz.Tokens.cat([tokenizer.encode(x[None]) for x in images]) == batch
    decoded = tokenizer.decode(batch).pixels
    alone = torch.cat([tokenizer.decode(item).pixels for item in batch])
    torch.testing.assert_close(decoded, alone, rtol=0, atol=0.05 / 255)  # a twentieth of an 8-bit step


@pytest.mark.parametrize("name", [name for name in IMAGE if "text" in small(name).takes])
def test_captions_travel_with_their_items(name: str, tmp_path: Path) -> None:
    tokenizer, texts = small(name), ["a cat", "", "two dogs on a chair"]
    images = media(tokenizer, 3)
    batch = tokenizer.encode(images, text=texts)
    assert tz.Tokens.cat([tokenizer.encode(x[None], text=text) for x, text in zip(images, texts, strict=True)]) == batch
    batch.save(tmp_path / "x.tok")
    decoded = tokenizer.decode(tz.Tokens.load(tmp_path / "x.tok")).pixels
    alone = torch.cat([tokenizer.decode(item).pixels for item in batch])
    torch.testing.assert_close(decoded, alone, rtol=0, atol=0.05 / 255)
    untold = tokenizer.decode(tz.Tokens(batch.codes, batch.spec)).pixels
    changed = (untold - decoded).abs().amax((1, 2, 3)) > 1e-5
    assert changed.tolist() == [True, False, True]


@pytest.mark.parametrize("name", IMAGE)
def test_file_is_array_images(name: str, photo: Path) -> None:
    tokenizer = small(name)
    image = tz.Images.load(photo)
    array = (image.pixels[0].permute(1, 2, 0) * 255).round().byte().numpy()
    tokens = tokenizer.encode(photo)
    assert tokenizer.encode(str(photo)) == tokens
    assert tokenizer.encode(image) == tokens
    assert tokenizer.encode(array) == tokens
    assert tokenizer.encode([photo, array])[1] == tokens
    assert tokenizer.decode(tokens).pixels.shape == (1, 3, tokenizer.image_size, tokenizer.image_size)


@pytest.mark.parametrize("name", [name for name in IMAGE if small(name).encoder.ordered])
def test_position_prefixes_of_images_decode(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer, 2))
    some = tz.Tokens.cat([tokens[0].prefix(3), tokens[1].prefix(9)])
    decoded = tokenizer.decode(some).pixels
    torch.testing.assert_close(decoded[:1], tokenizer.decode(tokens[0].prefix(3)).pixels, rtol=0, atol=0.05 / 255)
    assert not torch.allclose(decoded[0], tokenizer.decode(tokens[0]).pixels[0])
    assert float(some.bits[0]) == pytest.approx(3 * tokens.spec.bits_per_position)


LENGTHS = ["1", "hop-1", "hop", "hop+1", "1.23 s + 7", "30 s"]


def _samples(tokenizer: tz.AudioTokenizer, length: str) -> int:
    hop, rate = tokenizer.hop, tokenizer.sample_rate
    named = {"1": 1, "hop-1": hop - 1, "hop": hop, "hop+1": hop + 1, "1.23 s + 7": int(1.23 * rate) + 7, "30 s": 30 * rate}
    return named[length]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", AUDIO)
def test_exact_lengths(name: str, length: str) -> None:
    tokenizer = small(name)
    samples = _samples(tokenizer, length)
    tokens = tokenizer.encode(media(tokenizer, 1, samples))
    assert tokens.lengths.tolist() == [-(-samples // tokenizer.hop)]
    decoded = tokenizer.decode(tokens)
    assert decoded.waveform.shape == (1, 1, samples)
    assert decoded.waveform.isfinite().all()


@pytest.mark.parametrize("name", AUDIO)
def test_batch_is_single_audio(name: str) -> None:
    tokenizer = small(name)
    clips = [media(tokenizer, 1, _samples(tokenizer, length))[0] for length in LENGTHS[:-1]]
    batch = tokenizer.encode(clips)
    alone = [tokenizer.encode(clip) for clip in clips]
    assert tz.Tokens.cat(alone) == batch
    for together, single in zip(tokenizer.decode(batch), map(tokenizer.decode, alone), strict=True):
        torch.testing.assert_close(together.waveform, single.waveform, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", AUDIO)
def test_file_is_array_audio(name: str, speech: Path) -> None:
    tokenizer = small(name)
    audio = tz.Audio.load(speech)
    tokens = tokenizer.encode(speech)
    assert tokenizer.encode(audio) == tokens
    assert tokenizer.encode(audio.waveform[0, 0].numpy(), audio.sample_rate) == tokens
    assert tokenizer.encode((audio.waveform * 32768).short(), audio.sample_rate) == tokens
    assert tokenizer.decode(tokens).waveform.shape == audio.resample(tokenizer.sample_rate).waveform.shape


@pytest.mark.parametrize("name", AUDIO)
def test_position_prefixes_decode(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer))
    assert tokenizer.decode(tokens.prefix(3)).waveform.shape[-1] == 3 * tokenizer.hop


@pytest.mark.parametrize("name", DISCRETE)
def test_tokens_of_another_tokenizer_are_refused(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer))
    other = tz.Tokens(tokens.codes, replace(tokens.spec, name="another"), tokens.lengths, **tokens.conditions)
    with pytest.raises(tz.TokenError, match="another"):
        tokenizer.decode(other)


@pytest.mark.parametrize("name", DISCRETE)
def test_options_reach_the_decoder_of_every_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, seen = copy.deepcopy(small(name)), []
    for output, decoder in {"main": tokenizer.decoder, **tokenizer.outputs}.items():
        forward = decoder.forward
        noted = lambda *args, steps, forward=forward, **rest: (seen.append(steps), forward(*args, **rest))[1]  # noqa: E731
        monkeypatch.setattr(decoder, "options", ("steps",))
        monkeypatch.setattr(decoder, "forward", noted)
        tokenizer.decode(tokenizer.encode(media(tokenizer)), output=output, steps=output)
    assert seen == ["main", *tokenizer.outputs]


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(small(name), tz.ImageTokenizer)])
def test_tensors_of_another_size_are_refused(name: str) -> None:
    tokenizer = small(name)
    size, sizes = tokenizer.image_size, tokenizer.encoder.sizes
    wrong = torch.rand(1, 3, size, sizes.most + 1 if sizes else size // 2)
    for call in (tokenizer, tokenizer.encode_latents):
        with pytest.raises(tz.InputError, match="the nearest is" if sizes else f"trains on {size} x {size} images"):
            call(wrong)


@pytest.mark.parametrize("name", [name for name in IMAGE if small(name).encoder.sizes])
def test_every_allowed_size_comes_back(name: str, photo: Path) -> None:
    tokenizer = small(name)
    sizes = tokenizer.encoder.sizes
    for size in ((sizes.least, sizes.least), (sizes.least + sizes.multiple, sizes.least), (sizes.least, sizes.most)):
        tokens = tokenizer.encode([photo, photo], size=size)
        assert tokens.codes.shape[-1] == tokenizer.spec.positions
        assert [int(tokens.conditions[side][1]) for side in ("height", "width")] == list(size)
        assert tokenizer.decode(tokens).pixels.shape == (2, 3, *size)
