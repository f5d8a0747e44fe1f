"""The table of importers: where the authors' weights are, what may be done with them, and foreign forms of a state dict."""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from conftest import media
from safetensors.torch import save_file

import tokenizers_zoo as tz
from tokenizers_zoo import official, zoo
from tokenizers_zoo.cli import main
from tokenizers_zoo.official import IMPORTERS, importer
from tokenizers_zoo.official.base import Official, State, merged
from tokenizers_zoo.weights import load_strict, plain_state

CARDS = {path.stem: path.parent / "README.md" for path in zoo.share("models").glob("*/*.yaml")}
VARIANT = "speechtokenizer"
HUB = "fnlp/SpeechTokenizer"


def small(**overrides: object) -> tz.Tokenizer:
    return tz.create("titok-tiny", **{"encoder.depth": 1, "decoder.depth": 1, **overrides})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Official:
    """titok-tiny with one block a side, as if somebody had published it under other names, in two files."""
    files = (("them/toy", "encoder.safetensors"), ("them/toy", "sub/rest.safetensors"))
    names = ((r"^encoder\.", "theirs."),)
    made = Official(names, "MIT", files, ignored="^usage$", fresh=r"^decoder\.head\.smooth\.")
    monkeypatch.setitem(IMPORTERS, "titok-tiny", made)
    monkeypatch.setattr(official, "create", lambda name, **overrides: small())
    return made


def published(tokenizer: tz.Tokenizer) -> State:
    state = {k.replace("encoder.", "theirs.", 1) if k.startswith("encoder.") else k: v for k, v in plain_state(tokenizer).items()}
    return {k: v for k, v in state.items() if ".smooth." not in k} | {"usage": torch.zeros(3)}


def test_frozen_helpers_are_not_the_authors(toy: Official, monkeypatch: pytest.MonkeyPatch) -> None:
    helped, state = small(), published(small())
    helped.register_module("helper", torch.nn.Linear(3, 3))
    helped.helper.saved = False
    monkeypatch.setattr(official, "create", lambda name, **overrides: helped)
    kept = helped.helper.weight.clone()
    made = tz.load_official("titok-tiny", state)
    assert torch.equal(made.helper.weight, kept)
    with pytest.raises(tz.WeightsError, match=r"surplus: helper.weight"):
        tz.load_official("titok-tiny", state | {"helper.weight": kept})


