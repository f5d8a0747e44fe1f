"""Audio and Images: what every tokenizer takes and gives; reading and writing files.

Rules for audio: channels are averaged to mono; another rate is resampled (torchaudio, windowed sinc); integers are scaled by
their full range. Rules for images: EXIF orientation is applied, the first frame of an animation is taken, transparency is
laid over white, everything becomes RGB, 16-bit greyscale keeps its precision, 16-bit colour is read as 8 bits (Pillow).
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .audiofile import read_samples
from .errors import InputError
from .files import atomic_path, existing

if TYPE_CHECKING:
    from PIL.Image import Image

AudioSource: TypeAlias = Union[str, Path, "np.ndarray[Any, Any]", Tensor, "Audio", Sequence["AudioSource"]]
ImageSource: TypeAlias = Union[str, Path, "np.ndarray[Any, Any]", Tensor, "Image", "Images", Sequence["ImageSource"]]

AUDIO_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", None)}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LOUDEST = 16.0  # float samples beyond this are integers that were not scaled
PIECE = 60.0  # seconds resampled at a time


class Audio:
    """Clips of one sample rate.

    waveform: floating (B, C, S), nominally in [-1, 1]; zero past an item's length. sample_rate: Hz. lengths: int64 (B,), valid
    samples of each item (default: S for all).
    """

    def __init__(self, waveform: Tensor, sample_rate: int, lengths: Tensor | None = None):
        if not isinstance(waveform, Tensor) or waveform.ndim != 3 or not waveform.is_floating_point():
            raise InputError("a waveform must be a floating tensor (batch, channels, samples)")
        if not waveform.numel():
            raise InputError(f"there is no audio in a waveform of shape {tuple(waveform.shape)}; give at least one sample")
        _check_rate(sample_rate)
        if lengths is not None and lengths.is_floating_point():
            raise InputError("lengths count samples; give integers")
        count, samples = len(waveform), waveform.shape[-1]
        self.waveform, self.sample_rate = waveform, sample_rate
        self.lengths = torch.full((count,), samples) if lengths is None else lengths.cpu().long()
        if self.lengths.shape != (count,) or int(self.lengths.min()) < 1 or int(self.lengths.max()) > samples:
            raise InputError(f"lengths must be {count} numbers in 1..{samples}, got {self.lengths.tolist()}")

    @classmethod
    def load(cls, path: str | Path) -> "Audio":
        """One WAV, FLAC, OGG or MP3 file with all its channels, at its own rate. Raises InputError if it is damaged."""
        return _read_audio(Path(path), mono=False)

    @classmethod
    def stack(cls, items: Sequence["Audio"]) -> "Audio":
        """All clips of several Audios of one rate and channel count, zero-padded to the longest."""
        if not items or len({(a.sample_rate, a.waveform.shape[1]) for a in items}) != 1:
            raise InputError("only clips of one sample rate and channel count can be stacked; resample them first")
        longest = max(a.waveform.shape[-1] for a in items)
        waves = [F.pad(a.waveform, (0, longest - a.waveform.shape[-1])) for a in items]
        return cls(torch.cat(waves), items[0].sample_rate, torch.cat([a.lengths for a in items]))

    def __len__(self) -> int:
        return len(self.waveform)

    def __getitem__(self, index: int) -> "Audio":
        """One item, trimmed to its length."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        return Audio(self.waveform[index : index + 1, :, : int(self.lengths[index])], self.sample_rate)

    def __iter__(self) -> Iterator["Audio"]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> "Audio":
        """The same audio with its waveform on `device`."""
        return Audio(self.waveform.to(device), self.sample_rate, self.lengths)

    def mono(self) -> "Audio":
        """One channel: the mean of all."""
        if self.waveform.shape[1] == 1:
            return self
        return Audio(self.waveform.mean(1, keepdim=True), self.sample_rate, self.lengths)

    def resample(self, rate: int) -> "Audio":
        """At `rate` Hz: ceil(length * rate / sample_rate) samples an item. Raises ImportError without torchaudio."""
        _check_rate(rate)
        if rate == self.sample_rate:
            return self
        return Audio.stack([Audio(_resample(item.waveform, self.sample_rate, rate), rate) for item in self])

    def save(self, path: str | Path) -> None:
        """Writes one item as WAV (16 bit), FLAC, OGG or MP3, clipped to [-1, 1]; the file appears whole or not at all."""
        import soundfile

        path = Path(path)
        if path.suffix.lower() not in AUDIO_FORMATS:
            raise InputError(f"cannot write audio as {path.suffix or path.name!r}; use one of {', '.join(AUDIO_FORMATS)}")
        if len(self) != 1:
            raise InputError(f"a file holds one clip, this batch has {len(self)}; save audio[0], audio[1], ...")
        kind, subtype = AUDIO_FORMATS[path.suffix.lower()]
        samples = self[0].waveform[0].detach().float().cpu().clamp(-1, 1).T
        if subtype == "PCM_16":  # libsndfile would truncate, and scale by 32767 where readers divide by 32768
            samples = (samples * 32768).round().clamp(max=32767).short()
        with atomic_path(path) as temporary:
            try:
                soundfile.write(temporary, samples.numpy(), self.sample_rate, format=kind, subtype=subtype)
            except soundfile.SoundFileError as error:  # e.g. MP3 knows nine rates and two channels
                shape = f"{samples.shape[1]} channels at {self.sample_rate} Hz"
                raise InputError(f"cannot write {path} with {shape} ({error}); write .wav, resample or mix to mono") from error


