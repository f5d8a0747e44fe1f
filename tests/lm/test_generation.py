"""A Hugging Face model and tokenizer with codes in them: rows, files, sampling."""

from pathlib import Path

import pytest
import torch
from lm_examples import SPECS, built, tokens
from token_examples import SPEECH

import tokenizers_zoo as tz
from tokenizers_zoo import lm
from tokenizers_zoo.lm import Alphabet, Delay, Flatten, Grammar, Vocabulary

transformers = pytest.importorskip("transformers")
TEXT = 300
ONE_OF_EACH = [("flatten", "one"), ("rows", "square"), ("scales", "scales"), ("nested", "fsq"), ("nested", "scales")]
ONE_OF_EACH += [(maker, "two semantic") for maker in ("flatten", "delay", "delays", "moshi", "parallel", "coarse", "semantic")]


def model_of(rows: int, tied: bool = True, kind: str = "llama") -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=rows, n_embd=48, n_layer=1, n_head=2, tie_word_embeddings=tied)
    else:
        config = transformers.LlamaConfig(
            vocab_size=rows,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def words(count: int = TEXT) -> transformers.PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({f"w{i}": i for i in range(count)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0")


def sampled(v: Vocabulary, model: transformers.PreTrainedModel, part: str, count: int, grammar: Grammar) -> torch.Tensor:
    return model.generate(
        v.prompt([[1]], part).repeat(count, 1),
        logits_processor=[grammar],
        do_sample=True,
        max_new_tokens=grammar.ids(part),
        eos_token_id=v.parts[part].end,
        pad_token_id=v.pad,
    )


def decodable(v: Vocabulary, ids: torch.Tensor) -> bool:
    """Whether a whole item was written."""
    try:
        item = v.split(ids)[1]
    except (tz.TokenError, IndexError):
        return False
    pattern = v.parts["own"].pattern
    allowed = pattern.lengths
    return int(item.lengths[0]) > 0 if allowed is None else int(item.lengths[0]) in allowed


def check_samples(maker: str, spec: str, count: int) -> None:
    v = Vocabulary(TEXT, {"own": built(maker, spec)})
    model, grammar = model_of(TEXT), Grammar(v, most=6)
    v.add_to(None, model)
    torch.manual_seed(0)
    with torch.no_grad():
        assert all(decodable(v, row) for row in sampled(v, model, "own", count, grammar))


def test_an_untrained_model_writes_what_decodes() -> None:
    check_samples("delay", "two semantic", 8)


@pytest.mark.slow
@pytest.mark.parametrize(("maker", "spec"), ONE_OF_EACH)
def test_five_hundred_samples_of_each_pattern(maker: str, spec: str) -> None:
    check_samples(maker, spec, 500)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "kind"), [("titok-tiny", "llama"), ("dm-codec-tiny", "gpt2")])
def test_new_rows_are_like_old_ones(name: str, tied: bool, kind: str) -> None:
    codec, model = tz.load(name), model_of(TEXT, tied, kind)
    before = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    v = Vocabulary(TEXT, {"own": codec.spec})
    v.add_to(None, model, {"own": codec})
    state = torch.randn(64, 48)
    after = [layer.weight.detach() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    assert (after[0].data_ptr() == after[1].data_ptr()) == tied
    for old, rows in zip(before, after, strict=True):
        assert torch.equal(rows[:TEXT], old)
        new = rows[TEXT : v.size]
        spread = [(part - part.mean(0)).square().mean().sqrt() for part in (new, old)]
        assert 0.5 < spread[0] / spread[1] < 2
        assert len(new.bfloat16().unique(dim=0)) == len(new)
        logits = [state @ part.T for part in (new, old)]
        assert 0.5 < logits[0].std(1).mean() / logits[1].std(1).mean() < 0.95
        assert logits[0].max() < logits[1].max()
        half = state.bfloat16() @ new.bfloat16().T
        assert len(half[0].unique()) > len(new) / 20


def test_rows_follow_the_codebook() -> None:
    """Codes with near vectors get near rows."""
    codec, model = tz.load("titok-tiny"), model_of(TEXT)
    v = Vocabulary(TEXT, {"own": codec.spec})
    v.add_to(None, model, {"own": codec})
    vectors = codec.quantizer.decode(torch.arange(4375)[None, None])[0]
    rows = model.get_input_embeddings().weight[v.parts["own"].base :][:4375].detach()
    near = torch.cdist(vectors[:1], vectors)[0]
    far = torch.cdist(rows[:1], rows)[0]
    assert torch.corrcoef(torch.stack([near, far]))[0, 1] > 0.6


def test_groups_and_digits_have_vectors_too() -> None:
    codec = tz.load("titok-tiny")
    for alphabet in (Alphabet(codec.spec, digits=(7, 5, 5, 5, 5)), Alphabet(codec.spec, most=1 << 13)):
        model, v = model_of(TEXT), Vocabulary(TEXT, {"own": Flatten(alphabet)})
        v.add_to(None, model, {"own": codec})
        rows = model.get_input_embeddings().weight[TEXT : v.size].detach()
        assert len(rows.bfloat16().unique(dim=0)) == len(rows)


@pytest.mark.parametrize("named", [False, True])
def test_tokenizer_model_and_vocabulary_are_saved_together(tmp_path: Path, named: bool) -> None:
    tokenizer, model = words(), model_of(TEXT)
    v = Vocabulary(len(tokenizer), {"speech": Delay(SPEECH)}, named=named)
    v.add_to(tokenizer, model)
    assert len(tokenizer) == TEXT + (v.size - TEXT if named else 7)
    weight = model.get_input_embeddings().weight.detach().clone()
    v.add_to(tokenizer, model, seed=3)  # nothing is left to do
    assert torch.equal(model.get_input_embeddings().weight, weight)
    for thing in (tokenizer, model):
        thing.save_pretrained(tmp_path)
    v.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.convert_tokens_to_ids(v.names) == list(range(TEXT, TEXT + len(v.names)))
    assert again("w3 <|speech:begin|>").input_ids == [3, v.parts["speech"].begin]
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == v.size
    clip = tokens(SPEECH, [3])
    example = v.sequence([again("w3").input_ids, clip])
    assert Vocabulary.load(tmp_path).split(example.input_ids, [clip.conditions]) == [[3], clip]


def test_a_model_with_rows_to_spare_keeps_them() -> None:
    model, v = model_of(TEXT + 2000), Vocabulary(TEXT, {"speech": SPEECH})
    last = model.get_input_embeddings().weight[v.size :].detach().clone()
    v.add_to(None, model)
    assert torch.equal(model.get_input_embeddings().weight[v.size :], last)


def test_what_does_not_belong_together() -> None:
    v = Vocabulary(TEXT, {"speech": SPEECH})
    with pytest.raises(tz.TokenError, match=r"tokenizer of 300 ids, .* this has 299"):
        v.add_to(words(299), model_of(TEXT))
    with pytest.raises(tz.TokenError, match="the model has 20 rows"):
        v.add_to(None, model_of(20))
    with pytest.raises(tz.TokenError, match="the codec is titok-tiny"):
        v.add_to(None, model_of(TEXT), {"speech": tz.load("titok-tiny")})
    with pytest.raises(tz.TokenError, match="no part 'image'"):
        v.add_to(None, model_of(TEXT), {"image": tz.load("titok-tiny")})


def test_beams_and_the_other_form_of_the_grammar() -> None:
    v = Vocabulary(TEXT, {"own": Delay(SPECS["two semantic"])})
    model, grammar = model_of(TEXT), Grammar(v, most=3)
    v.add_to(None, model)
    how = {"max_new_tokens": grammar.ids("own"), "eos_token_id": v.parts["own"].end, "pad_token_id": v.pad, "do_sample": False}
    allowed = grammar.prefix_allowed_tokens_fn
    by_beams = model.generate(v.prompt([], "own"), logits_processor=[grammar], num_beams=3, **how)
    other = model.generate(v.prompt([], "own"), prefix_allowed_tokens_fn=allowed, num_beams=3, **how)
    assert torch.equal(by_beams, other)
    assert int(v.split(by_beams[0])[0].lengths[0]) in (1, 2, 3)


def test_the_block_in_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, samples, decodes and saves, as it stands."""
    monkeypatch.chdir(tmp_path)
    for thing in (words(), model_of(TEXT)):
        thing.save_pretrained(tmp_path)
    sounds = [tz.Audio(torch.rand(1, 1, 16000 // (3 + i)) - 0.5, 16000) for i in range(2)]
    names = {"tz": tz, "torch": torch, "folder": str(tmp_path), "pairs": list(zip(["w1 w2", "w3"], sounds, strict=True))}
    names |= {name: getattr(transformers, name) for name in ("AutoTokenizer", "AutoModelForCausalLM")}
    names |= {name: getattr(lm, name) for name in lm.__all__}
    block = [line[4:] for line in (lm.__doc__ or "").splitlines() if line.startswith("    ")]
    assert 10 < len(block) <= 15
    exec("\n".join(block).replace("most=100", "most=5"), names)
    _, speech = names["vocabulary"].split(names["ids"][0])
    assert int(speech.lengths[0]) in range(1, 6)
    assert (tmp_path / "hello.wav").stat().st_size == 44 + 2 * int(speech.conditions["num_samples"][0])
