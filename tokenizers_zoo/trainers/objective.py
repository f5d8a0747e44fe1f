"""What training minimises: weighted losses by name, and an adversary."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..losses.adversarial import FeatureMatching, LeCam
from ..tokenizer import Reconstruction


@dataclass
class Term:
    """One loss of an objective.

    loss: module that is called with `inputs`, in order. inputs: `output`, `media`, `latents` (before the quantizer), `quantized`
    (after), a loss of the quantizer (`commitment`, `codebook`, ...), a feature of the tokenizer (`semantic`), or an entry of the
    batch (a teacher's name, `text`). A term of weight 0 is not computed: an ablation from the command line costs nothing.
    """

    loss: nn.Module
    weight: float = 1.0
    inputs: tuple[str, ...] = ("output", "media")


class Objective(nn.ModuleDict):
    """Terms by name."""

    def __init__(self, terms: Mapping[str, Term]):
        super().__init__({name: term.loss for name, term in terms.items()})
        self.terms = dict(terms)

    def forward(self, result: Reconstruction, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weighted scalars by name. Raises InputError for an input that is not there."""
        known: dict[str, Any] = {**batch, "latents": result.latents, **result.features}
        if result.output is not None:
            known["output"] = result.output.float()
        if result.quantized is not None:
            known |= {"quantized": result.quantized.latents, **result.quantized.losses}
        terms = {name: term for name, term in self.terms.items() if term.weight}
        return {name: term.weight * term.loss(*_collect(name, term.inputs, known)) for name, term in terms.items()}


def _collect(name: str, inputs: tuple[str, ...], known: Mapping[str, Any]) -> list[Any]:
    missing = [key for key in inputs if key not in known]
    if missing:
        raise InputError(f"the loss {name!r} needs {', '.join(missing)}; there are {', '.join(sorted(known))}")
    return [known[key] for key in inputs]


class Adversary(nn.Module):
    """A discriminator, what it learns, and what it teaches.

    loss: LeastSquares or Hinge. weight: of the generator's adversarial term. feature_matching: weight of the feature matching
    term (0: none). start: generator steps before either side learns. lecam: weight of LeCam regularisation. window: samples of
    audio that are judged, cut at one random place of each batch; None judges all.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        loss: nn.Module,
        weight: float = 1.0,
        feature_matching: float = 0.0,
        start: int = 0,
        lecam: float = 0.0,
        window: int | None = None,
    ):
        super().__init__()
        self.discriminator, self.loss, self.weight, self.start = discriminator, loss, weight, start
        self.feature_matching = feature_matching
        self.lecam_weight, self.lecam, self.matching = lecam, LeCam(), FeatureMatching()
        self.window = window

    def _cut(self, output: Tensor, media: Tensor) -> tuple[Tensor, Tensor]:
        if self.window is None or self.window >= media.shape[-1]:
            return output, media
        start = int(torch.randint(media.shape[-1] - self.window + 1, ()))
        return output[..., start : start + self.window], media[..., start : start + self.window]

    def judge(self, output: Tensor, media: Tensor) -> Tensor:
        """The discriminator's loss; no gradient reaches `output`."""
        output, media = self._cut(output.detach(), media)
        real, fake = self.discriminator(media), self.discriminator(output)
        real, fake = [j.logits.float() for j in real], [j.logits.float() for j in fake]
        loss: Tensor = self.loss.discriminator(real, fake)  # type: ignore[operator]
        if self.lecam_weight:
            means = [torch.cat([x.flatten() for x in side]) for side in (real, fake)]
            loss = loss + self.lecam_weight * self.lecam(*means)
        return loss

    def terms(self, output: Tensor, media: Tensor) -> dict[str, Tensor]:
        """The generator's weighted terms; the discriminator's weights get no gradient."""
        output, media = self._cut(output, media)
        with without_gradients(self.discriminator):
            fake = self.discriminator(output)
            terms = {"adversarial": self.weight * self.loss.generator([j.logits.float() for j in fake])}  # type: ignore[operator]
            if self.feature_matching:
                with torch.no_grad():
                    real = self.discriminator(media)
                maps = [[j.features for j in side] for side in (real, fake)]
                terms["matching"] = self.feature_matching * self.matching(*maps)
        return terms


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Gradients pass through `module` but not into its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
