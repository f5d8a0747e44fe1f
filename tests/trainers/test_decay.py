"""Which weights decay: what a part declares, and no word in a name."""

import re

import pytest
import torch
from torch import nn

import tokenizers_zoo as tz
from tokenizers_zoo.quantizers import BernoulliQuantizer
from tokenizers_zoo.trainers.module import parameter_groups

TABLES = {  # besides vectors
    "titok": r"(encoder|decoder)\.(position|latent)_embed|encoder\.(latents|patch_embed\.weight)|quantizer\.embedding\.weight"
    r"|decoder\.head\.codebook\.weight",
    "flextok": r"encoder\.registers|decoder\.(sketch\.)?registers\.places",
    "instella": r"encoder\.latents|quantizer\.embed",
    **dict.fromkeys(
        ("ta-titok", "textok"),
        r"(encoder|decoder)\.(position_embed|latent_embed|text\.position_embed)|encoder\.(latents|patch_embed\.weight)"
        r"|quantizer\.embedding\.weight",
    ),
    "dualtoken": r"encoder\.patches\.places|head\.pool\.probe",
    "tokenflow": r"(encoder\.semantic|semantic_decoder|encoder\.pixel|decoder)\.(position|latent)_embed"
    r"|encoder\.pixel\.(latents|patch_embed\.weight)|quantizer\.(stage\.)?(pixel|semantic)\.weight",
    "lm-spt-12.5hz-24k": r"quantizer\.(semantic|acoustic\.stages\.\d)\.embedding\.weight",
}


@pytest.fixture(scope="module")
def untouched() -> dict[str, nn.Module]:
    """Every variant, without weights in memory where it can be built so."""
    made = {}
    for name in tz.list_tokenizers():
        with torch.device("cpu" if name in ("titok-tiny", "textok-tiny") else "meta"):  # FSQ's tables want values
            made[name] = tz.create(name)
    return made


def test_every_variant_spares_what_its_parts_declare(untouched: dict[str, nn.Module]) -> None:
    for name, tokenizer in untouched.items():
        pattern = next((tables for start, tables in TABLES.items() if name.startswith(start)), "none")
        decayed, plain = (group["params"] for group in parameter_groups(tokenizer))
        names = {p: key for key, p in tokenizer.named_parameters() if p.requires_grad}  # an autoencoder of others learns nothing
        matrices = {names[p] for p in plain if p.ndim > 1}
        assert matrices == {key for key in names.values() if re.fullmatch(pattern, key)}, name
        assert all(p.ndim > 1 for p in decayed)
        assert len(decayed) + len(plain) == len(names)
    assert "encoder.latents" in {key for key, p in untouched["titok-s128"].named_parameters() if p.ndim > 1}


def test_words_in_names_mean_nothing() -> None:
    module = nn.ModuleDict({"token_mixer": nn.Linear(2, 2), "text_embed": nn.Linear(2, 2), "lookup": nn.Embedding(2, 2)})
    module["bits"] = BernoulliQuantizer(2, 2)
    module["token_mixer"].requires_grad_(False)
    decayed, plain = parameter_groups(module)
    names = {p: key for key, p in module.named_parameters()}
    assert {names[p] for p in decayed["params"]} == {"text_embed.weight", "bits.proj.weight"}
    assert {names[p] for p in plain["params"]} == {"text_embed.bias", "lookup.weight", "bits.proj.bias", "bits.embed"}
    assert "weight_decay" not in decayed
    assert plain["weight_decay"] == 0


def test_decay_moves_the_matrices_alone() -> None:
    layer = nn.Linear(2, 2)
    before = {key: p.detach().clone() for key, p in layer.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(layer), 0.1, weight_decay=0.5)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), 0.95 * before["weight"])
    assert torch.equal(layer.bias, before["bias"])
