"""Language models as teachers: what is said, spread over the frames of the clip."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .base import RATE, Teacher, open_model, pick


class TextTeacher(Teacher):
    """Hidden states of a BERT-like model for the transcript, one vector a frame, 50 a second (DM-Codec: BERT base, average).

    alignment:
      "padded": as DM-Codec's code does: word piece i goes to frame i, and all later frames get the vectors of padding.
      "spread": word pieces fill the voiced part of the clip in proportion to their letters, the frames around it get the vectors
          of the start and end marks. No aligner is needed; it is off by a syllable or so where speech is uneven.
    layer: index of a hidden state, or "average" over all.
    """

    def __init__(self, path: str, layer: int | Literal["average"] = "average", alignment: Literal["spread", "padded"] = "spread"):
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        self.model = open_model(AutoModel, path).eval().requires_grad_(False)
        self.words = open_model(AutoTokenizer, path)
        self.dim = self.model.config.hidden_size
        self.layer, self.alignment = layer, alignment
        self.longest = self.model.config.max_position_embeddings
        self.identity = f"{path} layer {layer} {alignment}"

    @torch.no_grad()
    def forward(self, waveform: Tensor, text: str) -> Tensor:
        """Samples (S,) and their transcript -> (ceil(S / 320), dim). Raises InputError for an empty transcript."""
        if not text.strip():
            raise InputError("a clip has no text: fill the manifest's text column (trainers/transcribe.py does)")
        frames = -(-len(waveform) * int(self.frame_rate) // RATE)
        padding = {"padding": "max_length", "max_length": min(frames, self.longest)} if self.alignment == "padded" else {}
        inputs = self.words(text.lower(), truncation=True, return_tensors="pt", **padding).to(waveform.device)
        vectors = pick(list(self.model(**inputs, output_hidden_states=True).hidden_states), self.layer)[0]
        if self.alignment == "padded":
            return F.pad(vectors.T[None], (0, frames - len(vectors)), mode="replicate")[0].T
        pieces = self.words.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
        return vectors[spread([len(piece.removeprefix("##")) for piece in pieces[1:-1]], *voiced(waveform, frames), frames)]


def voiced(waveform: Tensor, frames: int) -> tuple[int, int]:
    """First frame and end of what is louder than the loudest frame's power - 40 dB."""
    hop = -(-len(waveform) // frames)
    power = F.pad(waveform, (0, frames * hop - len(waveform))).unflatten(0, (frames, hop)).square().mean(1)
    loud = (power >= power.max() * 1e-4).nonzero()
    return int(loud[0]), int(loud[-1]) + 1


def spread(letters: list[int], first: int, end: int, frames: int) -> Tensor:
    """Which word piece each frame gets, int64 (frames,).

    0 before `first`, len(letters) + 1 from `end` on, in between 1..len(letters) for as long as their share of all letters.
    """
    edges = torch.tensor([0, *letters]).cumsum(0)
    at = (torch.arange(frames) - first + 0.5) / max(1, end - first) * edges[-1]
    index = torch.searchsorted(edges[1:].float().contiguous(), at, right=True) + 1
    index = index.clamp(max=len(letters))
    return index.masked_fill(torch.arange(frames) < first, 0).masked_fill(torch.arange(frames) >= end, len(letters) + 1)
