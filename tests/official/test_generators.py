"""Published generators will work: the reference's logits and tokens from our importers and networks.

`tokenbridge_tiny` was recorded from the reference with 2 blocks everywhere, 16 positions, 7 classes, 8 levels, 3 class tokens.
"""

import math

import pytest
import torch
from official import recorded
from torch import Tensor

from tokenizers_zoo import TokenSpec, WeightsError, create
from tokenizers_zoo.lm import GENERATORS, create_generator, load_generator
from tokenizers_zoo.lm.generators import DimensionHead, MaskedAutoregressive, MaskGIT, MaskGITSampling, Sampling
from tokenizers_zoo.lm.generators.published import IMPORTERS, ORDER

MILLIONS = {
    "maskgit-titok-l32": 177.2,
    "maskgit-titok-b64": 177.2,
    "maskgit-titok-s128": 295.0,
    "tokenbridge-l": 486.9,
    "tokenbridge-h": 910.0,
}
MASKGIT = {"titok_maskgit_tiny": "maskgit-titok-l32", "titok_maskgit_tiny_uvit": "maskgit-titok-s128"}
GREEDY = {
    "constant": MaskGITSampling(8, 0, 3.0, "constant"),
    "linear": MaskGITSampling(8, 0, 4.5, "linear"),
    "power_cosine": MaskGITSampling(8, 0, 6.9, "power-cosine"),
    "linear_softmax_annealing": MaskGITSampling(8, 0, 4.5, "linear", annealing=True),
}


def maskgit(case: str, state: dict[str, Tensor] | None = None) -> MaskGIT:
    spec = TokenSpec("titok", "image", (96,), ("pixel",), "sequence", image_size=256, positions=32)
    state = recorded.state(case) if state is None else state
    return load_generator(MASKGIT[case], state, spec=spec, classes=10, width=64, depth=2, heads=4)


def tokenbridge(state: dict[str, Tensor]) -> MaskedAutoregressive:
    spec = TokenSpec("kl", "image", (8,) * 16, ("pixel",) * 16, "grid", image_size=64, positions=16)
    sizes = {"width": 32, "depth": 2, "heads": 2, "head_width": 48, "head_depth": 2, "head_heads": 4, "buffer": 3}
    return load_generator("tokenbridge-l", state, spec=spec, classes=7, **sizes)


@pytest.mark.parametrize("case", MASKGIT)
@torch.no_grad()
def test_maskgit(case: str) -> None:
    generator, io = maskgit(case), recorded.io(case)
    classes, none = io["input.classes"], torch.full((3,), 10)
    for name, condition in (("logits", classes), ("logits_null", none)):
        assert torch.allclose(generator(io["input.tokens"], condition), io[f"output.{name}"], rtol=0, atol=1e-4)
    for name, how in GREEDY.items():
        *trace, last = generator.trace(3, classes, **vars(how))
        assert torch.equal(torch.stack(trace)[:, :, 0], io[f"output.greedy.{name}.trace"])
        assert torch.equal(last[:, 0], io[f"output.greedy.{name}"])
    assert torch.equal(generator.generate(3, classes, **vars(GREEDY["linear"])).codes[:, 0], io["output.greedy.linear"])


@pytest.mark.parametrize("case", MASKGIT)
@torch.no_grad()
def test_maskgit_with_recorded_noise(case: str) -> None:
    generator, io = maskgit(case), recorded.io(case)
    both = zip(io["output.sampled.uniform_ids"], io["output.sampled.uniform_confidence"], strict=True)
    uniform = iter([numbers for pair in both for numbers in pair])
    how = MaskGITSampling(8, 4.5, 4.5, "linear")
    *trace, last = generator.sample(io["input.classes"], how, lambda *shape: next(uniform))
    assert torch.equal(torch.stack(trace)[:, :, 0], io["output.sampled.trace"])
    assert torch.equal(last[:, 0], io["output.sampled"])
    given = io["output.greedy.constant"], io["output.train.uniform_ratio"], io["output.train.uniform_order"]
    masked, hidden = generator.masked(*given)
    assert torch.equal(masked, io["output.train.masked_tokens"])
    assert torch.equal(hidden.long(), io["output.train.masks"])


