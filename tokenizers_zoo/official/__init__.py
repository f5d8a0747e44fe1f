"""The authors' published checkpoints: the table of importers, one file per system, and `load_official`."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError, WeightsError
from ..ready import ready
from ..tokenizer import Tokenizer
from ..weights import fingerprint, fold_weight_norm, plain_state, read_state
from ..zoo import AUTHORS, altered, create, hub_files, is_hub_id, list_tokenizers
from .base import Official
from .dm_codec import DM_CODEC, SPEECHTOKENIZER
from .dualtoken import DUALTOKEN
from .flextok import FLEXTOK
from .instella import INSTELLA
from .lm_spt import LM_SPT
from .ta_titok import TA_TITOK
from .titok import TITOK
from .tokenbridge import TOKENBRIDGE
from .tokenflow import TOKENFLOW

IMPORTERS: dict[str, Official] = {
    "dm-codec": DM_CODEC,
    "speechtokenizer": SPEECHTOKENIZER,
    "lm-spt-12.5hz-24k": LM_SPT,
    "instella-bae": INSTELLA,
    **TITOK,
    **TA_TITOK,
    **FLEXTOK,
    **TOKENBRIDGE,
    **DUALTOKEN,
    **TOKENFLOW,
}
Source = str | Path | Mapping[str, Tensor] | Sequence[str | Path]


def load_official(
    variant: str,
    source: Source | None = None,
    device: torch.device | str = "cpu",
    padding: Literal["whole", "published"] = "whole",
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    **overrides: Any,
) -> Tokenizer:
    """A variant with the authors' weights, in evaluation mode.

    `source`: a file (.safetensors, or .pt/.bin opened with weights_only), several where the authors published several, a folder
    of them, the id of the authors' Hub repository, or a state dict; by default that repository.
    `padding`: "whole" continues a clip by zeros to whole frames, so that nothing is lost; "published" does as the authors' code,
    which differs for LM-SPT alone: an incomplete last frame is dropped. `dtype`, `compile` and `overrides` as
    in `load`.
    The licence of the weights, which is not always that of the authors' code, is in `tokenizer.license` and in every token file;
    where it is non-commercial, a UserWarning says so.
    Strict: raises WeightsError that lists missing, surplus and mis-shaped keys.
    """
    if padding not in ("whole", "published"):
        raise InputError(f'padding is "whole" or "published", not {padding!r}')
    official = importer(variant)
    paths = [] if isinstance(source, Mapping) else paths_of(variant, official, source)
    states = [dict(source)] if isinstance(source, Mapping) else [read_state(path) for path in paths]
    published = dict(official.published) if padding == "published" else {}
    tokenizer = create(variant, **published, **(official.told(paths) if paths else {}))
    converted = official.convert(official.unpack(*states), tokenizer)
    tokenizer.load_state_dict(tokenizer.state_dict() | converted)
    fold_weight_norm(tokenizer)
    tokenizer.license, tokenizer.weights = official.license, fingerprint(plain_state(tokenizer))
    if official.noncommercial:
        message = f"the weights of {variant} are licensed {official.license}: non-commercial use only"
        warnings.warn(message, UserWarning, stacklevel=2)
    return ready(altered(tokenizer, overrides) if overrides else tokenizer, device, dtype, compile).eval()


def importer(variant: str) -> Official:
    """The importer of a variant. Raises WeightsError for variants that no author published."""
    if variant not in IMPORTERS:
        fresh = f"; create({variant!r}) builds it untrained" if variant in list_tokenizers() else ""
        raise WeightsError(f"no authors' weights are known for {variant!r}{fresh}; known: {', '.join(IMPORTERS)}")
    return IMPORTERS[variant]


def paths_of(variant: str, official: Official, source: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """The authors' files, in the order of `official.files`. Raises WeightsError where they are not to be had."""
    names = [Path(path).name for _, path in official.files]
    if source is None:
        if not official.hub:
            raise WeightsError(f"{variant} has no default source: {_advice(variant, official)}")
        return hub_files(official.files)
    if is_hub_id(source) and not Path(str(source)).exists():
        return hub_files(tuple((str(source), path) for _, path in official.files))
    given = [source] if isinstance(source, str | Path) else list(source)
    paths = [Path(given[0]) / name for name in names] if len(given) == 1 and Path(given[0]).is_dir() else [Path(p) for p in given]
    if len(paths) != len(names) or not all(path.is_file() for path in paths):
        told = ", ".join(map(str, given))
        raise WeightsError(f"{told} is neither a file, a folder with {', '.join(names)}, nor a Hub id (files: {len(names)})")
    return paths


def _advice(variant: str, official: Official) -> str:
    """How to come by a variant's weights, in Python and on the command line."""
    if official.hub:
        python, shell = f"load_official({variant!r})", f"tokenizers-zoo import {variant} -o FOLDER"
        what = "them" if official.fresh == Official.fresh else "what is published of them"
        return f"{python}, or in a shell `{shell}`, loads {what} from Hub {official.hub}"
    file = official.files[0][1]
    python, shell = f"load_official({variant!r}, {file!r})", f"tokenizers-zoo import {variant} {file} -o FOLDER"
    return f"download {file} from {official.place}; then {python}, or in a shell `{shell}`"


AUTHORS.update({variant: _advice(variant, official) for variant, official in IMPORTERS.items()})

__all__ = ["IMPORTERS", "Official", "Source", "importer", "load_official", "paths_of"]
