"""Many files: batches of like length, results as alone, errors apart, memory by the window."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.manifest import Row
from tokenizers_zoo.many import decode_many, encode_many, read_ahead

RATE = 16_000


@pytest.fixture(scope="module")
def codec() -> tz.Tokenizer:
    return tz.load("dm-codec-tiny")


def clips(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Clips of 0.1 to 0.8 s."""
    wave = tz.Audio.load(DATA / "sense_and_sensibility_0870.wav").waveform[0, 0]
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(RATE // 10, RATE * 8 // 10, (count,), generator=generator).tolist()
    return [wave[1000 * i : 1000 * i + n] for i, n in enumerate(lengths)]


@pytest.mark.parametrize("limits", [{}, {"batch_size": 1}, {"batch_size": 5}, {"batch_seconds": 2.0}])
def test_codes_do_not_depend_on_buckets(codec: tz.Tokenizer, limits: dict[str, Any]) -> None:
    waves = clips(24)
    found = dict(encode_many(codec, waves, **limits))
    assert sorted(found) == list(range(24))
    assert all(found[i] == codec.encode(wave) for i, wave in enumerate(waves))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_and_are_given_back(codec: tz.Tokenizer, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(threads)
    seen, encode = set(), codec.encode
    monkeypatch.setattr(codec, "encode", lambda source: (seen.add(torch.get_num_threads()), encode(source))[1])
    waves = clips(9)
    found = dict(encode_many(codec, waves, batch_size=2))
    assert seen == {1}
    assert torch.get_num_threads() == threads
    monkeypatch.undo()
    assert all(found[i] == codec.encode(wave) for i, wave in enumerate(waves))
    (alone,) = encode_many(codec, waves[:1])
    assert torch.get_num_threads() == threads
    assert alone[1] == found[0]


def test_batches_are_of_like_length_and_bounded(codec: tz.Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, encode = [], codec.encode
    monkeypatch.setattr(codec, "encode", lambda source: (batches.append(source), encode(source))[1])
    waves = [*clips(60), torch.rand(6 * RATE) * 0.1]
    assert len(list(encode_many(codec, waves, batch_seconds=4.0))) == 61
    padded = [batch.waveform.numel() / RATE for batch in batches]
    assert max(padded[:-1]) <= 4.0
    assert padded[-1] == 6.0  # longer than a batch: alone
    assert sum(padded) < 1.1 * sum(len(wave) for wave in waves) / RATE
    batches.clear()
    assert len(list(encode_many(codec, waves, batch_size=7))) == 61
    assert {len(batch) for batch in batches} == {7, 5}


def test_one_bad_item_spoils_nothing(codec: tz.Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    waves = clips(5)
    sources = [("text", tmp_path / "text.wav"), ("none", tmp_path / "none.wav"), ("short", torch.zeros(0)), *enumerate(waves)]
    encode = codec.encode

    def scarce(source: tz.Audio) -> tz.Tokens:
        if int(source.lengths.max()) == max(map(len, waves)):
            raise MemoryError  # of the batch with the longest; alone, of the longest
        return encode(source)

    monkeypatch.setattr(codec, "encode", scarce)
    found = dict(encode_many(codec, sources))
    assert isinstance(found["text"], tz.InputError)
    assert isinstance(found["none"], FileNotFoundError)
    assert isinstance(found["short"], tz.InputError)
    longest = max(range(5), key=lambda i: len(waves[i]))
    assert isinstance(found[longest], MemoryError)
    monkeypatch.undo()
    assert all(found[i] == codec.encode(wave) for i, wave in enumerate(waves) if i != longest)


def test_keys(codec: tz.Tokenizer) -> None:
    path = DATA / "sense_and_sensibility_0880.wav"
    wave = clips(1)[0]
    found = dict(encode_many(codec, [path, str(path), wave, ("mine", wave), Row(path), {"media": wave}]))
    assert set(found) == {path, str(path), 2, "mine", 5}
    assert found[path] == found[str(path)] == codec.encode(path)


def test_batches_as_sources_stay_together(codec: tz.Tokenizer) -> None:
    wave = torch.stack([clip[: RATE // 10] for clip in clips(3)])[:, None]
    found = dict(encode_many(codec, [("three", wave), ("one", wave[0])]))
    assert found["three"] == codec.encode(wave)
    assert len(found["one"]) == 1


def test_captions_go_along() -> None:
    tokenizer = toys.captioned()
    rows = [Row(DATA / "chelsea.jpg", "a cat"), Row(DATA / "coffee.jpg"), {"media": DATA / "astronaut.jpg", "text": "a woman"}]
    found = dict(
        encode_many(tokenizer, [*rows, ("none", {"media": DATA / "chelsea.jpg"}), ("long", Row(DATA / "chelsea.jpg", 13 * "a"))])
    )
    assert found[DATA / "chelsea.jpg"] == tokenizer.encode(DATA / "chelsea.jpg", text=["a cat"])
    assert found[DATA / "coffee.jpg"] == tokenizer.encode(DATA / "coffee.jpg")
    assert found[2] == tokenizer.encode(DATA / "astronaut.jpg", text=["a woman"])
    assert found["none"] == tokenizer.encode(DATA / "chelsea.jpg")
    assert isinstance(found["long"], tz.InputError)
    decoded = dict(decode_many(lambda spec: tokenizer, [(key, tokens) for key, tokens in found.items() if key != "long"]))
    assert all((decoded[key].pixels - tokenizer.decode(found[key]).pixels).abs().max() < 1e-5 for key in decoded)


def test_each_image_of_a_batch_has_its_caption() -> None:
    tokenizer, photos = toys.captioned(), torch.rand(2, 3, 16, 16)
    sources = {"each": {"media": photos, "text": ["a", "b"]}, "one": {"media": photos, "text": "a"}}
    sources |= {"none": {"media": photos, "text": None}, "few": {"media": photos, "text": ["a"]}}
    found = dict(encode_many(tokenizer, sources.items()))
    assert found["each"] == tokenizer.encode(photos, text=["a", "b"])
    assert found["one"] == tokenizer.encode(photos, text="a")
    assert found["none"] == tokenizer.encode(photos)
    assert isinstance(found["few"], tz.InputError)


def test_images_of_several_sizes_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = toys.sized()
    images = {(h, w): [torch.rand(3, h, w) for _ in range(2)] for h, w in ((8, 16), (16, 8), (24, 24))}
    sources = [((shape, i), pair[i]) for i in range(2) for shape, pair in images.items()]
    calls = []
    for verb in ("encode", "decode"):
        original = getattr(tokenizer, verb)
        counted = lambda source, original=original, **how: (calls.append(len(source)), original(source, **how))[1]  # noqa: E731
        monkeypatch.setattr(tokenizer, verb, counted)
    found = dict(encode_many(tokenizer, sources, size="source"))
    decoded = dict(decode_many(lambda spec: tokenizer, found.items()))
    assert calls == [2, 2, 2, 2, 2, 2]
    for (shape, i), tokens in found.items():
        assert tokens == tokenizer.encode(images[shape][i], size="source")
        assert decoded[shape, i].pixels.shape[-2:] == shape


def test_images_of_the_one_size_that_there_is() -> None:
    tokenizer = toys.noisy()
    image = torch.rand(3, 20, 24)
    ((_, found),) = encode_many(tokenizer, [image], size=16)
    assert found == tokenizer.encode(image)


@pytest.mark.parametrize(
    ("limits", "window"), [({"batch_size": 2}, 32), ({"batch_seconds": 0.02}, 4), ({"batch_seconds": 1.0}, 160)]
)
def test_memory_is_of_the_window(codec: tz.Tokenizer, limits: dict[str, Any], window: int) -> None:
    """However many sources there are, and however long they are, only so many are taken before the results come."""
    taken = []

    def endless() -> Iterator[torch.Tensor]:
        wave = clips(1)[0][: RATE // 10]
        while True:
            taken.append(1)
            yield wave

    results = encode_many(codec, endless(), **limits, workers=2)
    for _ in range(20):
        next(results)
    assert len(taken) <= 20 + 2 * window + 2
    results.close()
    assert threading.active_count() < 20


def test_autocast_reaches_the_threads(codec: tz.Tokenizer) -> None:
    wave = clips(1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        expected = codec.encode(wave)
        ((_, found),) = encode_many(codec, [wave])
    assert found == expected


def test_wrong_arguments() -> None:
    tokenizer = small("dm-codec-tiny")
    for wrong in ({"batch_size": 0}, {"batch_seconds": -1.0}, {"batch_seconds": float("nan")}, {"workers": 0}):
        with pytest.raises(tz.InputError, match="must be above 0"):
            encode_many(tokenizer, [], **wrong)
    for one in ("a.wav", DATA, b"RIFF"):
        with pytest.raises(tz.InputError, match="give a list"):
            encode_many(tokenizer, one)
    with pytest.raises(tz.TokenError, match="continuous"):
        encode_many(small("titok-bl64-vae"), [])
    assert list(encode_many(tokenizer, [])) == []


def test_decode_many_is_decode(codec: tz.Tokenizer, tmp_path: Path) -> None:
    images = small("titok-tiny")
    tokens = [codec.encode(wave) for wave in clips(6)]
    tokens[0].save(tmp_path / "0.tok")
    (tmp_path / "bad.tok").write_text("no tokens")
    pictures = images.encode([DATA / "chelsea.jpg", DATA / "coffee.jpg"])
    sources = [("file", tmp_path / "0.tok"), ("bytes", tokens[1].to_bytes()), *enumerate(tokens), ("bad", tmp_path / "bad.tok")]
    sources += [("picture", pictures[0]), ("pictures", pictures)]
    found = dict(decode_many(lambda spec: codec if spec.modality == "audio" else images, sources))
    assert isinstance(found["bad"], tz.TokenError)
    for key, index in (("file", 0), ("bytes", 1), (5, 5)):
        expected = codec.decode(tokens[index])
        assert found[key].lengths.equal(expected.lengths)
        assert (found[key].waveform - expected.waveform).abs().max() < 1e-5
    assert (found["pictures"].pixels - images.decode(pictures).pixels).abs().max() < 1e-5
    assert len(found["picture"].pixels) == 1


def test_read_ahead_keeps_order_and_stays_near() -> None:
    begun = []

    def read(n: int) -> int:
        begun.append(n)
        return 1 // (n - 5)

    results = read_ahead(read, range(10), workers=3)
    assert next(results) == (0, -1)
    assert len(begun) <= 4
    rest = dict(results)
    assert isinstance(rest[5], ZeroDivisionError)
    assert list(rest) == list(range(1, 10))


def test_ended_early_it_waits_for_its_threads() -> None:
    before = threading.active_count()
    results = read_ahead(abs, range(100), workers=4)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_a_single_source_is_refused() -> None:
    """A path would be taken apart into letters."""
    tokenizer = small("titok-tiny")
    for one in ("a.png", Path("a.png"), b"bytes", torch.rand(3, 64, 64), {"media": "a.png"}, 7, None):
        with pytest.raises(tz.InputError, match=r"give a list, \[source\]"):
            tz.encode_many(tokenizer, one)
        with pytest.raises(tz.InputError, match=r"give a list, \[source\]"):
            decode_many(lambda spec: tokenizer, one)
    for wrong in ("x", [3], 0):
        with pytest.raises(tz.InputError, match="batch_size must be above 0"):
            tz.encode_many(tokenizer, [], batch_size=wrong)
