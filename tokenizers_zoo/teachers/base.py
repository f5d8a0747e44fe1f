"""What a teacher is: a frozen model that gives features of one clip."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, WeightsError
from ..frozen import Frozen
from ..weights import fingerprint

RATE = 16000  # Hz: every speech model of the field listens at this rate


class Teacher(Frozen, ABC):
    """One clip (mono, 16 kHz) and its text -> features (T, dim) at `frame_rate` frames a second.

    identity: what a feature cache is keyed by: weights, layer, and whatever else changes the features (see `identity_of`).
    reads: whether it cannot do without the text. cut: how many texts were too long.
    """

    dim: int
    frame_rate: float = 50.0
    identity: str
    reads: bool = False
    cut: int = 0

    @abstractmethod
    def forward(self, waveform: Tensor, text: str) -> Tensor:
        """Samples (S,) in [-1, 1] at 16 kHz, and what is said in them -> features (T, dim)."""

    def batch(self, waveforms: Sequence[Tensor], texts: Sequence[str]) -> list[Tensor]:
        """Features of each of several clips, as `forward` gives them; one after the other where a model cannot tell padding."""
        return [self(waveform, text) for waveform, text in zip(waveforms, texts, strict=True)]


def identity_of(model: Any, front: str, **options: Any) -> str:
    """What the features of a model of transformers depend on: its weights, its config, what stands before it (as JSON) and ours.

    It follows from content alone: the same for a copy in another folder, another one where a file was replaced.
    """
    config = {k: str(v) for k, v in model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    digest = fingerprint(model.state_dict(), {"config": config, "front": front})
    return " ".join([model.config.model_type, digest, *(f"{key} {value}" for key, value in options.items())])


def open_model(auto: Any, path: str, **options: Any) -> Any:
    """`auto.from_pretrained(path)`, networks in float32 whatever they were saved in.

    Raises WeightsError with the reason where that fails; remote code is never run.
    """
    try:
        found = auto.from_pretrained(str(Path(path).expanduser()), trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"cannot open {path} as {auto.__name__} ({reason}); give a Hugging Face name or a local folder"
        ) from error
    return found.float() if isinstance(found, nn.Module) else found


def pick(states: list[Tensor], layer: int | str) -> Tensor:
    """One of the hidden states (0 is what enters the first block), or with "average" the mean of all. Raises InputError."""
    if layer == "average":
        return torch.stack(states).mean(0)
    if not -len(states) <= int(layer) < len(states):
        raise InputError(f"a teacher's layer is {layer}, its model has 0 to {len(states) - 1}, or -1 for the last")
    return states[int(layer)]
