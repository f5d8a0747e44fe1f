"""Speech models as teachers: HuBERT, wav2vec 2.0, WavLM, and the encoder of Whisper."""

from typing import Literal

import torch
from torch import Tensor

from .base import RATE, Teacher, open_model, pick


class SpeechTeacher(Teacher):
    """Hidden states of a speech model, 50 frames a second (DM-Codec and SpeechTokenizer: HuBERT base, the average layer).

    path: name or folder of a HuBERT, wav2vec 2.0, WavLM or Whisper model. layer: index of a hidden state (0 enters the first
    block, -1 leaves the last), or "average" over all. Whisper's encoder hears the clip at its own length and not padded to
    30 s: a tenth of the cost for clips of 3 s.
    """

    def __init__(self, path: str, layer: int | Literal["average"] = "average"):
        super().__init__()
        from transformers import AutoFeatureExtractor, AutoModel

        model = open_model(AutoModel, path)
        self.whisper = model.config.model_type == "whisper"
        self.model = (model.encoder if self.whisper else model).eval().requires_grad_(False)
        self.extractor = open_model(AutoFeatureExtractor, path)
        self.dim, self.layer, self.identity = model.config.hidden_size, layer, f"{path} layer {layer}"

    @torch.no_grad()
    def forward(self, waveform: Tensor, text: str = "") -> Tensor:
        """Samples (S,) -> (about S / 320, dim)."""
        options = {"padding": False} if self.whisper else {}
        inputs = self.extractor(waveform.cpu().numpy(), sampling_rate=RATE, return_tensors="pt", **options)
        features = next(iter(inputs.values())).to(waveform.device)
        states = self._whisper(features) if self.whisper else self.model(features, output_hidden_states=True).hidden_states
        return pick(list(states), self.layer)[0]

    def _whisper(self, mel: Tensor) -> list[Tensor]:
        """All hidden states; the last is normalised, as the decoder gets it. The model's own forward insists on 30 s."""
        encoder = self.model
        x = torch.nn.functional.gelu(encoder.conv1(mel))
        x = torch.nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
        states = [x + encoder.embed_positions.weight[: x.shape[1]]]
        for layer in encoder.layers:
            states.append(layer(states[-1], None))
        return [*states[:-1], encoder.layer_norm(states[-1])]
