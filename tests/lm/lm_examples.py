"""Specs of every layout, and ragged batches of them, for the tests of lm/."""

import contextlib
import dataclasses
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from token_examples import GROUPED, SCALES, SPEECH, random_codes

from tokenizers_zoo import TokenError, Tokens, TokenSpec
from tokenizers_zoo.lm import Alphabet
from tokenizers_zoo.lm.patterns import CoarseFirst, Delay, Flatten, Nested, Parallel, Pattern, Rows, Scales, SemanticFirst

SPECS = {
    "speech": SPEECH,
    "one": SPEECH.select([0]),
    "two semantic": dataclasses.replace(
        SPEECH,
        name="two",
        codebook_sizes=(9, 9, 4, 4, 4),
        roles=("semantic",) * 2 + ("acoustic",) * 3,
        codebook_ids=tuple(range(5)),
    ),
    "grid": GROUPED,
    "bits": TokenSpec("bits", "image", (2,) * 20, ("pixel",) * 20, "sequence", image_size=32, positions=6),
    "fsq": TokenSpec(
        "fsq", "image", (60,), ("pixel",), "sequence", position_prefixes=True, image_size=32, positions=16
    ),
    "square": TokenSpec("square", "image", (50, 3), ("pixel",) * 2, "grid", image_size=32, positions=9),
    "scales": SCALES,
}  # fmt: skip
ALPHABETS: dict[str, Callable[[TokenSpec], Alphabet]] = {
    "plain": Alphabet,
    "shared": lambda spec: Alphabet(spec, shared=True),
    "grouped": lambda spec: Alphabet(spec, most=128),
    "digits": lambda spec: Alphabet(spec, digits=(5, 4, 3) if set(spec.codebook_sizes) == {60} else ()),
}
MAKERS: dict[str, Callable[[Alphabet], Pattern]] = {
    "flatten": Flatten,
    "delay": Delay,
    "delays": lambda a: Delay(a, [(5 * i + 2) % 4 for i in range(len(a.sizes))]),  # the first lane is not ahead
    "moshi": lambda a: Delay(a, [0] + [1] * (len(a.sizes) - 1)),
    "parallel": Parallel,
    "coarse": CoarseFirst,
    "semantic": SemanticFirst,
    "rows": Rows,
    "wide": lambda a: Rows(a, a.spec.positions),
    "scales": Scales,
    "nested": Nested,
}


def cases() -> list[tuple[str, str, str]]:
    """Every pattern of every spec that it names, with every alphabet."""
    found = []
    for maker, spec, alphabet in ((m, s, a) for m in MAKERS for s in SPECS for a in ALPHABETS):
        own = ALPHABETS[alphabet](SPECS[spec])
        if alphabet in ("grouped", "digits") and own.sizes == SPECS[spec].codebook_sizes:
            continue
        with contextlib.suppress(TokenError):  # a pattern that does not name this layout
            MAKERS[maker](own)
            found.append((maker, spec, alphabet))
    return found


def built(maker: str, spec: str, alphabet: str = "plain") -> Pattern:
    return MAKERS[maker](ALPHABETS[alphabet](SPECS[spec]))


@st.composite
def ragged(draw: st.DrawFn, spec: TokenSpec) -> Tokens:
    """A batch of 0 to 4 items of any lengths."""
    most = spec.positions or 12
    lengths = draw(st.lists(st.integers(0, most), max_size=4))
    torch.manual_seed(draw(st.integers(0, 2**30)))
    return tokens(spec, lengths)


def tokens(spec: TokenSpec, lengths: list[int]) -> Tokens:
    """Random ones, clips ending within their last frame."""
    codes = random_codes(spec, tuple(lengths))
    if spec.modality == "image":
        return Tokens(codes, spec, lengths)
    samples = [max(0, n * 320 - int(torch.randint(0, 320, ()))) for n in lengths]
    return Tokens(codes, spec, lengths, num_samples=torch.tensor(samples, dtype=torch.int32))
