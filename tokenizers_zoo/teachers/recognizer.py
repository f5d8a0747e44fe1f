"""Speech -> text, by any recogniser of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from .base import RATE, open_model


class SpeechRecognizer(nn.Module):
    """Greedy transcription by an encoder-decoder (Whisper) or a CTC model (wav2vec 2.0, HuBERT).

    path: Hugging Face name or local folder. language: for multilingual Whisper, which otherwise guesses. Clips of up to 30 s.
    Where Whisper repeats itself it draws at rising temperatures from torch's random numbers, as openai/whisper does.
    """

    def __init__(self, path: str, language: str = "en"):
        super().__init__()
        from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

        config = open_model(AutoConfig, path)
        self.generates = config.is_encoder_decoder
        self.model = (
            open_model(AutoModelForSpeechSeq2Seq if self.generates else AutoModelForCTC, path).eval().requires_grad_(False)
        )
        self.processor = open_model(AutoProcessor, path)
        multilingual = self.generates and getattr(self.model.generation_config, "is_multilingual", False)
        self.options: dict[str, Any] = {"language": language, "task": "transcribe"} if multilingual else {}
        if config.model_type == "whisper":  # the ratio is of token ids: openai/whisper's 2.4 of letters
            self.options |= {"temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "compression_ratio_threshold": 1.35}

    @torch.no_grad()
    def forward(self, waveforms: list[Tensor]) -> list[str]:
        """Clips (S,) at 16 kHz -> their texts, as the model writes them."""
        clips = [waveform.cpu().numpy() for waveform in waveforms]
        padding = {} if self.generates else {"padding": True}
        inputs = self.processor(clips, sampling_rate=RATE, return_tensors="pt", **padding).to(self.model.device)
        if not self.generates:
            return self.processor.batch_decode(self.model(**inputs).logits.argmax(-1))
        # 224 tokens are more than anyone says in 30 s
        ids = self.model.generate(**inputs, num_beams=1, do_sample=False, max_length=224, **self.options)
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]
