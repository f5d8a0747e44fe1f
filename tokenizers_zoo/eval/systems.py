"""What is compared: tokenizers, at any number of codebooks or tokens, and classical codecs at matched bits."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from ..many import IMAGE, SECONDS
from ..media import Audio, Images
from ..tokenizer import Tokenizer
from ..tokens import Tokens
from .base import Item, Outcome, System, attempt


class Tokenized(System):
    """A tokenizer. codebooks, positions: how many of its first codebooks or tokens are decoded; None for all.

    output: which of the tokenizer's decoders; other than the main one it gets the codebooks that it cannot do without.
    """

    def __init__(self, tokenizer: Tokenizer, codebooks: int | None = None, positions: int | None = None, output: str = "main"):
        self.tokenizer, self.codebooks, self.positions, self.output = tokenizer, codebooks, positions, output
        self.weights, self.takes = tokenizer.weights, tokenizer.takes
        self.roles = () if output == "main" else tokenizer.needs.get(output, ())
        chosen = [size for size, role in zip(tokenizer.spec.codebook_sizes, tokenizer.roles, strict=True) if self._takes(role)]
        self.sizes = tuple(chosen[:codebooks])
        count = codebooks or sum(role in self.roles for role in tokenizer.roles)
        parts = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((count, "codebook"), (positions, "token")) if n]
        self.name = ", ".join([tokenizer.name, *parts, *([] if output == "main" else [f"{output} decoder"])])

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One item, its bits and codes."""
        return self._run([media], {name: [value] for name, value in given.items()}, [0])[0]

    def roundtrips(self, media: Sequence[Audio | Images], rows: Sequence[Row], seeds: Sequence[int]) -> list[Outcome]:
        """As many at a time as the device likes; clips of like length run together."""

        def run(media: Sequence[Audio | Images], rows: Sequence[Row], seeds: Sequence[int]) -> list[Any]:
            return self._run(media, {name: [getattr(row, name) for row in rows] for name in self.takes}, seeds)

        found: dict[int, Outcome] = {}
        for some in alike([_seconds(one) for one in media], self.tokenizer.device.type):
            columns = ([column[i] for i in some] for column in (media, rows, seeds))
            found |= zip(some, attempt(run, *columns), strict=True)
        return [found[i] for i in range(len(media))]

    def _run(self, media: Sequence[Any], given: dict[str, Any], seeds: Sequence[int]) -> list[tuple[Audio | Images, Item]]:
        tokens = self.tokenizer.encode(list(media), **given)
        tokens = tokens.codebooks(self.codebooks) if self.codebooks else tokens
        tokens = Tokens.combine([tokens.codebooks(role) for role in self.roles]) if self.roles else tokens
        tokens = tokens.prefix(self.positions) if self.positions else tokens
        decoded = self.tokenizer.decode(tokens, output=self.output, seed=seeds)
        backs = [fitted(back, one) if isinstance(one, Audio) else back for back, one in zip(decoded, media, strict=True)]
        codes = [tokens[i].codes[0].cpu().numpy() for i in range(len(tokens))]
        side = tokens.bits - tokens.code_bits
        bits = [{"bits": float(n), "side": float(more)} for n, more in zip(tokens.bits, side, strict=True)]
        return [(back, some | {"codes": ids}) for back, some, ids in zip(backs, bits, codes, strict=True)]

    def _takes(self, role: str) -> bool:
        return not self.roles or role in self.roles

    def latents(self, found: Item) -> Tensor | None:
        """The codebooks' entries, summed or joined as the decoder gets them, (N, D)."""
        codes = torch.from_numpy(found["codes"])[None].to(self.tokenizer.device)
        ids = [i for i, role in enumerate(self.tokenizer.roles) if self._takes(role)]
        return self.tokenizer.latents(codes, ids[: codes.shape[1]])[0].float().cpu()


def tokenized(tokenizer: Tokenizer, codebooks: Sequence[int], positions: Sequence[int], source: str = "") -> list[System]:
    """The tokenizer whole, at each number of codebooks and of tokens that it can decode alone, and by its other decoders.

    source: what it was opened by, for all of them.
    """
    spec = tokenizer.spec
    systems: list[System] = [Tokenized(tokenizer)]
    counts = [n for n in dict.fromkeys(codebooks) if spec.codebook_prefixes and n <= len(spec.roles)]
    systems += [Tokenized(tokenizer, codebooks=n) for n in counts if tokenizer.decodes(range(n))]
    systems += [Tokenized(tokenizer, positions=n) for n in dict.fromkeys(positions) if n in (spec.prefix_lengths or ())]
    systems += [Tokenized(tokenizer, output=output) for output in tokenizer.outputs]
    for system in systems:
        system.source = source
    return systems


def alike(seconds: Sequence[float], device: str) -> Iterator[list[int]]:
    """Places of items in batches of like length; a batch is as long, with padding, as a device does well (`many.SECONDS`)."""
    limit = SECONDS.get(device, SECONDS["else"])
    batch: list[int] = []
    for place in sorted(range(len(seconds)), key=seconds.__getitem__):
        if batch and (len(batch) + 1) * seconds[place] > limit:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _seconds(media: Audio | Images) -> float:
    return media.waveform.shape[-1] / media.sample_rate if isinstance(media, Audio) else IMAGE


class Original(System):
    """What came in goes out: the row that all others are judged by."""

    name = "original"

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """The same item; 16 bits a sample, 24 bits a pixel."""
        if isinstance(media, Audio):
            return media, {"bits": 16.0 * int(media.lengths[0])}
        return media, {"bits": 8.0 * media.pixels.numel()}


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


def fitted(decoded: Audio, original: Audio) -> Audio:
    """`decoded` at the original's rate, cut or padded with zeros to its length, which two resamplings miss by some samples."""
    length = int(original.lengths[0])
    wave = decoded.resample(original.sample_rate).waveform[..., :length]
    return Audio(torch.nn.functional.pad(wave, (0, length - wave.shape[-1])), original.sample_rate)


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
