"""Rows of a language model's embeddings for new ids.

Left to themselves, libraries give all new rows the mean of the old ones with next to no spread: thousands of copies, in bfloat16
exact ones. Here a new row is the old rows' mean and a step of nearly their length, in a direction of its own: that of the code's
vector in its codebook through a random projection, of the lane, and a little chance. Codes that sound alike start out alike.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..errors import TokenError
from ..tokenizer import Tokenizer
from .alphabet import Alphabet

LANE, CHANCE = 0.5, 0.25  # lengths, beside a codebook vector's of 1
STEP = 0.8  # of the old rows' spread: thousands of new ids have larger extremes, and must not be what is said first


@torch.no_grad()
def enlarge(model: Any, text: int, size: int, lanes: Iterable[tuple[int, Tensor]], seed: int) -> None:
    """Gives a transformers causal model, tied or not, rows for ids text .. size - 1; those below stay as they are.

    lanes: the first id of a lane and the vectors of its words, float32 (words, D). All other rows are random.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < text:
        raise TokenError(f"the model has {rows} rows, the text tokenizer {text} ids: they do not belong together")
    if rows < size:
        model.resize_token_embeddings(size, mean_resizing=False)
    lanes, generator = list(lanes), torch.Generator().manual_seed(seed)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    for layer in {id(layer.weight): layer for layer in layers if layer is not None}.values():
        known = layer.weight[: text or rows].float().cpu()
        new = known.mean(0) + STEP * known.std(0) * _directions(size - text, layer.weight.shape[1], text, lanes, generator)
        layer.weight[text:size] = new.to(layer.weight)
        if getattr(layer, "bias", None) is not None:
            layer.bias[text:size] = layer.bias[: text or rows].mean()


def _directions(count: int, dim: int, text: int, lanes: list[tuple[int, Tensor]], generator: torch.Generator) -> Tensor:
    """(count, dim), each row of mean square 1."""
    result, projections = torch.randn(count, dim, generator=generator), dict[int, Tensor]()
    for first, vectors in lanes:
        wide = vectors.shape[1]
        if wide not in projections:  # one for all lanes of a codec, whose codes are of one space
            projections[wide] = torch.randn(wide, dim, generator=generator)
        rows, lane = slice(first - text, first - text + len(vectors)), torch.randn(dim, generator=generator)
        result[rows] = _unit(vectors @ projections[wide]) + LANE * lane + CHANCE * result[rows]
    return _unit(result)


@torch.no_grad()
def lane_vectors(alphabet: Alphabet, codec: Tokenizer) -> list[Tensor]:
    """What the words of each lane add to the latents, float32 (words, D), around their mean.

    [] for a pyramid, whose codes mean something in whole maps alone. Raises TokenError for a codec of another name.
    """
    quantizer = codec.discrete()
    if codec.spec.name != alphabet.spec.name:
        raise TokenError(f"these ids are for {alphabet.spec.name}, the codec is {codec.spec.name}")
    found = []
    for lane, size in enumerate(alphabet.sizes if not quantizer.scales else ()):
        words = torch.zeros(1, len(alphabet.sizes), size, dtype=torch.int64)
        words[0, lane] = torch.arange(size)
        codes = torch.zeros(1, len(codec.spec.codebook_sizes), size, dtype=torch.int64)
        codes[:, list(alphabet.spec.codebook_ids)] = alphabet.codes(words)
        latents = quantizer.decode(codes.to(codec.device))[0].float().cpu()
        found.append(latents - latents.mean(0))
    return found


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-8)
