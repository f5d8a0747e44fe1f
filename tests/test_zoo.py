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
from tokenizers_zoo.official import IMPORTERS
from tokenizers_zoo.quantizers import FSQ
from tokenizers_zoo.weights import plain_state


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
    for name in set(tz.list_tokenizers()) - set(filter(zoo.is_embedded, tz.list_tokenizers())):
        with pytest.raises(tz.WeightsError) as error:
            tz.load(name)
        assert f"create({name!r}) builds it untrained" in str(error.value)
        if name in IMPORTERS:
            source = IMPORTERS[name].hub or IMPORTERS[name].place
            for part in (f"load_official({name!r}", f"tokenizers-zoo import {name} ", "-o FOLDER", source):
                assert part in str(error.value)
        else:
            assert f"nobody has published weights of {name}" in str(error.value)
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


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dm-codec-tiny", {"sample_rate": 8000}, "has sample_rate 8000, these tokens have 16000"),
        ("dm-codec-tiny", {"encoder.hop": 160, "decoder.hop": 160}, "has hop 160, these tokens have 320"),
        ("titok-tiny", {"encoder.image_size": 72, "decoder.image_size": 72}, "has image_size 72, these tokens have 64"),
    ],
)
def test_tokens_of_another_rate_or_size_are_refused(name: str, change: dict[str, int], message: str) -> None:
    tokens = small(name).encode(media(small(name)))
    with pytest.raises(tz.TokenError, match=message):
        tz.create(name, **change).decode(tokens)


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


def test_load_takes_overrides(tmp_path: Path) -> None:
    whole = tz.load("titok-tiny")
    vector = {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}}
    made = tz.load("titok-tiny", quantizer=vector)
    plain = plain_state(made)
    assert all(torch.equal(plain[k], v) for k, v in plain_state(whole).items())  # FSQ has no weights
    assert made.quantizer.codebook_sizes == (16,)
    assert not made.training
    assert made.license == whole.license
    made.save_pretrained(tmp_path)
    again, images = tz.load(tmp_path), media(made)
    assert (again.config, again.weights) == (made.config, made.weights)
    assert torch.equal(again.encode(images).codes, made.encode(images).codes)
    again.decode(made.encode(images))  # the same weights by the same fingerprint


def test_a_replaced_part_is_fresh_and_a_changed_one_keeps_what_fits() -> None:
    whole = tz.load("dm-codec-tiny")
    quantizer = whole.config["init_args"]["quantizer"]
    fresh = tz.load("dm-codec-tiny", quantizer=quantizer)  # the same shapes
    assert not torch.equal(fresh.quantizer.in_proj.weight, whole.quantizer.in_proj.weight)
    assert torch.equal(fresh.semantic_head.weight, whole.semantic_head.weight)
    fewer = tz.load("dm-codec-tiny", **{"quantizer.quantizer.levels": 2})
    assert torch.equal(fewer.quantizer.in_proj.weight, whole.quantizer.in_proj.weight)
    audio = media(whole)
    assert torch.equal(fewer.encode(audio).codes, whole.encode(audio).codes[:, :2])
    other = tz.load("dm-codec-tiny", semantic_dim=5)
    assert other.semantic_head.weight.shape == (5, 256)
    assert torch.equal(other.encode(audio).codes, whole.encode(audio).codes)


def test_what_no_override_touches_stays_strict() -> None:
    with pytest.raises(tz.WeightsError, match=r"quantizer\.dim = 24"):
        tz.load("dm-codec-tiny", quantizer={"class_path": "BinaryQuantizer", "init_args": {"dim": 24}})
    with pytest.raises(tz.WeightsError, match=r"do not fit titok-tiny: .*wrong shape: encoder\.latents"):
        zoo.altered(tz.load("titok-tiny"), {"quantizer": "FSQ", "quantizer.levels": [4] * 5}) and zoo.altered(
            _wider(tz.load("titok-tiny")), {"quantizer": "FSQ", "quantizer.levels": [4] * 5}
        )


def _wider(tokenizer: tz.Tokenizer) -> tz.Tokenizer:
    """Weights that its config does not describe."""
    tokenizer.encoder.latents = torch.nn.Parameter(torch.zeros(85, 192))
    return tokenizer


