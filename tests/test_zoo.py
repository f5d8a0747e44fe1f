"""Names, assemblies, weight folders; nothing is imported or unpickled because a file said so."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import media, small
from safetensors.torch import load_file, save_file

import tokenizers_zoo as tz
from tokenizers_zoo import zoo
from tokenizers_zoo.quantizers import FSQ


def test_list_takes_patterns() -> None:
    assert set(tz.list_tokenizers()) >= {
        "dm-codec",
        "speechtokenizer",
        "titok-l32",
        "titok-b64",
        "titok-s128",
        "titok-bl64-vq",
        "titok-bl128-vq",
        "titok-sl256-vq",
        "titok-ll32-vae",
        "titok-bl64-vae",
        "titok-bl128-vae",
        "dm-codec-tiny",
        "titok-tiny",
    }
    assert tz.list_tokenizers("titok-*-vae") == ["titok-bl128-vae", "titok-bl64-vae", "titok-ll32-vae"]
    assert tz.list_tokenizers("nothing*") == []


def test_every_system_has_a_card_and_every_variant_a_description() -> None:
    for folder in (p for p in zoo.share("models").iterdir() if p.is_dir()):
        assert (folder / "README.md").is_file(), folder
    assert all(zoo.describe(name).endswith(".") for name in tz.list_tokenizers())


def test_importing_is_light() -> None:
    """`import tokenizers_zoo` pulls in none of the heavy packages."""
    code = (
        "import sys, tokenizers_zoo; print([m for m in ('transformers','lightning','librosa','torchaudio') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_overrides_reach_parts() -> None:
    tokenizer = tz.create("titok-tiny", **{"encoder.depth": 1, "decoder.head.patch_size": 8})
    assert len(tokenizer.encoder.transformer.blocks) == 1
    fsq = {"class_path": "FSQ", "init_args": {"levels": [8, 8, 8]}}
    projected = {"class_path": "ProjectedQuantizer", "init_args": {"dim": 16, "quantizer": fsq}}
    ablation = tz.create("titok-bl64-vae", quantizer=projected, **{"encoder.depth": 1, "decoder.depth": 1})
    assert isinstance(ablation.quantizer.quantizer, FSQ)
    assert ablation.encode(media(ablation)).codes.shape == (1, 1, 64)
    with pytest.raises(tz.WeightsError, match="no part 'encdoer'"):
        tz.create("titok-tiny", **{"encdoer.depth": 1})
    with pytest.raises(tz.WeightsError, match=r"cannot be built.*it takes"):
        tz.create("titok-tiny", **{"encoder.dpth": 1})
    with pytest.raises(tz.WeightsError, match="choose one of"):
        tz.create("titok-tny")


def test_load_names_the_way_out() -> None:
    with pytest.raises(tz.WeightsError, match="load_official"):
        tz.load("titok-l32")
    with pytest.raises(tz.WeightsError, match="neither a variant"):
        tz.load("no-such-thing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small("titok-tiny").save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def edit(folder: Path, change: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))


EVIL = [
    {"class_path": "os.system", "init_args": {"command": "touch hacked"}},
    {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
    {"class_path": "tokenizers_zoo.models.titok.TiTok", "init_args": {}},
    {"class_path": "NoSuchClass", "init_args": {}},
    {"class_path": ["TiTok"], "init_args": {}},
    {"class_path": "FSQ", "init_args": {"levels": [8]}},
    {"class_path": "TiTok", "init_args": {"encoder": {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}}},
    {"class_path": "TiTok", "init_args": {"encoder": {"import": "os"}}},
    {"class_path": "TiTok", "init_args": ["encoder"]},
    {"class_path": "TiTok", "init_args": {"surprise": 1}},
    {"class_path": "TiTok", "init_args": {"encoder": 3, "decoder": None}},
    {"class_path": "TiTok", "init_args": {"encoder": {"class_path": "FSQ", "init_args": {"levels": [8] * 40}}, "decoder": 1}},
]


@pytest.mark.parametrize("change", EVIL)
def test_configs_name_only_our_classes(folder: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    edit(folder, change)
    with pytest.raises(tz.WeightsError):
        tz.load(folder)
    assert not (folder / "hacked").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not JSON"), ("[]", "not a config"), ("{}", "not a config"), ('{"format": 1}', "checksum"), ("\x00", "not JSON")],
)
def test_damaged_configs(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(tz.WeightsError, match=message):
        tz.load(folder)


def test_damaged_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(tz.WeightsError, match="checksum"):
        tz.load(folder)
    path.unlink()
    with pytest.raises(tz.WeightsError, match="missing"):
        tz.load(folder)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hacked",)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ".pth", ".safetensors"])
def test_pickles_are_never_executed(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (
        ("pickle", lambda p: p.write_bytes(pickle.dumps(Exploit()))),
        ("torch", lambda p: torch.save(Exploit(), p)),
    ):
        path = tmp_path / f"{name}{suffix}"
        write(path)
        with pytest.raises(tz.WeightsError, match=r"plain tensors|whole safetensors"):
            tz.load_official("dm-codec", path)
    assert not (tmp_path / "hacked").exists()


def test_a_pickle_in_a_weight_folder_is_refused(folder: Path) -> None:
    import hashlib

    data = pickle.dumps(Exploit())
    (folder / "model.safetensors").write_bytes(data)
    edit(folder, {"sha256": hashlib.sha256(data).hexdigest()})
    with pytest.raises(tz.WeightsError, match="whole safetensors"):
        tz.load(folder)


def test_weights_of_another_shape_are_listed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.latents"]
    state["more"] = torch.zeros(1)
    save_file(state, folder / "model.safetensors")
    import hashlib

    edit(folder, {"sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()})
    with pytest.raises(tz.WeightsError, match=r"1 missing: encoder\.latents; 1 surplus: more"):
        tz.load(folder)


def test_half_precision_folders(tmp_path: Path) -> None:
    tokenizer = small("titok-tiny")
    tokenizer.save_pretrained(tmp_path / "half", torch.float16)
    tokenizer.save_pretrained(tmp_path / "full")
    half = tz.load(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in half.parameters())
    sizes = [(tmp_path / k / "model.safetensors").stat().st_size for k in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]


def test_tokens_of_other_weights_are_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        tz.create("titok-tiny").save_pretrained(tmp_path / str(seed))
    first, second = (tz.load(tmp_path / str(seed)) for seed in (1, 2))
    tokens = first.encode(media(first))
    first.decode(tokens)
    with pytest.raises(tz.TokenError, match="other weights"):
        second.decode(tokens)


def test_push_to_hub_uploads_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    uploaded = {}

    class Api:
        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            uploaded["repo"] = (repo_id, private, exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            uploaded["files"] = sorted(os.listdir(folder_path))
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert small("titok-tiny").push_to_hub("me/titok", private=True) == "https://hub/me/titok"
    assert uploaded == {"repo": ("me/titok", True, True), "files": ["config.json", "model.safetensors"]}


def test_load_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, name: str(folder / name))
    assert tz.load("me/titok").name == "titok-tiny"

    def offline(repo: str, name: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(tz.WeightsError, match="me/titok from the Hub"):
        tz.load("me/titok")
