"""Shared fixtures: small builds of every variant, real media, one thread of randomness."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import yaml

import tokenizers_zoo as tz
from tokenizers_zoo import zoo
from tokenizers_zoo.assembly import overridden
from tokenizers_zoo.quantizers.moving_average import MovingAverageCodebook

DATA = Path(__file__).parent / "data"
FIXTURES = {path.stem: path for path in sorted((DATA / "variants").glob("*.yaml"))}  # variants that only tests have
CONVOLUTIONAL = ("ConvGridDecoder", "ConvGridEncoder", "KLAutoencoder", "VQGANDecoder")
LARGEST = 20_000_000  # parameters of a variant that the default run builds at full size

# torch notes at the first use of a device, for good, which functions make tensors; opening a model transformers replaces linspace
with torch.device("meta"):
    torch.empty(0)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def speech() -> Path:
    """A clip of 7 s, 16 kHz, read aloud."""
    return DATA / "sense_and_sensibility_0870.wav"


@pytest.fixture
def photo() -> Path:
    """A cat, 451 x 300 pixels."""
    return DATA / "chelsea.jpg"


def assembly(name: str) -> dict[str, Any]:
    """The assembly of a variant, a shipped one or one of `FIXTURES`."""
    return yaml.safe_load(FIXTURES[name].read_text()) if name in FIXTURES else zoo.assembly(name)


@cache
def small(name: str) -> tz.Tokenizer:
    """The variant with fewer blocks or channels, random weights and full codebooks, in evaluation mode."""
    torch.manual_seed(1)
    config = assembly(name)
    tokenizer = zoo.build(config, name) if name in FIXTURES else tz.create(name, **_cuts(config["init_args"]))
    fill_codebooks(tokenizer)
    return tokenizer.eval()


def _cuts(args: dict, prefix: str = "") -> dict[str, object]:
    """Overrides that leave every kind of block in place: depth 2, width 96, 4 filters, 2 steps, 64 positions, narrow convolutions
    on pixels, grids of 3 x 3 of which 50 pixels are no multiple or of 64 pixels a side, a text encoder of two layers.
    """
    cuts: dict[str, object] = {}
    for key, value in args.items():
        if key in ("depth", "steps"):
            cuts[prefix + key] = 2
        elif key == "depths":
            cuts |= {prefix + key: [1] * len(value), prefix + "width": 128, prefix + "heads": 2}
        elif key == "width" and value >= 512 and "depths" not in args:
            cuts[prefix + key] = 96  # whatever the number of heads
        elif key == "positions" and value > 64:
            cuts[prefix + key] = 64
        elif key == "filters":
            cuts[prefix + key] = 4
        elif key == "image_size" and value > 64 and ("grid" in args or "dim" not in args):
            cuts[prefix + key] = 50
        elif (key == "grid" and value > 8) or (key == "scales" and value[-1] > 8):
            cuts[prefix + key] = 3 if key == "grid" else [1, 2, 3]
        elif key == "trained":
            cuts[prefix + key] = 2
        elif isinstance(value, dict) and value.get("class_path") in CONVOLUTIONAL:
            cuts[f"{prefix}{key}.channels"] = 32
            cuts |= _cuts(value.get("init_args", {}), f"{prefix}{key}.")
            if value["class_path"] == "KLAutoencoder":
                cuts[f"{prefix}{key}.multipliers"] = [1] * len(value["init_args"]["multipliers"])
        elif isinstance(value, dict) and value.get("class_path") == "GridDecoder":
            sizes = {"channels": 32, "image_size": 112, "width": 96}
            cuts |= {f"{prefix}{key}.{name}": min(most, value["init_args"].get(name, most)) for name, most in sizes.items()}
        elif isinstance(value, dict) and value.get("class_path") in ("KLGridEncoder", "KLGridDecoder"):
            levels = [1] * len(value["init_args"]["multipliers"])
            cuts |= {f"{prefix}{key}.{name}": n for name, n in (("channels", 32), ("multipliers", levels), ("image_size", 64))}
        elif key == "text_encoder":
            sizes = {name: value["init_args"][name] for name in ("dim", "length")}
            cuts[prefix + key] = {"class_path": toys.StubText.__name__, "init_args": sizes}
        elif isinstance(value, dict):
            inside = value.get("init_args", {}) if "class_path" in value else value  # a part, or several by their names
            if value.get("class_path") == "DualVocabularyEncoder":
                cuts[f"{prefix}{key}.image_size"] = min(112, inside["image_size"])
            cuts |= _cuts(inside, f"{prefix}{key}.")
    return cuts


def once(names: list[str]) -> list[str]:
    """Names, without those that are one of the same system when both are cut: other sizes or weights of one network."""
    first: dict[str, str] = {}
    for name in names:
        config = assembly(name)
        first.setdefault(f"{name.split('-')[0]} {json.dumps(overridden(config, _cuts(config['init_args'])))}", name)
    return list(first.values())


def fill_codebooks(tokenizer: tz.Tokenizer) -> None:
    """Distinct rows where an untrained codebook waits for its k-means start."""
    for module in tokenizer.modules():
        if isinstance(module, MovingAverageCodebook):
            module.embed.normal_(std=0.3)
            module.initted.fill_(True)


def is_discrete(name: str) -> bool:
    return assembly(name)["init_args"].get("quantizer") is not None


def media(tokenizer: tz.Tokenizer, count: int = 1, samples: int = 16_000) -> torch.Tensor:
    """Random waveforms (count, 1, samples) or images, as the tokenizer takes them."""
    if isinstance(tokenizer, tz.AudioTokenizer):
        return torch.randn(count, 1, samples) * 0.2
    return torch.rand(count, 3, tokenizer.image_size, tokenizer.image_size)