def test_tokens_of_other_parts_are_of_other_weights() -> None:
    whole = tz.load("titok-tiny")
    fsq = {"class_path": "FSQ", "init_args": {"levels": [7, 5, 5, 5, 5]}}
    same, bits = tz.load("titok-tiny", quantizer=fsq), {"class_path": "BinaryQuantizer", "init_args": {"dim": 5}}
    plain, spherical = (tz.load("titok-tiny", quantizer=bits, **{"quantizer.spherical": on}) for on in (False, True))
    tokens = {"whole": whole.encode(media(whole)), "plain": plain.encode(media(plain))}
    for tokenizer, made in ((same, "whole"), (spherical, "plain"), (plain, "whole")):
        with pytest.raises(tz.TokenError, match=r"other weights"):
            tokenizer.decode(tokens[made])
    assert tz.load("titok-tiny", quantizer=bits, **{"quantizer.spherical": False}).weights == plain.weights


@pytest.mark.parametrize(
    "quantizer",
    [
        {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}},
        FSQ([8, 5, 5, 5, 5]),
    ],
)
def test_replace_puts_in_a_quantizer(quantizer: object, tmp_path: Path) -> None:
    made = tz.load("titok-tiny")
    before = made.weights
    assert made.replace(quantizer=quantizer) is made  # type: ignore[arg-type]
    assert made.weights not in ("", before)
    assert not made.quantizer.training
    made.save_pretrained(tmp_path)
    again, images = tz.load(tmp_path), media(made)
    assert again.config == made.config
    assert torch.equal(again.encode(images).codes, made.encode(images).codes)


def test_replace_gives_a_continuous_autoencoder_tokens_and_takes_them(tmp_path: Path) -> None:
    made = tz.create("titok-bl64-vae", **{"encoder.depth": 1, "decoder.depth": 1, "decoder.width": 64, "decoder.head.width": 64})
    made.eval().replace({"class_path": "BinaryQuantizer", "init_args": {"dim": 16}})
    assert made.weights == ""  # still untrained
    made.save_pretrained(tmp_path)
    assert tz.load(tmp_path).encode(media(made)).codes.shape == (1, 16, 64)
    with pytest.raises(tz.TokenError, match="continuous"):
        made.replace(quantizer=None).encode(media(made))


def test_replace_refuses_what_does_not_fit_and_keeps_what_was() -> None:
    made = tz.create("titok-tiny", **{"encoder.depth": 1, "decoder.depth": 1})
    before = made.quantizer
    for quantizer, message in (
        (FSQ([4]), r"does not fit titok-tiny: .*quantizer\.dim = 1"),
        ("PatchHead", "cannot be PatchHead"),
        ({"class_path": "os.system"}, "not a class of this library"),
        (3, "must be a part"),
    ):
        with pytest.raises(tz.WeightsError, match=message):
            made.replace(quantizer=quantizer)  # type: ignore[arg-type]
        assert made.quantizer is before
    with pytest.raises(tz.WeightsError, match="LMSPT's quantizer must be a part"):
        tz.create("lm-spt-tiny", **{"encoder.semantic.depth": 1}).replace(quantizer=None)


def test_an_unregistered_part_fails_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers_zoo.trainers.module import TokenizerModule

    class Ternary(FSQ):
        pass

    made = tz.create("titok-tiny", **{"encoder.depth": 1, "decoder.depth": 1})
    made.quantizer = Ternary([4] * 5)
    with pytest.raises(tz.WeightsError, match=r"quantizer is a Ternary.*register\(Ternary\)"):
        TokenizerModule("x", made, {})


def test_create_takes_an_assembly_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (zoo.share("models") / "titok" / "titok-tiny.yaml").read_text()
    path.write_text("# Mine, of two lines,\n# in words.\n" + text[text.index("class_path") :])
    for name in (path, str(path)):
        made = tz.create(name, **{"encoder.depth": 1, "decoder.depth": 1})
        assert made.name == "mine"
        assert zoo.describe(name) == "Mine, of two lines, in words."
    made.save_pretrained(tmp_path / "weights")
    assert tz.load(tmp_path / "weights").config == made.config
    for content, message in (
        ("a: [", "is not YAML"),
        ("[]", "must hold class_path"),
        ("class_path: TiTok\ninit_args: [1]", "must hold class_path and init_args"),
        ("class_path: FSQ\ninit_args: {levels: [4]}", "cannot be FSQ; choose one of DMCodec, .*LMSPT, .*TiTok"),
        ("class_path: os.system", "not a class of this library"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
        ("\x00", "is not YAML"),
    ):
        path.write_text(content)
        with pytest.raises(tz.WeightsError, match=message):
            tz.create(path)
    path.write_bytes(b"\xff\xfe\x00")
    for wrong in (path, tmp_path / "missing.yaml", "titok-tny", "models"):
        with pytest.raises(tz.WeightsError, match=r"cannot be read|choose one of .*titok-tiny.*or a \.yaml file"):
            tz.create(wrong)
