"""Ordered tokens of which any prefix is an image: the model may stop where it likes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...spec import TokenSpec
from ...tokens import Tokens
from ..alphabet import Alphabet
from .stages import Flatten


class Nested(Flatten):
    """Prefixes of ordered tokens (FlexTok, arXiv 2502.13967): as Flatten, but an item may end after any prefix that decodes.

        a0 . . . . . . .        a prefix of 1
        a0 a1 a2 a3 . . .       of 4: it is exact for what is kept

    `draw` gives each item of a training batch a length of its own.
    """

    layouts: tuple[str, ...] = ("sequence", "scales")

    def __init__(self, source: TokenSpec | Alphabet):
        super().__init__(source)
        self.lengths: Sequence[int] = self.spec.prefix_lengths or ()

    def refuses(self) -> str:
        """Prefixes must decode."""
        return super().refuses() or ("" if self.spec.prefix_lengths else "its prefixes do not decode")

    def draw(self, tokens: Tokens, generator: torch.Generator | None = None) -> Tokens:
        """Prefixes of random lengths, each as likely as any other that the item has; in training, before `apply`."""
        allowed = torch.tensor(self.lengths)
        reach = torch.searchsorted(allowed, tokens.lengths, right=True)  # lengths that each item has
        chosen = (torch.rand(len(tokens), generator=generator) * reach).long()
        return self._prefixes(tokens, allowed[chosen])

    def kept(self, whole: Tensor) -> Tensor:
        """The longest prefix that decodes."""
        allowed = whole.new_tensor([0, *self.lengths])
        return allowed[torch.searchsorted(allowed, whole, right=True) - 1]

    def invert(self, ids: Tensor, text: Sequence[str] | None = None, **conditions: Tensor) -> Tokens:
        """As for any pattern; the spec is that of the longest prefix."""
        tokens = super().invert(ids, text, **conditions)
        return self._prefixes(tokens, tokens.lengths)

    def _prefixes(self, tokens: Tokens, lengths: Tensor) -> Tokens:
        longest = max(lengths.tolist(), default=0)
        if not longest:
            return tokens
        spec = tokens.spec.prefix(longest)
        codes = tokens.codes[..., :longest]
        past = (torch.arange(longest) >= lengths[:, None]).to(codes.device)
        return Tokens(codes.masked_fill(past[:, None], -1), spec, lengths, tokens.text, **tokens.conditions)
