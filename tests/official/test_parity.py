"""Published weights will work: the reference's codes and signals from our importers and models."""

import math
from pathlib import Path

import pytest
import torch
from official import recorded
from torch import Tensor

from tokenizers_zoo import InputError, Tokenizer, WeightsError, create, load, load_official, zoo
from tokenizers_zoo.official import IMPORTERS, importer

SPEECH = ["dm-codec", "speechtokenizer"]
LM_SPT = "lm-spt-12.5hz-24k"
UNPUBLISHED = {"lm-spt-25hz", "lm-spt-12.5hz", "lm-spt-6.25hz"}  # no author gave their weights away
UNPUBLISHED |= {"tokenflow-clipb-single"}
UNPUBLISHED |= {f"textok-{kind}{count}" for kind in ("", "vq-") for count in (32, 64, 128, 256)}
TITOK = ["titok-s128", *(pytest.param(n, marks=pytest.mark.slow) for n in ("titok-l32", "titok-bl64-vq"))]


def case(variant: str) -> str:
    return variant.replace("-", "_")


def relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.fixture(scope="module")
def loaded() -> dict[str, Tokenizer]:
    return {}


def official(variant: str, loaded: dict[str, Tokenizer]) -> Tokenizer:
    if variant not in loaded:
        loaded.clear()  # one large model at a time
        loaded[variant] = load_official(variant, recorded.state(case(variant)))
    return loaded[variant]


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("variant", SPEECH)
@torch.no_grad()
def test_speech(variant: str, name: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer, io = official(variant, loaded), recorded.io(case(variant))
    wave, codes = io[f"input.{name}.wav"], io[f"output.{name}.codes"].transpose(0, 1)
    tokens = tokenizer.encode(wave)
    assert torch.equal(tokens.codes, codes)  # the recorded margins are far above float32 rounding: no ties
    decoded = tokenizer.decode(tokens).waveform
    assert decoded.shape == wave.shape
    assert relative(decoded, io[f"output.{name}.decoded"][..., : wave.shape[-1]]) <= 1e-4
    first = tokenizer.decode_latents(tokenizer.quantizer.decode(codes[:, :1]))
    assert relative(first, io[f"output.{name}.decoded_first"]) <= 1e-4
    feature = tokenizer.semantic_features(tokenizer.encode_latents(wave), codes)
    assert relative(feature[..., ::16], io[f"output.{name}.feature_s16"]) <= 1e-4


@pytest.mark.parametrize("variant", SPEECH)
@torch.no_grad()
def test_windows_of_a_long_clip_join_smoothly(variant: str, loaded: dict[str, Tokenizer]) -> None:
    """The LSTM has no finite receptive field; with generated weights and enough context few codes flip."""
    tokenizer, wave = official(variant, loaded), recorded.io(case(variant))["input.a.wav"]
    whole = tokenizer.encode(wave)
    try:
        tokenizer.whole, tokenizer.window, tokenizer.context = 0.5, 0.6, 1.0
        windowed = tokenizer.encode(wave)
    finally:
        del tokenizer.whole, tokenizer.window, tokenizer.context
    assert (whole.codes != windowed.codes).float().mean() < 0.02


@pytest.fixture(scope="module")
def lm_spt() -> dict[str, Tokenizer]:
    weights = recorded.state(case(LM_SPT))
    return {padding: load_official(LM_SPT, weights, padding=padding) for padding in ("whole", "published")}


@pytest.mark.parametrize("name", ["a", "b", "c"])
@torch.no_grad()
def test_lm_spt(name: str, lm_spt: dict[str, Tokenizer]) -> None:
    """As published: no padding, an incomplete frame is dropped, 4 samples are missing at the end."""
    tokenizer, io = lm_spt["published"], recorded.io(case(LM_SPT))
    codes = io[f"output.{name}.codes"].transpose(0, 1)
    tokens = tokenizer.encode(io[f"input.{name}.wav"])
    assert torch.equal(tokens.codes, codes)
    found = {
        "aux": tokenizer.decode(tokens, output="auxiliary"),
        "decoded": tokenizer.decode(tokens),
        "decoded_semantic": tokenizer.decode(tokens.codebooks("semantic")),
        "decoded_first4": tokenizer.decode(tokens.codebooks(4)),
    }
    for kind, audio in found.items():
        if f"output.{name}.{kind}" in io:
            wanted = io[f"output.{name}.{kind}"]
            assert audio.waveform.shape == wanted.shape
            assert relative(audio.waveform, wanted) <= 1e-4
    assert (found["aux"].sample_rate, found["decoded"].sample_rate) == (16000, 24000)


@torch.no_grad()
def test_lm_spt_quantizer_losses(lm_spt: dict[str, Tokenizer]) -> None:
    """The published loss sums over the seven acoustic codebooks, ours is their mean."""
    io = recorded.io(case(LM_SPT))
    quantized = lm_spt["published"](io["input.b.wav"]).quantized
    assert quantized is not None
    for half, levels in (("semantic", 1), ("acoustic", 7)):
        for kind in ("commitment", "codebook"):
            found = levels * quantized.losses[f"{half}_{kind}"]
            torch.testing.assert_close(found, io[f"output.b.loss_{half}_{kind}"].reshape(()), rtol=1e-5, atol=0)


@torch.no_grad()
def test_lm_spt_loses_nothing_by_default(lm_spt: dict[str, Tokenizer]) -> None:
    whole, published = lm_spt["whole"], lm_spt["published"]
    wave = recorded.io(case(LM_SPT))["input.b.wav"]
    tokens = whole.encode(wave)
    assert tokens.codes.shape[-1] == 14  # published: 13, the last 1841 samples are lost
    assert whole.decode(tokens).waveform.shape == wave.shape
    assert whole.decode(tokens, output="auxiliary").waveform.shape[-1] == wave.shape[-1] * 2 // 3
    cut = wave[..., : 13 * whole.hop]  # whole frames: the two agree
    assert torch.equal(whole.encode(cut).codes, published.encode(cut).codes)
    with pytest.raises(InputError, match="1920 samples"):
        published.encode(wave[..., :1915])
    assert whole.encode(wave[..., :1]).codes.shape == (2, 8, 1)
    with pytest.raises(InputError, match="padding"):
        load_official(LM_SPT, {}, padding="none")


@pytest.mark.parametrize("variant", TITOK)
@torch.no_grad()
def test_titok(variant: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer, io = official(variant, loaded), recorded.io(case(variant))
    latents = tokenizer.encode_latents(io["input.image"])
    assert relative(latents.transpose(1, 2)[:, :, None], io["output.latents"]) <= 1e-4
    tokens = tokenizer.encode(io["input.image"])
    assert torch.equal(tokens.codes, io["output.tokens"])
    pixels = tokenizer.decode_latents(tokenizer.quantizer.decode(tokens.codes))[..., ::4, ::4]
    assert relative(pixels[:1], io["output.decoded_s4"]) <= 1e-4
    assert relative(pixels[1:], io["output.decoded_second_s4"]) <= 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_titok_vae(loaded: dict[str, Tokenizer]) -> None:
    tokenizer, io = official("titok-bl128-vae", loaded), recorded.io("titok_bl128_vae")
    latents = tokenizer.encode_latents(io["input.image"])
    assert relative(latents.transpose(1, 2)[:, :, None], io["output.mean"]) <= 1e-4
    assert relative(tokenizer.posterior.kl(tokenizer.encoder(io["input.image"])), io["output.kl"]) <= 1e-4
    pixels = tokenizer.decode_latents(io["output.sample"][:, :, 0].transpose(1, 2))[..., ::4, ::4]
    assert relative(pixels[:1], io["output.decoded_s4"]) <= 1e-4
    assert relative(pixels[1:], io["output.decoded_second_s4"]) <= 1e-4


@pytest.mark.parametrize(
    "variant", [*SPEECH, LM_SPT, "titok-l32", "titok-s128", "titok-bl64-vq", "titok-bl128-vae", "instella-bae", "kl-16"]
)
def test_keys_and_parameter_counts_are_the_published_ones(variant: str) -> None:
    wanted = recorded.manifest(case(variant))
    with torch.device("meta"):
        tokenizer = create(variant)
    found = importer(variant).shapes(tokenizer)
    assert found == {key: tuple(n for n in shape if n != 1) for key, shape in wanted.items()}
    assert sum(map(math.prod, found.values())) == sum(map(math.prod, wanted.values()))


def test_strictness() -> None:
    state = recorded.state("dm_codec")
    state["extra.weight"] = state.pop("transform.bias")
    state["encoder.model.0.conv.conv.bias"] = torch.zeros(63)
    with pytest.raises(WeightsError) as error:
        load_official("dm-codec", state)
    for part in ("1 missing: transform.bias", "1 surplus: extra.weight", "model.0.conv.conv.bias: (63,) instead of (64,)"):
        assert part in str(error.value)
    with pytest.raises(WeightsError, match="no authors' weights"):
        load_official("dm-codec-tiny", state)
    with pytest.raises(WeightsError, match="neither a file"):
        load_official("dm-codec", "no/such/file.pt")


def test_training_packages_and_files_load_like_bare_states(tmp_path: Path) -> None:
    state = recorded.state("dm_codec")
    torch.save({"generator": {f"module.{k}": v for k, v in state.items()}, "best_dev_mel_loss": 0.1}, tmp_path / "m.pt")
    tokenizer = load_official("dm-codec", tmp_path / "m.pt")
    assert "Apache-2.0" in tokenizer.license
    tokenizer.save_pretrained(tmp_path / "ours")
    again = load(tmp_path / "ours")
    wave = recorded.io("dm_codec")["input.c.wav"]
    assert torch.equal(again.encode(wave).codes, tokenizer.encode(wave).codes)
    assert again.spec.license == tokenizer.license


def test_every_published_variant_has_an_importer() -> None:
    assert {name for name in zoo.list_tokenizers() if not name.endswith("-tiny")} == IMPORTERS.keys() | UNPUBLISHED
    for name in IMPORTERS:
        with torch.device("meta"):
            assert IMPORTERS[name].shapes(create(name))
