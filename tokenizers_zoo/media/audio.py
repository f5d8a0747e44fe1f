"""Audio: clips of one sample rate, from whatever holds them.

Rules: channels are averaged to mono; another rate is resampled (`resampling`); integers are scaled by their full range; a file is
what it holds, not what it is called (`audiofile`).
"""

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..files import atomic_path
from .arrays import in_memory, items, to_tensor
from .audiofile import AudioFile, AudioFileSource
from .resampling import resampled
from .waves import check_wave, described, wave_of

AudioSource: TypeAlias = Union[
    AudioFileSource, "np.ndarray[Any, Any]", Tensor, "Audio", Mapping[str, Any], tuple[Any, Any], Sequence["AudioSource"]
]

AUDIO_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", None),
}  # that are written
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".rf64", ".bw64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".sph", ".nist", ".voc", ".8svx", ".svx", ".ircam", ".sf", ".paf", ".pvf"),
)  # that a folder is searched for: what libsndfile reads, but what samplers and calculators dump


class Audio:
    """Clips of one sample rate.

    waveform: floating (B, C, S), nominally in [-1, 1]; zero past an item's length. sample_rate: Hz. lengths: int64 (B,), valid
    samples of each item (default: S for all). S is 0 for what a chunk of a stream without a whole frame decodes to.
    """

    def __init__(
        self, waveform: "Tensor | np.ndarray[Any, Any]", sample_rate: int, lengths: "Tensor | Sequence[int] | None" = None
    ):
        if isinstance(waveform, np.ndarray):
            waveform = to_tensor(waveform)
        if not isinstance(waveform, Tensor) or waveform.ndim != 3 or not waveform.is_floating_point():
            raise InputError(
                f"a waveform must be a floating tensor (batch, channels, samples), got {described(waveform)}; encode "
                "takes other arrays as they are: tokenizer.encode(array, sample_rate)"
            )
        if not len(waveform) or not waveform.shape[1]:
            raise InputError(f"there is no audio in a waveform of shape {tuple(waveform.shape)}; give at least one clip")
        sample_rate = _checked_rate(sample_rate)
        lengths = None if lengths is None else torch.as_tensor(lengths)
        if lengths is not None and (lengths.is_floating_point() or lengths.dtype == torch.bool):
            raise InputError("lengths count samples; give integers")
        count, samples = len(waveform), waveform.shape[-1]
        self.waveform, self.sample_rate = waveform, sample_rate
        self.lengths = torch.full((count,), samples) if lengths is None else lengths.cpu().long()
        if self.lengths.shape != (count,) or int(self.lengths.min()) < min(1, samples) or int(self.lengths.max()) > samples:
            raise InputError(f"lengths must be {count} numbers in 1..{samples}, got {self.lengths.tolist()}")

    @classmethod
    def load(cls, path: AudioFileSource) -> "Audio":
        """One file, or its bytes, or a file object, with all channels at its own rate. Raises InputError if it is damaged."""
        with AudioFile(path) as file:
            return read_audio(file, mono=False)

    @classmethod
    def stack(cls, items: Sequence["Audio"]) -> "Audio":
        """All clips of several Audios of one rate and channel count, zero-padded to the longest."""
        if not items or len({(a.sample_rate, a.waveform.shape[1]) for a in items}) != 1:
            raise InputError("only clips of one sample rate and channel count can be stacked; resample them first")
        if len(items) == 1:
            return items[0]  # an hour need not stand twice in memory
        longest = max(a.waveform.shape[-1] for a in items)
        waves = [F.pad(a.waveform, (0, longest - a.waveform.shape[-1])) for a in items]
        return cls(torch.cat(waves), items[0].sample_rate, torch.cat([a.lengths for a in items]))

    def __len__(self) -> int:
        return len(self.waveform)

    def __repr__(self) -> str:
        count, channels, _ = self.waveform.shape
        seconds = [f"{int(length) / self.sample_rate:.3f}" for length in (self.lengths.min(), self.lengths.max())]
        what = f"{count} clip{'s' * (count > 1)}, {channels} channel{'s' * (channels > 1)}, {self.sample_rate} Hz"
        return f"Audio({what}, {' to '.join(dict.fromkeys(seconds))} s)"

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
        """At `rate` Hz: ceil(length * rate / sample_rate) samples an item. Raises ImportError without torchaudio, or soxr."""
        rate = _checked_rate(rate)
        if rate == self.sample_rate:
            return self
        return Audio.stack([Audio(resampled(item.waveform, self.sample_rate, rate), rate) for item in self])

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

    Files are paths, their bytes, or binary file objects (one that can seek is read from its start). Arrays and tensors are (S,),
    (C, S) with 1 or 2 channels, or (B, C, S), at `source_rate` (default: `sample_rate`): (2, S) is one clip in stereo; two mono
    clips are a list, or (2, 1, S). Their rate can come with them: `(waveform, rate)` or `(rate, waveform)`, the rate being the
    number of the two, or a row {"array", "sampling_rate"} as of Hugging Face's datasets, whose {"bytes", "path"} and decoders
    are taken, too. A list is a batch of such. Raises InputError that names the fix for everything else.
    """
    if isinstance(source, np.ndarray | Tensor):
        return Audio(wave_of(source), sample_rate if source_rate is None else source_rate).mono().resample(sample_rate)
    if isinstance(source, Audio):
        check_wave(source.waveform)
        return Audio(source.waveform.float(), source.sample_rate, source.lengths).mono().resample(sample_rate)
    if isinstance(source, Mapping):
        return as_audio(*_row(source, sample_rate))
    if hasattr(source, "get_all_samples"):  # torchcodec's decoder, which newer datasets put in a row
        samples = cast(Any, source).get_all_samples()
        return as_audio(samples.data, sample_rate, samples.sample_rate)
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read"):
        with AudioFile(cast(AudioFileSource, source)) as file:
            return read_audio(file).resample(sample_rate)
    if isinstance(source, tuple) and len(source) == 2 and sum(map(_is_number, source)) == 1:
        rate, wave = source if _is_number(source[0]) else source[::-1]
        return as_audio(_array(wave), sample_rate, _checked_rate(rate))
    return Audio.stack([as_audio(item, sample_rate, source_rate) for item in items(source, "audio")])


def _checked_rate(rate: Any) -> int:
    try:
        whole = 0 if isinstance(rate, bool | np.bool_) else operator.index(rate)  # numpy's integers are integers
    except TypeError:
        whole = 0
    if whole <= 0:
        raise InputError(f"sample_rate must be a positive whole number of Hz, got {rate!r}")
    return whole


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0)


def _array(wave: Any) -> Any:
    """A list of numbers, or of channels that are such lists, as an array; anything else as it is."""
    first = wave[0] if isinstance(wave, list) and wave else None
    if not _is_number(first[0] if isinstance(first, list) and first else first):
        return wave
    try:
        return np.array(wave)
    except ValueError as error:
        raise InputError(f"a list of numbers, or of equally long channels, is expected ({error})") from error


def _row(row: Mapping[str, Any], sample_rate: int) -> tuple[Any, int, int | None]:
    """What `as_audio` is called with for a row of a dataset."""
    if row.get("array") is not None:
        return _array(row["array"]), sample_rate, _checked_rate(row.get("sampling_rate"))
    if row.get("bytes") is not None:
        file = in_memory(row["bytes"])
        file.name = str(row.get("path") or f"the file of {len(file.getbuffer()):,} bytes")
        return file, sample_rate, None
    if row.get("path") is not None:
        return row["path"], sample_rate, None
    raise InputError(
        f'a row of audio has "array" and "sampling_rate", or "bytes", or "path"; this one has {", ".join(map(str, row))}'
    )


def read_audio(file: AudioFile, mono: bool = True, start: int = 0, count: int | None = None) -> Audio:
    """`count` samples of an open file from `start` on, by default all, at its rate. Raises InputError, which names the file."""
    samples = torch.from_numpy(file.read(mono, start, count))
    if not len(samples):
        raise InputError(
            f"{file.name} holds no samples{f' at {start / file.rate:.2f} s' * bool(start)}; record or export it again"
        )
    wave = samples[None, None] if mono else samples.T[None].contiguous()
    check_wave(wave, f"{file.name}: ")
    return Audio(wave, file.rate)
