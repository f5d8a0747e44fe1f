"""Features of a teacher on disk: a teacher hears every clip once, whatever the number of epochs and runs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_path
from ..media import as_audio
from .base import RATE, Teacher


class FeatureCache:
    """One float16 file a clip, below `folder`, named after teacher, text and file (path, size, time of change)."""

    def __init__(self, teacher: Teacher, folder: str | Path):
        self.teacher, self.folder = teacher, Path(folder)

    def path(self, clip: Path, text: str) -> Path:
        """Where a clip's features are."""
        stat = clip.stat()
        words = [self.teacher.identity, text, str(clip.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
        return self.folder / f"{hashlib.sha256('|'.join(words).encode()).hexdigest()[:32]}.safetensors"

    def fill(self, clips: Sequence[tuple[Path, str]]) -> None:
        """Computes what is missing; clips that cannot be read are left out, training will report them."""
        missing = [(clip, text) for clip, text in clips if clip.exists() and not self.path(clip, text).exists()]
        for clip, text in tqdm(missing, desc=f"features of {self.teacher.identity}", disable=not missing or None):
            try:
                waveform = as_audio(clip, RATE).waveform[0, 0]
            except InputError:
                continue
            features = self.teacher(waveform.to(next(self.teacher.parameters()).device), text)
            with atomic_path(self.path(clip, text)) as temporary:
                save_file({"features": features.to("cpu", torch.float16).contiguous()}, temporary)

    def crop(self, clip: Path, text: str, start: float, seconds: float) -> Tensor:
        """`seconds` of a clip's features from `start` on, (seconds * frame_rate, dim).

        Before its start and past its end the features nearest to it repeat.
        """
        features = load_file(self.path(clip, text))["features"].float()
        first, count = round(start * self.teacher.frame_rate), round(seconds * self.teacher.frame_rate)
        index = torch.arange(first, first + count).clamp(0, len(features) - 1)
        return features[index]
