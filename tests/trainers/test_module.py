"""The Lightning module: what a step does, and that a break in a run changes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toys
import yaml
from conftest import DATA
from runs import adam, audio_data, audio_module, fit, image_data, image_module
from torch import nn

import tokenizers_zoo as tz
from tokenizers_zoo import assembly, zoo
from tokenizers_zoo.cli import main
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.cli import HARMLESS
from tokenizers_zoo.trainers.export import export
from tokenizers_zoo.trainers.image_data import ImageData
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.trainers.objective import Objective, Term

pytestmark = pytest.mark.filterwarnings(
    *(f"ignore:{message}" for message in HARMLESS), "ignore:.*LeafSpec", "ignore:.*is not empty"
)


def test_a_run_with_a_break_equals_one_without(tmp_path: Path) -> None:
    whole = audio_module()
    losses = fit(whole, audio_data(), 7, tmp_path / "whole")
    fit(audio_module(), audio_data(), 3, tmp_path / "broken")  # breaks in the middle of the second epoch
    torch.manual_seed(99)
    resumed = audio_module()
    rest = fit(resumed, audio_data(), 7, tmp_path / "broken", resume=tmp_path / "broken" / "last.ckpt")
    assert rest == losses[3:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_each_process_draws_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three, which go on from a checkpoint that two wrote."""
    states = torch.stack([torch.Generator().manual_seed(seed).get_state() for seed in (8, 9)])
    drawn, gone_on = [], []
    for rank in range(3):
        module = image_module()
        monkeypatch.setattr(TokenizerModule, "global_rank", rank)
        torch.manual_seed(5)
        module.on_train_start()
        drawn.append(float(torch.rand(())))
        module.on_load_checkpoint({"random": states})
        gone_on.append([float(torch.rand((), generator=torch.Generator().set_state(x))) for x in module._random.values()])
    assert len(set(drawn)) == 3
    assert drawn[0] == float(torch.rand((), generator=torch.Generator().manual_seed(5)))
    assert gone_on == [[float(torch.rand((), generator=torch.Generator().manual_seed(seed)))] for seed in (8, 9)] + [[]]


def test_the_adversary_waits_for_its_step_and_steps_are_the_generators(tmp_path: Path) -> None:
    module = audio_module()
    before = [p.clone() for p in module.adversary.parameters()]
    losses = fit(module, audio_data(), 2, tmp_path / "two")
    assert all("discriminator" not in step for step in losses)
    assert all(torch.equal(a, b) for a, b in zip(before, module.adversary.parameters(), strict=True))
    losses = fit(audio_module(), audio_data(), 4, tmp_path / "four")
    assert [("discriminator" in step) for step in losses] == [False, False, True, True]


def test_exported_weights_are_the_average_and_decode_the_same(tmp_path: Path) -> None:
    module = image_module(license="for all")
    fit(module, image_data(), 4, tmp_path)
    export(tmp_path / "last.ckpt", tmp_path / "folder")
    loaded, average = tz.load(tmp_path / "folder"), module.averaged.eval()
    tokens = loaded.encode(DATA / "chelsea.jpg")
    assert (loaded.name, loaded.license) == ("titok-tiny", "for all")
    assert torch.equal(tokens.codes, average.encode(DATA / "chelsea.jpg").codes)
    assert torch.equal(loaded.decode(tokens).pixels, average.decode(tokens).pixels)
    assert not any("discriminator" in key for key in loaded.state_dict())
    export(tmp_path / "last.ckpt", tmp_path / "raw", averaged=False)
    assert torch.equal(tz.load(tmp_path / "raw").encoder.latents, module.tokenizer.encoder.latents)
    assert not torch.equal(tz.load(tmp_path / "raw").encoder.latents, loaded.encoder.latents)
    assert "| weights | moving average |" in (tmp_path / "folder/README.md").read_text()
    assert "| weights | last |" in (tmp_path / "raw/README.md").read_text()


def test_a_card_claims_no_average_that_the_run_had_not(tmp_path: Path) -> None:
    fit(image_module(ema=None), image_data(), 1, tmp_path)
    export(tmp_path / "last.ckpt", tmp_path / "folder")
    assert "| weights | last |" in (tmp_path / "folder/README.md").read_text()


@pytest.fixture
def captioned(monkeypatch: pytest.MonkeyPatch) -> TokenizerModule:
    monkeypatch.setattr(assembly, "_registered", {})
    for cls in (toys.Captioned, toys.Pooled, toys.Painted, toys.Letters):
        tz.register(cls)
    return TokenizerModule("captioned", toys.captioned(), {"squared": Term(nn.MSELoss())}, optimizer=adam)


