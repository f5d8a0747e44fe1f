"""Features of a teacher on disk: a teacher hears every clip once, whatever the number of epochs and runs."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_path
from ..media import as_audio
from .base import RATE, Teacher

TOGETHER = 8  # clips that a teacher hears at a time, of like length

Clip = tuple[Path, str]  # a file, and what is said in it


class FeatureCache:
    """One float16 file a clip, below `folder`, named after teacher (its content), text and clip (path, size, time of change).

    Several processes may fill one folder: files appear whole. A cache that was pickled reads alone.
    """

    def __init__(self, teacher: Teacher, folder: str | Path):
        self.teacher, self.folder = teacher, Path(folder)
        self.identity, self.frame_rate = teacher.identity, teacher.frame_rate

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the teacher."""
        return {k: v for k, v in self.__dict__.items() if k != "teacher"}

    def path(self, clip: Path, text: str) -> Path:
        """Where a clip's features are."""
        stat = clip.stat()
        words = [self.identity, text, str(clip.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
        return self.folder / f"{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]}.safetensors"

    def fill(self, clips: Sequence[Clip], device: torch.device | str = "cpu") -> None:
        """Computes what is missing, on `device`; clips that cannot be read are left out, training will report them.

        Raises InputError, before anything is computed, for a clip without a text that the teacher needs.
        """
        missing = [clip for clip in dict.fromkeys(clips) if clip[0].exists() and not self.path(*clip).exists()]
        missing.sort(key=lambda clip: clip[0].stat().st_size)
        if not missing:
            return
        if self.teacher.reads and (mute := [clip for clip, text in missing if not text.strip()]):
            raise InputError(
                f"{mute[0]} has no text (clips without: {len(mute)}), which a teacher needs: fill the manifest's text column "
                f"(trainers/transcribe.py does), or leave such clips out by a manifest without their rows"
            )
        self.teacher.to(device)
        with tqdm(total=len(missing), desc=f"features of {self.identity}", disable=None) as bar:
            for start in range(0, len(missing), TOGETHER):
                chosen = missing[start : start + TOGETHER]
                self._hear(chosen, device)
                bar.update(len(chosen))
        self.teacher.to("cpu")
        if self.teacher.cut:
            warnings.warn(f"{self.teacher.cut} of {len(missing)} texts were longer than their teacher takes: cut", stacklevel=2)
            self.teacher.cut = 0

    def _hear(self, clips: list[Clip], device: torch.device | str) -> None:
        heard, waveforms = [], []
        for clip in clips:
            try:
                waveforms.append(as_audio(clip[0], RATE).waveform[0, 0].to(device))
                heard.append(clip)
            except InputError:
                continue
        if len(heard) == 1:
            found = [self.teacher(waveforms[0], heard[0][1])]
        else:
            found = self.teacher.batch(waveforms, [text for _, text in heard]) if heard else []
        for clip, features in zip(heard, found, strict=True):
            with atomic_path(self.path(*clip)) as temporary:
                save_file({"features": features.to("cpu", torch.float16).contiguous()}, temporary)

    def crop(self, clip: Path, text: str, start: float, seconds: float) -> Tensor:
        """`seconds` of a clip's features from `start` on, (seconds * frame_rate, dim); nothing else is read.

        Past the clip's end they go on with its beginning; of what begins there itself, the last repeat. Raises InputError where
        the features are missing.
        """
        first, count = round(start * self.frame_rate), round(seconds * self.frame_rate)
        path = self.path(clip, text)
        try:
            with safe_open(path, "pt") as file:
                stored = file.get_slice("features")
                frames = stored.get_shape()[0]
                heard = stored[min(first, frames) : first + count].float()
                if missing := count - len(heard):
                    rest = stored[:missing].float() if first else heard[-1:].expand(missing, -1)
                    heard = torch.cat([heard, rest])
                return heard
        except FileNotFoundError as error:
            raise InputError(f"{clip}: a teacher could not hear all of it, or it has changed since; check the file") from error
        except SafetensorError as error:
            raise InputError(f"{path} is damaged ({error}); remove it, the next run makes it again") from error
