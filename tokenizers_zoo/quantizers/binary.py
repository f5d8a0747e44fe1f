"""Binary quantization: one codebook of two entries per bit."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Quantized, Quantizer, straight_through


class BinaryQuantizer(Quantizer):
    """The sign of each dimension: LFQ (arXiv 2310.05737), or BSQ (arXiv 2406.07548) when `spherical`.

    Code 1 stands for a positive latent, 0 for the rest. LFQ's values are +-1; BSQ normalises the latents first and its
    values are +-1/sqrt(dim). The entropy loss, E[H(bit)] - H(E[bit]) summed over bits in nats, takes bits as independent
    (BSQ's approximation), so that the cost grows with the number of bits and not with 2^bits. `inverse_temperature`
    sharpens the bit probabilities sigmoid(4 * inverse_temperature * u), u the latent in the scale of its value.
    """

    def __init__(self, dim: int, spherical: bool = False, inverse_temperature: float = 1.0):
        super().__init__()
        self.dim, self.spherical, self.inverse_temperature = dim, spherical, inverse_temperature
        self.codebook_sizes = (2,) * dim
        self.scale = dim**-0.5 if spherical else 1.0

    def _normalise(self, latents: Tensor) -> Tensor:
        return F.normalize(latents, dim=-1) if self.spherical else latents

    def forward(self, latents: Tensor) -> Quantized:
        latents = self._normalise(latents)
        bits = latents > 0
        values = self._values(bits)
        p = torch.sigmoid(4 * self.inverse_temperature * self.scale * latents)
        entropy = (_entropy(p) - _entropy(p.mean(dim=(0, 1)))).sum(-1).mean()
        losses = {"commitment": F.mse_loss(latents, values), "entropy": entropy}
        codes = bits.long().transpose(1, 2)
        return Quantized(straight_through(latents, values), codes, self.codebook_sizes, losses, values)

    def _values(self, bits: Tensor) -> Tensor:
        return (bits.float() * 2 - 1) * self.scale

    def encode(self, latents: Tensor) -> Tensor:
        return (latents > 0).long().transpose(1, 2)  # normalising does not change a sign

    def decode(self, codes: Tensor) -> Tensor:
        return self._values(codes.transpose(1, 2).clamp(min=0))


class BernoulliQuantizer(Quantizer):
    """Stochastic bits with an embedding each (Instella-T2I, AMD-AGI/Instella-T2I bae/bnl.py).

    A linear map gives `bits` logits. In training a bit is drawn from Bernoulli(sigmoid(logit / temperature)) and carries
    the gradient of sigmoid(logit); otherwise it is 1 where the logit is positive. The latents are the sum of the
    embeddings of the set bits.

    Losses: `uncertainty`, the mean of p (1 - p) for p = sigmoid(logit), and `entropy`, E[H(bit)] - H(E[bit]) of each position's
    bits over the batch, summed over the bits in nats. The reference trains with neither.
    """

    undecayed = ("embed",)

    def __init__(self, dim: int, bits: int, temperature: float = 0.1):
        super().__init__()
        self.dim, self.temperature = dim, temperature
        self.codebook_sizes = (2,) * bits
        self.proj = nn.Linear(dim, bits)
        self.embed = nn.Parameter(torch.randn(bits, dim) * bits**-0.5)

    def forward(self, latents: Tensor) -> Quantized:
        logits = self.proj(latents)
        chance = torch.sigmoid(logits)
        bits = torch.bernoulli(torch.sigmoid(logits / self.temperature)) if self.training else (logits > 0).float()
        quantized = straight_through(chance, bits) @ self.embed
        entropy = (_entropy(chance) - _entropy(chance.mean(dim=0))).sum(-1).mean()
        losses = {"uncertainty": (chance * (1 - chance)).mean(), "entropy": entropy}
        return Quantized(quantized, bits.long().transpose(1, 2), self.codebook_sizes, losses, values=quantized)

    def encode(self, latents: Tensor) -> Tensor:
        return (self.proj(latents) > 0).long().transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        return codes.clamp(min=0).transpose(1, 2).float() @ self.embed


def _entropy(p: Tensor) -> Tensor:
    p = p.clamp(1e-7, 1 - 1e-7)  # a sigmoid that has become 0 or 1 would have the gradient infinity x 0
    return torch.special.entr(p) + torch.special.entr(1 - p)
