"""Tokens put together: batches, pieces of a stream, codebooks of the same items."""

import dataclasses
from collections.abc import Sequence
from reprlib import repr as short

import numpy as np
import torch
from torch import Tensor

from .errors import TokenError
from .spec import PAD, Computed, Parts, TokenSpec


def cat(batches: Sequence[Parts]) -> Parts:
    """All items of several batches, padded to the longest; items without text get ""."""
    spec = common([t.spec for t in batches])
    for other in batches[1:]:
        for name in sorted(batches[0].conditions.keys() | other.conditions.keys()):
            first, second = (_form(t.conditions.get(name)) for t in (batches[0], other))
            if first != second:
                raise TokenError(f"cannot combine tokens: condition {name!r} is {first} in one and {second} in another")
    longest = max(t.codes.shape[-1] for t in batches)
    codes = _cat([_padded(t.codes, longest) for t in batches])
    text = [caption for t in batches for caption in _said(t)]
    conditions = {k: _cat([t.conditions[k] for t in batches]) for k in batches[0].conditions}
    return Parts(codes, spec, torch.cat([t.lengths for t in batches]), text, conditions)


def join(pieces: Sequence[Parts]) -> Parts:
    """Streams that continue through several pieces: item i of the result is item i of all pieces, in their order."""
    spec = common([t.spec for t in pieces])
    if spec.layout != "time" or len({len(t.codes) for t in pieces}) > 1:
        raise TokenError("only tokens with a time layout and equally many streams can be joined; use Tokens.cat for a batch")
    lengths = torch.stack([t.lengths for t in pieces])  # (pieces, B)
    ends = lengths.cumsum(0)
    codes = pieces[0].codes.new_full((*pieces[0].codes.shape[:2], max(ends[-1].tolist(), default=0)), PAD)
    for piece, piece_ends in zip(pieces, ends.tolist(), strict=True):
        for row, item, length, end in zip(codes, piece.codes, piece.lengths.tolist(), piece_ends, strict=True):
            row[:, end - length : end] = item[:, :length]
    text, conditions = _merged(pieces, apart="num_samples")
    if any("num_samples" in t.conditions for t in pieces):
        conditions["num_samples"] = _summed_samples(pieces, lengths)
    return Parts(codes, spec, ends[-1], text, conditions)


def combine(parts: Sequence[Parts]) -> Parts:
    """Different codebooks of the same items, in the tokenizer's order."""
    spec = combined([t.spec for t in parts])
    if any(not torch.equal(t.lengths, parts[0].lengths) for t in parts):
        raise TokenError(f"parts of the same items have equal lengths, got {short([t.lengths.tolist() for t in parts])}")
    longest = max(t.codes.shape[-1] for t in parts)
    ids = np.concatenate([t.spec.codebook_ids for t in parts])
    codes = _cat([_padded(t.codes, longest) for t in parts], dim=1)[:, ids.argsort()]
    return Parts(codes, spec, parts[0].lengths, *_merged(parts))


def common(specs: Sequence[TokenSpec], of_selections: bool = False) -> TokenSpec:
    """The spec of tokens of one tokenizer put together: the first one, after a check that nothing which decides decoding differs.

    Images of ordered tokens may have different numbers of positions; the result has the most. Unknown weights ("") go with any,
    and the result's are unknown unless all are equal. `of_selections`: codebooks may differ. Raises TokenError.
    """
    specs = list(dict.fromkeys(specs))
    first, longest = specs[0], max(specs, key=lambda spec: spec.positions or 0)
    decisive = ["name", "modality", "layout", "sample_rate", "hop", "image_size", "positions", "scales"]
    for other in specs:
        n = other.positions
        whole = longest.prefix(n) if n and n in (longest.prefix_lengths or ()) else longest
        for field in decisive if of_selections else [*decisive, "codebook_sizes", "codebook_ids"]:
            mine, theirs = getattr(whole, field), getattr(other, field)
            if mine != theirs:
                raise TokenError(
                    f"cannot combine tokens of {first.name} and {other.name}: {field} is {short(mine)} and {short(theirs)}"
                )
    weights = {spec.weights for spec in specs}
    if len(weights - {""}) > 1:
        raise TokenError(f"cannot combine tokens of different weights of {first.name}: {' and '.join(sorted(weights - {''}))}")
    return dataclasses.replace(
        first,
        positions=longest.positions,
        scales=longest.scales,
        weights=first.weights if len(weights) == 1 else "",
        conditions=tuple(dict.fromkeys(name for spec in specs for name in spec.conditions)),
    )