def test_the_command_line_takes_several_files(toy: Official, tmp_path: Path) -> None:
    state = published(small())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        part = {k: v.clone() for k, v in state.items() if k.startswith("theirs.") == (name == "a")}
        save_file(part, tmp_path / name / "model.safetensors")  # of one name: no folder holds both
    files = [str(tmp_path / name / "model.safetensors") for name in ("a", "b")]
    assert main(["import", "titok-tiny", *files, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/config.json").exists()


def test_several_files_make_one_state(toy: Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, state = small(), published(small())
    state = published(source)
    halves = [{k: v.clone() for k, v in state.items() if k.startswith("theirs.") is first} for first in (True, False)]
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "encoder.safetensors", tmp_path / "rest.safetensors"]
    for half, path in zip(halves, paths, strict=True):
        save_file(half, path)
    monkeypatch.setattr(zoo, "hub_files", lambda files: pytest.fail("nothing is downloaded"))
    asked: list[object] = []
    monkeypatch.setattr(official, "hub_files", lambda files: asked.append(files) or paths)
    made = [tz.load_official("titok-tiny", given) for given in (state, paths, tmp_path, None, "other/mirror")]
    assert asked == [toy.files, tuple(("other/mirror", path) for _, path in toy.files)]
    wanted = plain_state(source)
    for tokenizer in made:
        found = plain_state(tokenizer)
        assert all(torch.equal(found[k], v) for k, v in wanted.items() if ".smooth." not in k)
        assert torch.equal(found["decoder.head.smooth.weight"], plain_state(small())["decoder.head.smooth.weight"])  # fresh
    assert len({tokenizer.weights for tokenizer in made}) == 1
    for wrong in (paths[:1], paths[0], [*paths, paths[0]], tmp_path / "no", "no/such/place"):
        with pytest.raises(tz.WeightsError, match=r"folder with encoder\.safetensors, rest\.safetensors"):
            tz.load_official("titok-tiny", wrong)
    with pytest.raises(tz.WeightsError, match="tensors of one name"):
        merged(state, state)


def test_every_published_entry_is_accounted_for(toy: Official) -> None:
    state = published(small())
    for change, message in (
        ({"decoder.head.smooth.weight": torch.zeros(3, 3, 3, 3)}, r"1 surplus: decoder\.head\.smooth\.weight"),
        ({"usage2": torch.zeros(1)}, "1 surplus: usage2"),
        ({"theirs.latents": torch.zeros(3)}, r"wrong shape: theirs\.latents"),
    ):
        with pytest.raises(tz.WeightsError, match=message):
            tz.load_official("titok-tiny", state | change)
    with pytest.raises(tz.WeightsError, match=r"1 missing: theirs\.latents"):
        tz.load_official("titok-tiny", {k: v for k, v in state.items() if k != "theirs.latents"})


class Separate(Official):
    """Attention with a tensor each for query, key and value, where ours is one."""

    def convert(self, state: State, tokenizer: tz.Tokenizer) -> State:
        for name in [k.removesuffix(".query") for k in state if k.endswith(".query")]:
            state[name] = torch.cat([state.pop(f"{name}.{part}") for part in ("query", "key", "value")])
        return super().convert(state, tokenizer)


def test_fused_tensors_are_made_by_convert(toy: Official, monkeypatch: pytest.MonkeyPatch) -> None:
    separate = Separate(toy.names, toy.license, toy.files, ignored=toy.ignored, fresh=toy.fresh)
    monkeypatch.setitem(IMPORTERS, "titok-tiny", separate)
    source = small()
    state = published(source)
    for name in [k for k in state if ".in_proj." in k]:
        state |= {f"{name}.{part}": v for part, v in zip(("query", "key", "value"), state.pop(name).chunk(3), strict=True)}
    assert any(".query" in k for k in state)
    made = tz.load_official("titok-tiny", state)
    images = media(made)
    assert torch.equal(made.encode(images).codes, source.eval().encode(images).codes)
    with pytest.raises(tz.WeightsError, match=r"1 surplus: extra"):
        tz.load_official("titok-tiny", state | {"extra": torch.zeros(1)})


def test_official_weights_take_overrides_and_have_a_fingerprint(toy: Official, tmp_path: Path) -> None:
    state = published(small())
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / "all.safetensors")
    made = tz.load_official("titok-tiny", state)
    assert made.weights
    other = tz.load_official("titok-tiny", state | {"theirs.latents": state["theirs.latents"] + 1})
    with pytest.raises(tz.TokenError, match="other weights"):
        other.decode(made.encode(media(made)))
    made.save_pretrained(tmp_path / "ours")
    again = tz.load(tmp_path / "ours")
    assert (again.weights, again.license) == (made.weights, "MIT")
    assert again.decode(made.encode(media(made))).pixels.shape == (1, 3, 64, 64)
    made.save_pretrained(tmp_path / "half", torch.float16)
    assert tz.load(tmp_path / "half").weights != made.weights  # rounded weights are others
    made.encoder.latents.data += 1  # trained on
    made.save_pretrained(tmp_path / "trained")
    assert tz.load(tmp_path / "trained").weights != made.weights
    bits = {"class_path": "BinaryQuantizer", "init_args": {"dim": 5}}
    replaced = tz.load_official("titok-tiny", state, quantizer=bits)
    assert torch.equal(replaced.encoder.latents, state["theirs.latents"])
    assert replaced.weights not in (made.weights, "")
    replaced.save_pretrained(tmp_path / "bits")
    loaded = tz.load(tmp_path / "bits")
    assert (loaded.weights, loaded.config) == (replaced.weights, replaced.config)
    assert loaded.encode(media(loaded)).codes.shape == (1, 5, 84)


@pytest.mark.parametrize("variant", [name for name in IMPORTERS if IMPORTERS[name].hub])
def test_the_default_source_is_the_authors_own_and_on_the_card(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, path: str) -> str:
        asked.append((repo, path))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(official, "create", lambda name, **overrides: None)
    with pytest.raises(tz.WeightsError, match=f"of {importer(variant).hub} from the Hub"):
        tz.load_official(variant)
    assert asked == [*importer(variant).files]
    owner, name = importer(variant).hub.split("/")
    card = CARDS[variant].read_text()
    assert owner in card
    assert name in card


def test_a_place_without_a_repository_is_said() -> None:
    with pytest.raises(
        tz.WeightsError, match=r"download Model_best_dev\.pt from https://drive\.google\.com/.*tokenizers-zoo import dm-codec"
    ):
        tz.load_official("dm-codec")
    for name in ("lm-spt-25hz", "titok-tiny", "nothing"):
        with pytest.raises(tz.WeightsError, match=f"no authors' weights are known for '{name}'.*; known: dm-codec, "):
            tz.load_official(name)


def test_licences_are_those_of_the_weights_and_on_the_cards() -> None:
    assert importer("lm-spt-12.5hz-24k").license == "CC-BY-NC-4.0"
    assert importer("speechtokenizer").license == "not stated for the weights (code: Apache-2.0)"
    assert importer("dm-codec").license == "not stated for the weights (repository: Apache-2.0)"
    assert "apple-amlr" in importer("flextok-d18-d28-dfn").license
    noncommercial = {name for name in IMPORTERS if IMPORTERS[name].noncommercial}
    assert noncommercial == {"lm-spt-12.5hz-24k", *zoo.list_tokenizers("flextok-d*")}
    words = {
        "lm_spt": "CC BY-NC 4.0",
        "speechtokenizer": "states no licence",
        "dm_codec": "states no licence",
        "titok": "Apache-2.0",
        "flextok": "apple-amlr",
        "dualtoken": "Apache-2.0",
    }
    for folder, word in words.items():
        card = (zoo.share("models") / folder / "README.md").read_text()
        assert word in " ".join(card.split())
        assert re.search("2026-11-2[78]", card)


def test_a_non_commercial_licence_is_said_and_carried_into_token_files(
    tmp_path: Path, toy: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMPORTERS, "titok-tiny", replace(toy, license="CC-BY-NC-4.0", noncommercial=True))
    state = published(small())
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / "all.safetensors")
    with pytest.warns(UserWarning, match="weights of titok-tiny are licensed CC-BY-NC-4.0: non-commercial") as said:
        made = tz.load_official("titok-tiny", state)
    assert said[0].filename == __file__
    made.encode(media(made)).save(tmp_path / "x.tok")
    assert tz.Tokens.load(tmp_path / "x.tok").spec.license == "CC-BY-NC-4.0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setitem(IMPORTERS, "titok-tiny", toy)
        tz.load_official("titok-tiny", state)


def test_the_command_imports_without_a_source(
    toy: Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(official, "hub_files", lambda files: [tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    save_file({k: v.clone() for k, v in published(small()).items()}, tmp_path / "a.safetensors")
    save_file({}, tmp_path / "b.safetensors")
    assert main(["import", "titok-tiny", "-o", str(tmp_path / "out")]) == 0
    assert "licence of the weights: MIT" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "config.json").read_text())["license"] == "MIT"


def test_conversion_is_checked_on_our_side_too(toy: Official) -> None:
    converted = toy.convert(published(small()), small())
    with pytest.raises(tz.WeightsError, match=r"2 missing: decoder\.head\.smooth\.bias, decoder\.head\.smooth\.weight"):
        load_strict(small(), converted, "it")  # all but what is fresh


def test_frozen_helpers_are_not_asked_for() -> None:
    tokenizer = toys.captioned()
    state = plain_state(tokenizer)
    official = Official((), "MIT", (("", "it.safetensors"),))
    assert official.convert(state, toys.captioned()).keys() == state.keys()
    assert "letters.table" in tokenizer.state_dict()
