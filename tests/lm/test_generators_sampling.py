"""Generators: what they promise of seeds, batches and classes, and that they learn."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo import InputError, TokenSpec
from tokenizers_zoo.blocks.masked import SkipTransformer
from tokenizers_zoo.lm import generators
from tokenizers_zoo.lm.generators import DimensionHead, Generator, MaskedAutoregressive, MaskGIT, MaskGITSampling, Sampling
from tokenizers_zoo.lm.generators.dimensions import _drawn
from tokenizers_zoo.lm.generators.maskgit import _noisy

ONE = TokenSpec("one", "image", (11,), ("pixel",), "sequence", image_size=32, positions=6)
MANY = TokenSpec("many", "image", (5,) * 3, ("pixel",) * 3, "grid", image_size=32, positions=9)


def maskgit(**options: object) -> MaskGIT:
    torch.manual_seed(0)
    return MaskGIT(ONE, 2, 32, 2, 2, **{"sampling": MaskGITSampling(4, 2.0, 1.5), **options})


def autoregressive() -> MaskedAutoregressive:
    torch.manual_seed(0)
    return MaskedAutoregressive(MANY, 2, 32, 2, 2, 32, 2, 2, order=(2, 0, 1), buffer=2, sampling=Sampling(4, 1.0, 2.0))


MAKERS: dict[str, Callable[[], Generator]] = {
    "maskgit": maskgit,
    "skips": lambda: maskgit(transformer=SkipTransformer),
    "autoregressive": autoregressive,
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_image_depends_on_its_own_seed_and_class(name: str) -> None:
    generator = MAKERS[name]().double()  # no ties by rounding
    tokens = generator.generate(4, [0, 1, 1, 0], seed=7)
    assert tokens.spec == generator.spec
    assert tokens.codes.shape == (4, len(generator.spec.codebook_sizes), generator.spec.positions)
    assert torch.equal(generator.generate(1, 1, seed=8).codes, tokens.codes[1:2])
    assert torch.equal(generator.generate(2, torch.tensor([0, 1]), seed=[10, 9]).codes, tokens.codes[[3, 2]])
    assert len({tuple(codes.flatten().tolist()) for codes in tokens.codes}) == 4
    torch.manual_seed(3)  # no other random numbers
    assert torch.equal(generator.generate(4, [0, 1, 1, 0], seed=7).codes, tokens.codes)


@pytest.mark.parametrize("name", MAKERS)
def test_greedy_needs_no_seed_and_counts_of_unknown_codes_fall(name: str) -> None:
    generator = MAKERS[name]().double()
    first, *trace, last = generator.trace(2, None, seed=1, temperature=0, steps=5)
    unknown = -1 if name == "autoregressive" else 11
    counts = [(codes == unknown).sum().item() for codes in (first, *trace, last)]
    assert counts[0] == first.numel()
    assert counts[-1] == 0
    assert counts == sorted(counts, reverse=True)
    if name != "autoregressive":  # whose order of positions is drawn
        assert torch.equal(generator.generate(2, None, seed=2, temperature=0, steps=5).codes, last)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "count is how many images"),
        ({"condition": 2}, r"a class 0 \.\. 1 for all"),
        ({"condition": [0, -1]}, r"a class 0 \.\. 1 for all"),
        ({"condition": [0, 1, 1]}, "one for each of 2"),
        ({"condition": 0.5}, "or None; got 0.5"),
        ({"condition": "dog"}, "or None; got 'dog'"),
        ({"seed": [1]}, "1 seeds for 2 items"),
        ({"seed": "a"}, "seed must be a whole number"),
        ({"steps": 0}, "steps is a number of passes"),
        ({"temperature": -1.0}, "temperature from 0 on"),
        ({"guidance": float("nan")}, "guidance are numbers"),
        ({"schedule": "cosine"}, "schedule is one of constant, linear"),
        ({"cfg": 3.0}, "no option cfg; there are steps, temperature"),
    ],
)
def test_bad_input(name: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MAKERS[name]().generate(**{"count": 2, **given})


def test_specs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="power is a number above 0"):
        maskgit().generate(1, power=0)
    with pytest.raises(InputError, match="writes one codebook, many has 3"):
        MaskGIT(MANY, 2, 8, 1, 1)
    with pytest.raises(InputError, match="as many levels"):
        MaskedAutoregressive(TokenSpec("x", "image", (2, 3), ("pixel",) * 2, "grid", positions=4), 2, 8, 1, 1, 8, 1, 1)
    speech = TokenSpec("speech", "audio", (4,), ("semantic",), "time", sample_rate=16000, hop=320)
    with pytest.raises(InputError, match="no fixed number of positions"):
        MaskGIT(speech, 2, 8, 1, 1)
    with pytest.raises(InputError, match="each of 3 dimensions once"):
        DimensionHead(8, 3, 4, 8, 1, 1, order=[0, 1, 1])


@torch.no_grad()
def test_noise_draws_from_the_softmax() -> None:
    logits, uniform = torch.tensor([0.3, -1.0, 1.2, 0.0]), torch.rand(20_000, 4)
    for drawn in (
        _noisy(logits.repeat(20_000, 1), 0.7, lambda *shape: uniform).argmax(dim=-1),
        _drawn(logits.repeat(20_000, 1), 0.7, uniform[:, 0]),
    ):
        found = torch.bincount(drawn, minlength=4) / 20_000
        assert torch.allclose(found, (logits / 0.7).softmax(dim=-1), atol=0.015)  # four standard deviations
    edge = torch.tensor([0.0, 1 - 2**-24])
    assert _drawn(torch.tensor([[-1e9, 0.0, -1e9]] * 2), 1.0, edge).tolist() == [1, 1]


@torch.no_grad()
def test_a_head_samples_from_what_forward_says_of_sampling() -> None:
    """Step by step with a cache, or at once; and the sequence that the reference trains on gives other logits."""
    torch.manual_seed(0)
    head = DimensionHead(16, 5, 4, 32, 2, 2, order=(3, 1, 4, 0, 2)).double()
    for value in head.parameters():  # the gates start at zero
        torch.nn.init.normal_(value, std=0.3)
    features = torch.randn(50, 16, dtype=torch.float64)
    codes = head.sample(features, 0)
    assert torch.equal(head(features, codes, sampling=True).argmax(dim=-1), codes)
    assert (head(features, codes) - head(features, codes, sampling=True)).abs().max() > 1e-3
    changed = codes.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 4  # said third: what comes before stays, what comes after changes
    same = (head(features, codes) - head(features, changed)).abs().amax(dim=(0, 2)) < 1e-9
    assert same.tolist() == [False, True, False, True, True]
    with pytest.raises(ValueError, match="uniform numbers"):
        head.sample(features, 1.0)


def learned(generator: Generator, codes: Tensor, loss: Callable[[Tensor, Tensor], Tensor], steps: int) -> Tensor:
    """What a generator says of two classes after training on one example of each."""
    classes, optimizer = torch.tensor([0, 1] * 8), torch.optim.Adam(generator.parameters(), 3e-3)
    start = {name: value.clone() for name, value in generator.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        loss(codes.repeat(8, 1, 1), classes).backward()
        optimizer.step()
    assert [name for name, value in generator.named_parameters() if torch.equal(value, start[name])] == []
    return generator.generate(2, [0, 1]).codes


@pytest.mark.parametrize("transformer", ["maskgit", "skips"])
def test_maskgit_learns(transformer: str) -> None:
    generator = MAKERS[transformer]()
    generator.sampling = MaskGITSampling(3, 0, 0, "linear")
    codes = torch.randint(11, (2, 1, 6))
    assert torch.equal(learned(generator, codes, generator.loss, 120), codes)


@pytest.mark.parametrize("sampling", [False, True])
def test_masked_autoregression_learns(sampling: bool) -> None:
    generator = autoregressive()
    generator.sampling = Sampling(3, 0, 1)
    codes = torch.randint(5, (2, 3, 9))
    found = learned(generator, codes, lambda c, y: generator.loss(c, y, sampling), 160)
    assert (found == codes).float().mean() > 0.9  # chance: 0.2


def test_the_docstring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With small untrained stand-ins for what is published."""
    tokenizer = tz.load("titok-tiny")
    small = MaskGIT(tokenizer.spec, 1000, 16, 2, 1)
    monkeypatch.setattr(tz, "load_official", lambda variant: tokenizer)
    names = {"load_generator": lambda name: small, "MaskGIT": MaskGIT, "tz": tz, "tokenizer": tokenizer}
    names |= {"codes": torch.zeros(2, 1, tokenizer.spec.positions, dtype=torch.long), "classes": torch.tensor([3, 4])}
    exec("\n".join(line.strip() for line in generators.__doc__.splitlines() if line.startswith("    ")), names)
    assert len(names["pictures"].pixels) == 4
    assert names["generator"].to_logits.weight.grad.any()