def test_captions_of_a_batch_reach_every_step(
    captioned: TokenizerModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, forward = [], toys.Letters.forward
    monkeypatch.setattr(toys.Letters, "forward", lambda self, text: seen.append(sorted(text)) or forward(self, text))
    rows = [{"path": str(DATA / "chelsea.jpg"), "text": "a cat"}, {"path": str(DATA / "coffee.jpg")}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = ImageData(str(tmp_path / "m.jsonl"), 16, batch_size=2, workers=0, valid_items=2)
    fit(captioned, data, 1, tmp_path, limit_val_batches=1, val_check_interval=1)
    assert {text for texts in seen for text in texts} == {"", "a cat"}
    assert len(seen) >= 4  # encoder and decoder, in training and in validation
    with pytest.raises(tz.InputError, match="captioned takes text; a batch has media"):
        captioned.validation_step({"media": torch.rand(2, 3, 16, 16)}, 0)


def test_a_frozen_helper_is_in_the_mode_of_the_tokenizer_that_learns(captioned: TokenizerModule) -> None:
    module = captioned.train()
    photos, helper = torch.rand(2, 3, 16, 16), module.tokenizer.letters
    assert helper is module.ema.module.letters
    module(photos, text=["a caption of many letters", ""])
    assert helper.cut == 2  # cut and counted, in encoder and decoder
    assert not module.ema.module.encoder.training
    module.eval()
    with pytest.raises(tz.InputError, match="shorten"):
        module(photos, text=["a caption of many letters", ""])


def test_export_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(tz.WeightsError, match="no such checkpoint"):
        export(tmp_path / "none.ckpt", tmp_path / "folder")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(tz.WeightsError, match="tokenizers-zoo fit"):
        export(tmp_path / "other.ckpt", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_frozen_parts_neither_learn_nor_move(tmp_path: Path) -> None:
    module = image_module(frozen=("encoder", "quantizer"))
    before = {k: v.clone() for k, v in module.tokenizer.state_dict().items()}
    fit(module, image_data(), 2, tmp_path)
    moved = {k.split(".")[0] for k, v in module.tokenizer.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"decoder"}
    assert not module.tokenizer.encoder.training
    assert all(p.grad is None for p in module.tokenizer.encoder.parameters())


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    plain = {"adversary": None, "ema": None, "clip": None}
    large, small = image_module(**plain), image_module(accumulate=2, **plain)
    fit(large, image_data(), 1, tmp_path / "large")
    data = image_data()
    data.batch_size = 1
    assert len(fit(small, data, 1, tmp_path / "small")) == 2
    for a, b in zip(large.tokenizer.parameters(), small.tokenizer.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_clipping_applies(tmp_path: Path) -> None:
    """Plain gradient descent at rate 1 moves the weights by the clipped norm, and no further."""
    torch.manual_seed(0)
    sgd = {"optimizer": lambda p: torch.optim.SGD(p, 1.0), "schedule": None, "adversary": None, "ema": None}
    base = image_module()
    module = TokenizerModule("x", base.tokenizer, {"squared": Term(nn.MSELoss(), 100.0)}, clip=0.01, **sgd)
    before = [p.detach().clone() for p in module.tokenizer.parameters()]
    fit(module, image_data(), 1, tmp_path)
    moved = torch.stack([(a - b).norm() for a, b in zip(before, module.tokenizer.parameters(), strict=True)]).norm()
    assert float(moved.detach()) == pytest.approx(0.01, rel=1e-3)


def test_starts_from_a_weight_folder(tmp_path: Path) -> None:
    source = image_module().tokenizer
    source.save_pretrained(tmp_path)
    torch.manual_seed(7)
    module = image_module(initial=str(tmp_path))
    assert torch.equal(module.tokenizer.encoder.latents, source.encoder.latents)
    speech = audio_module().tokenizer
    with pytest.raises(tz.WeightsError, match="do not fit"):
        TokenizerModule("x", speech, {}, initial=str(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    module = image_module(objective={"squared": Term(nn.MSELoss(), float("nan"))})
    with pytest.raises(tz.InputError, match="lower the learning rate"):
        fit(module, image_data(), 1, tmp_path)


def test_a_loss_names_the_input_that_is_missing(tmp_path: Path) -> None:
    module = image_module(objective={"kl": Term(nn.Identity(), 1.0, ("kl",))})
    with pytest.raises(tz.InputError, match=r"the loss 'kl' needs kl; there are latents, media, output"):
        fit(module, image_data(), 1, tmp_path)


def test_a_term_of_weight_zero_is_not_computed() -> None:
    result = Reconstruction(torch.ones(1, 1, 4), torch.zeros(1, 1, 1))
    terms = Objective({"samples": Term(nn.L1Loss(), 2.0), "kl": Term(nn.Identity(), 0.0, ("kl",))})
    assert terms(result, {"media": torch.zeros(1, 1, 4)}) == {"samples": 2.0}


def test_the_verbs_train_validate_and_test(tmp_path: Path) -> None:
    """fit, validate, test and export from the command line, with a recipe that names its tokenizer by file."""
    recipe = {
        "model": {
            "name": "mine",
            "tokenizer": str(zoo.share("models") / "titok/titok-tiny.yaml"),
            "objective": {"squared": {"loss": "torch.nn.MSELoss"}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        },
        "data": {"class_path": "ImageData", "init_args": {"data": str(DATA), "image_size": 64, "batch_size": 2, "workers": 0}},
        "trainer": {
            "max_steps": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "default_root_dir": str(tmp_path),
            "callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(tmp_path), "save_last": True}}],
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "tokenizers_zoo"]
    options = ["-c", str(tmp_path / "recipe.yaml")]
    verbs = [["fit", *options, "--model.tokenizer.init_args.encoder.init_args.depth", "1"]]
    verbs += [[verb, *verbs[0][1:], "--ckpt_path", str(tmp_path / "last.ckpt")] for verb in ("validate", "test")]
    printed = []
    for verb in verbs:
        done = subprocess.run([*command, *verb], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout)
    assert "valid/squared" in printed[1]
    assert "test/squared" in printed[2]
    assert main(["export", str(tmp_path / "last.ckpt"), "-o", str(tmp_path / "mine"), "--dtype", "float16"]) == 0
    assert len(tz.load(tmp_path / "mine").encoder.transformer.blocks) == 1
    card = (tmp_path / "mine/README.md").read_text()
    assert "| steps | 2 |" in card
    assert "| seed | 0 |" in card
