"""TokenSpec: what is computed from it, what it refuses, and what specs have in common."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from token_examples import CAPTIONED, GROUPED, SCALES, SPEECH

from tokenizers_zoo import TokenError, TokenSpec
from tokenizers_zoo.spec import MOST
from tokenizers_zoo.together import combined, common


def test_rates_and_bits_are_computed() -> None:
    assert SPEECH.frame_rate == 50
    assert SPEECH.bits_per_position == pytest.approx(10 + 2.321928 + 1)
    assert SPEECH.bits_per_second == pytest.approx(50 * 13.321928)
    image = replace(SPEECH, modality="image", layout="sequence", sample_rate=None, hop=None, positions=32, image_size=64)
    assert image.bits_per_image == pytest.approx(32 * 13.321928)
    assert image.frame_rate is image.bits_per_second is None


def test_defaults_follow_what_is_replaced() -> None:
    assert SPEECH.conditions == ("num_samples",)
    assert replace(SPEECH, modality="image").conditions == ()
    assert SPEECH.decodable == (("semantic",), ("semantic", "acoustic"))
    assert replace(SPEECH, codebook_prefixes=False).decodable == (("semantic", "acoustic"),)
    more = replace(SPEECH, codebook_sizes=[2] * 4, roles=["acoustic"] * 4)
    assert more.codebook_ids == (0, 1, 2, 3)
    assert more.decodable == (("acoustic",),)
    assert replace(SPEECH, roles=("a", "b", "a")).decodable == (("a", "b"),)  # "a" alone is not the first codebooks
    assert replace(CAPTIONED, name="x").conditions == ("text", "height")  # what was said stays


def test_numpy_integers_count() -> None:
    spec = replace(SPEECH, codebook_sizes=np.array([1024, 5, 2]), sample_rate=np.int64(16_000), hop=np.int16(320))
    assert spec == SPEECH
    assert json.loads(json.dumps(spec.to_json())) == spec.to_json()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", None, "text"),
        ("name", "\ud800", "text"),
        ("license", 5, "text"),
        ("modality", "video", "modality must be one of audio, image"),
        ("modality", ["audio"], "modality"),
        ("layout", None, "layout must be one of time, sequence, grid, scales"),
        ("causal", 1, "causal must be one of False, True"),
        ("codebook_sizes", (1024, 1, 2), ">= 2"),
        ("codebook_sizes", (1024, 2**63, 2), "< 9223372036854775808"),
        ("codebook_sizes", (1024, 5.0, 2), "integers"),
        ("codebook_sizes", (1024, True, 2), "integers"),
        ("codebook_sizes", "532", "sequence"),
        ("codebook_sizes", None, "sequence"),
        ("codebook_sizes", 1024, "sequence"),
        ("codebook_sizes", {1024: 1, 5: 1, 2: 1}, "sequence"),
        ("codebook_sizes", (), "needs codebook sizes"),
        ("codebook_sizes", range(2, 10**12), "at most 4096"),
        ("roles", ("semantic",), "as many roles"),
        ("roles", ("semantic", "acoustic", 3), "text"),
        ("roles", ("semantic", "acoustic", ""), "a word for the role"),
        ("roles", "abc", "sequence"),
        ("codebook_ids", (0, 1), "as many roles and ids"),
        ("codebook_ids", (0, 2, 1), "increase"),
        ("codebook_ids", (0, 1, 1), "increase"),
        ("codebook_ids", (-1, 0, 1), "integers >= 0"),
        ("codebook_ids", (0, 1, 10**9), "< 4096"),
        ("sample_rate", 0, "integers >= 1"),
        ("sample_rate", "16000", "integers"),
        ("hop", 320.0, "integers"),
        ("hop", 2**31, "< 2147483648"),
        ("image_size", -1, "integers"),
        ("positions", True, "integers"),
        ("receptive_field", -1, "integers >= 0"),
        ("conditions", "text", "sequence"),
        ("conditions", ("text", "text"), "names of their own"),
        ("conditions", ("codes",), "names of their own, other than codes, spec, lengths"),
        ("conditions", ("",), "names of their own"),
        ("scales", (1, 2), "scales"),
        ("decodable", ("semantic",), "sequence"),
        ("decodable", (("pixel",),), "decodable must list sets of the roles"),
        ("decodable", ((),), "decodable must list sets"),
        ("decodable", [["semantic"], 3], "sequence"),
    ],
)
def test_what_is_no_spec_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        replace(SPEECH, **{field: value})


def test_scales_make_up_the_positions() -> None:
    for wrong in ({"positions": 20}, {"positions": None}, {"layout": "grid"}, {"scales": (1, 2)}, {"scales": (1, -2, 4)}):
        with pytest.raises(TokenError, match="scales"):
            replace(SCALES, **wrong)


def test_prefix_lengths() -> None:
    assert SPEECH.prefix_lengths is None
    assert SPEECH.prefix(7) is SPEECH
    assert tuple(CAPTIONED.prefix_lengths or ()) == tuple(range(1, 33))
    assert SCALES.prefix_lengths == (1, 5, 21)
    assert GROUPED.prefix_lengths == ()
    assert CAPTIONED.prefix(np.int32(16)) == replace(CAPTIONED, positions=16)
    assert CAPTIONED.prefix(16).bits_per_image == 16 * 12
    assert SCALES.prefix(5) == replace(SCALES, positions=5, scales=(1, 2))
    assert SCALES.prefix(5).prefix_lengths == (1, 5)
    for n, nearest in ((6, 5), (2, 1), (15, 21), (22, 21)):
        with pytest.raises(TokenError, match=f"no prefix of {n} positions; the nearest has {nearest}"):
            SCALES.prefix(n)
    for spec in (SPEECH, CAPTIONED, SCALES):
        for wrong in (0, -3, 2.0, True, "3", None):
            with pytest.raises(TokenError, match="at least 1"):
                spec.prefix(wrong)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="needs all positions"):
        GROUPED.prefix(4)


def test_a_selection_says_what_of_it_decodes() -> None:
    assert SPEECH.select([0]).decodable == (("semantic",),)
    assert SPEECH.select([0, 1]).decodable == (("semantic",), ("semantic", "acoustic"))
    assert SPEECH.select([0, 2]).decodable == (("semantic",),)  # the second codebook is missing
    assert SPEECH.select([1, 2]).decodable == ()
    whole = replace(SPEECH, codebook_prefixes=False)
    assert whole.select([0]).decodable == ()  # although it begins at the first codebook
    assert whole.select([0, 1, 2]) == whole
    assert GROUPED.select([2, 3]).decodable == (("pixel",),)
    assert GROUPED.select([2]).decodable == ()
    assert GROUPED.select([2, 3]).codebook_ids == (2, 3)


@pytest.mark.parametrize("spec", [SPEECH, CAPTIONED, GROUPED, SCALES, SPEECH.select([1, 2]), GROUPED.select([2])])
def test_json_round_trip(spec: TokenSpec) -> None:
    data = json.loads(json.dumps(spec.to_json()))
    assert TokenSpec.from_json(data) == spec
    assert TokenSpec.from_json({**data, "x-colour": {"of": "no concern"}}) == spec  # marked as optional


def test_json_leaves_defaults_out() -> None:
    assert not {"conditions", "scales", "decodable", "codebook_ids"} & SPEECH.to_json().keys()
    assert replace(SPEECH, codebook_sizes=[2] * 64, roles=["pixel"] * 64).to_json()["codebook_sizes"] == [[2, 64]]
    assert GROUPED.to_json()["decodable"] == GROUPED.decodable
    told = replace(SPEECH, conditions=["num_samples"], codebook_ids=[0, 1, 2], decodable=SPEECH.decodable)
    assert told.to_json() == SPEECH.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"module": "os"},
        {"codebook_sizes": None},
        {"codebook_sizes": [1024, 5, 2]},
        {"codebook_sizes": [[1024, 1, 1]]},
        {"codebook_sizes": [[1024, -1], [5, 1], [2, 1]]},
        {"codebook_sizes": [[2, 2_000_000_000]], "roles": [["a", 2_000_000_000]]},
        {"codebook_sizes": [[2, MOST + 1]], "roles": [["a", MOST + 1]]},
        {"codebook_sizes": [[2, 10**30]]},
        {"codebook_sizes": [[2, "3"]]},
        {"codebook_sizes": [[2, 1.5]]},
        {"codebook_sizes": [[2, True]]},
        {"codebook_sizes": [[[2], 3]]},
        {"roles": {"semantic": 1}},
        {"roles": [["semantic", 1]] * 10_000},
        {"roles": 5},
        {"hop": [320]},
        {"name": {}},
        {"decodable": 7},
        {"decodable": [[["semantic"]]]},
    ],
)
def test_json_that_is_no_spec_is_refused(change: dict[str, object]) -> None:
    tracemalloc.start()
    with pytest.raises(TokenError, match="not a token spec"):
        TokenSpec.from_json({**SPEECH.to_json(), **change})
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_json_of_another_kind_is_refused() -> None:
    for data in ([], None, "spec", 3, {}, {"name": "x"}, {3: 4}):
        with pytest.raises(TokenError, match="not a token spec"):
            TokenSpec.from_json(data)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match=r"unknown field 'window'.*upgrade"):
        TokenSpec.from_json({**SPEECH.to_json(), "window": 3})


def test_common_compares_what_decides_decoding_only() -> None:
    other = replace(SPEECH, causal=True, receptive_field=3, license="MIT", conditions=("num_samples", "seed"))
    assert common([SPEECH, other]) == replace(SPEECH, conditions=("num_samples", "seed"))
    assert common([other, SPEECH]) == other
    different = {
        "name": "x",
        "modality": "image",
        "layout": "sequence",
        "codebook_sizes": (1024, 5, 3),
        "codebook_ids": (0, 1, 3),
        "sample_rate": 24_000,
        "hop": 160,
        "image_size": 64,
        "positions": 5,
    }
    for field, value in different.items():
        with pytest.raises(TokenError, match=f"cannot combine.*{field}"):
            common([SPEECH, replace(SPEECH, **{field: value})])


def test_weights_that_are_unknown_go_with_any() -> None:
    a, b = replace(SPEECH, weights="aaaa"), replace(SPEECH, weights="bbbb")
    assert common([a, a]).weights == "aaaa"
    assert common([a, SPEECH]).weights == common([SPEECH, a]).weights == ""
    with pytest.raises(TokenError, match="different weights of codec: aaaa and bbbb"):
        common([a, SPEECH, b])


def test_ordered_tokens_of_several_lengths_go_together() -> None:
    assert common([CAPTIONED.prefix(8), CAPTIONED, CAPTIONED.prefix(16)]) == CAPTIONED
    assert common([SCALES.prefix(5), SCALES, SCALES.prefix(1)]) == SCALES
    for a, b in ((GROUPED, replace(GROUPED, positions=8)), (SCALES, replace(SCALES, positions=10, scales=(1, 3)))):
        with pytest.raises(TokenError, match="positions"):
            common([a, b])


@pytest.mark.parametrize("spec", [SPEECH, GROUPED, replace(SPEECH, codebook_prefixes=False), replace(GROUPED, decodable=())])
def test_combined_is_the_reverse_of_select(spec: TokenSpec) -> None:
    first, last = spec.select([0, 1]), spec.select(range(2, len(spec.roles)))
    assert combined([last, first]).codebook_ids == spec.codebook_ids
    assert combined([last, first]).roles == spec.roles
    if spec.decodable:
        assert combined([first, last]) == spec
    with pytest.raises(TokenError, match="different codebooks"):
        combined([first, first])
    with pytest.raises(TokenError, match=r"cannot combine.*name"):
        combined([first, replace(last, name="x")])
