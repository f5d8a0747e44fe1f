"""How loud an adversary may be: as loud as what it competes with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError

FLOOR = 1e-4  # under the adversary's norm


class AdaptiveWeight(nn.Module):
    """A factor on the generator's adversarial term: the norm of the gradient of other terms by the weight of a late layer, over
    that of the adversarial term without its own weight (VQGAN, arXiv 2012.09841, equation 7).

    layer: the layer's weight, as the tokenizer calls it, e.g. "decoder.conv_out.weight". terms: by name, how much of a weighted
    term of the objective is compared. least, most: of the factor (VQGAN: 0 and 10,000; DualToken: 0.3 and 10).
    """

    def __init__(self, layer: str, terms: Mapping[str, float], least: float = 0.0, most: float = 1e4):
        super().__init__()
        self.layer, self.shares, self.least, self.most = layer, dict(terms), least, most

    def forward(self, weight: Tensor, terms: Mapping[str, Tensor], adversarial: Tensor) -> Tensor:
        """The layer's weight, the objective's terms, the unweighted adversarial term -> factor, a scalar without gradient.

        Raises InputError for a term that is not there, and for a layer that a side does not reach.
        """
        if missing := sorted(self.shares.keys() - terms.keys()):
            raise InputError(f"the adaptive weight compares {', '.join(missing)}, which the objective has not: name its terms")
        compared = torch.stack([share * terms[name] for name, share in self.shares.items()]).sum()
        norms = []
        for side in (compared, adversarial):
            (gradient,) = torch.autograd.grad(side, weight, retain_graph=True, allow_unused=True)
            if gradient is None:
                raise InputError(
                    f"no gradient reaches {self.layer}: give a layer before the output, and train by ddp, where it is whole"
                )
            norms.append(gradient.norm())
        return (norms[0] / (norms[1] + FLOOR)).clamp(self.least, self.most).detach()
