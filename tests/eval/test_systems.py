"""Systems of an evaluation: which rows a tokenizer gives, and classical codecs."""

import hashlib
from pathlib import Path

import pytest
import torch
import toys
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.eval import systems
from tokenizers_zoo.eval.systems import Picture, Tokenized, ogg_payload
from tokenizers_zoo.manifest import Row


def test_codebooks_are_measured_where_they_decode_alone() -> None:
    tokenizer = toys.two_outputs()  # its first codebook decodes by the sketch alone
    rows = [system.name for system in systems.tokenized(tokenizer, [1, 2, 3], [])]
    assert rows == ["two-outputs", "two-outputs, 2 codebooks", "two-outputs, 1 codebook, sketch decoder"]


def test_a_second_output_is_a_row_of_the_table() -> None:
    tokenizer, clip = small("lm-spt-12.5hz-24k"), tz.Audio(torch.randn(1, 1, 9000) * 0.1, 16000)
    system = Tokenized(tokenizer, output="auxiliary")
    assert system.name == "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"
    names = [listed.name for listed in systems.tokenized(tokenizer, [], [])]
    assert names == ["lm-spt-12.5hz-24k", "lm-spt-12.5hz-24k, 1 codebook, auxiliary decoder"]
    decoded, found = system.roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape[-1]) == (16000, 9000)
    assert found["codes"].shape == (1, 8)  # 9000 samples at 16 kHz are 7.03 frames of 1920 at 24 kHz
    assert found["bits"] == 8 * 14 + 32


def test_an_items_noise_has_its_own_seed() -> None:
    """Whatever is beside it."""
    tokenizer = toys.noisy()
    photos = [tz.Images.load(DATA / f"{name}.jpg").resize_crop(16) for name in ("chelsea", "coffee", "chelsea")]
    rows = [Row(DATA / "chelsea.jpg")] * 3
    together = [back for back, _ in Tokenized(tokenizer).roundtrips(photos, rows, [5, 6, 7])]
    for photo, seed, back in zip(photos, (5, 6, 7), together, strict=True):
        wanted = tokenizer.decode(tokenizer.encode(photo), seed=seed)
        torch.testing.assert_close(back.pixels, wanted.pixels)
    assert not torch.equal(together[0].pixels, together[2].pixels)


def test_only_what_a_tokenizer_can_decode_is_listed() -> None:
    speech = [listed.name for listed in systems.tokenized(small("lm-spt-tiny"), [1, 7, 8], [32])]
    assert [name.removeprefix("lm-spt-tiny") for name in speech][:3] == ["", ", 1 codebook", ", 7 codebooks"]
    assert "lm-spt-tiny, 8 codebooks" not in speech
    assert [listed.name for listed in systems.tokenized(small("titok-tiny"), [1], [32])] == ["titok-tiny"]


def test_clips_come_back_at_the_suites_rate_and_length() -> None:
    clip = tz.Audio(torch.randn(1, 1, 24001) * 0.1, 24000)
    decoded, found = Tokenized(tz.load("dm-codec-tiny"), codebooks=2).roundtrip(clip)
    assert (decoded.sample_rate, decoded.waveform.shape) == (24000, (1, 1, 24001))
    assert found["codes"].shape == (2, 51)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_pictures_fit_into_their_bits(format: str) -> None:
    photo = tz.Images.load(DATA / "coffee.jpg").resize_crop(64)
    decoded, found = Picture(format, 2000).roundtrip(photo)
    assert 0 < found["bits"] <= 2000
    assert decoded.pixels.shape == photo.pixels.shape
    error = [
        (p.roundtrip(photo)[0].pixels - photo.pixels).square().mean() for p in (Picture(format, 1000), Picture(format, 20000))
    ]
    assert error[1] < error[0]


@pytest.mark.parametrize("delay", [0, 400, 1200])
def test_a_codecs_delay_is_taken_out(delay: int, speech: Path) -> None:
    clip = tz.Audio.load(speech)
    late = torch.nn.functional.pad(clip.waveform[0, 0], (delay, 0))
    aligned = systems._aligned(clip, late).waveform
    torch.testing.assert_close(aligned, clip.waveform)


