"""Tokens: what they take and refuse, how they are indexed, cut and put together."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from token_examples import CAPTIONED, GROUPED, SCALES, SPEECH, images, random_codes, speech

from tokenizers_zoo import TokenError, Tokens
from tokenizers_zoo.tokens import PAD, TokenSpec

ZEROS = torch.zeros(1, 3, 4, dtype=torch.int64)


def captioned(*text: str, positions: int = 32, **given: object) -> Tokens:
    return images(CAPTIONED.prefix(positions), len(text), text=text, **given)


def test_items_are_trimmed() -> None:
    batch = speech()
    assert len(batch) == 3
    assert batch[1].codes.shape == (1, 3, 3)
    assert batch[1].conditions["num_samples"].tolist() == [955]
    assert batch[[2, 1]].lengths.tolist() == [20, 3]
    assert batch[1:].codes.shape == (2, 3, 20)
    assert [len(item) for item in batch] == [1, 1, 1]
    assert batch[-1] == batch[2]


def test_items_are_chosen_as_in_numpy() -> None:
    batch = speech()
    for one in (np.int64(1), np.int8(-2), [1], np.array([1]), torch.tensor([1]), torch.tensor(1), [False, True, False]):
        assert batch[one] == batch[1:2] == batch[1]
    assert batch[torch.tensor([True, False, True])] == batch[[0, 2]] == batch[::2]
    assert batch[::-1] == batch[[2, 1, 0]]
    assert batch[[]].codes.shape == batch[3:].codes.shape == (0, 3, 0)
    assert list(batch[[]]) == []
    assert captioned("a", "b", "")[[2, 0]].text == ("", "a")
    assert captioned("a", "")[1].text is None
    for wrong in (3, -4, np.int64(3), [0, 3], [True, False], 1.0, "a", None, (0, 1), True):
        with pytest.raises(IndexError):
            batch[wrong]  # type: ignore[index]
    with pytest.raises(IndexError):
        batch[[]][0]


def test_integers_of_any_kind_are_codes_and_lengths() -> None:
    batch = speech((4, 2))
    same = partial(Tokens, spec=SPEECH, num_samples=batch.conditions["num_samples"])
    read_only = batch.codes.numpy().astype(">i4")
    read_only.flags.writeable = False
    for codes in (batch.codes.int(), batch.codes.short(), batch.codes.numpy(), read_only, batch.codes.numpy()[::-1][::-1]):
        assert same(codes, lengths=batch.lengths) == batch
    for lengths in ([4, 2], (4, 2), np.array([4, 2], np.uint8), torch.tensor([4, 2], dtype=torch.int16), [np.int64(4), 2]):
        assert same(batch.codes, lengths=lengths) == batch
    assert Tokens(ZEROS[:0], SPEECH, []).lengths.tolist() == []
    assert Tokens(np.zeros((0, 3, 4), np.uint16), SPEECH).codes.dtype == torch.int64


def test_arrays_of_tokens_are_their_codes() -> None:
    batch = speech()
    assert np.array_equal(np.asarray(batch), batch.codes.numpy())
    assert np.asarray(batch).dtype == np.int64
    assert np.asarray(batch, dtype=np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(batch), batch.codes.numpy())
    assert np.shares_memory(np.array(batch, copy=False), batch.codes.numpy())


@pytest.mark.parametrize(
    ("codes", "lengths", "message"),
    [
        (torch.zeros(1, 3, 4), None, "int64"),
        (torch.zeros(1, 3, 4, dtype=torch.bool), None, r"int64.*\.long\(\)"),
        (np.zeros((1, 3, 4)), None, "int64"),
        (np.array([[["1"] * 4] * 3]), None, "int64"),
        ([[[1, 2], [3]]], None, "int64"),
        (None, None, "int64"),
        ("codes", None, "int64"),
        (torch.zeros(3, 4, dtype=torch.int64), None, "int64"),
        (torch.zeros(1, 2, 4, dtype=torch.int64), None, "3 codebooks"),
        (torch.full((1, 3, 4), 2), None, r"\[0, size\)"),
        (torch.full((1, 3, 4), -1), None, r"\[0, size\)"),
        (np.full((1, 3, 4), 2**64 - 1, np.uint64), None, r"\[0, size\)"),
        (ZEROS, torch.tensor([3]), "hold -1"),
        (ZEROS, torch.tensor([5]), r"0\.\.4"),
        (ZEROS, [-1], r"0\.\.4"),
        (ZEROS, [2**70], "int64"),
        (ZEROS, torch.tensor([1, 2]), "one entry"),
        (ZEROS, 4, "one entry"),
        (ZEROS, [[4]], "one entry"),
        (ZEROS, torch.tensor([4.0]), "lengths must be int64"),
        (ZEROS, [4.0], "lengths must be int64"),
        (ZEROS, [True], "lengths must be int64"),
        (ZEROS, ["4"], "lengths must be int64"),
    ],
)
def test_wrong_codes_are_refused(codes: object, lengths: object, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        Tokens(codes, SPEECH, lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([1, 2]), r"one entry an item \(1\)"),
        (torch.tensor(3), "one entry an item.*repeat"),
        (5, r"must be a tensor, got int; torch\.tensor"),
        (np.array([3]), r"must be a tensor, got ndarray; torch\.tensor"),
        ("a cat", "must be a tensor"),
        (None, "must be a tensor"),
        (torch.zeros(1).to_sparse(), "dense tensor"),
        (torch.zeros(1, dtype=torch.complex128), "common dtype"),
    ],
)
def test_wrong_conditions_are_refused(value: object, message: str) -> None:
    with pytest.raises(TokenError, match=f"condition 'seed'.*{message}"):
        Tokens(ZEROS, replace(SPEECH, conditions=["seed"]), seed=value)  # type: ignore[arg-type]


def test_conditions_are_those_that_the_tokenizer_knows() -> None:
    with pytest.raises(TokenError, match=r"codec has no condition 'seed' \(it knows: num_samples\)"):
        Tokens(ZEROS, SPEECH, seed=torch.zeros(1))
    with pytest.raises(TokenError, match=r"grouped has no condition 'text' \(it knows: none\)"):
        images(GROUPED, text=["a", "b"])
    assert images(GROUPED, text=["", ""]).text is None  # nothing is said
    with pytest.raises(TokenError, match="spec must be a TokenSpec"):
        Tokens(ZEROS, SPEECH.to_json())  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [[-1], [1.5], [[3]], [True]])
def test_num_samples_counts_samples(samples: list[object]) -> None:
    with pytest.raises(TokenError, match=r"num_samples.*integers >= 0"):
        Tokens(ZEROS, SPEECH, num_samples=torch.tensor(samples))


def test_text_is_one_string_an_item() -> None:
    assert captioned("a cat", "").text == ("a cat", "")
    assert captioned("", "").text is None
    assert captioned("a cat", "").text != captioned("", "a cat").text
    assert type(images(CAPTIONED, text=np.array(["a", "b"])).text[0]) is str
    for wrong in ("ab", ["a"], ["a", None], ["a", b"b"], 5, ["a", "b", "c"], [1, 2]):
        with pytest.raises(TokenError, match=r"one string an item \(2\)"):
            images(CAPTIONED, text=wrong)
    with pytest.raises(TokenError, match="valid Unicode"):
        images(CAPTIONED, text=["\ud83d", "b"])


def test_bits_count_what_travels() -> None:
    assert speech((10,)).code_bits.tolist() == pytest.approx([133.21928])
    assert speech((10,)).bits.tolist() == pytest.approx([133.21928 + 32])  # num_samples is side information: 32 bits
    said = captioned("a cat", "", "Kätzchen", height=torch.zeros(3, 2, dtype=torch.int16))
    assert said.code_bits.tolist() == [32 * 12] * 3
    assert said.bits.tolist() == [32 * 12 + 32 + 8 * n for n in (5, 0, 9)]
    assert said[[]].bits.tolist() == speech(())[[]].bits.tolist() == []


def test_equality_sees_every_part() -> None:
    a = speech((4,))
    assert a == Tokens(a.codes.clone(), SPEECH, a.lengths, **a.conditions)
    assert a == a.to("cpu")
    assert a != Tokens(a.codes, SPEECH, a.lengths)
    assert a != Tokens(a.codes, replace(SPEECH, license="MIT"), a.lengths, **a.conditions)
    assert a != Tokens(a.codes, SPEECH, a.lengths, num_samples=a.conditions["num_samples"].long())
    changed = a.codes.clone()
    changed[0, 2, 1] = 1 - changed[0, 2, 1]
    assert a != Tokens(changed, SPEECH, a.lengths, **a.conditions)
    assert a != "tokens"
    said = captioned("a")
    assert said == Tokens(said.codes, CAPTIONED, text=["a"])
    assert said != Tokens(said.codes, CAPTIONED, text=["b"])
    assert said != Tokens(said.codes, CAPTIONED)
    assert said.to("cpu").text == ("a",)


def test_prefix_cuts_codes_lengths_and_samples() -> None:
    short = speech().prefix(10)
    assert short.lengths.tolist() == [10, 3, 10]
    assert short.conditions["num_samples"].tolist() == [3200, 955, 3200]
    assert short.conditions["num_samples"].dtype == torch.int32
    assert speech().prefix(np.int64(10)).codes.shape == (3, 3, 10)
    assert speech((2,), missing=0).prefix(2**40).conditions["num_samples"].tolist() == [640]
    for wrong in (0, -1, True, 2.0, np.float32(2)):
        with pytest.raises(TokenError, match="at least 1"):
            speech().prefix(wrong)
    with pytest.raises(TokenError, match="prefix"):
        speech(spec=replace(SPEECH, position_prefixes=False)).prefix(3)


def test_prefix_of_an_image_has_a_spec_of_its_own() -> None:
    few = captioned("a cat", "").prefix(8)
    assert few.spec == replace(CAPTIONED, positions=8)
    assert few.spec.bits_per_image == float(few.code_bits[0]) == 96
    assert few.text == ("a cat", "")
    assert images(SCALES).prefix(5).spec.scales == (1, 2)
    for tokens, wrong, nearest in ((few, 16, 8), (images(SCALES), 6, 5), (images(SCALES), 22, 21)):
        with pytest.raises(TokenError, match=f"nearest has {nearest}"):
            tokens.prefix(wrong)


def test_codebooks_by_number_and_role() -> None:
    assert speech().codebooks(2).spec.codebook_sizes == (1024, 5)
    batch = speech()
    assert batch.codebooks(np.int64(3)) == batch
    acoustic = batch.codebooks("acoustic")
    assert acoustic.spec.codebook_ids == (1, 2)
    assert acoustic.codes.shape[1] == 2
    assert acoustic.spec.decodable == ()
    for wrong in (0, 4, "pixel", True, 2.0, None):
        with pytest.raises(TokenError, match="3 codebooks"):
            speech().codebooks(wrong)  # type: ignore[arg-type]


def test_combine_is_the_reverse_of_codebooks() -> None:
    batch = speech()
    semantic, acoustic = batch.codebooks("semantic"), batch.codebooks("acoustic")
    assert Tokens.combine([semantic, acoustic]) == Tokens.combine([acoustic, semantic]) == batch
    predicted = Tokens(acoustic.codes, acoustic.spec, acoustic.lengths)  # a language model knows no num_samples
    assert Tokens.combine([semantic, predicted]) == batch
    wide = Tokens(torch.nn.functional.pad(semantic.codes, (0, 5), value=PAD), semantic.spec, batch.lengths)
    assert Tokens.combine([wide, acoustic]).codes.shape == (3, 3, 55)
    pairs = images(GROUPED)
    assert Tokens.combine([pairs.codebooks("pixel"), pairs.codebooks("semantic")]) == pairs


def test_what_does_not_belong_together_is_not_combined() -> None:
    batch, other = speech(), speech((50, 3, 21))
    semantic, acoustic = batch.codebooks("semantic"), batch.codebooks("acoustic")
    changed = Tokens(acoustic.codes, acoustic.spec, acoustic.lengths, num_samples=torch.tensor([1, 2, 3], dtype=torch.int32))
    renamed = Tokens(acoustic.codes, replace(acoustic.spec, name="other"), acoustic.lengths)
    foreign = Tokens(acoustic.codes, replace(acoustic.spec, weights="b"), acoustic.lengths)
    mine = Tokens(semantic.codes, replace(semantic.spec, weights="a"), semantic.lengths)
    for parts, message in (
        ([semantic, other.codebooks("acoustic")], "equal lengths"),
        ([semantic, acoustic[0]], "equal lengths"),
        ([semantic, batch], "different codebooks"),
        ([semantic, changed], "different values of condition 'num_samples'"),
        ([semantic, renamed], "cannot combine"),
        ([mine, foreign], "different weights"),
        ([], "nothing to combine"),
        ([semantic, None], "only Tokens"),
        (batch, "list of Tokens"),
    ):
        with pytest.raises(TokenError, match=message):
            Tokens.combine(parts)  # type: ignore[arg-type]


def test_cat() -> None:
    batch = speech()
    assert Tokens.cat(list(batch)) == batch
    assert Tokens.cat([batch[:0], batch, batch[3:]]) == batch
    newer = replace(SPEECH, receptive_field=9, causal=True, license="MIT")
    both = Tokens.cat([batch, Tokens(batch.codes, newer, batch.lengths, **batch.conditions)])
    assert (len(both), both.spec) == (6, SPEECH)
    with pytest.raises(TokenError, match="cannot combine"):
        Tokens.cat([batch, speech(spec=replace(SPEECH, name="other"))])
    with pytest.raises(TokenError, match="nothing"):
        Tokens.cat([])


def test_cat_of_captions_and_prefixes() -> None:
    assert Tokens.cat([captioned("a"), captioned("", ""), captioned("b")]).text == ("a", "", "", "b")
    assert Tokens.cat([captioned(""), captioned("")]).text is None
    ordered = Tokens.cat([captioned("a", positions=4), captioned("b", positions=16)])
    assert ordered.spec == replace(CAPTIONED, positions=16)
    assert ordered.lengths.tolist() == [4, 16]
    assert Tokens.cat([images(SCALES).prefix(5), images(SCALES)]).spec == SCALES


def test_cat_of_unlike_conditions_is_refused() -> None:
    def with_height(value: torch.Tensor) -> Tokens:
        return captioned("a", height=value)

    first = with_height(torch.zeros(1, 4))
    for other, message in (
        (with_height(torch.zeros(1, 5)), r"'height' is torch.float32 \(4,\) an item in one and torch.float32 \(5,\)"),
        (with_height(torch.zeros(1)), "condition 'height'"),
        (with_height(torch.zeros(1, 4, dtype=torch.int32)), "condition 'height'.*int32"),
        (captioned("a"), "condition 'height'.*missing"),
    ):
        for pair in ([first, other], [other, first]):
            with pytest.raises(TokenError, match="condition 'height'" if pair[0] is other else message):
                Tokens.cat(pair)


def test_join_continues_each_stream() -> None:
    first, second, third = speech((4, 0, 7), missing=0), speech((0, 2, 5), missing=0), speech((6, 3, 0), missing=0)
    last = Tokens(third.codes, SPEECH, third.lengths, num_samples=torch.tensor([1915, 700, 0], dtype=torch.int32))
    joined = Tokens.join([first, second, last])
    assert joined.lengths.tolist() == [10, 5, 12]
    for item in range(3):
        pieces = [t[item].codes for t in (first, second, last)]
        assert torch.equal(joined[item].codes, torch.cat(pieces, dim=-1))
    assert joined.conditions["num_samples"].tolist() == [4 * 320 + 1915, 2 * 320 + 700, 12 * 320]
    assert joined.conditions["num_samples"].dtype == torch.int32
    assert joined.bits.tolist() == pytest.approx([n * SPEECH.bits_per_position + 32 for n in (10, 5, 12)])
    whole = speech((50,))
    assert Tokens.join([whole]) == whole
    assert Tokens.join([speech((0,)), whole, speech((0,))]) == whole
    assert Tokens.join([Tokens(t.codes, SPEECH, t.lengths) for t in (first, second)]).conditions == {}
    unknown = replace(SPEECH, hop=None)  # nobody can tell which frames are whole
    pieces = [Tokens(t.codes, unknown, t.lengths, **t.conditions) for t in (last, first)]
    assert Tokens.join(pieces).conditions["num_samples"].tolist() == [1915 + 1280, 700, 2240]
    assert len(Tokens.join([first[:0], second[:0]])) == 0


def test_join_loses_no_samples() -> None:
    """2,560 samples of 320-sample frames in two clips of 1,000 and 1,560: the zeros in the first's last frame are no speech."""
    pieces = [speech((4,), missing=280), speech((5,), missing=40)]
    with pytest.raises(TokenError, match=r"piece 0 has 1000 samples in 4 frames of 320.*whole frame"):
        Tokens.join(pieces)
    with pytest.raises(TokenError, match="piece 0"):
        Tokens.join([*pieces[:1], speech((0,)), *pieces[1:]])
    assert Tokens.join([*pieces[:1], speech((0,))]) == pieces[0]
    late = Tokens(torch.empty(1, 3, 0, dtype=torch.int64), SPEECH, num_samples=torch.tensor([5], dtype=torch.int32))
    with pytest.raises(TokenError, match="piece 1 has 5 samples in 0 frames"):
        Tokens.join([speech((4,)), late])


