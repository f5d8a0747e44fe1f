"""Ids of several codes in a vocabulary: the same tokens back, nothing written that does not decode."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_examples import SPECS, built, ragged, tokens
from token_examples import SPEECH

from tokenizers_zoo import TokenError, Tokens
from tokenizers_zoo.lm import AcousticBPE, Flatten, Grammar, Vocabulary

pytest.importorskip("tokenizers")
TEXT = 20
CASES = [
    ("flatten", "two semantic", "plain"),
    ("flatten", "two semantic", "shared"),
    ("flatten", "bits", "grouped"),
    ("delays", "two semantic", "plain"),
    ("coarse", "two semantic", "plain"),
    ("semantic", "two semantic", "plain"),
    ("nested", "fsq", "digits"),
    ("rows", "square", "plain"),
]


@cache
def pairs(case: tuple[str, str, str], count: int = 60) -> AcousticBPE:
    """Of a few items that are said again and again in other order, so that there are pairs of many lengths."""
    torch.manual_seed(1)
    pattern = built(*case)
    items = list(tokens(pattern.spec, [pattern.spec.positions or 9] * 6))
    return AcousticBPE.train([items[i % len(items)] for i in range(20)], pattern, pattern.end + count)


def vocabulary(case: tuple[str, str, str]) -> Vocabulary:
    return Vocabulary(TEXT, {"other": SPEECH.select([1, 2]), "own": pairs(case)})


@pytest.mark.parametrize("case", CASES, ids=" ".join)
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_there_and_back(case: tuple[str, str, str], data: st.DataObject) -> None:
    v, pattern = vocabulary(case), pairs(case).pattern
    for item in data.draw(ragged(pattern.spec)):
        ids, labels = v.sequence([[1], item, [2]])
        item = pattern.invert(pattern.apply(item).ids, **item.conditions)  # a prefix of ordered tokens is one to its spec
        assert 0 <= int(ids.min()) <= int(ids.max()) < v.size
        assert v.split(ids, [item.conditions]) == [[1], item, [2]]
        assert torch.equal(labels[labels >= 0], ids[3:-2])


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_pairs_are_written_and_allowed(case: tuple[str, str, str]) -> None:
    """What was trained on is short, and the grammar allows each step of it, also beside rows of other lengths."""
    v, spec = vocabulary(case), built(*case).spec
    torch.manual_seed(1)
    for item in tokens(spec, [spec.positions or 9] * 6):
        ids = v.sequence([[1], item]).input_ids
        part = v.parts["own"]
        first = part.base + part.pattern.mark
        assert (ids >= first).any()
        assert len(ids) < len(Vocabulary(TEXT, {"own": part.pattern}).sequence([[1], item]).input_ids)
        rows = torch.stack([torch.nn.functional.pad(ids[:n], (len(ids) - n, 0), value=v.pad) for n in range(1, len(ids))])
        assert Grammar(v, most=20).allowed(rows, v.size)[range(len(rows)), ids[1:]].all()


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_that_is_written_decodes(case: tuple[str, str, str]) -> None:
    v = vocabulary(case)
    part, grammar = v.parts["own"], Grammar(v, most=5)
    first, many = part.base + part.pattern.mark, 0
    torch.manual_seed(0)
    ids = v.prompt([[1]], "own").repeat(16, 1)
    for _ in range(grammar.ids("own")):
        allowed = grammar.allowed(ids, v.size)
        assert allowed.any(1).all()
        weights = allowed.float()
        weights[:, first : first + len(part.joined)] *= 5
        weights[:, [part.mark, part.end]] *= allowed.sum(1, keepdim=True) / 2
        ids = torch.cat([ids, weights.multinomial(1)], dim=1)
    for row in ids:
        stop = int((row == part.end).nonzero()[0]) + 1
        text, item = v.split(row[:stop])
        assert text == [1]
        assert isinstance(item, Tokens)
        assert int(item.lengths[0]) in (part.pattern.lengths or range(1, 6))
        codes = sum(len(part.joined[i - first]) if i >= first else 1 for i in row[3 : stop - 1].tolist())
        assert codes == int(part.pattern.count(item.lengths[0]))  # nothing was dropped
        many += int((row[3:stop] >= first).sum())
    assert many > 0


def test_saved(tmp_path: Path) -> None:
    v = vocabulary(CASES[0])
    v.save(tmp_path)
    back, item = Vocabulary.load(tmp_path), tokens(SPECS["two semantic"], [7])
    assert torch.equal(back.sequence([item]).input_ids, v.sequence([item]).input_ids)
    assert back.size == v.size
    file = tmp_path / "token_vocabulary.json"
    data = json.loads(file.read_text())
    for merges in ([[1, 10**6]], [[1]], 5):
        data["parts"]["own"]["merges"] = merges
        file.write_text(json.dumps(data))
        with pytest.raises(TokenError, match="token_vocabulary"):
            Vocabulary.load(tmp_path)


def test_names() -> None:
    bpe = pairs(CASES[0])
    v = Vocabulary(TEXT, {"own": bpe}, named=True)
    assert len(v.names) == v.size - TEXT == len(set(v.names))
    assert v.names[-1] == f"<|own:pair:{bpe.size - bpe.pattern.end - 1}|>"


def test_pairs_with_marks_are_refused() -> None:
    pattern = built("coarse", "two semantic", "plain")
    with pytest.raises(TokenError, match="train them anew"):
        Vocabulary(TEXT, {"own": AcousticBPE(pattern, [(0, pattern.mark)])})


def test_ids_of_nobody() -> None:
    v = Vocabulary(TEXT, {"own": AcousticBPE(Flatten(SPECS["two semantic"]), [(0, 9)])})
    part = v.parts["own"]
    assert v.split([part.begin, part.base + part.size - 1, part.base + 18, part.base + 22, part.base + 26])[0].lengths == 1  # type: ignore[union-attr]
    with pytest.raises(TokenError):
        v.split([part.begin, part.base + 1, 3])
