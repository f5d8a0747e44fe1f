"""Files that are put together from anything, with the right checksum: valid tokens or one error."""

import resource
from copy import deepcopy
from typing import Any

import pytest
import torch
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from token_examples import GROUPED, SCALES, captioned, images, speech
from token_files import BYTES, Stored, checksummed, integers, opened, sealed

from tokenizers_zoo import TokenError, Tokens

VERSION_1 = sorted(DATA.glob("version1_*.tok"))

JUNK: list[Any] = [None, True, -1, 0, 1, 2, 7, 3.5, 2**31, 2**63, 10**30, "", "x", "x-y", "text", "codes", "time", "audio"]
JUNK += [
    [],
    {},
    [[]],
    [[2, 2_000_000_000]],
    [[2, 4096]],
    [["a", 3]],
    ["num_samples"],
    [["pixel"]],
    {"a": [{}]},
    "\ud800",
    "0" * 300,
]
BASES = [path.read_bytes() for path in VERSION_1]
BASES += [tokens.to_bytes() for tokens in (captioned(), images(GROUPED), images(SCALES), speech((0,)), speech((3, 2))[:0])]


def mutate(draw: st.DrawFn, header: Any, tensors: Stored) -> Any:
    """Changes one thing of a file; returns the header."""
    what = draw(st.sampled_from(["set", "drop", "junk", "content", "shape", "dtype", "remove", "add", "rename"]))
    names = sorted(tensors)
    if what in ("set", "drop", "junk") or not names:
        if not isinstance(header, dict):
            return deepcopy(draw(st.sampled_from(JUNK)))
        inside = header["spec"] if isinstance(header.get("spec"), dict) and draw(st.booleans()) else header
        fields = sorted({*inside, "conditions", "scales", "decodable", "codebook_ids", "positions", "x-y", "y"})
        name = draw(st.sampled_from(fields))
        if what == "drop":
            inside.pop(name, None)
        else:
            inside[name] = deepcopy(draw(st.sampled_from(JUNK)))
        return header
    name = draw(st.sampled_from(names))
    kind, shape, content = tensors[name]
    if what == "content":
        content = draw(st.binary(min_size=len(content), max_size=len(content)))
    elif what == "shape":
        shape = draw(st.sampled_from([[], [0], [*shape, 1], [*shape, 0], [0, 2**62], [2**31, 0], [*shape[:-1], 3]]))
    elif what == "dtype":
        kind = draw(st.sampled_from(sorted(BYTES)))
    count = draw(st.integers(0, 6)) if what == "add" else None
    if count is not None:
        name = draw(st.sampled_from(["condition.num_samples", "condition.text", "condition.x", "x-y", "y", "text", "text_ends"]))
        kind, shape, content = draw(st.sampled_from([integers(*range(count)), ("U8", [count], b"a" * count)]))
    elif what == "rename":
        del tensors[name]
        name = draw(st.sampled_from(["codes", "lengths", "text", "text_ends", "condition.seed", "condition.", "x-", "\u00e9"]))
    elif what in ("shape", "dtype") and draw(st.booleans()):  # else the size is wrong for safetensors already
        size = BYTES.get(kind, 1)
        for side in shape:
            size *= side
        content = (content + bytes(64))[: min(size, 1 << 16)]
    tensors[name] = (kind, shape, content)
    if what == "remove":
        del tensors[name]
    return header


@st.composite
def crafted(draw: st.DrawFn) -> bytes:
    header, tensors = opened(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        header = mutate(draw, header, tensors)
    data = sealed(header, tensors)
    if draw(st.integers(0, 4)) == 0:  # and bytes, with the checksum made right again
        damaged = bytearray(data)
        for index, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
            damaged[index] = byte
        data = checksummed(bytes(damaged))
    return data


def is_valid_or_refused(data: bytes) -> None:
    try:
        tokens = Tokens.from_bytes(data)
    except TokenError:
        return
    assert all(len(item) == 1 for item in tokens)
    assert torch.isfinite(tokens.bits).all()
    again = Tokens.from_bytes(tokens.to_bytes())
    assert again.spec == tokens.spec
    assert torch.equal(again.codes, tokens.codes)


@settings(max_examples=300, deadline=None)
@given(crafted())
def test_no_crafted_file_does_harm(data: bytes) -> None:
    is_valid_or_refused(data)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=5000)
@given(crafted())
def test_no_crafted_file_of_many_does_harm(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    is_valid_or_refused(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024  # KiB
