"""Pairs of codes: exact there and back, and fewer ids where codes repeat."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_examples import SPECS, ragged, tokens

from tokenizers_zoo import TokenError, Tokens, TokenSpec
from tokenizers_zoo.lm import AcousticBPE, CoarseFirst, Flatten

pytest.importorskip("tokenizers")
CODES = Flatten(SPECS["two semantic"])  # 30 codes and the mark


def rhythm(length: int = 60) -> Tokens:
    """Three frames again and again, out of step in each item."""
    codes = torch.stack([(torch.arange(length) + i) % 3 for i in range(5)])
    return Tokens(torch.stack([codes, codes.roll(1, 1)]), CODES.spec)


@given(st.data())
@settings(deadline=None, max_examples=20)
def test_there_and_back(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from([CODES, CoarseFirst(CODES.spec)]))
    corpus = [tokens(CODES.spec, [40, 40]), rhythm()]
    bpe = AcousticBPE.train(corpus, pattern, pattern.end + data.draw(st.integers(1, 80)))
    batch = data.draw(ragged(CODES.spec))
    ids = bpe.encode(batch)
    assert bpe.decode(ids, **batch.conditions) == batch[:]
    assert all(len(row) == 0 or 0 <= int(row.min()) <= int(row.max()) < bpe.size for row in ids)


def test_what_repeats_is_short() -> None:
    bpe = AcousticBPE.train([rhythm()], CODES, CODES.end + 60)
    assert max(map(len, bpe.encode(rhythm()))) < 300 / 12
    short = AcousticBPE.train([rhythm()], CODES, CODES.end + 60, longest=4)
    assert max(map(len, short.meanings)) == 4
    assert bpe.size <= CODES.end + 60


def test_the_codes_keep_their_ids() -> None:
    bpe = AcousticBPE.train([rhythm()], CODES, CODES.end + 5)
    assert bpe.meanings[: CODES.end] == [(i,) for i in range(CODES.end)]
    assert [len(m) > 1 for m in bpe.meanings[CODES.end :]] == [True] * 5


def test_a_cut_sequence_keeps_its_whole_frames() -> None:
    bpe, clip = AcousticBPE.train([rhythm()], CODES, CODES.end + 20), rhythm()
    for cut in range(6):
        back = bpe.decode([bpe.encode(clip)[0][:cut]])
        assert torch.equal(back.codes[0], clip.codes[0, :, : int(back.lengths[0])])


def test_codes_beyond_the_surrogates() -> None:
    """65,536 codes: the characters of a third of them come after those that are none."""
    wide = Flatten(TokenSpec("wide", "audio", (65536,), ("semantic",), "time"))
    clip = Tokens(torch.tensor([[[0, 35327, 35328, 35329, 65535, 0, 35327, 35328, 35329, 65535]]]), wide.spec)
    bpe = AcousticBPE.train([clip], wide, wide.end + 4)
    assert len(bpe.encode(clip)[0]) < 5
    assert torch.equal(bpe.decode(bpe.encode(clip)).codes, clip.codes)


def test_file(tmp_path: Path) -> None:
    bpe = AcousticBPE.train([rhythm()], CODES, CODES.end + 20)
    bpe.save(tmp_path / "pairs.json")
    again = AcousticBPE.load(tmp_path / "pairs.json")
    assert (again.merges, again.meanings) == (bpe.merges, bpe.meanings)
    assert all(map(torch.equal, again.encode(rhythm()), bpe.encode(rhythm())))
    text = (tmp_path / "pairs.json").read_text()
    for damaged in ("", "[]", "{}", '{"format": 9}', text.replace('"merges": [[', '"merges": [[99, 1], [')):
        (tmp_path / "bad.json").write_text(damaged)
        with pytest.raises(TokenError, match=r"bad\.json"):
            AcousticBPE.load(tmp_path / "bad.json")


def test_what_cannot_be() -> None:
    with pytest.raises(TokenError, match="leave nothing to learn"):
        AcousticBPE.train([rhythm()], CODES, CODES.end)
    bpe = AcousticBPE.train([rhythm()], CODES, CODES.end + 3)
    for wrong in (-1, bpe.size):
        with pytest.raises(TokenError, match=f"got {wrong}"):
            bpe.decode([[wrong]])
    assert len(bpe.decode([])) == 0
