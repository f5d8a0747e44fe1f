"""`load_official`: the authors' file -> our tokenizer, key by key."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError, WeightsError
from ..tokenizer import Tokenizer
from ..weights import compare, fold_weight_norm, read_state
from ..zoo import create, hub_files


@dataclass(frozen=True)
class Official:
    """How a system's published state dict is named.

    names: regular expressions and replacements that turn our key into theirs, applied in order. file: path of the weights inside
    the authors' Hub repositories. license: of the published weights. unpack: picks the state dict out of what a training
    script saved. ignored: pattern of published keys that inference does not need. published: arguments of the assembly that bring
    back the authors' padding, where it loses samples that ours keeps.
    """

    names: Sequence[tuple[str, str]]
    file: str
    license: str
    unpack: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    ignored: str = r"$^"
    published: Mapping[str, Any] = field(default_factory=dict)

    def key(self, ours: str) -> str:
        """The published name of our key."""
        for pattern, replacement in self.names:
            ours = re.sub(pattern, replacement, ours)
        return ours


def load_official(
    variant: str,
    source: str | Path | Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    padding: Literal["whole", "published"] = "whole",
) -> Tokenizer:
    """A variant with the authors' weights, in evaluation mode.

    `source`: a file (.safetensors, or .pt/.bin opened with weights_only), the id of the authors' Hub repository, or a state dict.
    `padding`: "whole" continues a clip by zeros to whole frames, so that nothing is lost; "published" does as the authors' code,
    which differs for LM-SPT alone: an incomplete last frame is dropped.
    Strict: raises WeightsError that lists missing, surplus and mis-shaped keys.
    """
    if padding not in ("whole", "published"):
        raise InputError(f'padding is "whole" or "published", not {padding!r}')
    official = importer(variant)
    tokenizer = create(variant, **(official.published if padding == "published" else {}))
    state = official.unpack(dict(source) if isinstance(source, Mapping) else _read(source, official))
    state = {k: v for k, v in state.items() if not re.search(official.ignored, k)}
    mine = tokenizer.state_dict()
    compare(published_shapes(tokenizer), {k: _shape(v) for k, v in state.items()}, f"{variant} as published")
    tokenizer.load_state_dict({key: state[official.key(key)].reshape(value.shape) for key, value in mine.items()})
    fold_weight_norm(tokenizer)
    tokenizer.license = official.license
    return tokenizer.to(device).eval()


def importers() -> dict[str, Official]:
    """By variant, for all whose authors published weights."""
    from . import dm_codec, lm_spt, titok

    systems = {"dm-codec": dm_codec.DM_CODEC, "speechtokenizer": dm_codec.SPEECHTOKENIZER, "lm-spt-12.5hz-24k": lm_spt.LM_SPT}
    return systems | dict.fromkeys(titok.VARIANTS, titok.TITOK)


def importer(variant: str) -> Official:
    """The importer of a variant's system. Raises WeightsError for variants that no author published."""
    known = importers()
    if variant not in known:
        raise WeightsError(f"no authors' weights are known for {variant!r}; known: {', '.join(known)}")
    return known[variant]


def published_shapes(tokenizer: Tokenizer) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published state dict of a freshly created variant, axes of length 1 left out."""
    official = importer(tokenizer.name)
    return {official.key(key): _shape(value) for key, value in tokenizer.state_dict().items()}


def _shape(value: Tensor) -> tuple[int, ...]:
    """Shape without axes of length 1: a linear map is published as 1x1 convolution, a vector as a row."""
    return tuple(n for n in value.shape if n != 1) if isinstance(value, Tensor) else ()


def _read(source: str | Path, official: Official) -> dict[str, Tensor]:
    path = Path(source)
    if path.is_dir():
        path = path / Path(official.file).name
    if path.is_file():
        return read_state(path)
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return read_state(hub_files(source, (official.file,))[0])
    raise WeightsError(f"{source} is neither a file, a folder with {official.file}, nor a Hub id")
