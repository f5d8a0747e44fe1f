"""DualToken (songweii/DualToken). Its authors published no weights: what there is, is the tower that its training starts from.

Two states are read: that of SigLIP 2 as Google published it, which fills the tower and leaves all else fresh, and that of a
training of the authors' code.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..blocks.siglip import vision_state
from ..errors import WeightsError
from ..tokenizer import Tokenizer
from .base import Official, State

_THEIRS = "siglip_model."  # before the tower's names in the authors' own states
_FRESH = r"^(?!encoder\.(patches|layers)\.|head\.(layers|norm_out|pool)\.)"  # all of ours but the tower
_TEXT = r"^(text_model\.|logit_(scale|bias)$)"
_PROJECTIONS = {
    "prequant_pix.": "encoder.to_pixel.",
    "prequant_shortcut.": "encoder.to_shortcut.",
    "prequant_sem.": "encoder.to_semantic.",
    "postquant_pix.": "decoder.expand.",
    "postquant_sem.": "head.expand.",
}
_INSIDE = (  # of a projection
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".mlp_norm."),
    (r"\.norm3\.", ".skip_norm."),
    (r"\.attn\.qkv\.", ".in_proj."),
    (r"\.attn\.proj\.", ".out_proj."),
    (r"^((?:en|de)coder\.\w+|head\.expand)\.proj\.", r"\1.skip."),
    (r"\.mlp\.w0\.", ".mlp.gate."),
    (r"\.mlp\.w1\.", ".mlp.value."),
    (r"\.mlp\.w2\.", ".mlp.out."),
)
_CONVOLUTIONS = (
    (r"^post_quant_conv\.", "decoder.narrow."),
    (r"^decoder\.mid\.block_1\.", "decoder.mid.0."),
    (r"^decoder\.mid\.attn_1\.", "decoder.mid.1."),
    (r"^decoder\.mid\.block_2\.", "decoder.mid.2."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"^(decoder\..*)\.q\.", r"\1.query."),
    (r"^(decoder\..*)\.k\.", r"\1.key."),
    (r"^(decoder\..*)\.v\.", r"\1.value."),
    (r"\.proj_out\.", ".out."),
)


class _DualToken(Official):
    def convert(self, state: State, tokenizer: Tokenizer) -> State:
        """As Official's, of a published SigLIP 2 or of a state of the authors' training, in which nothing is fresh."""
        whole = any(key.startswith(_THEIRS) for key in state)
        state = {key.removeprefix(_THEIRS): value for key, value in state.items()}
        tower = _placed(vision_state(state), tokenizer)
        rest = {key: value for key, value in state.items() if not key.startswith("vision_model.")}
        if not whole:
            return super().convert(tower | rest, tokenizer)
        return Official.convert(replace(self, fresh=r"$^"), tower | _codebooks(rest) | _others(rest, tokenizer), tokenizer)


def _placed(tower: State, tokenizer: Tokenizer) -> State:
    """A tower's state, its last layers and all behind them in the head."""
    encoder: Any = tokenizer.encoder
    count = len(encoder.layers)

    def place(key: str) -> str:
        first, *others = key.split(".")
        if first == "layers" and others[0].isdigit() and int(others[0]) >= count:
            return ".".join(["head.layers", str(int(others[0]) - count), *others[1:]])
        return f"encoder.{key}" if first in ("patches", "layers") else f"head.{key}"

    return {place(key): value for key, value in tower.items()}


def _codebooks(state: Mapping[str, Tensor]) -> State:
    """The shared tables; theirs have a last row that pads, and one name a level for the same tensor."""
    found: State = {}
    for theirs, role in (("quantizer_pix", "pixel"), ("quantizer_sem", "semantic")):
        ours = f"quantizer.{role}.learner"
        for key, name in (("weight", "embed"), ("cluster_size_ema", "cluster_size"), ("embed_ema", "embed_avg")):
            tables = [value for k, value in state.items() if re.fullmatch(rf"{theirs}\.codebooks\.\d+\.{key}", k)]
            if any(not torch.equal(table, tables[0]) for table in tables):
                raise WeightsError(f"the levels of {theirs} have codebooks of their own; this variant has one for all of them")
            if tables:
                found[f"{ours}.{name}"] = tables[0][:-1] if key == "weight" else tables[0]
        found[f"{ours}.initted"] = torch.tensor(True)
    return found


def _others(state: Mapping[str, Tensor], tokenizer: Tokenizer) -> State:
    """Projections and convolutions. Their levels are numbered from the highest resolution, ours from the lowest."""
    decoder: Any = tokenizer.decoder
    top = len(decoder.up) - 1
    found: State = {}
    for key, value in state.items():
        if re.fullmatch(r"quantizer_(pix|sem)\.codebooks\.\d+\.(weight|cluster_size_ema|embed_ema)", key):
            continue
        name = key
        for theirs, ours in _PROJECTIONS.items():
            if key.startswith(theirs):
                name = key.replace(theirs, ours, 1)
                for pattern, replacement in _INSIDE:
                    name = re.sub(pattern, replacement, name)
        if name == key:
            for pattern, replacement in _CONVOLUTIONS:
                name = re.sub(pattern, replacement, name)
            if level := re.match(r"decoder\.up\.(\d+)\.(?:(block|attn)\.(\d+)|upsample\.conv)", name):
                name = _level(top - int(level[1]), level[2], level[3]) + name[level.end() :]
        found[name] = value
    for prefix in _PROJECTIONS.values():
        parts = [f"{prefix}attn.{part}" for part in ("q_bias", "zero_k_bias", "v_bias")]
        if all(part in found for part in parts):
            found[f"{prefix}in_proj.bias"] = torch.cat([found.pop(part) for part in parts])
    return found


def _level(ours: int, kind: str | None, number: str | None) -> str:
    """At the lowest resolution, and there alone, an attention follows each block."""
    if kind is None or number is None:
        return f"decoder.upsample.{ours}"
    place = int(number) if ours else 2 * int(number) + (kind == "attn")
    return f"decoder.up.{ours}.{place}"


DUALTOKEN = {
    variant: _DualToken(
        (),
        "Apache-2.0 (the tower, SigLIP 2; nobody published the rest)",
        ((repository, "model.safetensors"),),
        ignored=_TEXT,
        fresh=_FRESH,
    )
    for variant, repository in (
        ("dualtoken-384", "google/siglip2-so400m-patch14-384"),
        ("dualtoken-256", "google/siglip2-so400m-patch16-256"),
    )
}
