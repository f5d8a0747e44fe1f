"""Shared-index quantization: two codebooks, semantic and pixel, whose rows are chosen together."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import base
from .base import Quantized, Quantizer, errors, nearest
from .vector import look_up

FLOOR = 1e-5  # under the logarithm of the mean probabilities


class SharedIndexQuantizer(Quantizer):
    """One code for the semantic and the pixel half of latents (B, N, semantic_dim + pixel_dim), the semantic half first
    (TokenFlow, arXiv 2412.03069, section 3.1; ByteVisionLab/TokenFlow, vq_model.py).

    Each half of the latents and of the rows is normalised on its own, and the normalised rows are what the decoder gets. The
    code is that of the least squared semantic distance plus `pixel_weight` times the pixel one. Losses are means over the joined
    dimensions of the normalised halves, so that the wider one weighs more.
    temperature: of the probabilities softmax(-distance / temperature) over the codebook in the entropy loss, E[H(p)] - H(E[p])
    in nats (0.01 in the reference); without one there is no such loss, and nothing of it is computed.
    """

    def __init__(
        self, codebook_size: int, semantic_dim: int, pixel_dim: int, pixel_weight: float = 1.0, temperature: float | None = None
    ):
        super().__init__()
        if pixel_weight < 0:
            raise ValueError(f"pixel_weight is 0 or more, got {pixel_weight}")
        self.dims = {"semantic": semantic_dim, "pixel": pixel_dim}
        self.dim, self.codebook_sizes = semantic_dim + pixel_dim, (codebook_size,)
        self.pixel_weight, self.temperature = pixel_weight, temperature
        self.semantic, self.pixel = nn.Embedding(codebook_size, semantic_dim), nn.Embedding(codebook_size, pixel_dim)
        with torch.no_grad():
            for table in (self.semantic.weight, self.pixel.weight):
                table.copy_(F.normalize(nn.init.uniform_(table, -1, 1), dim=-1))

    @property
    def codebook(self) -> Tensor:
        """The rows the decoder gets, float32 (codebook_size, dim)."""
        return self._normalise(torch.cat([self.semantic.weight, self.pixel.weight], -1))

    def split(self, latents: Tensor) -> dict[str, Tensor]:
        """Latents (..., dim), quantized or not -> the halves by their names."""
        return dict(zip(self.dims, latents.split(list(self.dims.values()), dim=-1), strict=True))

    def _normalise(self, x: Tensor) -> Tensor:
        return torch.cat([F.normalize(half, dim=-1) for half in self.split(x).values()], -1)

    def _weigh(self, x: Tensor) -> Tensor:
        """Normalised halves -> those between which the squared distance is the weighted one."""
        halves = self.split(x)
        return torch.cat([halves["semantic"], halves["pixel"] * self.pixel_weight**0.5], -1)

    def forward(self, latents: Tensor) -> Quantized:
        latents, rows = self._normalise(latents), self.codebook
        codes = nearest(self._weigh(latents.detach()), self._weigh(rows.detach()))
        quantized = F.embedding(codes, rows)
        by_item = {"commitment": errors(latents, quantized.detach()), "codebook": errors(quantized, latents.detach())}
        result = look_up(latents, quantized, codes, by_item, self.codebook_sizes)
        if self.temperature is not None:
            result.losses["entropy"] = self._entropy(latents.flatten(0, 1), rows, self.temperature)
        return result

    def _entropy(self, latents: Tensor, rows: Tensor, temperature: float) -> Tensor:
        """Of latents (N, dim), in pieces as in `nearest`; the probabilities are computed again for the gradient."""

        def sums(piece: Tensor) -> tuple[Tensor, Tensor]:
            # all lengths are equal, so that distances differ by the products alone
            log = torch.log_softmax(2 / temperature * self._weigh(piece) @ self._weigh(rows).T, -1)
            return log.exp().sum(0), -(log.exp() * log).sum()

        pieces = latents.split(max(1, base.TABLE // len(rows)))
        found = [checkpoint(sums, piece, use_reentrant=False) for piece in pieces]
        mean = torch.stack([use for use, _ in found]).sum(0) / len(latents)
        return torch.stack([own for _, own in found]).sum() / len(latents) + (mean * (mean + FLOOR).log()).sum()

    def encode(self, latents: Tensor) -> Tensor:
        return nearest(self._weigh(self._normalise(latents)), self._weigh(self.codebook))[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes[:, 0].clamp(min=0), self.codebook)
