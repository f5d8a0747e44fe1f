"""Weight files: frozen helpers that are in none, tables on top of another variant's weights, no random start."""

import json
from pathlib import Path

import pytest
import torch
from conftest import media
from safetensors.torch import load_file

import tokenizers_zoo as tz
from tokenizers_zoo import assembly
from tokenizers_zoo.assembly import Unfilled
from tokenizers_zoo.blocks.vit import PatchHead
from tokenizers_zoo.part import Part
from tokenizers_zoo.quantizers import FSQ
from tokenizers_zoo.trainers.export import export
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.weights import load_plain, load_strict, plain_state, unsaved


def edit(folder: Path, change: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))


class Helper(torch.nn.Module):
    """A frozen network of two layers."""

    saved = False

    def __init__(self, width: int):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            norm = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(width, width))
            self.layers = torch.nn.Sequential(norm, torch.nn.Linear(width, 3))
        self.requires_grad_(False)


class HelpedHead(Part):
    """A patch head that asks a frozen helper."""

    def __init__(self, width: int, patch_size: int, helper: Helper):
        super().__init__()
        self.width, self.patch_size, self.helper = width, patch_size, helper
        self.head = PatchHead(width, patch_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) + self.helper.layers(x.mean((2, 3)))[..., None, None]


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> tz.Tokenizer:
    monkeypatch.setattr(assembly, "_registered", {})
    tz.register(Helper)
    tz.register(HelpedHead)
    helper = {"class_path": "Helper", "init_args": {"width": 192}}
    head = {"class_path": "HelpedHead", "init_args": {"width": 192, "patch_size": 8, "helper": helper}}
    return tz.create("titok-tiny", **{"encoder.depth": 1, "decoder.depth": 1, "decoder.head": head}).eval()


def test_frozen_helpers_are_in_no_weight_file(helped: tz.Tokenizer, tmp_path: Path) -> None:
    assert unsaved(helped) == ("decoder.head.helper.",)
    assert not any("helper" in key for key in plain_state(helped))
    helped.save_pretrained(tmp_path)
    assert not any("helper" in key for key in load_file(tmp_path / "model.safetensors"))
    again = tz.load(tmp_path)
    tokens = helped.encode(media(helped))
    torch.testing.assert_close(again.decode(tokens).pixels, helped.decode(tokens).pixels)
    assert again.decoder.head.helper.layers[1].weight.abs().sum() > 0
    kept = again.decoder.head.helper.layers[1].weight.clone()
    for load in (load_plain, load_strict):
        load(again, plain_state(again), "it")
        assert torch.equal(again.decoder.head.helper.layers[1].weight, kept)
        with pytest.raises(tz.WeightsError, match=r"1 missing: encoder\.latents"):
            load(again, {k: v for k, v in plain_state(again).items() if k != "encoder.latents"}, "it")
        with pytest.raises(tz.WeightsError, match=r"1 surplus: decoder\.head\.helper\.x"):
            load(again, plain_state(again) | {"decoder.head.helper.x": torch.zeros(1)}, "it")


def test_frozen_helpers_are_not_averaged_or_checkpointed_and_survive_an_export(helped: tz.Tokenizer, tmp_path: Path) -> None:
    module = TokenizerModule("helped", helped, {}, ema=0.5)
    assert module.ema.module.decoder.head.helper is helped.decoder.head.helper
    checkpoint = {"state_dict": module.state_dict(), "global_step": 1}
    module.all_gather = lambda tensor: tensor
    module.on_save_checkpoint(checkpoint)
    assert not any("helper" in key for key in checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "last.ckpt")
    export(tmp_path / "last.ckpt", tmp_path / "out")
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    tokens = helped.encode(media(helped))
    torch.testing.assert_close(tz.load(tmp_path / "out").decode(tokens).pixels, helped.eval().decode(tokens).pixels)


