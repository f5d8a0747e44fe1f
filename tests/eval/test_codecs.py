"""Classical codecs: what counts as their bits, and that what comes back is in its place."""

import hashlib
from pathlib import Path

import pytest
import torch
from conftest import DATA

import tokenizers_zoo as tz
from tokenizers_zoo.eval import codecs
from tokenizers_zoo.eval.codecs import Picture


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
    clip = tz.Audio(tz.Audio.load(speech).waveform[..., :31999], 16000)
    late = torch.nn.functional.pad(clip.waveform[0, 0], (delay, 0))
    aligned = codecs._aligned(clip, late).waveform
    torch.testing.assert_close(aligned, clip.waveform)


def test_ogg_payload_counts_packets_alone() -> None:
    page = lambda body: b"OggS" + bytes(22) + bytes([1, len(body)]) + body  # noqa: E731
    assert codecs.ogg_payload(page(b"head") + page(b"tags") + page(b"12345") + page(b"678")) == 8


def test_an_envelope_is_the_mean_over_four_hops() -> None:
    wave = torch.zeros(100)
    wave[50] = -1.0
    assert codecs._envelope(wave, 10).tolist() == pytest.approx([0, 0, 1 / 40, 1 / 40, 1 / 40, 1 / 40, 0])


def test_payloads_leave_headers_out() -> None:
    scan = b"\xff\xd8" + b"\xff\xda" + (8).to_bytes(2, "big") + bytes(6)
    assert codecs.jpeg_payload(scan + b"thumb" + scan[2:] + b"picture" + b"\xff\xd9") == 7
    assert codecs.webp_payload(b"RIFF\0\0\0\0WEBPVP8 " + (15).to_bytes(4, "little") + bytes(10) + b"12345") == 5
    box = lambda kind, body: (8 + len(body)).to_bytes(4, "big") + kind + body  # noqa: E731
    assert codecs.avif_payload(box(b"ftyp", b"avif") + box(b"mdat", b"12345") + box(b"meta", b"1") + box(b"mdat", b"678")) == 8


def test_codec2_counts_the_bits_of_the_clip_alone(monkeypatch: pytest.MonkeyPatch, speech: Path) -> None:
    """Not of the tenth of a second behind it that makes room for its delay, which is taken out."""

    def command(words: list[str]) -> None:
        source, target = Path(words[2]), Path(words[3])
        raw = source.read_bytes()
        assert words[1] == "3200"
        target.write_bytes(raw if words[0] == "c2enc" else bytes(2 * 160) + raw[: -2 * 160])

    monkeypatch.setattr(codecs, "_command", lambda *_: None)
    monkeypatch.setattr(codecs, "_run", command)
    clip = tz.Audio.load(speech)
    decoded, item = codecs.Codec2().roundtrip(clip)
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
