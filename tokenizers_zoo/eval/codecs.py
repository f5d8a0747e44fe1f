"""Classical codecs, to compare with at matched bits."""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..media import Audio, Images
from .base import Item, System


class Codec2(System):
    """Codec 2 (David Rowe) through its command line: 8 kHz, `mode` bits a second (3200 ... 700C). Its delay is taken out."""

    def __init__(self, mode: str = "3200"):
        self.mode, self.name = str(mode), f"Codec2 {mode}"
        _command("c2enc", "codec2")

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One clip at 16 kHz and back."""
        assert isinstance(media, Audio)
        with tempfile.TemporaryDirectory() as folder:
            raw, packed, out = (Path(folder) / name for name in ("in.raw", "codes", "out.raw"))
            wave = torch.nn.functional.pad(media.resample(8000).waveform[0, 0], (0, 800))  # room for the delay
            (wave.clamp(-1, 1) * 32767).short().numpy().tofile(raw)
            _run(["c2enc", self.mode, str(raw), str(packed)])
            _run(["c2dec", self.mode, str(packed), str(out)])
            bits = 8.0 * packed.stat().st_size * len(media.resample(8000).waveform[0, 0]) / len(wave)
            decoded = torch.from_numpy(np.fromfile(out, np.int16)).float() / 32768
        wave = Audio(decoded[None, None], 8000).resample(media.sample_rate).waveform[0, 0]
        return _aligned(media, wave), {"bits": bits}


class Opus(System):
    """Opus through opus-tools, `kbps` asked for, 60 ms frames; bits are those of the packets, without the Ogg container."""

    def __init__(self, kbps: float = 6):
        self.kbps, self.name = kbps, f"Opus {kbps:.10g} kbit/s"
        _command("opusenc", "opus-tools")

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One clip and back."""
        assert isinstance(media, Audio)
        with tempfile.TemporaryDirectory() as folder:
            source, packed, out = (str(Path(folder) / name) for name in ("in.wav", "codes.opus", "out.wav"))
            media.save(source)
            _run(["opusenc", "--quiet", "--bitrate", str(self.kbps), "--framesize", "60", source, packed])
            _run(["opusdec", "--quiet", "--rate", str(media.sample_rate), packed, out])
            return _aligned(media, Audio.load(out).waveform[0, 0]), {"bits": 8.0 * ogg_payload(Path(packed).read_bytes())}


class Picture(System):
    """JPEG, WEBP or AVIF by Pillow at the highest quality whose payload fits into `bits` an image.

    Payload: the compressed picture data alone; file and stream headers and the JPEG's tables are not counted. Where even the
    lowest quality is too large the picture is halved first, and enlarged again after.
    """

    def __init__(self, format: str, bits: float):
        self.format, self.bits, self.name = format.upper(), bits, f"{format.upper()} at most {bits:.10g} bits"
        self.options = {"max_threads": 1} if self.format == "AVIF" else {}  # the stream depends on how many encode it

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One picture and back."""
        assert isinstance(media, Images)
        pixels = media.pixels
        while True:
            fitting = self._best(pixels)
            if fitting:
                break
            if pixels.shape[-1] < 8:
                raise InputError(f"no {self.format} fits into {self.bits} bits")
            pixels = torch.nn.functional.avg_pool2d(pixels, 2)
        decoded, size = fitting
        if decoded.shape != media.pixels.shape:
            decoded = torch.nn.functional.interpolate(decoded, media.pixels.shape[-2:], mode="bicubic").clamp(0, 1)
        return Images(decoded), {"bits": 8.0 * size}

    def _best(self, pixels: Tensor) -> tuple[Tensor, int] | None:
        from PIL import Image

        picture = Image.fromarray((pixels[0] * 255).round().byte().permute(1, 2, 0).numpy())
        low, high, best = 0, 100, None
        while low <= high:
            quality = (low + high) // 2
            with io.BytesIO() as file:
                picture.save(file, self.format, quality=quality, **self.options)
                data = file.getvalue()
            size = PAYLOAD[self.format](data)
            if 8 * size > self.bits:
                high = quality - 1
            else:
                low, best = quality + 1, (data, size)
        if best is None:
            return None
        array = np.asarray(Image.open(io.BytesIO(best[0])).convert("RGB")).copy()
        return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255, best[1]


def ogg_payload(data: bytes) -> int:
    """Bytes of the packets in an Ogg file's pages, the first two pages (headers) left out."""
    at = page = total = 0
    while at < len(data):
        sizes = data[at + 27 : at + 27 + data[at + 26]]
        total += sum(sizes) if page >= 2 else 0
        at += 27 + len(sizes) + sum(sizes)
        page += 1
    return total


def jpeg_payload(data: bytes) -> int:
    """Bytes between the last scan's header and the end mark."""
    start = data.rfind(b"\xff\xda")
    return len(data) - 2 - (start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"))


def webp_payload(data: bytes) -> int:
    """Bytes of the VP8 chunk without its 10 bytes of frame header."""
    start = data.find(b"VP8 ")
    return int.from_bytes(data[start + 4 : start + 8], "little") - 10


def avif_payload(data: bytes) -> int:
    """Bytes of the media boxes."""
    at = total = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        total += size - 8 if data[at + 4 : at + 8] == b"mdat" else 0
        at += size or len(data)
    return total


PAYLOAD: dict[str, Any] = {"JPEG": jpeg_payload, "WEBP": webp_payload, "AVIF": avif_payload}


def _aligned(original: Audio, wave: Tensor, furthest: float = 0.1) -> Audio:
    """`wave` cut to the original's length at the delay, up to `furthest` seconds, at which their envelopes agree best."""
    size = int(original.lengths[0])
    hop = original.sample_rate // 400
    delays = range(0, int(furthest * original.sample_rate), hop)
    wave = torch.nn.functional.pad(wave, (0, max(0, size + delays.stop - len(wave))))
    target = _envelope(original.waveform[0, 0], hop)
    shifted = torch.stack([_envelope(wave[delay : delay + size], hop) for delay in delays])
    agreement = torch.nn.functional.cosine_similarity(target, shifted, dim=1)
    delay = delays[int(agreement.argmax())]
    return Audio(wave[delay : delay + size][None, None], original.sample_rate)


def _envelope(wave: Tensor, hop: int) -> Tensor:
    """Mean absolute value of samples (S,) in windows of 4 hops, one a hop."""
    return torch.nn.functional.avg_pool1d(wave.abs()[None, None], 4 * hop, hop)[0, 0]


def _command(name: str, package: str) -> None:
    if shutil.which(name) is None:
        raise InputError(
            f"the baseline needs the command {name}: install the system package {package}, or leave the baseline out"
        )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{command[0]} failed: {done.stderr.strip()[-200:]}")
