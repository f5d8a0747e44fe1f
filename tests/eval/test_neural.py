"""Neural codecs of transformers, small and random, from a local folder."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from evaluations import SPEECH, clips, one, suite

import tokenizers_zoo as tz
from tokenizers_zoo.eval.neural import Transformers

transformers = pytest.importorskip("transformers")

# Bits of a code, samples a frame, codebooks.
SMALL: dict[str, tuple[Any, dict[str, Any], tuple[int, int, int]]] = {
    "encodec": (
        transformers.EncodecModel,
        {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64, "target_bandwidths": [0.9, 1.8]},
        (6, 320, 4),
    ),
    "mimi": (
        transformers.MimiModel,
        {
            **{"num_filters": 4, "hidden_size": 16, "codebook_size": 32, "codebook_dim": 8, "num_quantizers": 5},
            **{"vector_quantization_hidden_dimension": 8, "upsample_groups": 16, "num_hidden_layers": 1, "head_dim": 8},
            **{"intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2},
        },
        (5, 1920, 5),
    ),
    "dac": (
        transformers.DacModel,
        {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "n_codebooks": 3, "codebook_size": 16, "codebook_dim": 2},
        (4, 512, 3),
    ),
}


@pytest.fixture(scope="module", params=SMALL)
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, int, int]]:
    kind, options, facts = SMALL[request.param]
    torch.manual_seed(0)
    network = kind(kind.config_class(**options))
    for name, buffer in network.named_buffers():
        if name.endswith(("embed", "embed_sum")):
            buffer.normal_()  # untrained codebooks are all zeros
    folder = tmp_path_factory.mktemp(request.param) / f"tiny-{request.param}"
    network.save_pretrained(folder)
    return folder, facts


def test_bits_and_lengths(codec: tuple[Path, tuple[int, int, int]]) -> None:
    folder, (bits, hop, count) = codec
    clip = tz.Audio.load(DATA / "sense_and_sensibility_0880.wav")[0]
    clip = tz.Audio(clip.waveform[..., :20001], 16000)
    for codebooks in (None, 1, count - 1):
        system = Transformers(str(folder), codebooks)
        with torch.inference_mode():
            decoded, found = system.roundtrip(clip)
        frames = math.ceil(math.ceil(20001 * system.rate / 16000) / hop)
        assert found["codes"].shape == (codebooks or count, frames)
        assert found["bits"] == (codebooks or count) * frames * bits
        assert decoded.waveform.shape == clip.waveform.shape
        assert decoded.sample_rate == 16000
        assert system.name == folder.name + {None: "", 1: ", 1 codebook"}.get(codebooks, f", {codebooks} codebooks")
        assert len(system.weights) == 12


def test_first_codebooks_are_those_of_the_model_itself(codec: tuple[Path, tuple[int, int, int]]) -> None:
    folder, (_, hop, _) = codec
    system = Transformers(str(folder), 2)
    clip = tz.Audio(torch.randn(1, 1, 4 * hop) * 0.1, system.rate)
    fewer = {"encodec": {"bandwidth": 0.9}, "mimi": {"num_quantizers": 2}, "dac": {"n_quantizers": 2}}
    with torch.inference_mode():
        _, found = system.roundtrip(clip)
        codes = system.network.encode(clip.waveform, **fewer[system.network.config.model_type]).audio_codes
    assert codes.reshape(2, -1).tolist() == found["codes"].tolist()
    assert len(set(codes.flatten().tolist())) > 1


@pytest.mark.parametrize("more", [1, 20])
def test_more_codebooks_than_there_are(codec: tuple[Path, tuple[int, int, int]], more: int, tmp_path: Path) -> None:
    """The baseline is listed with the reason, and the evaluation goes on without."""
    folder, (_, _, count) = codec
    config = {"class_path": "Transformers", "init_args": {"path": str(folder), "codebooks": count + more}}
    parts = suite(SPEECH | {"baselines": [config, "Original"]}, tmp_path).build()
    assert [system.name for system in parts.baselines] == ["original"]
    (reason,) = parts.missing.values()
    assert f"has {count} codebooks, not {count + more}" in reason
    with pytest.raises(tz.InputError, match="codebooks, not 0"):
        Transformers(str(folder), 0)
    assert Transformers(str(folder), count).sizes == Transformers(str(folder)).sizes


def test_codes_and_sizes_make_a_rate(codec: tuple[Path, tuple[int, int, int]], tmp_path: Path) -> None:
    folder, (bits, hop, count) = codec
    system = Transformers(str(folder))
    assert system.sizes == (2**bits,) * count
    plan = suite(SPEECH | {"metrics": {"mel": "MelDistance"}}, tmp_path)
    values = one(system, plan, clips(tmp_path, 2, 2.0), tmp_path / "out")["values"]
    frames = sum(math.ceil(math.ceil((32000 + 100 * i) * system.rate / 16000) / hop) for i in range(2))
    assert values["codebooks"]["codes"] == [frames] * count
    assert values["mel_distance"]["items"] == 2


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(tz.WeightsError, match="give a Hugging Face name or a local folder"):
        Transformers(str(tmp_path / "none"))


def test_other_models_are_refused(tmp_path: Path) -> None:
    transformers.BertModel(transformers.BertConfig(hidden_size=12, num_hidden_layers=1, intermediate_size=12)).save_pretrained(
        tmp_path / "bert"
    )
    with pytest.raises(tz.InputError, match="is no mono encodec, mimi, dac"):
        Transformers(str(tmp_path / "bert"))
