"""The published generators by name, and their weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ...blocks.masked import SkipTransformer
from ...errors import WeightsError
from ...official import Source, paths_of
from ...official.generators import GENERATORS as IMPORTERS
from ...spec import TokenSpec
from ...weights import read_state
from .autoregressive import MaskedAutoregressive
from .base import Generator, Sampling
from .maskgit import MaskGIT, MaskGITSampling

ORDER = (8, 1, 10, 9, 6, 12, 4, 0, 3, 11, 7, 14, 2, 15, 13, 5)  # of KL-16's dimensions, those of low frequencies first


def _titok(name: str, positions: int) -> TokenSpec:
    return TokenSpec(name, "image", (4096,), ("pixel",), "sequence", image_size=256, positions=positions)


_KL16 = TokenSpec("tokenbridge-kl16", "image", (64,) * 16, ("pixel",) * 16, "grid", image_size=256, positions=256)
_BERT = partial(MaskGIT, classes=1000, width=768, depth=24, heads=16)
_BRIDGE = partial(MaskedAutoregressive, spec=_KL16, classes=1000, heads=16, head_width=1024, order=ORDER)

# Sampling as in the authors' configs/infer, sample_imagenet_titok.py and README.
GENERATORS: dict[str, Callable[..., Generator]] = {
    "maskgit-titok-l32": partial(
        _BERT, spec=_titok("titok-l32", 32), sampling=MaskGITSampling(8, 9.5, 4.5, "linear", annealing=True)
    ),
    "maskgit-titok-b64": partial(
        _BERT, spec=_titok("titok-b64", 64), sampling=MaskGITSampling(8, 11.0, 3.0, "linear", annealing=True)
    ),
    "maskgit-titok-s128": partial(
        MaskGIT,
        spec=_titok("titok-s128", 128),
        classes=1000,
        width=1024,
        depth=20,
        heads=16,
        transformer=SkipTransformer,
        sampling=MaskGITSampling(64, 2.8, 6.9, "power-cosine", annealing=True),
    ),
    "tokenbridge-l": partial(_BRIDGE, width=1024, depth=16, head_depth=4, sampling=Sampling(256, 0.96, 3.1)),
    "tokenbridge-h": partial(_BRIDGE, width=1280, depth=20, head_depth=6, sampling=Sampling(256, 0.91, 3.45)),
}


def create_generator(name: str, **overrides: Any) -> Generator:
    """An untrained generator at its published size; `overrides` replace arguments of its class.

    Raises WeightsError for another name, and for arguments that there are not.
    """
    if name not in GENERATORS:
        raise WeightsError(f"no generator is called {name!r}; choose one of {', '.join(GENERATORS)}")
    try:
        return GENERATORS[name](**overrides)
    except TypeError as error:
        raise WeightsError(f"{name} cannot be built: {error}") from error


def load_generator(name: str, source: Source | None = None, device: torch.device | str = "cpu", **overrides: Any) -> Generator:
    """A generator with its authors' weights, in evaluation mode.

    `source`: a file (.safetensors, or .bin, .pth opened with weights_only), a folder, the id of a Hub repository, or a state
    dict; by default the authors' repository. `overrides` as in `create_generator`.
    Strict: raises WeightsError that lists missing, surplus and mis-shaped keys.
    """
    generator, official = create_generator(name, **overrides), IMPORTERS[name]
    states = [source] if isinstance(source, Mapping) else [read_state(path) for path in paths_of(name, official, source)]
    converted = official.renamed(official.unpack(*map(dict, states)), generator, name)
    generator.load_state_dict(generator.state_dict() | converted)
    generator.license = official.license
    generator.spec = replace(generator.spec, license=official.license)
    return generator.to(device).eval()
