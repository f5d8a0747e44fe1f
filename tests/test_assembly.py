"""Assemblies: what they may name, how overrides change them, and that what was built can say what it was built from."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import media, small
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo import assembly, zoo
from tokenizers_zoo.blocks.base import ImageDecoder, ImageEncoder
from tokenizers_zoo.blocks.dual import DualEncoder
from tokenizers_zoo.blocks.gaussian import GaussianPosterior
from tokenizers_zoo.blocks.vit import PatchHead, ProxyCodeHead, ViTDecoder1D, ViTEncoder1D
from tokenizers_zoo.blocks.vocos import ISTFTDecoder, STFTEncoder
from tokenizers_zoo.models.lm_spt import LMSPT
from tokenizers_zoo.models.titok import TiTok
from tokenizers_zoo.part import Part
from tokenizers_zoo.quantizers import FSQ, BinaryQuantizer, Quantized, Quantizer, VectorQuantizer

VIT = {"image_size": 32, "positions": 6, "patch_size": 8, "width": 32, "depth": 1, "heads": 2}
SHALLOW = {"encoder.depth": 1, "decoder.depth": 1}


class Encoder(ImageEncoder):
    """Means of strips of the image."""

    def __init__(self, dim: int, positions: int, image_size: int):
        super().__init__()
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.proj = nn.Linear(3, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(torch.nn.functional.adaptive_avg_pool2d(images, (self.positions, 1))[..., 0].transpose(1, 2))


class Decoder(ImageDecoder):
    """Strips of one colour."""

    def __init__(self, dim: int, positions: int, image_size: int, head: nn.Module | None = None):
        super().__init__()
        self.dim, self.positions, self.image_size = dim, positions, image_size
        self.proj, self.head = nn.Linear(dim, 3), head

    def forward(self, latents: Tensor) -> Tensor:
        return self.proj(latents).transpose(1, 2)[..., None].expand(-1, -1, -1, self.image_size)


def titok(quantizer: Quantizer | None = None, **decoder: Any) -> TiTok:
    dims = {"dim": 5} | VIT
    head = PatchHead(width=32, patch_size=8)
    return TiTok(ViTEncoder1D(**dims), ViTDecoder1D(**(dims | {"head": head} | decoder)), quantizer or FSQ([7, 5, 5, 5, 5]))


@pytest.fixture
def registered() -> Iterator[None]:
    """Takes back what a test registers."""
    before = dict(assembly._registered)
    yield
    assembly._registered.clear()
    assembly._registered.update(before)


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    items = config.items() if isinstance(config, dict) else ()
    return {k: v for key, value in items for k, v in flat(value, f"{prefix}{key}.").items()} if items else {prefix: config}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("lm-spt-25hz", "encoder.acoustic.depth", 1),
        ("lm-spt-25hz", "encoder.semantic.encoder.filters", 4),
        ("lm-spt-12.5hz", "encoder.acoustic.context", 3),
        ("lm-spt-6.25hz", "encoder.acoustic", {"class_path": "SEANetEncoder", "init_args": {"dim": 512}}),
        ("titok-tiny", "encoder.depth", 1),
    ],
)
def test_an_override_changes_one_part_whatever_anchors_the_yaml_has(name: str, key: str, value: Any) -> None:
    before, after = flat(zoo.assembly(name)), flat(assembly.overridden(zoo.assembly(name), {key: value}))
    path = "init_args." + key.replace(".", ".init_args.")
    assert before != after
    assert all(before.get(k) == after.get(k) for k in before.keys() | after.keys() if not k.startswith(path))


def test_an_override_of_one_codebook_leaves_the_others() -> None:
    anchored = """
        class_path: LMSPT
        init_args:
          quantizer:
            class_path: SplitQuantizer
            init_args: {semantic: &q {class_path: FSQ, init_args: {levels: [4]}}, acoustic: *q}
    """
    changed = assembly.overridden(yaml.safe_load(anchored), {"quantizer.semantic.levels": [8]})["init_args"]["quantizer"]
    assert changed["init_args"]["semantic"]["init_args"] == {"levels": [8]}
    assert changed["init_args"]["acoustic"]["init_args"] == {"levels": [4]}


def test_the_given_values_and_the_zoo_stay_as_they_are() -> None:
    fsq = {"class_path": "FSQ", "init_args": {"levels": [8, 8, 8, 8, 8]}}
    given = copy.deepcopy(fsq)
    tz.create("titok-tiny", quantizer=fsq, **{"quantizer.levels": [4, 4, 4, 4, 4]}, **SHALLOW)
    assert fsq == given
    assert zoo.assembly("titok-tiny") == zoo.assembly("titok-tiny")


def test_whole_parts_are_put_in_before_arguments_of_parts() -> None:
    fsq = {"class_path": "FSQ", "init_args": {"levels": [8, 8, 8, 8, 8]}}
    made = tz.create("titok-tiny", **{"quantizer.levels": [4, 4, 4, 4, 4], "quantizer": fsq}, **SHALLOW)
    assert made.quantizer.codebook_sizes == (4**5,)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("titok-tiny", {"encdoer.depth": 1}, r"no part 'encdoer'; its parts here are encoder, quantizer, decoder"),
        ("titok-tiny", {"decoder.haed.width": 1}, r"decoder has no part 'haed'; its parts here are head"),
        ("titok-tiny", {"encoder.dim.x": 1}, r"encoder has no part 'dim'; its parts here are none; dim is 5"),
        ("lm-spt-tiny", {"auxiliary": None, "auxiliary.depth": 1}, r"no part 'auxiliary'.*auxiliary is None: give it whole"),
        ("titok-bl64-vae", {"quantizer.levels": [8]}, "no part 'quantizer'"),
        ("titok-tiny", {"encoder.": 1}, r"ViTEncoder1D cannot be built.*it takes"),
        ("titok-tiny", {"": 1}, r"TiTok cannot be built.*it takes"),
        ("titok-tiny", {"quantizer": "FQS"}, r"'FQS' is not a class of this library.*BinaryQuantizer.*FSQ.*register"),
        ("titok-tiny", {"quantizer": {"class_path": "PatchHead"}}, r"quantizer cannot be PatchHead; choose one of .*FSQ"),
        ("titok-tiny", {"encoder": "FSQ"}, r"encoder cannot be FSQ; choose one of .*ViTEncoder1D"),
        ("titok-tiny", {"encoder": None}, r"encoder must be a part.*ViTEncoder1D"),
        ("titok-tiny", {"quantizer": 7}, r"quantizer must be a part.*FSQ"),
        ("titok-tiny", {"decoder.head": "ELU"}, "not a class of this library"),
        ("titok-tiny", {"decoder.head": "Chain"}, "not a class of this library"),
        ("titok-tiny", {"decoder.head": "LSTM"}, "not a class of this library"),
        ("titok-tiny", {"encoder.heads": 0}, "ViTEncoder1D cannot be built from these arguments"),
        ("titok-tiny", {"encoder.patch_size": 0}, "ViTEncoder1D cannot be built from these arguments"),
        ("titok-tiny", {"encoder.dim": 10**15}, "ViTEncoder1D cannot be built from these arguments"),
    ],
)
def test_wrong_overrides_say_what_there_is(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(tz.WeightsError, match=re.compile(message, re.DOTALL)):
        tz.create(name, **overrides)


@pytest.mark.parametrize("value", [{1, 2}, torch.zeros(2), np.zeros(2), len, b"x", 1j])
def test_values_that_a_config_cannot_hold_are_refused_at_create(value: Any) -> None:
    with pytest.raises(tz.WeightsError, match=r"which a config cannot hold|cannot be built"):
        tz.create("titok-tiny", **{"encoder.legacy_reshape": value}, **SHALLOW)


def test_numpy_numbers_and_tuples_are_numbers_and_lists(tmp_path: Path) -> None:
    overrides = {"quantizer.levels": (np.int64(8), 5, 5, 5, 5), "encoder.depth": np.int32(1), "decoder.depth": np.uint8(1)}
    made = tz.create("titok-tiny", **overrides)
    assert json.loads(json.dumps(made.config)) == made.config
    made.save_pretrained(tmp_path)
    assert tz.load(tmp_path).config == made.config


def same(made: tz.Tokenizer, folder: Path) -> tz.Tokenizer:
    """Saved and loaded it has the same assembly and gives the same tokens."""
    made.eval().save_pretrained(folder)
    again, images = tz.load(folder), media(made)
    assert again.config == made.config
    assert torch.equal(again.encode(images).codes, made.encode(images).codes)
    return again


@pytest.mark.parametrize(
    "quantizer", [FSQ([8, 5, 5, 5, 5]), {"class_path": "VectorQuantizer", "init_args": {"codebook_size": 16, "dim": 5}}]
)
def test_what_create_made_loads_again(quantizer: Any, tmp_path: Path) -> None:
    same(tz.create("titok-tiny", quantizer=quantizer, **SHALLOW), tmp_path)


def test_a_tokenizer_assembled_in_python_loads_again(tmp_path: Path) -> None:
    made = titok(BinaryQuantizer(5, spherical=True))
    made.name = "mine"
    again = same(made, tmp_path)
    assert (again.name, again.quantizer.spherical, type(again.decoder.head)) == ("mine", True, PatchHead)


def test_exchanged_parts_are_saved_as_they_are(tmp_path: Path) -> None:
    made = titok()
    made.quantizer = VectorQuantizer(16, 5)
    made.decoder.head = PatchHead(32, patch_size=8)
    assert isinstance(same(made, tmp_path / "a").quantizer, VectorQuantizer)
    vae = TiTok(ViTEncoder1D(dim=10, **VIT), made.decoder, posterior=GaussianPosterior())
    vae.quantizer = FSQ([4] * 5)  # an argument that was not given
    assert same(vae, tmp_path / "b").quantizer.codebook_sizes == (1024,)


def test_what_a_config_cannot_say_is_refused_at_save_with_the_fix(tmp_path: Path) -> None:
    unnamed = TiTok(Encoder(5, 4, 32), Decoder(5, 4, 32), FSQ([4] * 5))
    with pytest.raises(tz.WeightsError, match=r"encoder is a Encoder, which a config cannot name: .*register\(Encoder\)"):
        unnamed.save_pretrained(tmp_path)
    made = titok()
    made.encoder.out_proj = nn.Linear(32, 5, bias=False)
    with pytest.raises(tz.WeightsError, match=r"changed after it was built.*surplus|missing: encoder\.out_proj\.bias"):
        made.save_pretrained(tmp_path)
    with pytest.raises(tz.WeightsError, match="head is a Linear"):
        titok(head=nn.Linear(1, 1)).save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_class_that_the_files_name_can_be_named_and_internals_cannot() -> None:
    def named(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["class_path"]] if "class_path" in value else []
            value = list(value.values())
        for item in value if isinstance(value, list) else ():
            yield from named(item)

    known = assembly.registry()
    assert {name for variant in tz.list_tokenizers() for name in named(zoo.assembly(variant))} <= known.keys()
    assert (
        not {"ELU", "Chain", "LSTM", "ResidualUnit", "Snake", "Conv1d", "Attention", "Part", "Quantizer", "Tokenizer"}
        & known.keys()
    )


def test_registered_classes_can_be_named(tmp_path: Path, registered: None) -> None:
    @tz.register
    class Halves(Quantizer):
        """The sign of each dimension."""

        def __init__(self, dim: int = 5, **options: Any):
            super().__init__()
            self.dim, self.codebook_sizes, self.options = dim, (2,) * dim, options

        def forward(self, latents: Tensor) -> Quantized:
            return Quantized(latents, self.encode(latents), self.codebook_sizes, {}, latents)

        def encode(self, latents: Tensor) -> Tensor:
            return (latents > 0).long().transpose(1, 2)

        def decode(self, codes: Tensor) -> Tensor:
            return codes.transpose(1, 2).float()

    class Head(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.width = width
            self.proj = nn.Conv2d(width, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(self.proj(x), scale_factor=8)

    assert tz.register(Head) is Head
    assert tz.register(Halves) is Halves  # the same again
    head = {"class_path": "Head", "init_args": {"width": 192}}
    made = tz.create("titok-tiny", quantizer="Halves", **{"decoder.head": head, "quantizer.dim": 5}, **SHALLOW)
    assert made.config["init_args"]["decoder"]["init_args"]["head"] == head
    same(made, tmp_path / "a")
    same(TiTok(made.encoder, made.decoder, Halves(5, more=1)), tmp_path / "b")
    assert tz.load(tmp_path / "b").quantizer.options == {"more": 1}
    del assembly._registered["Halves"]  # another program, which has not registered it
    with pytest.raises(tz.WeightsError, match=r"'Halves' is not a class of this library.*register"):
        tz.load(tmp_path / "a")


def test_arguments_can_be_mappings_and_lists_of_parts(tmp_path: Path, registered: None) -> None:
    @tz.register
    class Both(BinaryQuantizer):
        """A mapping and a list of quantizers, the first of which decides."""

        def __init__(self, groups: dict[str, Quantizer], more: list[Quantizer]):
            super().__init__(groups["first"].dim)
            self.groups, self.more = nn.ModuleDict(groups), nn.ModuleList(more)

    sign = {"class_path": "BinaryQuantizer", "init_args": {"dim": 5}}
    made = tz.create(
        "titok-tiny", quantizer={"class_path": "Both", "init_args": {"groups": {"first": sign}, "more": [sign]}}, **SHALLOW
    )
    assert same(made, tmp_path / "a").config["init_args"]["quantizer"]["init_args"]["more"] == [sign]
    other = tz.create("titok-tiny", quantizer=Both({"first": BinaryQuantizer(5), "second": BinaryQuantizer(3)}, []), **SHALLOW)
    assert same(other, tmp_path / "b").quantizer.groups["second"].dim == 3
    spherical = assembly.overridden(other.config, {"quantizer.groups.second.spherical": True})
    assert zoo.build(spherical, "x").quantizer.groups["second"].spherical
    for wrong in (sign, {"first": {"class_path": "PatchHead"}}, [sign], None, 3):
        with pytest.raises(tz.WeightsError, match=r"PatchHead|cannot be built"):
            assembly.build({"class_path": "Both", "init_args": {"groups": wrong, "more": []}})


def test_the_layout_is_the_encoders() -> None:
    encoder = Encoder(5, 4, 32)
    encoder.layout = "grid"
    assert TiTok(encoder, Decoder(5, 4, 32), FSQ([4] * 5)).spec.layout == "grid"
    assert titok().spec.layout == "sequence"


def test_names_stay_unique_and_only_modules_register(registered: None) -> None:
    for name in ("FSQ", "TiTok", "PatchHead"):
        with pytest.raises(tz.WeightsError, match=f"two classes are called {name}.*rename yours"):
            tz.register(type(name, (FSQ,), {}))
    tz.register(type("Mine", (FSQ,), {}))
    with pytest.raises(tz.WeightsError, match="two classes are called Mine"):
        tz.register(type("Mine", (FSQ,), {}))
    for thing in (int, FSQ([4]), "FSQ", None, lambda: None):
        with pytest.raises(tz.WeightsError, match=r"takes a subclass of torch\.nn\.Module"):
            tz.register(thing)  # type: ignore[type-var]
    assert assembly.registry()["FSQ"] is FSQ


def stft(**change: Any) -> STFTEncoder:
    return STFTEncoder(**({"dim": 8, "hop": 64, "n_fft": 128, "width": 8, "depth": 1} | change))


def istft(**change: Any) -> ISTFTDecoder:
    return ISTFTDecoder(**({"dim": 8, "hop": 64, "n_fft": 128, "width": 8, "depth": 1} | change))


def lmspt(semantic: int = 8, acoustic: int = 8, decoder: int = 8, auxiliary: int = 8, rate: int = 16000) -> LMSPT:
    from tokenizers_zoo.quantizers import SplitQuantizer

    halves = SplitQuantizer(BinaryQuantizer(semantic), BinaryQuantizer(acoustic))
    return LMSPT(DualEncoder(stft(), stft()), halves, istft(dim=decoder), 16000, istft(dim=auxiliary), rate)


MISMATCHED = {
    "quantizer.dim": (lambda: titok(FSQ([8, 5, 5, 5])), r"encoder\.dim = 5, decoder\.dim = 5, quantizer\.dim = 4"),
    "bits": (lambda: titok(BinaryQuantizer(16)), r"encoder\.dim = 5, decoder\.dim = 5, quantizer\.dim = 16"),
    "decoder.dim": (lambda: titok(dim=4), r"encoder\.dim = 5, decoder\.dim = 4"),
    "positions": (lambda: titok(positions=7), r"encoder\.positions = 6, decoder\.positions = 7"),
    "image_size": (lambda: titok(image_size=64), r"encoder\.image_size = 32, decoder\.image_size = 64"),
    "patch": (lambda: titok(image_size=36), "image_size 36 must be a multiple of patch_size 8"),
    "encoder's patch": (
        lambda: ViTEncoder1D(dim=5, **(VIT | {"patch_size": 5})),
        "image_size 32 must be a multiple of patch_size 5",
    ),
    "head's patch": (lambda: titok(patch_size=4), r"decoder\.patch_size = 4, head\.patch_size = 8"),
    "head's width": (lambda: titok(head=PatchHead(16, 8)), r"decoder\.width = 32, head\.width = 16"),
    "moments": (
        lambda: TiTok(ViTEncoder1D(dim=5, **VIT), titok().decoder, posterior=GaussianPosterior()),
        r"encoder\.dim / 2 = 2\.5, decoder\.dim = 5",
    ),
    "moments, quantizer": (
        lambda: TiTok(ViTEncoder1D(dim=10, **VIT), titok().decoder, FSQ([4] * 10), GaussianPosterior()),
        r"encoder\.dim / 2 = 5, decoder\.dim = 5, quantizer\.dim = 10",
    ),
    "hop": (lambda: tz.create("dm-codec-tiny", **{"decoder.hop": 640}), r"encoder\.hop = 320, decoder\.hop = 640"),
    "audio": (lambda: tz.create("dm-codec-tiny", **{"quantizer.dim": 4}), r"encoder\.dim = 256, .*quantizer\.dim = 4"),
    "two hops": (lambda: DualEncoder(stft(), stft(hop=32)), r"semantic\.hop = 64, acoustic\.hop = 32"),
    "semantic half": (lambda: lmspt(semantic=4), r"encoder\.semantic\.dim = 8, .*quantizer\.semantic\.dim = 4"),
    "acoustic half": (lambda: lmspt(acoustic=4), r"quantizer\.acoustic\.dim = 4"),
    "halves of one sum": (lambda: lmspt(semantic=4, acoustic=12), r"quantizer\.acoustic\.dim = 12"),
    "sum of halves": (lambda: lmspt(decoder=16), r"decoder\.dim = 16"),
    "auxiliary": (lambda: lmspt(auxiliary=4), r"decoder\.dim = 8, auxiliary\.dim = 4"),
    "auxiliary's hop": (lambda: lmspt(rate=8000), r"auxiliary\.hop = 64, .* = 32"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_sizes_that_do_not_fit_are_said_at_construction_with_both_numbers(case: str) -> None:
    made, message = MISMATCHED[case]
    with pytest.raises(ValueError, match=message):
        made()


def test_sizes_that_fit_are_taken() -> None:
    assert lmspt().hop == 64
    assert TiTok(ViTEncoder1D(dim=10, **VIT), titok().decoder, posterior=GaussianPosterior()).quantizer is None
    proxy = assembly.build({"class_path": "VQGANDecoder", "init_args": {"dim": 8, "channels": 32, "multipliers": [1, 1, 2, 2]}})
    assert ViTDecoder1D(dim=5, **VIT, head=ProxyCodeHead(32, 16, proxy)).head.patch_size == 8


def test_a_wrong_override_is_said_by_create_as_weights_error() -> None:
    with pytest.raises(tz.WeightsError, match=r"TiTok cannot be built.*quantizer\.dim = 4"):
        tz.create("titok-tiny", **{"quantizer.levels": [8, 5, 5, 5]}, **SHALLOW)


def test_parts_keep_no_weights_of_their_arguments() -> None:
    made = small("dm-codec-tiny")
    assert not any(isinstance(value, Tensor | nn.Module) for value in flat(vars(made)["_built_from"][1]).values())


def test_parts_survive_a_copy_and_wrong_arguments_read_as_ever() -> None:
    made = titok()
    assert copy.deepcopy(made).config == made.config
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: 'levels'"):
        FSQ()  # type: ignore[call-arg]
    assert issubclass(FSQ, Part)


def test_configs_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    small("titok-tiny").save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for deep in ("[" * 100_000 + "]" * 100_000, "[" * 900 + "]" * 900):
        (tmp_path / "config.json").write_text(text.replace('"init_args": {', f'"init_args": {{"more": {deep}, ', 1))
        with pytest.raises(tz.WeightsError):
            tz.load(tmp_path)
