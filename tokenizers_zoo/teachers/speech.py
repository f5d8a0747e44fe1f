"""Speech models as teachers: HuBERT, wav2vec 2.0, WavLM, and the encoder of Whisper."""

from typing import Literal

import torch
from torch import Tensor

from .base import RATE, Teacher, open_model, pick
from .whisper import WhisperEncoder


class SpeechTeacher(Teacher):
    """Hidden states of a speech model, 50 frames a second (DM-Codec and SpeechTokenizer: HuBERT base, the average layer).

    path: name or folder of a HuBERT, wav2vec 2.0, WavLM or Whisper model. layer: index of a hidden state (0 enters the first
    block, -1 leaves the last), or "average" over all. Whisper's encoder hears the clip at its own length and not padded to
    30 s: a tenth of the cost for clips of 3 s.
    """

    def __init__(self, path: str, layer: int | Literal["average"] = "average"):
        super().__init__()
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        config = open_model(AutoConfig, path)
        self.whisper = WhisperEncoder(path) if config.model_type == "whisper" else None
        if not self.whisper:
            self.model = open_model(AutoModel, path).eval().requires_grad_(False)
            self.extractor = open_model(AutoFeatureExtractor, path)
        self.dim, self.layer = config.hidden_size, layer
        self.identity = f"{path} layer {layer}"

    @torch.no_grad()
    def forward(self, waveform: Tensor, text: str = "") -> Tensor:
        """Samples (S,) -> (about S / 320, dim)."""
        if self.whisper:
            return pick(self.whisper.states(self.whisper.mel(waveform[None])), self.layer)[0]
        inputs = self.extractor(waveform.cpu().numpy(), sampling_rate=RATE, return_tensors="pt")
        features = next(iter(inputs.values())).to(waveform.device)
        return pick(list(self.model(features, output_hidden_states=True).hidden_states), self.layer)[0]
