"""Neural codecs of transformers, to compare with."""

import hashlib
import math
from typing import Any

import torch

from ..errors import InputError
from ..media import Audio, Images
from ..teachers.base import open_model
from .base import Item, System, need
from .systems import fitted

KNOWN = ("encodec", "mimi", "dac")


class Transformers(System):
    """EnCodec, Mimi or DAC: `path` is a Hugging Face name (facebook/encodec_24khz, kyutai/mimi, descript/dac_16khz) or a folder.

    codebooks: how many of the first are decoded, None for all that the model has; EnCodec's 1.5, 3, 6 and 12 kbit/s are 2, 4,
    8 and 16. A clip is resampled to the model's rate, and back. Bits are those of the codes: codebooks * frames * log2(size).
    """

    def __init__(self, path: str, codebooks: int | None = None):
        self.network = open_model(need("transformers").AutoModel, path).eval()
        config = self.network.config
        if config.model_type not in KNOWN or getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
            raise InputError(f"{path} is no mono {', '.join(KNOWN)} without loudness scales; EnCodec's is facebook/encodec_24khz")
        self.rate, self.size = config.sampling_rate, config.codebook_size
        # A residual quantizer's first codes do not depend on how many follow: all are computed, the first are kept.
        self.options = {"bandwidth": max(config.target_bandwidths)} if config.model_type == "encodec" else {}
        there = config.n_codebooks if config.model_type == "dac" else config.num_quantizers
        if codebooks is not None and not 1 <= codebooks <= there:
            raise InputError(f"{path} has {there} codebooks, not {codebooks}")
        self.codebooks, self.sizes = codebooks, (self.size,) * (codebooks or there)
        many = f", {codebooks} codebook{'s' * (codebooks > 1)}" if codebooks else ""
        self.name = f"{path.rstrip('/').split('/')[-1]}{many}"
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        self.weights = digest.hexdigest()[:12]

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One clip, as long as it was."""
        assert isinstance(media, Audio)
        wave = media.resample(self.rate).waveform.to(self.device)
        if self.network.config.model_type == "dac":  # the others pad inside
            wave = torch.nn.functional.pad(wave, (0, -wave.shape[-1] % self.network.config.hop_length))
        codes = self.network.encode(wave, **self.options).audio_codes
        codes = codes[..., : self.codebooks, :]
        scales = {"audio_scales": [None]} if self.options else {}
        decoded = self.network.decode(audio_codes=codes, **scales).audio_values
        codes = codes.reshape(codes.shape[-2:])
        back = fitted(Audio(decoded.reshape(1, 1, -1).cpu(), self.rate), media)
        return back, {"bits": codes.numel() * math.log2(self.size), "codes": codes.cpu().numpy()}