def combined(specs: Sequence[TokenSpec]) -> TokenSpec:
    """The spec of different codebooks of one tokenizer together: the reverse of `select`. Raises TokenError.

    What a part says that decodes still does; of all together the default of TokenSpec is assumed.
    """
    specs = sorted(specs, key=lambda spec: spec.codebook_ids)
    entries = sorted(
        (i, size, role)
        for spec in specs
        for i, size, role in zip(spec.codebook_ids, spec.codebook_sizes, spec.roles, strict=True)
    )
    ids, sizes, roles = zip(*entries, strict=True)
    if len(set(ids)) < len(ids):
        raise TokenError(f"the parts must have different codebooks, got {short([spec.codebook_ids for spec in specs])}")
    whole = dataclasses.replace(
        common(specs, of_selections=True), codebook_sizes=sizes, roles=roles, codebook_ids=ids, decodable=Computed()
    )
    alone = [
        roles
        for spec in specs
        for roles in spec.decodable
        if not any(set(roles) & set(other.roles) for other in specs if other is not spec)
    ]
    return dataclasses.replace(whole, decodable=tuple(dict.fromkeys([*alone, *whole.decodable])))


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat([tensor.to(tensors[0].device) for tensor in tensors], dim)


def _said(tokens: Parts) -> Sequence[str]:
    return tokens.text or [""] * len(tokens.codes)


def _padded(codes: Tensor, positions: int) -> Tensor:
    return torch.nn.functional.pad(codes, (0, positions - codes.shape[-1]), value=PAD)


def _form(condition: Tensor | None) -> str:
    return "missing" if condition is None else f"{condition.dtype} {tuple(condition.shape[1:])} an item"


def _merged(parts: Sequence[Parts], apart: str = "") -> tuple[list[str], dict[str, Tensor]]:
    """Text and conditions, but for the one named `apart`, of tokens that belong to the same items."""
    text = []
    for captions in zip(*(_said(t) for t in parts), strict=True):
        said = [*dict.fromkeys(filter(None, captions)), ""]
        if len(said) > 2:
            raise TokenError(f"the parts of an item have different texts, {said[0]!r} and {said[1]!r}; keep one")
        text.append(said[0])
    conditions: dict[str, Tensor] = {}
    for part in parts:
        for name, value in part.conditions.items():
            if name != apart and not equal(conditions.setdefault(name, value), value):
                raise TokenError(f"the parts of an item have different values of condition {name!r}; keep one")
    return text, conditions


def _summed_samples(pieces: Sequence[Parts], lengths: Tensor) -> Tensor:
    """num_samples (B,) of pieces with lengths (pieces, B), in the dtype that they have."""
    forms = {_form(t.conditions.get("num_samples")) for t in pieces}
    if len(forms) > 1:
        raise TokenError(f"cannot join pieces: condition 'num_samples' is {' and '.join(sorted(forms))}")
    given, hop = pieces[0].conditions["num_samples"], pieces[0].spec.hop
    samples = torch.stack([t.conditions["num_samples"].cpu().long() for t in pieces])
    following = lengths.flip(0).cumsum(0).flip(0) - lengths
    inner = (following > 0) | (lengths == 0)  # all but an item's last frames
    if incomplete := ((samples != lengths * hop) & inner).nonzero().tolist() if hop else []:
        piece, item = incomplete[0]
        raise TokenError(
            f"piece {piece} has {samples[piece, item]} samples in {lengths[piece, item]} frames of {hop}: a piece that others "
            f"follow must end with a whole frame; cut the audio at multiples of {hop}, or decode the pieces one by one"
        )
    total = samples.sum(0)
    if max(total.tolist(), default=0) > torch.iinfo(given.dtype).max:
        raise TokenError(f"{int(total.max())} samples do not fit into num_samples of {given.dtype}; join fewer pieces")
    return total.to(given)


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether dtype, shape and values are the same, wherever they are stored."""
    return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