def test_a_table_on_top_of_another_variants_weights(tmp_path: Path) -> None:
    base, table = tz.load("titok-tiny"), {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}}
    made = tz.load("titok-tiny", quantizer=table)
    made.name = "bridged"
    made.save_pretrained(tmp_path, weights_of=base)
    assert list(load_file(tmp_path / "model.safetensors")) == ["quantizer.embedding.weight"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["weights_of"], config["weights_of_fingerprint"]) == ("titok-tiny", base.weights)
    again = tz.load(tmp_path)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in plain_state(made).items())
    assert (again.name, again.config) == ("bridged", made.config)
    assert again.weights == made.weights
    edit(tmp_path, {"weights_of_fingerprint": "0" * 12})
    with pytest.raises(tz.WeightsError, match="install the version that saved them"):
        tz.load(tmp_path)
    for name in ("titok-l32", "../titok-tiny", ["titok-tiny"]):
        edit(tmp_path, {"weights_of": name})
        with pytest.raises(tz.WeightsError, match=r"weights_of names .* that have: dm-codec-tiny, instella-tiny, kl-tiny, "):
            tz.load(tmp_path)
    edit(tmp_path, {"weights_of": "dm-codec-tiny", "weights_of_fingerprint": tz.load("dm-codec-tiny").weights})
    with pytest.raises(tz.WeightsError, match="missing"):
        tz.load(tmp_path)
    with pytest.raises(tz.WeightsError, match="none of these weights is equal to one of dm-codec-tiny"):
        made.save_pretrained(tmp_path / "x", weights_of=tz.load("dm-codec-tiny"))


def test_weights_that_do_not_ship_cannot_be_left_out(tmp_path: Path) -> None:
    """What was saved so could never be loaded again."""
    table = {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}}
    made, other = tz.load("titok-tiny", quantizer=table), tz.load("titok-tiny", **{"quantizer.levels": [8, 5, 5, 5, 5]})
    with pytest.raises(tz.WeightsError, match=r"other weights than load\('titok-tiny'\)"):
        made.save_pretrained(tmp_path / "x", weights_of=other)
    other.name = "mine"
    with pytest.raises(tz.WeightsError, match="'mine', which does not ship"):
        made.save_pretrained(tmp_path / "x", weights_of=other)
    assert not (tmp_path / "x").exists()


def test_half_of_a_table_and_no_table_at_all(tmp_path: Path) -> None:
    base = tz.load("titok-tiny")
    for number, levels in enumerate(([8, 5, 5, 5, 5], [5, 8, 5, 5, 5])):
        made = tz.load("titok-tiny", **{"quantizer.levels": levels})
        made.save_pretrained(tmp_path / str(number), torch.float16, weights_of=base)
        assert load_file(tmp_path / str(number) / "model.safetensors") == {}
    first, second = (tz.load(tmp_path / str(number)) for number in (0, 1))
    with pytest.raises(tz.TokenError, match="other weights"):
        second.decode(first.encode(media(first)))


def test_loading_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with Unfilled(10_000):
        torch.nn.Linear(3, 3), torch.nn.LSTM(3, 3), torch.nn.Conv1d(3, 3, 3)
        assert torch.nn.Buffer(torch.zeros(3)).normal_().abs().sum() > 0  # buffers are filled
        torch.manual_seed(3)
        torch.nn.Embedding(3, 3)
    assert torch.equal(torch.rand(1), expected)


def test_a_failed_upload_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", offline)
    with pytest.raises(tz.WeightsError, match=r"cannot upload to me/x \(no route to host\); save_pretrained"):
        tz.load("titok-tiny").push_to_hub("me/x")
    unsaved = tz.load("titok-tiny")
    unsaved.quantizer = type("Mine", (FSQ,), {})([8, 5, 5, 5, 5])
    with pytest.raises(tz.WeightsError, match="register"):  # before a repository is made
        unsaved.push_to_hub("me/x")