class Images:
    """RGB images of one size: pixels, floating (B, 3, H, W) in [0, 1]."""

    def __init__(self, pixels: Tensor):
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise InputError("pixels must be a floating tensor (batch, 3, height, width)")
        if not pixels.numel():
            raise InputError(f"there is no image in pixels of shape {tuple(pixels.shape)}")
        self.pixels = pixels

    @classmethod
    def load(cls, path: str | Path) -> "Images":
        """One PNG, JPEG, WebP or BMP file. Raises InputError if it is damaged."""
        from PIL import Image

        path = existing(path)
        with _pillow(str(path)), Image.open(path) as image:
            return cls.from_pil(image)

    @classmethod
    def from_pil(cls, image: "Image") -> "Images":
        """One PIL image of any mode, by the rules above."""
        from PIL import ImageOps

        with _pillow("the PIL image"):  # it may be read from its file only now
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                array = np.array(image, np.float32)
                array /= 1 if image.mode == "F" else 65535 if image.mode != "I" or (array > 255).any() else 255
            elif "A" in image.mode or "transparency" in image.info:
                array = np.array(image.convert("RGBA"))
            else:
                array = np.array(image.convert("RGB"))
        return cls(_pixels(_channel_first(array)))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> "Images":
        """One image."""
        return Images(self.pixels[index][None])

    def __iter__(self) -> Iterator["Images"]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> "Images":
        """The same images on `device`."""
        return Images(self.pixels.to(device))

    def resize_crop(self, size: int, where: float = 0.5) -> "Images":
        """The shorter side resized to `size` (bicubic, antialiased, clamped to [0, 1]), then `size` x `size` of it.

        where: 0 crops at the top and left, 0.5 the centre, 1 at the bottom and right.
        """
        height, width = self.pixels.shape[-2:]
        pixels, short = self.pixels, min(height, width)
        if short != size:
            scaled = [max(size, round(side * size / short)) for side in (height, width)]
            pixels = F.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (int((side - size) * where) for side in pixels.shape[-2:])
        return Images(pixels[..., top : top + size, left : left + size])

    def save(self, path: str | Path) -> None:
        """Writes one image as PNG, JPEG or WebP (quality 95), or BMP, rounded to 8 bits; the file appears whole or not at all."""
        from PIL import Image

        path = Path(path)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"cannot write an image as {path.suffix or path.name!r}; use one of {', '.join(IMAGE_SUFFIXES)}")
        if len(self) != 1:
            raise InputError(f"a file holds one image, this batch has {len(self)}; save images[0], images[1], ...")
        array = (self.pixels[0].detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        with atomic_path(path) as temporary:
            Image.fromarray(array).save(temporary, quality=95)  # PNG and BMP have no quality and ignore it


def as_audio(source: AudioSource, sample_rate: int, source_rate: int | None = None) -> Audio:
    """Anything -> mono float32 Audio at `sample_rate`, one item a clip.

    Arrays and tensors are (S,), (C, S) with 1 or 2 channels, or (B, C, S), at `source_rate` (default: `sample_rate`). Raises
    InputError that names the fix for everything else.
    """
    if isinstance(source, str | Path):
        return _read_audio(Path(source), mono=True).resample(sample_rate)
    if isinstance(source, np.ndarray | Tensor):
        return Audio(_wave(source), sample_rate if source_rate is None else source_rate).mono().resample(sample_rate)
    if isinstance(source, Audio):
        _check_wave(source.waveform)
        return Audio(source.waveform.float(), source.sample_rate, source.lengths).mono().resample(sample_rate)
    return Audio.stack([as_audio(item, sample_rate, source_rate) for item in _items(source, "audio")])


def as_images(source: ImageSource, size: int) -> Images:
    """Anything -> (B, 3, size, size) through `resize_crop`, each image on its own.

    Arrays are channel-last ((H, W), (H, W, 1|3|4), (B, H, W, 3)), tensors channel-first ((H, W), (1|3|4, H, W), (B, 3, H, W)).
    Raises InputError that names the fix for everything else.
    """
    from PIL import Image

    if isinstance(source, str | Path):
        return Images.load(source).resize_crop(size)
    if isinstance(source, np.ndarray | Tensor):
        return Images(_pixels(_channel_first(source))).resize_crop(size)
    if isinstance(source, Images):
        return Images(_pixels(source.pixels)).resize_crop(size)
    if isinstance(source, Image.Image):
        return Images.from_pil(source).resize_crop(size)
    return Images(torch.cat([as_images(item, size).pixels for item in _items(source, "images")]))


def _check_rate(rate: int) -> None:
    if not isinstance(rate, int) or rate <= 0:
        raise InputError(f"sample_rate must be a positive whole number of Hz, got {rate!r}")


def _items(source: Any, what: str) -> Sequence[Any]:
    kinds = "paths, numpy arrays, tensors, PIL images" if what == "images" else "paths, numpy arrays, tensors, Audio"
    if not isinstance(source, list | tuple):
        raise InputError(f"cannot take {what} from a {type(source).__name__}; give {kinds}, or a list of them")
    if not source:
        raise InputError(f"an empty list holds no {what}; give at least one item")
    if isinstance(source[0], int | float):
        raise InputError(f"a list of numbers is ambiguous; give {what} as a numpy array or a tensor")
    return source


def _read_audio(path: Path, mono: bool) -> Audio:
    samples, rate = read_samples(path, mono)
    _check_wave(samples, f"{path}: ")
    return Audio(samples, rate)


def _wave(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    wave = _tensor(source)
    if wave.ndim not in (1, 2, 3):
        raise InputError(f"audio must be (samples,), (channels, samples) or (batch, channels, samples), got {tuple(wave.shape)}")
    if wave.ndim > 1 and wave.shape[-2] > 2:
        raise InputError(
            f"audio of shape {tuple(wave.shape)} has {wave.shape[-2]} channels: transpose (samples, channels) to "
            f"(channels, samples), give a batch of mono clips as a list or as (B, 1, S), or mix to mono first"
        )
    wave = wave.reshape(*[1] * (3 - wave.ndim), *wave.shape)
    full = {torch.int16: 32768.0, torch.int32: 2.0**31, torch.uint8: 128.0}
    if wave.dtype in full:
        wave = (wave.float() - (128 if wave.dtype == torch.uint8 else 0)) / full[wave.dtype]
    elif not wave.is_floating_point():
        raise InputError(f"audio of type {wave.dtype} is not understood; give float in [-1, 1], int16, int32 or uint8")
    wave = wave.float()
    _check_wave(wave)
    return wave


def _check_wave(wave: Tensor, where: str = "") -> None:
    if not wave.numel():
        raise InputError(f"{where}there is no audio in an array of shape {tuple(wave.shape)}; give at least one sample")
    low, high = wave.min(), wave.max()  # either is NaN if any sample is
    if not (low.isfinite() and high.isfinite()):
        raise InputError(f"{where}{int((~wave.isfinite()).sum())} samples are NaN or infinite; repair or drop the clip")
    peak = max(-float(low), float(high))
    if peak > LOUDEST:
        raise InputError(f"{where}samples reach {peak:.0f}; these look like integers stored as float: divide by 32768")


def _resample(wave: Tensor, old: int, new: int) -> Tensor:
    """(1, C, S) at `old` Hz -> (1, C, ceil(S * new / old)), in pieces that overlap by more than the filter's reach."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError) as error:
        raise ImportError(
            f"resampling {old} to {new} Hz needs torchaudio, which does not import here ({error}); install the torchaudio that "
            f"belongs to the installed torch {torch.__version__}, or give audio at {new} Hz"
        ) from error
    divisor = math.gcd(old, new)
    step_in, step_out = old // divisor, new // divisor
    size = max(1, round(PIECE * divisor))  # in steps; a step is step_in samples, step_out after
    margin = 1 + math.ceil(20 * max(step_in, step_out) / step_in / step_out)  # filter reach: about 6 zero crossings
    total = wave.shape[-1]
    pieces = []
    for start in range(0, -(-total // step_in), size):
        first = max(0, start - margin)
        piece = resample(wave[..., first * step_in : (start + size + margin) * step_in], old, new)
        pieces.append(piece[..., (start - first) * step_out : (start - first + size) * step_out])
    return torch.cat(pieces, dim=-1)[..., : -(-total * new // old)]


def _tensor(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    if isinstance(source, Tensor):
        return source.detach().cpu()
    try:
        # A copy, because torch warns of read-only arrays, and in the machine's byte order, because it knows no other.
        return torch.from_numpy(np.array(source, source.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise InputError(f"arrays of type {source.dtype} are not understood; give numbers, e.g. float32") from error


@contextmanager
def _pillow(name: str) -> Iterator[None]:
    """What Pillow says of a damaged or huge image, as InputError; what it says of damaged metadata is not passed on."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"cannot read {name} as an image ({error}); check the file or export it again") from error


def _channel_first(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    array = _tensor(source)
    if isinstance(source, Tensor) or array.ndim < 3:
        return array
    if array.shape[-1] not in (1, 3, 4):
        raise InputError(f"numpy images are channel-last, (H, W, 3); got {tuple(array.shape)}: transpose, or give a tensor")
    return array.movedim(-1, -3)


def _pixels(array: Tensor) -> Tensor:
    """(H, W), (C, H, W) or (B, C, H, W) of any accepted type -> float (B, 3, H, W) in [0, 1]."""
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-3] not in (1, 3, 4)):
        shape = tuple(array.shape)
        raise InputError(f"image tensors are (H, W), (C, H, W) or (B, C, H, W) with 1, 3 or 4 channels; got {shape}")
    if not array.numel():
        raise InputError(f"there is no image in an array of shape {tuple(array.shape)}")
    array = array[None] if array.ndim == 2 else array
    array = array[None] if array.ndim == 3 else array
    full = {torch.uint8: 255.0, torch.uint16: 65535.0}
    if array.dtype in full:
        pixels = array.float() / full[array.dtype]
    elif array.is_floating_point():
        pixels = array.float()
        if not pixels.isfinite().all():
            raise InputError(f"{int((~pixels.isfinite()).sum())} pixels are NaN or infinite; repair or drop the image")
        low, high = float(pixels.min()), float(pixels.max())
        if low < -1e-3 or high > 1 + 1e-3:
            fix = "map [-1, 1] by (x + 1) / 2" if low < -1e-3 and high <= 1 + 1e-3 else "divide 8-bit values by 255"
            raise InputError(f"float pixels must lie in [0, 1], got {low:.3g}..{high:.3g}: {fix}")
        pixels = pixels.clamp(0, 1)
    else:
        raise InputError(f"pixels of type {array.dtype} are not understood; give float in [0, 1], uint8 or uint16")
    if pixels.shape[1] == 4:
        alpha = pixels[:, 3:]
        pixels = pixels[:, :3] * alpha + (1 - alpha)
    return pixels.expand(-1, 3, -1, -1).contiguous()
