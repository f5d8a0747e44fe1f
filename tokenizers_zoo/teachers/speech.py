"""Speech models as teachers: HuBERT, wav2vec 2.0, WavLM, and the encoder of Whisper."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .base import RATE, Teacher, identity_of, open_model, pick
from .whisper import HOP, SECONDS, WhisperEncoder

REACH, STEP = 400, 320  # samples that a frame of the convolutional models sees, and from one to the next
TOGETHER = 8  # windows in one pass


class SpeechTeacher(Teacher):
    """Hidden states of a speech model, 50 frames a second (DM-Codec and SpeechTokenizer: HuBERT base, the average layer).

    path: name or folder of a HuBERT, wav2vec 2.0, WavLM or Whisper model. layer: index of a hidden state (0 enters the first
    block, -1 leaves the last), or "average" over all. Whisper's encoder hears the clip at its own length and not padded to
    30 s: a tenth of the cost for clips of 3 s. Longer clips are heard in windows of 30 s, one behind the other.
    """

    def __init__(self, path: str, layer: int | Literal["average"] = "average"):
        super().__init__()
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        config = open_model(AutoConfig, path)
        self.whisper = WhisperEncoder(path) if config.model_type == "whisper" else None
        if not self.whisper:
            self.model = open_model(AutoModel, path).eval().requires_grad_(False)
            self.extractor = open_model(AutoFeatureExtractor, path)
        # what normalises over time (HuBERT base, wav2vec 2.0 base) would take padding for a part of the clip
        self.masked = bool(self.whisper) or config.feat_extract_norm == "layer"
        self.dim, self.layer = config.hidden_size, layer
        front = "" if self.whisper else self.extractor.to_json_string()
        self.identity = identity_of(self.whisper.encoder if self.whisper else self.model, front, layer=layer)

    def forward(self, waveform: Tensor, text: str = "") -> Tensor:
        """Samples (S,) -> (about S / 320, dim)."""
        return self.batch([waveform], [text])[0]

    @torch.no_grad()
    def batch(self, waveforms: Sequence[Tensor], texts: Sequence[str]) -> list[Tensor]:
        """Several clips (S,), the windows of all side by side; one by one where the model cannot tell padding."""
        windows = [self._windows(waveform) for waveform in waveforms]
        flat = [window for clip in windows for window in clip]
        count = TOGETHER if self.masked else 1
        heard = iter([states for i in range(0, len(flat), count) for states in self._hear(flat[i : i + count])])
        return [torch.cat([next(heard) for _ in clip]) for clip in windows]

    def _windows(self, waveform: Tensor) -> list[Tensor]:
        """Pieces whose frames, one behind the other, are those of the whole clip."""
        waveform = F.pad(waveform, (0, max(0, REACH - len(waveform))))
        least = STEP if self.whisper else REACH
        size = SECONDS * RATE
        starts = range(0, len(waveform) - least + 1, size)
        return [waveform[start : start + size + least - STEP] for start in starts]

    def _hear(self, windows: list[Tensor]) -> list[Tensor]:
        samples = torch.tensor([len(window) for window in windows])
        ragged = int(samples.min()) < int(samples.max())
        if self.whisper:
            mels = [self.whisper.mel(window[None])[0].T for window in windows]
            lengths, frames = (samples // HOP).to(mels[0].device), -(-(samples // HOP) // 2)
            states = self.whisper.states(pad_sequence(mels, batch_first=True).mT, lengths if ragged else None)
        else:
            clips = [window.cpu().numpy() for window in windows]
            inputs = self.extractor(
                clips, sampling_rate=RATE, padding=True, return_attention_mask=ragged, return_tensors="pt"
            ).to(windows[0].device)
            frames = (samples - REACH) // STEP + 1
            states = list(self.model(**inputs, output_hidden_states=True).hidden_states)
        return [item[:count] for item, count in zip(pick(states, self.layer), frames.tolist(), strict=True)]
