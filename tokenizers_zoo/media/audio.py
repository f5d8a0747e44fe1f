"""Audio: clips of one sample rate, from whatever holds them.

Rules: channels are averaged to mono; another rate is resampled (torchaudio, windowed sinc); integers are scaled by their full
range.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..files import atomic_path
from .arrays import items, to_tensor
from .audiofile import read_samples

AudioSource: TypeAlias = Union[str, Path, "np.ndarray[Any, Any]", Tensor, "Audio", Sequence["AudioSource"]]

AUDIO_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", None),
}  # that are written
AUDIO_SUFFIXES = tuple(AUDIO_FORMATS)  # that a folder is searched for
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
    return Audio.stack([as_audio(item, sample_rate, source_rate) for item in items(source, "audio")])


def _check_rate(rate: int) -> None:
    if not isinstance(rate, int) or rate <= 0:
        raise InputError(f"sample_rate must be a positive whole number of Hz, got {rate!r}")


def _read_audio(path: Path, mono: bool) -> Audio:
    samples, rate = read_samples(path, mono)
    _check_wave(samples, f"{path}: ")
    return Audio(samples, rate)


def _wave(source: "np.ndarray[Any, Any] | Tensor") -> Tensor:
    wave = to_tensor(source)
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