def test_what_does_not_continue_is_not_joined() -> None:
    whole = speech((4,), missing=0)
    most = Tokens(whole.codes, replace(SPEECH, hop=2**30), num_samples=torch.tensor([2**31 - 1], dtype=torch.int32))
    silent = Tokens(whole.codes, SPEECH)
    wide = Tokens(whole.codes, SPEECH, num_samples=torch.tensor([1280]))
    first = Tokens(whole.codes[..., :1], most.spec, num_samples=torch.tensor([2**30], dtype=torch.int32))
    for pieces, message in (
        ([speech(), whole], "equally many streams"),
        ([images(GROUPED), images(GROUPED)], "time layout"),
        ([whole, silent], "'num_samples' is missing and torch.int32"),
        ([wide, whole], "'num_samples' is torch.int32 .* and torch.int64"),
        ([first, most], "3221225471 samples do not fit.*int32"),
        ([whole, speech((4,), replace(SPEECH, hop=160))], "cannot combine.*hop"),
        ([], "nothing"),
    ):
        with pytest.raises(TokenError, match=message):
            Tokens.join(pieces)


def test_join_keeps_text_and_conditions_that_agree() -> None:
    spec = replace(SPEECH, conditions=("num_samples", "text", "voice"))

    def piece(*text: str, voice: float = 1.0) -> Tokens:
        codes = random_codes(spec, (4,) * len(text))
        return Tokens(codes, spec, text=text, voice=torch.full((len(text), 2), voice))

    joined = Tokens.join([piece("hello", ""), piece("", "you"), piece("hello", "")])
    assert joined.text == ("hello", "you")
    assert torch.equal(joined.conditions["voice"], torch.ones(2, 2))
    with pytest.raises(TokenError, match="different texts, 'a' and 'b'"):
        Tokens.join([piece("a"), piece("b")])
    with pytest.raises(TokenError, match="different values of condition 'voice'"):
        Tokens.join([piece("a"), piece("a", voice=2.0)])


def test_a_spec_can_be_had_from_where_it_was() -> None:
    assert TokenSpec is type(SPEECH)
