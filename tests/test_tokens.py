"""Tokens, TokenSpec and the .tok file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tokenizers_zoo import TokenError, Tokens, TokenSpec

SPEC = TokenSpec(
    name="codec",
    modality="audio",
    codebook_sizes=(1024, 5, 2),
    roles=("semantic", "acoustic", "acoustic"),
    layout="time",
    position_prefixes=True,
    codebook_prefixes=True,
    sample_rate=16_000,
    hop=320,
)


def tokens(lengths: tuple[int, ...] = (50, 3, 20), spec: TokenSpec = SPEC) -> Tokens:
    codes = torch.stack([torch.randint(0, n, (len(lengths), max(lengths))) for n in spec.codebook_sizes], dim=1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    samples = torch.tensor(lengths, dtype=torch.int32) * 320 - 5
    return Tokens(codes.masked_fill(~mask[:, None], -1), spec, torch.tensor(lengths), num_samples=samples)


def test_rates_and_bits_are_computed() -> None:
    assert SPEC.frame_rate == 50
    assert SPEC.bits_per_position == pytest.approx(10 + 2.321928 + 1)
    assert SPEC.bits_per_second == pytest.approx(50 * 13.321928)
    assert tokens((10,)).bits.tolist() == pytest.approx([133.21928 + 32])  # num_samples is side information: 32 bits
    image = replace(SPEC, modality="image", layout="sequence", sample_rate=None, hop=None, positions=32, image_size=64)
    assert image.bits_per_image == pytest.approx(32 * 13.321928)
    assert image.frame_rate is image.bits_per_second is None


def test_items_are_trimmed() -> None:
    batch = tokens()
    assert len(batch) == 3
    assert batch[1].codes.shape == (1, 3, 3)
    assert batch[1].conditions["num_samples"].tolist() == [955]
    assert batch[[2, 1]].lengths.tolist() == [20, 3]
    assert batch[1:].codes.shape == (2, 3, 20)
    assert [len(item) for item in batch] == [1, 1, 1]
    assert batch[-1] == batch[2]


def test_prefix_cuts_codes_lengths_and_samples() -> None:
    short = tokens().prefix(10)
    assert short.lengths.tolist() == [10, 3, 10]
    assert short.conditions["num_samples"].tolist() == [3200, 955, 3200]
    with pytest.raises(TokenError, match="at least 1"):
        tokens().prefix(0)
    with pytest.raises(TokenError, match="prefix"):
        tokens(spec=replace(SPEC, position_prefixes=False)).prefix(3)


def test_codebooks_by_number_and_role() -> None:
    assert tokens().codebooks(2).spec.codebook_sizes == (1024, 5)
    acoustic = tokens().codebooks("acoustic")
    assert acoustic.spec.codebook_ids == (1, 2)
    assert acoustic.codes.shape[1] == 2
    for wrong in (0, 4, "pixel"):
        with pytest.raises(TokenError, match="3 codebooks"):
            tokens().codebooks(wrong)


def test_cat_and_join() -> None:
    batch = tokens()
    assert Tokens.cat(list(batch)) == batch
    whole = Tokens(batch[0].codes, SPEC, num_samples=torch.tensor([16_000], dtype=torch.int32))
    joined = Tokens.join([whole, batch[1]])
    assert joined.lengths.tolist() == [53]
    assert torch.equal(joined.codes[..., 50:], batch[1].codes)
    assert joined.conditions["num_samples"].tolist() == [16_000 + 955]
    with pytest.raises(TokenError, match="whole frame"):
        Tokens.join([batch[0], batch[1]])
    with pytest.raises(TokenError, match="cannot combine"):
        Tokens.cat([batch, tokens(spec=replace(SPEC, name="other"))])
    with pytest.raises(TokenError, match="equally many streams"):
        Tokens.join([batch, batch[0]])
    with pytest.raises(TokenError, match="nothing"):
        Tokens.cat([])


def test_equality_sees_every_part() -> None:
    a = tokens((4,))
    assert a == Tokens(a.codes.clone(), SPEC, a.lengths, **a.conditions)
    assert a != Tokens(a.codes, SPEC, a.lengths)
    assert a != Tokens(a.codes, replace(SPEC, license="MIT"), a.lengths, **a.conditions)
    changed = a.codes.clone()
    changed[0, 2, 1] = 1 - changed[0, 2, 1]
    assert a != Tokens(changed, SPEC, a.lengths, **a.conditions)
    assert a != "tokens"


@pytest.mark.parametrize(
    ("codes", "lengths", "message"),
    [
        (torch.zeros(1, 3, 4), None, "int64"),
        (torch.zeros(3, 4, dtype=torch.int64), None, "int64"),
        (torch.zeros(1, 2, 4, dtype=torch.int64), None, "3 codebooks"),
        (torch.full((1, 3, 4), 2), None, r"\[0, size\)"),
        (torch.full((1, 3, 4), -1), None, r"\[0, size\)"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), torch.tensor([3]), "hold -1"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), torch.tensor([5]), "0..4"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), torch.tensor([1, 2]), "one entry"),
    ],
)
def test_wrong_codes_are_refused(codes: torch.Tensor, lengths: torch.Tensor | None, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        Tokens(codes, SPEC, lengths)


def test_wrong_specs_and_conditions_are_refused() -> None:
    with pytest.raises(TokenError, match=">= 2"):
        replace(SPEC, codebook_sizes=(1024, 1, 2))
    with pytest.raises(TokenError, match="roles"):
        replace(SPEC, roles=("semantic",))
    with pytest.raises(TokenError, match="num_samples"):
        Tokens(tokens((4,)).codes, SPEC, num_samples=torch.tensor([1, 2]))
    with pytest.raises(TokenError, match="not a token spec"):
        TokenSpec.from_json({"name": "x"})
    with pytest.raises(TokenError, match="not a token spec"):
        TokenSpec.from_json({**SPEC.to_json(), "module": "os"})


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 70_000), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_file_round_trip(sizes: list[int], lengths: list[int]) -> None:
    spec = replace(SPEC, codebook_sizes=sizes, roles=("acoustic",) * len(sizes), codebook_ids=())
    batch = tokens(tuple(lengths), spec)
    data = batch.to_bytes()
    assert Tokens.from_bytes(data) == batch
    assert data == batch.to_bytes()
    assert len(data) <= sum((n - 1).bit_length() for n in sizes) * sum(lengths) / 8 + 2048


def test_64_binary_codebooks_fit_the_size_bound() -> None:
    spec = replace(SPEC, codebook_sizes=(2,) * 64, roles=("pixel",) * 64, codebook_ids=())
    assert len(tokens((128,), spec).to_bytes()) <= 64 * 128 / 8 + 2048


def test_any_flipped_byte_is_noticed() -> None:
    data = tokens((5, 2)).to_bytes()
    for index in range(len(data)):
        damaged = bytearray(data)
        damaged[index] ^= 1 << (index % 8)
        with pytest.raises(TokenError):
            Tokens.from_bytes(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"RIFF....WAVE", b"\x80\x04\x95", save({"codes": torch.zeros(3)}), b"x" * 5000])
def test_foreign_data_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tok"
    path.write_bytes(data)
    with pytest.raises(TokenError, match=r"x\.tok.*not a \.tok file"):
        Tokens.load(path)


def test_truncated_file_is_refused() -> None:
    data = tokens().to_bytes()
    for end in (len(data) - 1, len(data) // 2, 300):
        with pytest.raises(TokenError):
            Tokens.from_bytes(data[:end])
