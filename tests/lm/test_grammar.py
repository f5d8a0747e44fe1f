"""Whatever is written under the grammar decodes, by whichever pattern."""

import pytest
import torch
from lm_examples import SPECS, built, cases, tokens
from token_examples import SPEECH

from tokenizers_zoo import TokenError, Tokens
from tokenizers_zoo.lm import Alphabet, CoarseFirst, Delay, Flatten, Grammar, Rows, Vocabulary

TEXT = 20
CASES = [  # the short ones
    (maker, spec, alphabet)
    for maker, spec, alphabet in cases()
    if spec != "grid" and (spec != "bits" or alphabet == "grouped") and (spec != "speech" or alphabet == "plain")
]


def left_padded(v: Vocabulary, ids: torch.Tensor, cuts: range) -> torch.Tensor:
    return torch.stack([torch.nn.functional.pad(ids[:n], (len(ids) - n, 0), value=v.pad) for n in cuts])


def written(v: Vocabulary, grammar: Grammar, part: str, count: int, seed: int = 0) -> torch.Tensor:
    """`count` sequences of uniform legal ids, until all have left the part."""
    torch.manual_seed(seed)
    ids = v.prompt([[1]], part).repeat(count, 1)
    for _ in range(grammar.ids(part)):
        allowed = grammar.allowed(ids, v.size)
        assert allowed.any(1).all()
        weights = allowed.float()
        weights[:, [v.parts[part].mark, v.parts[part].end]] *= allowed.sum(1, keepdim=True) / 2  # short items come about too
        ids = torch.cat([ids, weights.multinomial(1)], dim=1)
    return ids


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_that_is_written_decodes(case: tuple[str, str, str]) -> None:
    pattern = built(*case)
    v = Vocabulary(TEXT, {"other": SPEECH.select([1, 2]), "own": pattern})
    grammar = Grammar(v, most=5)
    lengths = set()
    for row in written(v, grammar, "own", 12):
        assert v.parts["own"].end in row
        text, item = v.split(row)[:2]
        assert text == [1]
        assert isinstance(item, Tokens)
        local = v.parts["own"].local(row[3:])
        stop = int((local == pattern.end).nonzero()[0])
        assert pattern.frames(local[None, :stop]).dropped.tolist() == [0]
        assert torch.equal(pattern.apply(item).ids.flatten(), local[:stop])
        lengths |= set(item.lengths.tolist())
    allowed = set(range(1, 6)) if pattern.lengths is None else set(pattern.lengths)
    assert lengths <= allowed
    assert len(lengths) > 1 or len(allowed) == 1


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_that_decodes_may_be_written(case: tuple[str, str, str]) -> None:
    pattern = built(*case)
    v = Vocabulary(TEXT, {"own": pattern})
    grammar = Grammar(v, most=21)
    ids = v.sequence([[3], tokens(pattern.spec, [pattern.spec.positions or 4]), [4]]).input_ids
    allowed = grammar.allowed(left_padded(v, ids, range(1, len(ids))), v.size)
    assert allowed[range(len(ids) - 1), ids[1:]].all()


def test_rows_do_not_look_at_each_other() -> None:
    """Rows in text, in two parts and padded on the left get what each gets alone."""
    v = Vocabulary(TEXT, {"speech": Delay(SPEECH), "coarse": CoarseFirst(SPECS["two semantic"]), "image": Rows(SPECS["square"])})
    grammar = Grammar(v, {"speech": 5})
    pieces = [[1], tokens(SPEECH, [4]), tokens(SPECS["two semantic"], [3]), [2], tokens(SPECS["square"], [9])]
    whole = v.sequence(pieces).input_ids
    cuts = range(1, len(whole), 3)
    together = grammar.allowed(left_padded(v, whole, cuts), v.size + 3)
    for row, n in zip(together, cuts, strict=True):
        assert torch.equal(row, grammar.allowed(whole[None, :n], v.size + 3)[0])
        assert row.any()
        assert not row[v.size :].any()


def test_outside_of_parts() -> None:
    v = Vocabulary(TEXT, {"speech": SPEECH})
    allowed = Grammar(v).allowed(torch.tensor([[v.begin], [3]]), v.size)
    assert allowed.nonzero()[:, 1].view(2, -1).tolist() == [[*range(TEXT), v.end, v.parts["speech"].begin]] * 2
    assert Grammar(v).allowed(torch.zeros(2, 0, dtype=torch.int64), v.size).sum(1).tolist() == [TEXT + 2] * 2


def test_scores() -> None:
    v = Vocabulary(TEXT, {"speech": SPEECH})
    grammar, prompt = Grammar(v), v.prompt([], "speech")
    scores = grammar(prompt, torch.zeros(1, v.size, dtype=torch.float16))
    base = v.parts["speech"].base
    assert grammar.prefix_allowed_tokens_fn(0, prompt[0]) == list(range(base, base + 1024))
    assert torch.isinf(scores[0]).logical_not().nonzero().flatten().tolist() == list(range(base, base + 1024))
    assert scores.dtype == torch.float16


def test_limits() -> None:
    v = Vocabulary(TEXT, {"speech": Flatten(Alphabet(SPEECH, shared=True)), "image": SPECS["square"]})
    grammar = Grammar(v, most=3)
    assert (grammar.ids("speech"), grammar.ids("image")) == (10, 19)
    for most in (0, -1, 1.5, {"speech": 0}):
        with pytest.raises(TokenError, match="1 or more"):
            Grammar(v, most=most)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="add_to"):
        grammar(torch.tensor([[0]]), torch.zeros(1, TEXT))
