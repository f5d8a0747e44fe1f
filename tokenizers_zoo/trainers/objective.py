"""What training minimises: weighted losses by name, and an adversary.

Both compute in float32 under autocast too: in bfloat16 the gradient of a perceptual loss near its optimum points elsewhere
(bytedance/1d-tokenizer, losses.py, switches autocast off there). A discriminator's network alone goes by the autocast around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..losses.adversarial import FeatureMatching, LeCam
from ..tokenizer import Reconstruction
from .adaptive import AdaptiveWeight

TAKEN = frozenset({"adversarial", "matching", "discriminator", "total"})  # what a trainer adds to the terms


@dataclass
class Term:
    """One loss of an objective.

    loss: module that is called with `inputs`, in order. inputs: `output`, `media`, `latents` (before the quantizer), `quantized`
    (after), a loss of the quantizer (`commitment`, `codebook`, ...), a feature of the tokenizer (`semantic`), or an entry of the
    batch (a teacher's name, `text`). A term of weight 0 is left out, and of a recipe its loss is not built: an
    ablation from the command line costs nothing, no download either.
    """

    loss: nn.Module
    weight: float = 1.0
    inputs: tuple[str, ...] = ("output", "media")


class Objective(nn.ModuleDict):
    """Terms by name."""

    def __init__(self, terms: Mapping[str, Term | None]):
        """Raises InputError for a name that a trainer gives to something else."""
        if taken := sorted(TAKEN & terms.keys()):
            raise InputError(f"a term cannot be called {', '.join(taken)}: the logs have this name already; choose another")
        self.terms = {name: term for name, term in terms.items() if term and term.weight}
        super().__init__({name: term.loss for name, term in self.terms.items()})

    def forward(self, result: Reconstruction, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weighted scalars by name. Raises InputError for an input that is not there, or of which there are two."""
        quantized = result.quantized
        own = {"output": result.output, "latents": result.latents, "quantized": quantized and quantized.latents}
        known: dict[str, Any] = dict(batch)
        for what in (own, result.features, quantized.losses if quantized else {}):
            if twice := sorted(known.keys() & what.keys()):
                raise InputError(
                    f"two inputs of the losses are called {', '.join(twice)}: what the tokenizer gives has this name; give the "
                    f"teacher, or whatever else brings it, another one"
                )
            known |= {name: value for name, value in what.items() if value is not None}
        with torch.autocast(result.latents.device.type, enabled=False):
            return {name: term.weight * term.loss(*_collect(name, term.inputs, known)) for name, term in self.terms.items()}


def _collect(name: str, inputs: tuple[str, ...], known: Mapping[str, Any]) -> list[Any]:
    missing = [key for key in inputs if key not in known]
    if missing:
        raise InputError(f"the loss {name!r} needs {', '.join(missing)}; there are {', '.join(sorted(known))}")
    return [_full(known[key]) for key in inputs]


def _full(value: Any) -> Any:
    """`value` with its floating tensors, in lists and dictionaries too, as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _full(item) for key, item in value.items()}
    return type(value)(map(_full, value)) if type(value) in (list, tuple) else value


class Judged(NamedTuple):
    """What a batch teaches the two sides.

    discriminator: its loss; of all that learns, the gradient reaches the discriminator's weights alone. terms: the generator's
    weighted terms by name, as numbers. generator: their sum, whose gradient reaches the output alone.
    """

    discriminator: Tensor
    terms: dict[str, Tensor]
    generator: Tensor

    def scaled(self, factor: Tensor) -> "Judged":
        """The generator's part times `factor`."""
        terms = {name: factor * term for name, term in self.terms.items()}
        return Judged(self.discriminator, terms, factor * self.generator)


class Adversary(nn.Module):
    """A discriminator, what it learns, and what it teaches.

    loss: LeastSquares or Hinge. weight: of the generator's adversarial term. feature_matching: weight of the feature matching
    term (0: none). start: generator steps before either side learns. lecam: weight of LeCam regularisation. window: samples of
    audio that are judged, cut at one random place of each batch; None judges all. adaptive: a further factor on the generator's
    part, anew for each batch.
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
        adaptive: AdaptiveWeight | None = None,
    ):
        super().__init__()
        self.discriminator, self.loss, self.weight, self.start = discriminator, loss, weight, start
        self.adaptive = adaptive
        self.feature_matching = feature_matching
        self.lecam_weight, self.lecam, self.matching = lecam, LeCam(), FeatureMatching()
        self.window = window

    def _cut(self, output: Tensor, media: Tensor) -> tuple[Tensor, Tensor]:
        if self.window is None or self.window >= media.shape[-1]:
            return output, media
        start = int(torch.randint(media.shape[-1] - self.window + 1, ()))
        return output[..., start : start + self.window], media[..., start : start + self.window]

    def judge(self, output: Tensor, media: Tensor) -> Judged:
        """Both sides of a batch, (B, C, ...), go through the discriminator once, and both losses are taken of what it says.

        The graph ends before the output. The generator's terms are differentiated down to there at once, which leaves the
        discriminator's weights alone; one backward pass of the sum of both losses then gives each side its own gradient.
        """
        output, media = self._cut(output.float(), media.float())
        seen = output.detach().requires_grad_()
        real, fake = self.discriminator(media), self.discriminator(seen)
        with torch.autocast(output.device.type, enabled=False):
            real_logits, fake_logits = ([j.logits.float() for j in side] for side in (real, fake))
            judged: Tensor = self.loss.discriminator(real_logits, fake_logits)  # type: ignore[operator]
            if self.lecam_weight:
                means = [torch.cat([x.flatten() for x in side]) for side in (real_logits, fake_logits)]
                judged = judged + self.lecam_weight * self.lecam(*means)
            terms = {"adversarial": self.weight * self.loss.generator(fake_logits)}  # type: ignore[operator]
            if self.feature_matching:
                maps = [[[x.float() for x in j.features] for j in side] for side in (real, fake)]
                terms["matching"] = self.feature_matching * self.matching(*maps)
            total = torch.stack(list(terms.values())).sum()
            (gradient,) = torch.autograd.grad(total, seen, retain_graph=True)
            generator = total.detach() + ((output - output.detach()) * gradient).sum()
        return Judged(judged, {name: term.detach() for name, term in terms.items()}, generator)
