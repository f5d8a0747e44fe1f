"""FlexTok: an image as 1 to 256 ordered tokens, drawn by a rectified flow (arXiv 2502.13967; apple/ml-flextok)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.flow import RectifiedFlow
from ..blocks.flow_decoder import FlowDecoder
from ..blocks.kl_autoencoder import KLAutoencoder
from ..blocks.nested import NestedDropout
from ..blocks.projector import Projector
from ..blocks.registers import RegisterEncoder
from ..part import agree
from ..quantizers import Quantizer
from ..tokenizer import ImageTokenizer, Reconstruction


class FlexTok(ImageTokenizer):
    """Registers read a map, FSQ rounds them, and a flow draws the map from as many of them as there are.

    The map is that of a frozen `autoencoder`, which no loss here can train, or without one the pixels in [-1, 1]. nested: how
    many tokens an item keeps in training (None: all). null_rate: share of the items that train without tokens, for guidance.
    projector: of the decoder's patches after its block `layer`, for a loss against a vision model's features (REPA).
    """

    encoder: RegisterEncoder
    decoder: FlowDecoder

    def __init__(
        self,
        encoder: RegisterEncoder,
        quantizer: Quantizer | None,
        decoder: FlowDecoder,
        autoencoder: KLAutoencoder | None = None,
        flow: RectifiedFlow | None = None,
        nested: NestedDropout | None = None,
        null_rate: float = 0.1,
        projector: Projector | None = None,
        layer: int = 1,
    ):
        super().__init__(encoder, quantizer, decoder)
        channels, stride = (autoencoder.dim, autoencoder.stride) if autoencoder else (3, 1)
        agree(
            {
                "encoder.map_channels": encoder.map_channels,
                "decoder.map_channels": decoder.map_channels,
                "the map's channels": channels,
            }
        )
        agree({"encoder.stride": encoder.stride, "decoder.stride": decoder.stride, "the map's stride": stride})
        agree({"decoder.width": decoder.patches.proj.out_features, "projector.width": projector.width if projector else None})
        self.autoencoder = autoencoder.requires_grad_(False) if autoencoder else None
        self.flow, self.nested, self.null_rate = flow or RectifiedFlow(), nested, null_rate
        self.projector, self.layer = projector, layer

    def map(self, media: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> what is read and drawn, (B, channels, side, side)."""
        media = media.to(self.dtype)
        if self.autoencoder is None:
            return 2 * media - 1
        with torch.no_grad():
            return self.autoencoder.encode(media)

    def pixels(self, drawn: Tensor) -> Tensor:
        """A map -> images (B, 3, S, S), unbounded."""
        return self.autoencoder.decode(drawn) if self.autoencoder else (drawn + 1) / 2

    def encode_latents(self, media: Tensor, **given: Any) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> registers before the quantizer, (B, positions, D)."""
        self._trained_extent(media)
        return self.encoder(self.map(media), **given)

    @property
    def outputs(self) -> dict[str, nn.Module]:
        """The sketch, in one pass and without noise, where the decoder has one."""
        return {"sketch": self.decoder.sketch} if self.decoder.sketch else {}

    def decode_latents(self, latents: Tensor, output: str = "main", **how: Any) -> Tensor:
        """Latents (B, n, D), `noise`, `steps`, `guidance`, `apg` -> pixels (B, 3, S, S), unbounded, or the sketch."""
        if output != "main":
            return self.outputs[output](latents.to(self.dtype), **how)
        return self.pixels(super().decode_latents(latents, **how))

    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """One training pass over images (B, 3, S, S) in [0, 1].

        features: `velocity` and `velocity_target`, (B, channels, side, side), at one random time an item; `projected`, (B, D',
        grid, grid), where there is a projector; with a sketch, which is the output, `estimate`: the image which it and the flow
        make in one step. In evaluation mode items keep all tokens, and noise and times are the same at every call.
        """
        self._trained_extent(media)
        clean, decoder = self.map(media), self.decoder
        latents = self.encoder(clean, **given)
        quantized = self.discrete()(latents)
        lengths, dropped = self._left_out(len(media), clean.device)
        time, noise = self._noises(clean)
        condition = decoder.condition(quantized.latents.to(self.dtype), lengths)
        sketch = condition.sketch
        if sketch is not None:  # which learns from its own losses alone
            condition = replace(condition, sketch=sketch.detach())
            clean = (clean - sketch.detach()) / decoder.spread
        if dropped is not None:
            condition = decoder.without(condition, dropped)
        noisy, target = self.flow.noised(clean, noise, time)
        (velocity,), patches = decoder.run(noisy, decoder.modulations(time), condition, layer=self.layer)
        features = {"velocity": velocity, "velocity_target": target}
        if self.projector:
            features["projected"] = self.projector(patches).transpose(1, 2).unflatten(2, (decoder.patches.grid,) * 2)
        if sketch is None:
            return Reconstruction(None, latents, quantized, features)
        rest = noisy - time.to(noisy)[:, None, None, None] * velocity
        features["estimate"] = self.pixels(sketch.detach() + decoder.spread * rest)
        return Reconstruction(self.pixels(sketch), latents, quantized, features)

    def _left_out(self, count: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """In training the numbers of kept tokens, and whether an item is without any."""
        if not self.training:
            return None, None
        lengths = self.nested(count, self.encoder.positions).to(device) if self.nested else None
        return lengths, (torch.rand(count) < self.null_rate).to(device) if self.null_rate else None

    def _noises(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Times (B,) and noise of the shape of the map; in evaluation mode always the same."""
        generator = None if self.training else torch.Generator().manual_seed(0)
        time = self.flow.draw(torch.rand(len(like), generator=generator))
        return time.to(like.device), torch.randn(like.shape, generator=generator).to(like)
