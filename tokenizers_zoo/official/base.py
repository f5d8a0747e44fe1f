"""How a system's published checkpoint becomes our state dict."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..tokenizer import Tokenizer
from ..weights import compare, unsaved

State = dict[str, Tensor]


def merged(*states: State) -> State:
    """One state dict of several files. Raises WeightsError where two of them have one key."""
    state = {key: value for part in states for key, value in part.items()}
    if len(state) < sum(map(len, states)):
        raise WeightsError("two of these files hold tensors of one name; give each of the authors' files once")
    return state


@dataclass(frozen=True)
class Official:
    """Where a variant's published weights are, what they are called, and what may be done with them.

    names: regular expressions and replacements that turn our key into theirs, applied in order. Where one of our tensors is
    several of theirs, one below the other, their names are in braces, `attn.{q,k,v}.weight`; of an empty word there are zeros.
    license: of the published weights, as their page states it. noncommercial: whether it rules out commercial use.
    files: (Hub repository, path) of each file; the repository is "" where the authors publish elsewhere, at `place`.
    unpack: picks the state dict out of the contents of the files, in their order.
    ignored: pattern of published keys that inference does not need.
    fresh: pattern of our keys that no author published; they keep their random start.
    published: arguments of the assembly that bring back the authors' padding, where it loses samples that ours keeps.
    """

    names: Sequence[tuple[str, str]]
    license: str
    files: tuple[tuple[str, str], ...]
    place: str = "the Hub"
    noncommercial: bool = False
    unpack: Callable[..., State] = merged
    ignored: str = r"$^"
    fresh: str = r"$^"
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hub(self) -> str:
        """The Hub repository of the (first) file, "" where the authors publish elsewhere."""
        return self.files[0][0]

    def key(self, ours: str) -> str:
        """The published name of our key."""
        for pattern, replacement in self.names:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the published state dict of a freshly created variant, axes of length 1 left out."""
        wanted = {self.key(key): value for key, value in self._wanted(module).items()}
        parts = {key: zip(_spread(key), _cut(value, key), strict=True) for key, value in wanted.items()}
        return {name: _shape(part) for pairs in parts.values() for name, part in pairs if name}

    def told(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Arguments of the assembly that the authors' files state beside their weights, where they do."""
        return {}

    def convert(self, state: State, tokenizer: Tokenizer) -> State:
        """What was unpacked -> the state dict of a freshly created tokenizer, but for frozen helpers and what is `fresh`.

        Strict in both directions: raises WeightsError that lists missing, surplus and mis-shaped keys.

        A subclass whose authors fuse or split tensors renames and joins them first, and hands the rest on to this method, so that
        every published entry is accounted for.
        """
        return self.renamed(state, tokenizer, tokenizer.name)

    def renamed(self, state: State, module: nn.Module, what: str) -> State:
        """The same of any network, which errors call `what`."""
        state = {k: v for k, v in state.items() if not re.search(self.ignored, k)}
        compare(self.shapes(module), {k: _shape(v) for k, v in state.items()}, f"{what} as published")
        return {key: self._whole(state, self.key(key), value) for key, value in self._wanted(module).items()}

    def _whole(self, state: State, key: str, ours: Tensor) -> Tensor:
        """The published tensor, or tensors, of a key, in the shape of ours."""
        if len(names := _spread(key)) == 1:
            return state[key].reshape(ours.shape)
        parts = zip(names, _cut(torch.zeros_like(ours), key), strict=True)
        return torch.cat([state[name].reshape(part.shape).to(part) if name else part for name, part in parts])

    def _wanted(self, module: nn.Module) -> State:
        left_out = unsaved(module)
        state = module.state_dict().items()
        return {k: v for k, v in state if not k.startswith(left_out) and not re.search(self.fresh, k)}


def _spread(key: str) -> list[str]:
    """The names that a published key with braces stands for; "" for what is not published."""
    head, brace, rest = key.partition("{")
    words, _, tail = rest.partition("}")
    return [f"{head}{word}{tail}" if word else "" for word in words.split(",")] if brace else [key]


def _cut(value: Tensor, key: str) -> tuple[Tensor, ...]:
    """A tensor of ours in as many equal parts as its published key has names."""
    return value.chunk(len(_spread(key))) if "{" in key else (value,)


def _shape(value: Tensor) -> tuple[int, ...]:
    """Shape without axes of length 1: a linear map is published as 1x1 convolution, a vector as a row."""
    return tuple(n for n in value.shape if n != 1) if isinstance(value, Tensor) else ()
