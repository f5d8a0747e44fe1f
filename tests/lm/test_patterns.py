"""Every pattern of every layout that it names: exact there and back, whole or cut."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_examples import ALPHABETS, SPECS, built, cases, ragged, tokens
from token_examples import SPEECH

from tokenizers_zoo import TokenError
from tokenizers_zoo.lm import Alphabet
from tokenizers_zoo.lm.patterns import (
    CoarseFirst,
    Delay,
    Flatten,
    Nested,
    Parallel,
    Rows,
    Scales,
    SemanticFirst,
    from_json,
    to_json,
)
from tokenizers_zoo.quantizers import FSQ

CASES = cases()


def test_cases_are_many() -> None:
    assert len(CASES) > 50
    assert {maker for maker, _, _ in CASES} == {
        *("flatten", "delay", "delays", "moshi", "parallel", "coarse", "semantic", "rows", "wide", "scales", "nested")
    }


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_there_and_back(data: st.DataObject) -> None:
    pattern = built(*data.draw(st.sampled_from(CASES)))
    given_tokens = data.draw(ragged(pattern.spec))
    ids, mask, positions = pattern.apply(given_tokens)
    back = pattern.invert(ids, given_tokens.text, **given_tokens.conditions)
    longest = max(given_tokens.lengths.tolist(), default=0)
    if not isinstance(pattern, Nested):  # whose items end on a prefix
        assert torch.equal(back.codes, given_tokens.codes[..., :longest])
        assert torch.equal(back.lengths, given_tokens.lengths)
        assert all(torch.equal(back.conditions[k], v) for k, v in given_tokens.conditions.items())
    flat, inside, where = ids.flatten(1), mask.flatten(1), positions.flatten(1)
    assert torch.equal(flat == pattern.end, ~inside)
    assert torch.equal((where >= 0).sum(1), given_tokens.lengths * pattern.lanes)
    assert torch.equal(where >= 0, flat < pattern.mark)
    assert ids.ndim == 2 + pattern.stepwise


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_cut_anywhere(data: st.DataObject) -> None:
    """What is whole before the cut is exact; whatever is not is dropped and counted."""
    pattern = built(*data.draw(st.sampled_from(CASES)))
    whole = tokens(pattern.spec, [data.draw(st.integers(1, pattern.spec.positions or 9))])
    ids, _, positions = (part.flatten(1) for part in pattern.apply(whole))
    cut = data.draw(st.integers(0, ids.shape[1]))
    there = [int((positions[0, :cut] == t).sum()) for t in range(int(whole.lengths[0]))]
    complete = sum(count == pattern.lanes for count in there)
    kept, dropped = pattern.frames(ids[:, :cut])
    assert int(kept[0]) == int(pattern.kept(torch.tensor([complete]))[0])
    assert int(dropped[0]) == sum(map(bool, there)) - int(kept[0])
    back = pattern.invert(ids[:, :cut])
    assert torch.equal(back.codes[0], whole.codes[0, :, : int(kept[0])])


@pytest.mark.parametrize("case", [case for case in CASES if case[2] == "plain" and case[0] != "nested"], ids=" ".join)
def test_a_mark_or_an_end_too_early_loses_what_follows_or_is_refused(case: tuple[str, str, str]) -> None:
    """It never passes as an item of as many positions."""
    pattern = built(*case)
    ids = pattern.apply(tokens(pattern.spec, [pattern.spec.positions or 5])).ids.flatten(1)
    for place in range(ids.shape[1]):
        for wrong in {pattern.mark, pattern.end} - {int(ids[0, place])}:
            changed = ids.clone()
            changed[0, place] = wrong
            with contextlib.suppress(TokenError):
                assert torch.equal(pattern.invert(changed).codes[0], pattern.invert(ids[:, :place]).codes[0])


def test_the_pictures() -> None:
    codes = torch.tensor([[[10, 11, 12], [0, 1, 2], [0, 1, 1]]])
    clip = tokens(SPEECH, [3])
    clip.codes = codes
    a, b, c, m = codes[0, 0], codes[0, 1] + 1024, codes[0, 2] + 1029, 1031
    flat = Flatten(SPEECH).apply(clip)
    assert flat.ids.tolist() == [[a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2]]]
    assert flat.positions.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    assert Delay(SPEECH).apply(clip).ids[0].T.tolist() == [[*a, m, m], [m, *b, m], [m, m, *c]]
    assert Delay(SPEECH, [2, 0, 1]).apply(clip).ids[0].T.tolist() == [[m, m, *a], [*b, m, m], [m, *c, m]]
    assert Parallel(SPEECH).apply(clip).ids[0].T.tolist() == [[*a], [*b], [*c]]
    assert CoarseFirst(SPEECH).apply(clip).ids.tolist() == [[*a, m, *b, m, *c]]
    assert SemanticFirst(SPEECH).apply(clip).ids.tolist() == [[*a, m, b[0], c[0], b[1], c[1], b[2], c[2]]]
    square = SPECS["square"]
    assert (Rows(square).apply(tokens(square, [9])).ids[0] == 53).nonzero().flatten().tolist() == [6, 13, 20]
    scales = SPECS["scales"]
    assert (Scales(scales).apply(tokens(scales, [21])).ids[0] == 64).nonzero().flatten().tolist() == [1, 6, 23]


def test_shared_ids_are_those_of_music_models() -> None:
    """One table for all codebooks, its pad just above: codes themselves, delayed."""
    spec = SPECS["two semantic"]
    clip = tokens(spec, [4])
    ids = Delay(Alphabet(spec, shared=True)).apply(clip).ids[0].T
    assert torch.equal(torch.stack([row[i : i + 4] for i, row in enumerate(ids)]), clip.codes[0])
    assert int(ids.max()) == 9


@pytest.mark.parametrize(
    ("maker", "spec", "why"),
    [
        (Delay, "grid", "layout is 'grid'"),
        (Rows, "speech", "layout is 'time'"),
        (Scales, "fsq", "layout is 'sequence'"),
        (CoarseFirst, "scales", "layout is 'scales'"),
        (Nested, "bits", "prefixes do not decode"),
        (SemanticFirst, "one", "Flatten does the same"),
        (lambda s: Rows(s, 4), "square", "do not fill"),
        (lambda s: Delay(s, [0, 1]), "speech", "needs 3 delays"),
        (lambda s: Delay(s, [0, 1, -1]), "speech", "needs 3 delays"),
    ],
)
def test_others_are_refused(maker: type, spec: str, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        maker(SPECS[spec])


def test_tokens_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(TokenError, match="cannot combine tokens of"):
        Flatten(SPECS["two semantic"]).apply(tokens(SPEECH, [3]))


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([[0, 1024, 0]], "id 2 of item 0 must be of lane 2 .1029..1030., got 0"),
        ([[0, 1024, 1031]], "must be of lane 2"),
        ([[-1]], "must be of lane 0"),
        ([0, 1024], "integers .items, ids."),
        ([[0.5]], "integers .items, ids."),
    ],
)
def test_illegal_ids_are_refused(ids: list, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        Flatten(SPEECH).invert(torch.tensor(ids))


def test_more_positions_than_the_image_has_are_refused() -> None:
    with pytest.raises(TokenError, match="goes on at id 16"):
        Flatten(SPECS["fsq"]).invert(torch.zeros(1, 17, dtype=torch.int64))


def test_samples_are_those_of_the_frames_unless_they_travel_beside() -> None:
    clip = tokens(SPEECH, [5, 3])
    ids = Flatten(SPEECH).apply(clip).ids
    assert Flatten(SPEECH).invert(ids).conditions["num_samples"].tolist() == [1600, 960]
    assert Flatten(SPEECH).invert(ids, **clip.conditions) == clip
    cut = Flatten(SPEECH).invert(ids[:, :7], **clip.conditions)
    assert cut.conditions["num_samples"].tolist() == [640, 640]


def test_nested_prefixes_are_those_of_the_tokens() -> None:
    for spec in (SPECS["fsq"], SPECS["scales"]):
        pattern, whole = Nested(spec), tokens(spec, [spec.positions or 0] * 50)
        drawn = pattern.draw(whole, torch.Generator().manual_seed(0))
        assert set(drawn.lengths.tolist()) <= set(pattern.lengths)
        assert len(set(drawn.lengths.tolist())) > 2
        back = pattern.invert(pattern.apply(drawn).ids)
        assert back == drawn
        item, kept = drawn[0], int(drawn.lengths[0])
        assert torch.equal(item.codes, whole[0].prefix(kept).codes)


def test_a_cut_scale_falls_back_to_the_last_whole_one() -> None:
    pattern = Nested(SPECS["scales"])
    ids = pattern.apply(tokens(SPECS["scales"], [21])).ids[:, :12]
    assert (pattern.invert(ids).lengths.tolist(), pattern.frames(ids).dropped.tolist()) == ([5], [7])


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_as_plain_data_and_back(case: tuple[str, str, str]) -> None:
    pattern = built(*case)
    again = from_json(to_json(pattern))
    assert (type(again), to_json(again)) == (type(pattern), to_json(pattern))


def test_no_other_pattern_is_opened() -> None:
    data = to_json(Flatten(SPEECH)) | {"pattern": "Spiral"}
    with pytest.raises(TokenError, match="no pattern 'Spiral'"):
        from_json(data)


def test_lanes_of_an_alphabet() -> None:
    bits = Alphabet(SPECS["bits"], most=1 << 8)
    assert bits.sizes == (256, 256, 16)
    assert Alphabet(SPECS["speech"], most=1 << 11).sizes == (1024, 10)  # roles are kept apart
    digits = Alphabet(SPECS["fsq"], digits=(5, 4, 3))
    assert (digits.sizes, digits.size, digits.offsets) == ((5, 4, 3), 12, (0, 5, 9))
    code = torch.tensor([[[1 + 5 * 2 + 20 * 1]]])
    assert digits.words(code).flatten().tolist() == [1, 2, 1]


def test_digits_are_those_of_finite_scalar_quantization() -> None:
    """The digit of a dimension is the place of its value among the levels."""
    codes = torch.arange(60)[None, None]
    values = FSQ([5, 4, 3]).decode(codes)[0].T
    places = torch.stack([row.unique(return_inverse=True)[1] for row in values])
    assert torch.equal(Alphabet(SPECS["fsq"], digits=(5, 4, 3)).words(codes)[0], places)


@pytest.mark.parametrize(
    "how",
    [{"digits": d} for d in ((5, 5), (-5, -12), (60, 1))] + [{"most": 1}, {"most": 64, "digits": (5, 4, 3)}],
)
def test_alphabets_that_cannot_be(how: dict) -> None:
    with pytest.raises(TokenError):
        Alphabet(SPECS["fsq"], **how)


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_words_and_codes(alphabet: str) -> None:
    for spec in SPECS.values():
        own, batch = ALPHABETS[alphabet](spec), tokens(spec, [4, 0, 2])
        words = own.words(batch.codes)
        assert torch.equal(own.codes(words), batch.codes)
        assert words.shape[1] == len(own.sizes)
        assert all(int(words[:, i].max()) < size for i, size in enumerate(own.sizes))
