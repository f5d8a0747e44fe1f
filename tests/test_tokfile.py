"""The .tok file: what version 1 wrote, what version 2 adds, and what is in no valid file."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from token_examples import CAPTIONED, GROUPED, SCALES, SPEECH, captioned, images, random_codes, speech
from token_files import Stored, checksummed, enclosed, integers, opened, sealed

from tokenizers_zoo import TokenError, Tokens, TokenSpec, tokfile
from tokenizers_zoo.tokfile import HEADER

VERSION_1 = sorted(DATA.glob("version1_*.tok"))


# What is kept


@pytest.mark.parametrize("path", VERSION_1, ids=lambda path: path.stem)
def test_files_of_the_first_release_open_and_are_written_alike(path: Path) -> None:
    tokens = Tokens.load(path)
    assert tokens.to_bytes() == path.read_bytes()
    assert opened(path.read_bytes())[0]["version"] == "1"


def test_files_of_the_first_release_hold_what_was_written() -> None:
    assert len(VERSION_1) == 4
    known = Tokens.load(DATA / "version1_speech.tok")
    assert known.lengths.tolist() == [9, 4, 7]
    assert known.codes[1, :, 3].tolist() == [(7919 * (36 + 9 * k + 3)) % size for k, size in enumerate((2048, 1024, 1024, 5))]
    assert known.conditions["num_samples"].tolist() == [5760, 2300, 4480]
    assert (known.spec.weights, known.spec.conditions) == ("0123abcd", ("num_samples",))
    other = Tokens.load(DATA / "version1_conditions.tok")
    assert other.spec.conditions == ("num_samples", "loudness", "seed")  # whatever they are called
    assert other.conditions["seed"].tolist() == [2**40]
    assert Tokens.load(DATA / "version1_acoustic.tok") == known.codebooks("acoustic")


@pytest.mark.parametrize(
    ("tokens", "version"),
    [
        (speech(), "1"),
        (speech().codebooks("semantic"), "1"),
        (speech().prefix(3), "1"),
        (images(CAPTIONED), "2"),
        (captioned(), "2"),
        (images(GROUPED), "2"),
        (images(SCALES), "2"),
        (Tokens(torch.zeros(2, 3, 0, dtype=torch.int64), SPEECH), "1"),
        (Tokens(torch.zeros(0, 3, 5, dtype=torch.int64), SPEECH)[:], "1"),
        (Tokens(random_codes(SPEECH, (2,)), replace(SPEECH, conditions=["seed"]), seed=torch.ones(1)), "2"),
        (Tokens(random_codes(SPEECH, (2,)), replace(SPEECH, conditions=["num_samples", "seed"]), seed=torch.ones(1)), "1"),
    ],
)
def test_version_2_is_written_where_version_1_cannot_say_it(tokens: Tokens, version: str) -> None:
    data = tokens.to_bytes()
    assert Tokens.from_bytes(data) == tokens
    assert opened(data)[0]["version"] == version
    if version == "1":  # the first release knew these alone
        assert not {"text", "text_ends"} & opened(data)[1].keys()
        assert not {"conditions", "scales", "decodable"} & opened(data)[0]["spec"].keys()


@st.composite
def any_tokens(draw: st.DrawFn) -> Tokens:
    sizes = draw(st.lists(st.sampled_from([2, 3, 5, 256, 1000, 2**16, 2**40 + 1, 2**63 - 1]), min_size=1, max_size=5))
    names = draw(st.lists(st.text(min_size=1, max_size=5), max_size=3, unique=True))
    names = [name for name in names if name not in ("codes", "spec", "lengths", "text")]
    spec = TokenSpec(
        name=draw(st.text()),
        modality="audio",
        codebook_sizes=sizes,
        roles=draw(st.lists(st.sampled_from(["semantic", "acoustic"]), min_size=len(sizes), max_size=len(sizes))),
        layout="time",
        codebook_ids=sorted(draw(st.sets(st.integers(0, 4095), min_size=len(sizes), max_size=len(sizes)))),
        position_prefixes=draw(st.booleans()),
        codebook_prefixes=draw(st.booleans()),
        sample_rate=draw(st.none() | st.integers(1, 2**31 - 1)),
        hop=draw(st.none() | st.integers(1, 2**31 - 1)),
        receptive_field=draw(st.none() | st.integers(0, 100)),
        license=draw(st.text()),
        conditions=["text", *names],
    )
    lengths = tuple(draw(st.lists(st.integers(0, 40), max_size=6)))
    dtypes = st.sampled_from([torch.int32, torch.int64, torch.float32, torch.bool, torch.bfloat16, torch.uint8])
    conditions = {
        name: torch.randint(0, 2, (len(lengths), *draw(st.lists(st.integers(0, 3), max_size=2)))).to(draw(dtypes))
        for name in names
        if name != "num_samples" and draw(st.booleans())
    }
    text = draw(st.none() | st.lists(st.text(), min_size=len(lengths), max_size=len(lengths)))
    return Tokens(random_codes(spec, lengths), spec, lengths, text, **conditions)


@settings(max_examples=60, deadline=None)
@given(any_tokens())
def test_file_round_trip(tokens: Tokens) -> None:
    data = tokens.to_bytes()
    assert Tokens.from_bytes(data) == tokens
    assert Tokens.from_bytes(data).to_bytes() == data == tokens.to_bytes()
    assert Tokens.from_bytes(sealed(*opened(data))) == tokens
    assert len(opened(data)[1]["codes"][2]) == -(-sum(_nominal(tokens)) // 8)
    for item in tokens:
        assert Tokens.from_bytes(item.to_bytes()) == item


def _nominal(tokens: Tokens) -> list[int]:
    return [(size - 1).bit_length() * int(tokens.lengths.sum()) for size in tokens.spec.codebook_sizes]


def test_many_wide_rows_are_packed_in_pieces() -> None:
    """More codes than are packed at once, of one width and of several."""
    for sizes in ((1024,) * 3, (1024, 5, 2)):
        batch = speech((20_001, 3, 17_000), replace(SPEECH, codebook_sizes=sizes))
        assert Tokens.from_bytes(batch.to_bytes()) == batch


def test_64_binary_codebooks_fit_the_size_bound() -> None:
    spec = replace(SPEECH, codebook_sizes=(2,) * 64, roles=("pixel",) * 64)
    assert len(speech((128,), spec).to_bytes()) <= 64 * 128 / 8 + 2048


def test_conditions_may_be_views_of_one_tensor() -> None:
    spec = replace(SPEECH, conditions=("a", "b"))
    shared = torch.arange(6.0, requires_grad=True).reshape(2, 3)
    both = Tokens(random_codes(SPEECH, (2, 2)), spec, a=shared.T[:2], b=shared)
    assert Tokens.from_bytes(both.to_bytes()) == both


def test_what_is_marked_as_optional_is_skipped() -> None:
    for tokens in (speech(), captioned()):
        header, tensors = opened(tokens.to_bytes())
        header |= {"x-author": ["any"], "spec": {**header["spec"], "x-window": {"of": 3}}}
        assert Tokens.from_bytes(sealed(header, {**tensors, "x-loudness": integers(3, 4)})) == tokens


# What is refused


def test_any_flipped_byte_is_noticed() -> None:
    data = speech((5, 2)).to_bytes()
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
    data = speech().to_bytes()
    for end in (len(data) - 1, len(data) // 2, 300):
        with pytest.raises(TokenError):
            Tokens.from_bytes(data[:end])


@pytest.mark.parametrize("version", ["3", "12", "999999999"])
def test_a_newer_version_asks_for_an_upgrade(version: str) -> None:
    header, tensors = opened(speech().to_bytes())
    with pytest.raises(TokenError, match=f"version {version} is newer than this library; upgrade"):
        Tokens.from_bytes(sealed({**header, "version": version, "shards": 7, "spec": None}, tensors))


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", "two", "", None, 1, 2, 3, [1], {}, "9" * 400, "²", True])
def test_what_is_no_version_is_refused(version: object) -> None:
    header, tensors = opened(speech().to_bytes())
    with pytest.raises(TokenError, match=r"is not a version of \.tok files"):
        Tokens.from_bytes(sealed({**header, "version": version}, tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 7}, "entries.*'shards'; upgrade"),
        ({"spec": None}, "not a token spec"),
        ({"spec": {}}, "not a token spec"),
        ({"spec": {**SPEECH.to_json(), "window": 1}}, "unknown field 'window'.*upgrade"),
        ({"spec": {**SPEECH.to_json(), "codebook_sizes": [[2, 2_000_000_000]]}}, "not a token spec"),
        ({"spec": {**SPEECH.to_json(), "conditions": ["lengths"]}}, "names of their own"),
        ({"spec": {**SPEECH.to_json(), "codebook_sizes": [[2, 3]]}}, "do not fit the lengths"),
        ({"spec": {**SPEECH.to_json(), "codebook_sizes": [[1000, 1], [5, 1], [2, 1]]}}, r"\[0, size\)"),
    ],
)
def test_wrong_metadata_is_refused(change: dict[str, Any], message: str) -> None:
    codes = torch.full((1, 3, 4), 1)
    codes[0, 0] = 1023
    header, tensors = opened(Tokens(codes, SPEECH).to_bytes())
    with pytest.raises(TokenError, match=message):
        Tokens.from_bytes(sealed({**header, **change}, tensors))


@pytest.mark.parametrize(
    "text",
    [
        '"crc32":"00000000"',
        '["crc32":"00000000"]',
        '{"crc32":"00000000"}',
        '{"crc32":"00000000","version":"1"}',
        '{"crc32":"00000000","version":"1","version":"1"}',
        '{"crc32":"00000000","version":"1","spec":{"name":NaN}}',
        '{"crc32":"00000000","version":"1","spec":{"name":-Infinity}}',
        '{"crc32":"00000000","version":"1","spec":{"hop":' + "9" * 5000 + "}}",
        '{"crc32":"00000000","version":"1","spec":' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"crc32":"00000000","version":"1","spec":' + '{"a":' * 10_000,
        '{"crc32":"00000000","version":"1","spec":{}} and more',
    ],
    ids=lambda text: text[:60],
)
def test_metadata_that_is_not_what_it_should_be_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        Tokens.from_bytes(sealed(text, opened(speech().to_bytes())[1]))


def broken_containers() -> dict[str, bytes]:
    data = speech().to_bytes()
    size = int.from_bytes(data[:8], "little")
    outer, body = data[8 : 8 + size].decode(), data[8 + size :]
    return {
        "header beyond the file": enclosed(outer, body, size=len(data)),
        "header of 2**63 bytes": enclosed(outer, body, size=2**63),
        "header too short": enclosed(outer, body, size=size - 20),
        "header of no bytes": enclosed(outer, body, size=0),
        "header of a megabyte": enclosed(outer + " " * HEADER, body),
        "body too long": enclosed(outer, body + b"0"),
        "body too short": enclosed(outer, body[:-1]),
        "name twice": enclosed(outer.replace('"data_offsets":[', '"data_offsets":[0,4],"data_offsets":[', 1), body),
        "metadata twice": enclosed('{"__metadata__":{},' + outer[1:], body),
        "list": enclosed(f"[{outer}]", body),
        "unknown type": enclosed(outer.replace("I32", "I33"), body),
        "no UTF-8": checksummed(enclosed(outer, body).replace(b"codec", b"\xff\xfe\xff\xfe\xff")),
        "huge shape": enclosed(outer.replace('"shape":[3]', '"shape":[18446744073709551615]'), body),
        "NaN": enclosed(outer.replace("[0,", "[NaN,"), body),
        "metadata of numbers": enclosed(outer.replace('{"tokens":', '{"x":3,"tokens":'), body),
    }


@pytest.mark.parametrize("what", broken_containers())
def test_broken_containers_are_refused(what: str) -> None:
    data = broken_containers()[what]
    assert checksummed(data) == data
    with pytest.raises(TokenError, match=r"\.tok file"):
        Tokens.from_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": None}, "needs a tensor 'lengths'"),
        ({"codes": None}, "needs a tensor 'codes'"),
        ({"lengths": ("I64", [1], bytes(8))}, "needs a tensor 'lengths' of torch.int32"),
        ({"lengths": ("F32", [2], bytes(8))}, "needs a tensor 'lengths' of torch.int32"),
        ({"lengths": ("I32", [2, 1], bytes(8))}, "one dimension"),
        ({"lengths": ("I32", [], bytes(4))}, "one dimension"),
        ({"lengths": integers(32, -1)}, "do not fit the lengths"),
        ({"lengths": integers(65, -1)}, "do not fit the lengths"),
        ({"lengths": integers(32, 33)}, "do not fit the lengths"),
        ({"lengths": integers(2_000_000_000, 2_000_000_000)}, "do not fit the lengths"),
        ({"lengths": integers(64)}, "text_ends must increase"),
        ({"lengths": integers()}, "do not fit the lengths"),
        ({"codes": ("I8", [96], bytes(96))}, "needs a tensor 'codes' of torch.uint8"),
        ({"codes": ("U8", [96, 1], bytes(96))}, "one dimension"),
        ({"codes": ("U8", [97], bytes(97))}, "97 bytes of codes do not fit"),
        ({"codes": ("U8", [0], b"")}, "0 bytes of codes do not fit"),
        ({"text": None}, "needs a tensor 'text'"),
        ({"text_ends": None}, "needs a tensor 'text_ends'"),
        ({"text": ("U8", [5], b"a c\xc3t")}, "not UTF-8"),
        ({"text": ("U8", [5], "\ud800at".encode("utf-8", "surrogatepass"))}, "not UTF-8"),
        ({"text": ("U8", [6], b"a cats")}, "text_ends must increase"),
        ({"text_ends": integers(6, 5)}, "text_ends must increase"),
        ({"text_ends": integers(-1, 5)}, "text_ends must increase"),
        ({"text_ends": integers(5)}, "text_ends must increase"),
        ({"text_ends": integers(2, 5), "text": ("U8", [5], "a é!".encode())}, None),
        ({"text_ends": integers(3, 5), "text": ("U8", [5], "a é!".encode())}, "not UTF-8"),
        ({"condition.seed": integers(1, 2)}, "conditions.*'seed'"),
        ({"condition.text": integers(1, 2)}, "conditions.*'text'"),
        ({"condition.codes": integers(1, 2)}, "conditions.*'codes'"),
        ({"condition.spec": integers(1, 2)}, "conditions.*'spec'"),
        ({"condition.lengths": integers(1, 2)}, "conditions.*'lengths'"),
        ({"condition.self": integers(1, 2)}, "conditions.*'self'"),
        ({"condition.": integers(1, 2)}, "conditions.*''"),
        ({"condition.height": integers(1)}, "one entry an item"),
        ({"condition.height": ("I32", [], bytes(4))}, "one entry an item"),
        ({"condition.height": ("F8_E4M3", [2], bytes(2))}, "common dtype"),
        ({"loudness": integers(1, 2)}, "tensors.*'loudness'; upgrade"),
    ],
)
def test_wrong_tensors_are_refused(change: Stored, message: str | None) -> None:
    header, tensors = opened(captioned().to_bytes())
    crafted = sealed(header, {k: v for k, v in (tensors | change).items() if v is not None})
    if message is None:
        assert Tokens.from_bytes(crafted).text == ("a ", "é!")
        return
    with pytest.raises(TokenError, match=message):
        Tokens.from_bytes(crafted)


@pytest.mark.parametrize("name", ["codes", "spec", "lengths", "text"])
def test_version_1_has_no_conditions_with_names_of_other_things(name: str) -> None:
    header, tensors = opened(speech((4,)).to_bytes())
    with pytest.raises(TokenError, match=f"names of their own|'{name}'"):
        Tokens.from_bytes(sealed(header, {**tensors, f"condition.{name}": integers(3)}))
    odd = Tokens.from_bytes(sealed(header, {**tensors, "condition.self": integers(3), "condition.a b": integers(4)}))
    assert odd.spec.conditions == ("num_samples", "a b", "self")


def test_bits_after_the_last_code_are_zero() -> None:
    header, tensors = opened(speech((1,)).to_bytes())  # 10 + 3 + 1 bits
    kind, shape, content = tensors["codes"]
    with pytest.raises(TokenError, match="bits after the last code"):
        Tokens.from_bytes(sealed(header, {**tensors, "codes": (kind, shape, content[:-1] + bytes([content[-1] | 1]))}))


def test_small_files_ask_for_little_memory() -> None:
    """Padding is not stored: one long item among many empty ones would be large in memory alone."""
    header, tensors = opened(Tokens(random_codes(SPEECH, (1,)), SPEECH).to_bytes())
    spec = replace(SPEECH, codebook_sizes=(2,), roles=("a",)).to_json()
    ragged = {**tensors, "lengths": integers(80_000, *[0] * 9_999), "codes": ("U8", [10_000], bytes(10_000))}
    huge = {**tensors, "lengths": integers(2_000_000_000)}
    tracemalloc.start()
    for stored, message in ((ragged, "different files"), (huge, "do not fit the lengths")):
        with pytest.raises(TokenError, match=message):
            Tokens.from_bytes(sealed({**header, "spec": spec}, stored))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_what_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokfile, "ROOM", 5000)
    batch = speech((20, *[0] * 100), missing=0)
    with pytest.raises(TokenError, match="long and short items into different files"):
        batch.to_bytes()
    assert Tokens.from_bytes(batch[:80].to_bytes()) == batch[:80]
    with pytest.raises(TokenError, match="shorten"):
        Tokens(random_codes(SPEECH, (1,)), replace(SPEECH, name="x" * HEADER)).to_bytes()
