"""Language models as teachers: what is said, spread over the frames of the clip."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .base import RATE, Teacher, identity_of, open_model, pick


class TextTeacher(Teacher):
    """Hidden states of a BERT-like model for the transcript, one vector a frame, 50 a second (DM-Codec: BERT base, average).

    alignment:
      "padded": as DM-Codec's code does: word piece i goes to frame i, and all later frames get the vectors of padding.
      "spread": word pieces fill the voiced part of the clip in proportion to their letters, the frames around it get the vectors
          of the start and end marks. No aligner is needed; it is off by a syllable or so where speech is uneven.
    layer: index of a hidden state, or "average" over all.
    """

    reads = True

    def __init__(self, path: str, layer: int | Literal["average"] = "average", alignment: Literal["spread", "padded"] = "spread"):
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        self.model = open_model(AutoModel, path).eval().requires_grad_(False)
        self.words = open_model(AutoTokenizer, path, padding_side="right", truncation_side="right")
        self.dim = self.model.config.hidden_size
        self.layer, self.alignment = layer, alignment
        self.longest = min(self.model.config.max_position_embeddings, self.words.model_max_length)
        backend = getattr(self.words, "backend_tokenizer", None)
        front = backend.to_str() if backend else str(sorted(self.words.get_vocab().items()))
        limits = {"longest": self.longest, "padding": self.words.pad_token_id}  # which stand in another file
        self.identity = identity_of(self.model, front, layer=layer, alignment=alignment, **limits)

    def forward(self, waveform: Tensor, text: str) -> Tensor:
        """Samples (S,) and their transcript -> (ceil(S / 320), dim). Raises InputError for an empty transcript."""
        return self.batch([waveform], [text])[0]

    @torch.no_grad()
    def batch(self, waveforms: Sequence[Tensor], texts: Sequence[str]) -> list[Tensor]:
        """Several clips. A text of more word pieces than the model (padded: or the clip) has places for is cut and counted."""
        if not all(text.strip() for text in texts):
            raise InputError("a clip has no text: fill the manifest's text column (trainers/transcribe.py does)")
        frames = [-(-len(waveform) * int(self.frame_rate) // RATE) for waveform in waveforms]
        rows = []
        for text, count in zip(texts, frames, strict=True):
            limit = min(count, self.longest) if self.alignment == "padded" else self.longest
            self.cut += len(self.words(text.lower(), verbose=False)["input_ids"]) > limit
            padding = "max_length" if self.alignment == "padded" else False
            rows.append(self.words(text.lower(), truncation=True, max_length=limit, padding=padding))
        inputs = self.words.pad(rows, return_tensors="pt").to(waveforms[0].device)  # what one row lacks its mask leaves out
        states = pick(list(self.model(**inputs, output_hidden_states=True).hidden_states), self.layer)
        ids = [row["input_ids"] for row in rows]
        vectors = [state[: len(own)] for state, own in zip(states, ids, strict=True)]
        return [self._aligned(*item) for item in zip(vectors, ids, waveforms, frames, strict=True)]

    def _aligned(self, vectors: Tensor, ids: list[int], waveform: Tensor, frames: int) -> Tensor:
        """A vector for each word piece -> one for each frame."""
        if self.alignment == "padded":
            return F.pad(vectors.T[None], (0, frames - len(vectors)), mode="replicate")[0].T
        pieces = self.words.convert_ids_to_tokens(ids)
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