def test_ogg_payload_counts_packets_alone() -> None:
    page = lambda body: b"OggS" + bytes(22) + bytes([1, len(body)]) + body  # noqa: E731
    assert ogg_payload(page(b"head") + page(b"tags") + page(b"12345") + page(b"678")) == 8


def test_an_envelope_is_the_mean_over_four_hops() -> None:
    wave = torch.zeros(100)
    wave[50] = -1.0
    assert systems._envelope(wave, 10).tolist() == pytest.approx([0, 0, 1 / 40, 1 / 40, 1 / 40, 1 / 40, 0])


def test_payloads_leave_headers_out() -> None:
    scan = b"\xff\xd8" + b"\xff\xda" + (8).to_bytes(2, "big") + bytes(6)
    assert systems.jpeg_payload(scan + b"thumb" + scan[2:] + b"picture" + b"\xff\xd9") == 7
    assert systems.webp_payload(b"RIFF\0\0\0\0WEBPVP8 " + (15).to_bytes(4, "little") + bytes(10) + b"12345") == 5
    box = lambda kind, body: (8 + len(body)).to_bytes(4, "big") + kind + body  # noqa: E731
    assert systems.avif_payload(box(b"ftyp", b"avif") + box(b"mdat", b"12345") + box(b"meta", b"1") + box(b"mdat", b"678")) == 8


def test_originals_have_16_bits_a_sample_and_24_a_pixel() -> None:
    assert systems.Original().roundtrip(tz.Audio(torch.zeros(1, 1, 1000), 8000))[1] == {"bits": 16000.0}
    assert systems.Original().roundtrip(tz.Images(torch.zeros(1, 3, 4, 5)))[1] == {"bits": 480.0}


def test_codec2_counts_the_bits_of_the_clip_alone(monkeypatch: pytest.MonkeyPatch, speech: Path) -> None:
    """Not of the tenth of a second behind it that makes room for its delay, which is taken out."""

    def command(words: list[str]) -> None:
        source, target = Path(words[2]), Path(words[3])
        raw = source.read_bytes()
        assert words[1] == "3200"
        target.write_bytes(raw if words[0] == "c2enc" else bytes(2 * 160) + raw[: -2 * 160])

    monkeypatch.setattr(systems, "_command", lambda *_: None)
    monkeypatch.setattr(systems, "_run", command)
    clip = tz.Audio.load(speech)
    decoded, item = systems.Codec2().roundtrip(clip)
    length = clip.resample(8000).waveform.shape[-1]
    assert item["bits"] == pytest.approx(8 * 2 * length)
    wanted = clip.resample(8000).resample(clip.sample_rate).waveform[0, 0]
    difference = (decoded.waveform[0, 0] - wanted[: decoded.waveform.shape[-1]])[:-2000]
    assert difference.square().mean() < 0.01 * wanted.square().mean()


def test_pictures_are_halved_until_they_fit() -> None:
    photo = tz.Images.load(DATA / "coffee.jpg").resize_crop(64)
    assert Picture("JPEG", 200)._best(photo.pixels) is None
    decoded, found = Picture("JPEG", 200).roundtrip(photo)
    assert decoded.pixels.shape == photo.pixels.shape
    assert found["bits"] <= 200
    assert (decoded.pixels - photo.pixels).square().mean() < photo.pixels.var()
    with pytest.raises(tz.InputError, match="no JPEG fits into 1 bits"):
        Picture("JPEG", 1).roundtrip(photo)


def test_avif_depends_on_no_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's encoder takes all processors by default, and its stream changes with more than one."""
    photo = tz.Images.load(DATA / "coffee.jpg").resize_crop(256)
    found = []
    for threads in (1, 8):
        monkeypatch.setattr("PIL.AvifImagePlugin.DEFAULT_MAX_THREADS", threads)
        decoded, item = Picture("AVIF", 60000).roundtrip(photo)
        found.append((item["bits"], hashlib.sha256(decoded.pixels.numpy().tobytes()).hexdigest()))
    assert found[0] == found[1]
