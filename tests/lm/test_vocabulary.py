"""Ids of text and of several tokenizers in one range, sequences of them, and the file."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_examples import SPECS, built, cases, tokens
from token_examples import SPEECH

from tokenizers_zoo import TokenError, Tokens
from tokenizers_zoo.lm import Alphabet, Delay, Flatten, Rows, Vocabulary

TEXT = 100
MANY = Flatten(Alphabet(SPECS["bits"], most=1 << 14))
PAIRS = [case for case in cases() if case[0] != "nested"]


def both() -> Vocabulary:
    return Vocabulary(TEXT, {"speech": Delay(SPEECH), "image": Rows(SPECS["square"])})


def test_no_two_things_share_an_id() -> None:
    v = both()
    ids = [*range(TEXT), v.pad, v.mask, v.begin, v.end]
    for part in v.parts.values():
        local = torch.arange(part.pattern.alphabet.size + 2)
        ids += [part.begin, *part.place(local).tolist()]
        assert torch.equal(part.local(part.place(local)), local)
    assert sorted(ids) == list(range(v.size))
    assert v.size == TEXT + 4 + 3 + 3 + 1031 + 53


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_sequence_and_split(data: st.DataObject) -> None:
    """Any row of texts, clips and images comes back, conditions and all."""
    first, second = (data.draw(st.sampled_from([p for p in PAIRS if (SPECS[p[1]].modality == m)])) for m in ("audio", "image"))
    patterns = {"speech": built(*first), "image": built(*second)}
    v = Vocabulary(TEXT, patterns)
    text = st.lists(st.integers(0, TEXT - 1), min_size=1, max_size=5)
    pieces: list = []
    for kind in data.draw(st.lists(st.sampled_from(["text", "speech", "image"]), max_size=6)):
        if kind == "text":
            if pieces and isinstance(pieces[-1], list):
                continue  # neighbours come back as one
            pieces.append(data.draw(text))
        else:
            spec = patterns[kind].spec
            pieces.append(tokens(spec, [spec.positions or data.draw(st.integers(0, 6))]))
    ids, labels = v.sequence(pieces, learn=["image"])
    assert int(ids.max()) < v.size
    assert v.split(ids, [piece.conditions for piece in pieces if isinstance(piece, Tokens)]) == pieces
    own = v.parts["image"]
    local = own.local(ids)
    assert torch.equal(labels, ids.where(local >= 0, -100))


def test_what_is_learned() -> None:
    v, clip = both(), tokens(SPEECH, [2])
    part = v.parts["speech"]
    ids, labels = v.sequence([[1, 2], clip, [3]])
    assert ids[:4].tolist() == [v.begin, 1, 2, part.begin]
    assert labels[:4].tolist() == [-100] * 4
    assert torch.equal(labels[4:-2], ids[4:-2])
    assert (ids[-3:].tolist(), labels[-3:].tolist()) == ([part.end, 3, v.end], [part.end, -100, -100])
    everything = v.sequence([[1, 2], clip, [3]], learn=["text", "speech"]).labels
    assert everything.tolist() == [-100, *ids[1:].tolist()]


def test_a_batch() -> None:
    v = both()
    batch = v.collate([v.sequence([[1], tokens(SPEECH, [2])]), v.sequence([[1, 2, 3]])])
    assert {name: tuple(value.shape) for name, value in batch.items()} == dict.fromkeys(batch, (2, 17))
    assert batch["input_ids"][1, 5:].unique().tolist() == [v.pad]
    assert batch["labels"][1].unique().tolist() == [-100]
    assert batch["attention_mask"].sum(1).tolist() == [17, 5]


def test_a_cut_sequence_keeps_what_is_whole() -> None:
    v, clip = Vocabulary(TEXT, {"speech": SPEECH}), tokens(SPEECH, [4])
    ids = v.sequence([[7], clip]).input_ids
    text, kept = v.split(ids[: 3 + 7])
    assert text == [7]
    assert torch.equal(kept.codes, clip.codes[..., :2])
    assert v.split(v.prompt([[7]], "speech")[0])[1].lengths.tolist() == [0]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda v: v.sequence(["a"]), "tokenizer..a., add_special_tokens=False"),
        (lambda v: v.sequence([[TEXT]]), "ids of text"),
        (lambda v: v.sequence([[-1]]), "ids of text"),
        (lambda v: v.sequence([[0.5]]), "ids of text"),
        (lambda v: v.sequence([tokens(SPEECH, [1, 1])]), "one item"),
        (lambda v: v.sequence([tokens(SPECS["grid"], [16])]), "no part of this vocabulary"),
        (lambda v: v.sequence([tokens(SPEECH, [2]).codebooks(1)]), "no part of this vocabulary"),
        (lambda v: v.sequence([[1]], learn=["music"]), "got 'music'"),
        (lambda v: v.prompt([], "music"), "no part 'music'"),
        (lambda v: v.split([v.parts["image"].base]), "stands outside"),
        (lambda v: v.split([-100]), "stands outside"),
        (lambda v: v.split([v.parts["speech"].begin, 5]), "must be of lane 0"),
        (lambda v: v.split([1, 2], [{}]), "given for 1 parts"),
        (lambda v: Vocabulary(TEXT, {}), "needs the size"),
        (lambda v: Vocabulary(-1, {"a": SPEECH}), "needs the size"),
        (lambda v: Vocabulary(TEXT, {"text": SPEECH}), "other than text"),
        (lambda v: Vocabulary(TEXT, {"a b": SPEECH}), "named by a word"),
        (lambda v: Vocabulary(0, {"a": MANY}, named=True), "too many"),
    ],
)  # fmt: skip
def test_what_cannot_be(call, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        call(both())


def test_names() -> None:
    v = Vocabulary(TEXT, {"a": SPEECH.select([2]), "b": Flatten(Alphabet(SPECS["bits"], shared=True))}, named=True)
    assert v.names[:7] == [
        *("<|zoo:pad|>", "<|zoo:mask|>", "<|zoo:begin|>", "<|zoo:end|>"),
        *("<|a:begin|>", "<|a:end|>", "<|a:mark|>"),
    ]
    assert v.names[10:] == ["<|a:0:0|>", "<|a:0:1|>", "<|b:0|>", "<|b:1|>"]
    assert TEXT + len(v.names) == v.size


def test_file(tmp_path: Path) -> None:
    v = Vocabulary(TEXT, {name: built(*case) for name, case in {"a": PAIRS[0], "b": PAIRS[-1]}.items()})
    v.save(tmp_path / "new")
    again = Vocabulary.load(tmp_path / "new")
    clip = tokens(SPECS[PAIRS[0][1]], [3])
    assert torch.equal(again.sequence([[1], clip]).input_ids, v.sequence([[1], clip]).input_ids)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["token_vocabulary.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"text": -3},
        {"text": 7},
        {"size": 1},
        {"parts": {}},
        {"parts": {"a": {"pattern": "os.system"}}},
        {"parts": 3},
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict) -> None:
    both().save(tmp_path)
    path = tmp_path / "token_vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TokenError, match=r"token_vocabulary\.json"):
        Vocabulary.load(tmp_path)
    path.write_text("{")
    with pytest.raises(TokenError, match="is not a vocabulary"):
        Vocabulary.load(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Vocabulary.load(tmp_path)
