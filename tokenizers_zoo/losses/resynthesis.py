"""Resynthesis distillation: speech of the semantic codes, heard by an ASR encoder (LM-SPT, arXiv 2506.16738; kakao/lmspt)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..teachers.base import RATE
from ..teachers.whisper import SECONDS, WhisperEncoder

DISTANCES = {"mse": F.mse_loss, "l1": F.l1_loss}


class ResynthesisDistillation(nn.Module):
    """Distance of a frozen encoder's features of resynthesised and of original speech; the gradient reaches the former.

    sample_rate, resynthesis_rate: of the two, Hz; both are heard at 16 kHz. as_released: clips are continued by zeros to 30 s,
    all 1500 frames count, silence included, and the loudest resynthesis of a batch sets the floor of all their log-mels, as in
    kakao/lmspt; otherwise an item's own frames count.
    """

    def __init__(
        self,
        teacher: WhisperEncoder,
        sample_rate: int = RATE,
        resynthesis_rate: int = RATE,
        distance: Literal["mse", "l1"] = "mse",
        as_released: bool = False,
    ):
        super().__init__()
        self.teacher, self.as_released = teacher, as_released
        self.rates = (resynthesis_rate, sample_rate)
        self.distance = DISTANCES[distance]

    def forward(self, resynthesis: Tensor, target: Tensor) -> Tensor:
        """Waveforms (B, 1, S') and (B, 1, S) -> scalar."""
        resynthesis, target = (self._prepare(x, rate) for x, rate in zip((resynthesis, target), self.rates, strict=True))
        with torch.no_grad():
            target_features = self.teacher(target)
        features = self.teacher(resynthesis, batch_floor=self.as_released)
        return self.distance(features.float(), target_features.float())

    def _prepare(self, waveform: Tensor, rate: int) -> Tensor:
        from torchaudio.functional import resample

        waveform = resample(waveform[:, 0].float(), rate, RATE)
        return F.pad(waveform, (0, SECONDS * RATE - waveform.shape[-1])) if self.as_released else waveform
