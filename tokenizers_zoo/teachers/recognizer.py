"""Speech -> text, by any recogniser of transformers."""

import zlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..frozen import stacked
from .base import RATE, open_model
from .windows import windows

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of openai/whisper, after 0
REPETITIVE = 2.4  # letters over their zlib size: from there on a text counts as repeating itself (openai/whisper)
TOKENS = 224  # more than anyone says in 30 s
LEAST = RATE // 10  # samples; the convolutions of wav2vec 2.0 need 400


class SpeechRecognizer(nn.Module):
    """Greedy transcription by an encoder-decoder (Whisper) or a CTC model (wav2vec 2.0, HuBERT).

    path: Hugging Face name or local folder. language: for multilingual Whisper, which otherwise guesses. Clips of more than 30 s
    are heard in pieces (`windows`). A clip's text does not depend on the others: pieces are heard together only where they are
    equally long, and where Whisper repeats itself, a piece is heard again alone, with random numbers of its own at rising
    temperatures.
    """

    def __init__(self, path: str, language: str = "en"):
        super().__init__()
        from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

        config = open_model(AutoConfig, path)
        self.generates, self.whisper = config.is_encoder_decoder, config.model_type == "whisper"
        self.model = (
            open_model(AutoModelForSpeechSeq2Seq if self.generates else AutoModelForCTC, path).eval().requires_grad_(False)
        )
        self.processor = open_model(AutoProcessor, path)
        multilingual = self.generates and getattr(self.model.generation_config, "is_multilingual", False)
        self.options: dict[str, Any] = {"language": language, "task": "transcribe"} if multilingual else {}

    def forward(self, waveforms: list[Tensor]) -> list[str]:
        """Clips (S,) at 16 kHz -> their texts, as the model writes them."""
        clips = [waveform.cpu() for waveform in waveforms]
        pieces = [[clip[piece] for piece in windows(clip)] for clip in clips]
        texts = iter(stacked(self._heard, [self._input(piece) for clip in pieces for piece in clip]))
        return [" ".join(filter(None, [next(texts) for _ in clip])) for clip in pieces]

    def _input(self, piece: Tensor) -> Tensor:
        """What the model gets of a piece: mels, Whisper's of 30 s, or samples."""
        padded = F.pad(piece, (0, max(0, LEAST - len(piece))))
        given = self.processor(padded.numpy(), sampling_rate=RATE, return_tensors="pt")
        return (given.input_features if self.generates else given.input_values)[0]

    def _heard(self, inputs: Tensor) -> list[str]:
        """Inputs of equal size, (B, ...) -> texts."""
        inputs = inputs.to(self.model.device)
        if not self.generates:
            return self.processor.batch_decode(self.model(inputs).logits.argmax(-1))
        texts = self._written(inputs)
        if self.whisper:
            texts = [self._again(x, text) if repetitive(text) else text for x, text in zip(inputs.split(1), texts, strict=True)]
        return texts

    def _again(self, inputs: Tensor, text: str) -> str:
        """The text of one input (1, ...) at the first temperature at which it does not repeat itself, or else at the last."""
        with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
            torch.manual_seed(0)
            for temperature in TEMPERATURES:
                (text,) = self._written(inputs, temperature=temperature)
                if not repetitive(text):
                    break
        return text

    def _written(self, inputs: Tensor, temperature: float = 0.0) -> list[str]:
        draws: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        if self.whisper:  # which takes no mask, and warns of its absence
            draws |= {"attention_mask": inputs.new_ones(inputs[:, 0].shape)}
        ids = self.model.generate(inputs, num_beams=1, max_length=TOKENS, **draws, **self.options)
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]


def repetitive(text: str) -> bool:
    """Whether a text compresses so well that it must repeat itself."""
    data = text.encode()
    return len(data) > REPETITIVE * len(zlib.compress(data))
