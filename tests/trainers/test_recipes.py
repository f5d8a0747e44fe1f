"""Every recipe in trainers/, with fewer blocks and random teachers: gradients go where they should, and one batch is learned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import yaml
from conftest import DATA
from lightning.pytorch.cli import LightningCLI
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from models import classifier, clip_model, language_model, speech_model, vision_model
from tokenizers_zoo import zoo
from tokenizers_zoo.losses.distillation import TAxisDistillation
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.cli import cli
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.trainers.sharding import shard

RECIPES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "trainers").glob("*.yaml"))}
ABLATIONS = sorted(RECIPES["lm-spt-25hz"].parent.glob("lm-spt-ablations/*.yaml"))
LEARNED = {  # of the first loss, what 15 steps on one batch leave at most
    "dm-codec": 0.9,
    "dm-codec-tiny": 0.8,
    "dualtoken-384": 0.9,
    "dualtoken-tiny": 0.8,
    "flextok-d12-d12": 0.9,
    "flextok-tiny": 0.8,
    "instella-tiny": 0.8,
    "kl-tiny": 0.8,
    "lm-spt-12.5hz-24k": 0.9,
    "lm-spt-25hz": 0.9,
    "lm-spt-tiny": 0.8,
    "speechtokenizer": 0.9,
    "textok-tiny": 0.8,
    "textok-vq-128": 0.8,
    "titok-bl128-vq": 0.8,
    "titok-s128-stage1": 0.8,
    "titok-s128-stage2": 0.9,
    "titok-tiny": 0.7,
    "tokenflow-clipb": 0.9,
    "tokenflow-tiny": 0.8,
}
CUTS = {
    "depth": 1,
    "filters": 4,
    "semantic_dim": 16,
    "batch_size": 2,
    "seconds": 0.5,
    "channels": 32,
    "random": True,
    "image_size": 32,
    "width": 48,
    "depths": [1],
    "least": 32,
    "sizes": [32],
    "scales": [1, 2, 8],
}
WIDTHS = {  # of discriminators, which are built at their narrowest: groups divide it
    "BlurPatchDiscriminator": 32,
    "MultiBandSTFTDiscriminator": 4,
    "MultiPeriodDiscriminator": 2,
    "MultiResolutionDiscriminator": 4,
    "MultiScaleDiscriminator": 16,
    "MultiScaleSTFTDiscriminator": 4,
    "PatchDiscriminator": 8,
    "ResidualPatchDiscriminator": 32,
}


def cut(value: Any, folder: Path) -> Any:
    """The same recipe with one block a stack, on the test media, with teachers from `folder`."""
    if isinstance(value, list):
        return [cut(item, folder) for item in value]
    if value == "LPIPS":
        return {"class_path": "LPIPS", "init_args": {"random": True}}
    if isinstance(value, str) and value in WIDTHS:
        value = {"class_path": value, "init_args": {}}
    if not isinstance(value, dict):
        return value
    args = {key: item if key == "class_path" else CUTS.get(key, cut(item, folder)) for key, item in value.items()}
    inside = args.get("init_args")
    match args.get("class_path"):
        case "SpeechTeacher":
            inside["path"] = speech_model(folder / "speech", "whisper" if "whisper" in inside["path"] else "hubert")
        case "WhisperEncoder":
            inside["path"] = speech_model(folder / "whisper", "whisper")
        case "TextTeacher":
            inside["path"] = language_model(folder / "text")
        case "TimmNetwork":
            inside["weights"] = classifier(folder, inside["name"])
        case "CLIPNetwork":
            inside["path"] = clip_model(folder / "clip")
        case "CLIPTrunk":
            inside["patch_size"] = 4
        case "ConvGridEncoder" | "ConvGridDecoder":
            inside |= {"grid": 8, "multipliers": [1, 2, 4]}
        case "SharedIndexQuantizer":
            inside["codebook_size"] = 64
        case "SemanticDecoder":
            inside |= {"dim": CUTS["semantic_dim"], "grid": 8}
        case "HubNetwork":
            inside["path"] = vision_model(folder / "vision")
        case "DualVocabularyEncoder":
            inside["depths"] = [1, 1, 1]
        case "GridDecoder":
            inside["width"] = 64  # groups divide it
        case "SigLIPTeacher":
            inside |= {"path": None, "patch_size": 14, "width": 24, "depth": 1, "heads": 3}
        case "TokenTeacher":
            inside["side"] = 4
            inside["teacher"]["init_args"]["tap"] = "network.blocks.1"
        case "SemanticHead":
            inside |= {"width": 24, "heads": 3}  # what its teachers give
        case "Projector":
            inside |= {"width": 64, "dim": 16}
        case "TorchvisionNetwork":
            inside |= {"name": "mobilenet_v3_small", "weights": classifier(folder, "mobilenet_v3_small")}
        case name if name in WIDTHS:
            inside["width"] = WIDTHS[name]
        case "TextEncoder" | "T5Text":
            stub = {name: inside[name] for name in ("dim", "length")}
            return {"class_path": toys.StubText.__name__, "init_args": stub}
        case "VQGANDecoder" | "ProxyTeacher":
            inside["channels"] = 32
        case "ImageData":
            inside |= {"data": str(DATA), "workers": 0}
        case "AudioData":
            (folder / "clips.csv").write_text("path,text\n" + "".join(f"{p},a few words\n" for p in sorted(DATA.glob("*.wav"))))
            inside |= {"data": str(folder / "clips.csv"), "cache": str(folder / "cache"), "workers": 0}
    return args


def built(name: str, folder: Path, *more: Path, overrides: Sequence[str] = ()) -> LightningCLI:
    """The recipe with cuts; `more` are configs on top of it, and then `overrides`."""
    recipe = yaml.safe_load(RECIPES[name].read_text())
    tokenizer = recipe["model"]["tokenizer"]
    if isinstance(tokenizer, str):
        recipe["model"]["tokenizer"] = yaml.safe_load((RECIPES[name].parent / tokenizer).resolve().read_text())
    recipe["model"].pop("initial", None)  # what the first stage leaves is not here
    recipe = cut(recipe, folder)
    if name == "dm-codec-tiny":  # the student has a part for each of its two teachers
        recipe["model"]["tokenizer"]["init_args"]["semantic_dim"] = 32
    recipe["trainer"] = {"accelerator": "cpu", "logger": False, "default_root_dir": str(folder)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    options = ["-c", str(folder / "recipe.yaml")]
    for path in more:
        (folder / path.name).write_text(yaml.safe_dump(cut(yaml.safe_load(path.read_text()), folder)))
        options += ["-c", str(folder / path.name)]
    return cli([*options, *overrides], run=False)


def check_gradients(module: TokenizerModule) -> None:
    """After a step: all of the tokenizer but its frozen parts learns, and nothing of the objective does."""
    missing = {key for key, p in module.tokenizer.named_parameters() if p.requires_grad and p.grad is None}
    assert not missing
    resting = {key.split(".")[0] for key, p in module.tokenizer.named_parameters() if not p.requires_grad}
    assert resting == set(module.frozen)
    assert all(p.grad is None and not p.requires_grad for p in module.objective.parameters())


@contextmanager
def one_process(folder: Path) -> Iterator[DeviceMesh]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


def made(result: Reconstruction) -> torch.Tensor:
    """The output, or what a flow says in its place."""
    return result.features["velocity"] if result.output is None else result.output


def check_sharding(module: TokenizerModule, media: torch.Tensor, given: dict[str, Any], folder: Path) -> None:
    """Under FSDP2 every block is whole when it computes: forward, backward, and what prediction calls."""
    tokenizer = module.tokenizer.eval()
    whole = made(tokenizer(media, **given)).detach()
    with one_process(folder) as mesh:
        shard(tokenizer, mesh)
        output = made(tokenizer(media, **given))
        torch.testing.assert_close(output, whole)
        if module.adversary:
            shard(module.adversary.discriminator, mesh)
            module.adversary.judge(output, media).discriminator.backward()
        output.mean().backward()
        if output.shape == media.shape and tokenizer.quantizer:  # TiTok's first stage gives logits, an autoencoder has no tokens
            tokenizer.decode(tokenizer.encode(media, **given))


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",
    "ignore:LightningCLI's args",
    "ignore::DeprecationWarning",
    "ignore:.*returned a view tensor",  # which nothing changes in place
)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, tmp_path: Path) -> None:
    made = built(name, tmp_path)
    module, data = made.model, made.datamodule
    assert zoo.build(module.tokenizer.config, name).config == module.tokenizer.config  # what a checkpoint will say
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    given = {"text": ["a cup", "a black cat"]} if module.tokenizer.takes else {}
    optimizer = torch.optim.Adam([p for p in module.tokenizer.parameters() if p.requires_grad], 1e-3)
    totals = []
    for _ in range(15):
        total = torch.stack(list(module.objective(module(batch["media"], **given), batch).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < LEARNED[name] * totals[0]

    check_gradients(module)
    if module.adversary:
        module.adversary.judge(module(batch["media"], **given).output, batch["media"]).discriminator.backward()
        assert all(p.grad is not None for p in module.adversary.parameters())
    check_sharding(module, batch["media"], given, tmp_path)


@pytest.mark.parametrize("path", ABLATIONS, ids=[path.stem for path in ABLATIONS])
def test_ablations_of_lm_spt(path: Path, tmp_path: Path) -> None:
    made = built("lm-spt-25hz", tmp_path, path)
    made.datamodule.prepare_data()
    batch = next(iter(made.datamodule.train_dataloader()))
    terms = made.model.objective(made.model(batch["media"]), batch)
    assert ("guidance" in terms) == ("distillation" in path.stem) != ("resynthesis" in terms)
    torch.stack(list(terms.values())).sum().backward()
    check_gradients(made.model)


def test_titok_as_a_kl_autoencoder(tmp_path: Path) -> None:
    made = built("titok-bl128-vq", tmp_path, RECIPES["titok-bl128-vq"].parent / "titok-ablations/vae.yaml")
    variant = zoo.build(cut(zoo.assembly("titok-bl128-vae"), tmp_path), "titok-bl128-vae")
    variant.load_state_dict(made.model.tokenizer.state_dict())  # the same network
    media = torch.rand(2, 3, 32, 32)
    result = made.model(media)
    terms = made.model.objective(result, {"media": media})
    assert set(terms) == {"squared", "lpips", "logits", "kl"}
    torch.testing.assert_close(terms["kl"], 1e-6 * result.features["kl"].sum(1).mean())
    torch.stack(list(terms.values())).sum().backward()
    check_gradients(made.model)


def test_speechtokenizer_with_its_other_distillation(tmp_path: Path) -> None:
    made = built("speechtokenizer", tmp_path, overrides=["--model.objective.guidance.loss", "TAxisDistillation"])
    assert isinstance(made.model.objective["guidance"], TAxisDistillation)