@torch.no_grad()
def test_tokenbridge() -> None:
    generator, io = tokenbridge(recorded.state("tokenbridge_tiny")), recorded.io("tokenbridge_tiny")
    codes, masked, classes, none = io["input.codes"], io["input.masked"].bool(), io["input.classes"], torch.full((3,), 7)
    features = generator(codes, masked, classes)
    assert torch.allclose(features, io["output.features"], rtol=0, atol=1e-5)
    assert torch.allclose(generator(codes, masked, none), io["output.features_null"], rtol=0, atol=1e-5)
    logits = generator.head(features[masked], codes.transpose(1, 2)[masked])
    assert torch.allclose(logits, io["output.logits"], rtol=0, atol=1e-5)
    places = io["input.order"].argsort(dim=1) / 16  # numbers whose order is the recorded one
    for name, how, condition in (
        ("linear", Sampling(6, 0, 3.1), classes),
        ("constant", Sampling(5, 0, 2.0, "constant"), classes),
        ("plain", Sampling(20, 0, 1.0), classes),  # more steps than positions
        ("no_class", Sampling(4, 0, 1.0), none),
    ):
        *_, last = generator.sample(condition, how, lambda *shape: places)
        assert torch.equal(last, io[f"output.greedy.{name}"])


@pytest.mark.slow
@pytest.mark.parametrize("order", [range(16), ORDER])
@torch.no_grad()
def test_tokenbridge_head_of_published_size(order: range | tuple[int, ...]) -> None:
    """Recorded codes are in the order in which they are said."""
    state, io = recorded.state("tokenbridge_head"), recorded.io("tokenbridge_head")
    head = DimensionHead(1024, 16, 64, 1024, 4, 8, order)
    keys = {key: IMPORTERS["tokenbridge-l"].key(f"head.{key}") for key in head.state_dict()}
    assert sorted(keys.values()) == sorted(state)
    head.load_state_dict({key: state[keys[key]].reshape(value.shape) for key, value in head.state_dict().items()})
    masked, back = io["input.mask"].bool(), torch.tensor(order).argsort()
    features, targets = io["input.features"][masked], io["input.targets"][masked]
    greedy = io["output.greedy_tokens"][:, back]
    assert torch.equal(head.sample(features, 0), greedy)
    for codes, sampling, wanted in (
        (targets[:, back], False, "logits"),
        (greedy, False, "teacher_forced_logits_of_greedy"),
        (greedy, True, "greedy_logits"),
    ):
        found = head(features, codes, sampling)[:, list(order)]
        assert torch.allclose(found, io[f"output.{wanted}"], rtol=0, atol=1e-4)
    if tuple(order) == ORDER:
        assert torch.equal(greedy, io["output.greedy_tokens_original_order"])


@pytest.mark.parametrize("name", GENERATORS)
def test_published_sizes_and_tokenizers(name: str) -> None:
    with torch.device("meta"):
        generator = create_generator(name)
    shapes = IMPORTERS[name].shapes(generator)
    assert round(sum(map(math.prod, shapes.values())) / 1e6, 1) == MILLIONS[name]
    with torch.device("meta"):
        assert generator.spec == create(generator.spec.name).spec


def test_strictness_and_training_states() -> None:
    state = recorded.state("titok_maskgit_tiny")
    state["model.embeddings.position_ids"] = torch.arange(33)[None]  # older files have it
    assert "Apache-2.0" in maskgit("titok_maskgit_tiny", state).spec.license
    del state["model.encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(WeightsError, match=r"1 missing: model\.encoder\.layer\.1\.attention\.self\.qkv\.bias; 2 surplus"):
        maskgit("titok_maskgit_tiny", state)
    state = recorded.state("tokenbridge_tiny")
    buffers = {"channel_mask": torch.zeros(16, 16), "reconstruction_values": torch.zeros(8), "boundaries": torch.zeros(9)}
    raw = {key: torch.zeros_like(value) for key, value in state.items()} | buffers
    found = tokenbridge({"model": raw, "model_ema": state, "epoch": 3, "optimizer": {}})
    assert torch.equal(found.mask_token, state["mask_token"][0, 0])
    assert not tokenbridge({"model": raw, "epoch": 3}).mask_token.any()
    with pytest.raises(WeightsError, match=r"1 surplus: extra"):
        tokenbridge(state | {"extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"choose one of maskgit-titok-l32"):
        load_generator("titok-l32")
    with pytest.raises(WeightsError, match="neither a file"):
        load_generator("maskgit-titok-l32", "no/such/file.bin", width=16, depth=2, heads=1)
    with pytest.raises(WeightsError, match=r"cannot be built: .*levels"):
        create_generator("maskgit-titok-l32", levels=3)
