"""What is compared: tokenizers, at any number of codebooks or tokens, and what came in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from ..many import IMAGE, SECONDS
from ..media import Audio, Images
from ..tokenizer import ImageTokenizer, Tokenizer
from ..tokens import Tokens
from .base import Item, Outcome, System, attempt

Captions = Mapping[Path, str]  # what a file is said to show; nothing where it is not listed


class Tokenized(System):
    """A tokenizer. codebooks, positions: how many of its first codebooks or tokens are decoded; None for all.

    output: which of the tokenizer's decoders; other than the main one it gets the codebooks that it cannot do without. captions:
    a name, and what it is given in place of an item's own text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        codebooks: int | None = None,
        positions: int | None = None,
        output: str = "main",
        captions: tuple[str, Captions] | None = None,
    ):
        self.tokenizer, self.codebooks, self.positions, self.output = tokenizer, codebooks, positions, output
        self.captions = captions
        self.weights, self.takes = tokenizer.weights, tokenizer.takes
        self.roles = () if output == "main" else tokenizer.needs.get(output, ())
        chosen = [size for size, role in zip(tokenizer.spec.codebook_sizes, tokenizer.roles, strict=True) if self._takes(role)]
        self.sizes = tuple(chosen[:codebooks])
        count = codebooks or sum(role in self.roles for role in tokenizer.roles)
        parts = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((count, "codebook"), (positions, "token")) if n]
        parts += [] if output == "main" else [f"{output} decoder"]
        self.name = ", ".join([tokenizer.name, *parts, *(captions[:1] if captions else ())])

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """One item, its bits and codes."""
        return self._run([media], {name: [value] for name, value in given.items()}, [0])[0]

    def roundtrips(self, media: Sequence[Audio | Images], rows: Sequence[Row], seeds: Sequence[int]) -> list[Outcome]:
        """As many at a time as the device likes; clips of like length run together."""

        def run(media: Sequence[Audio | Images], rows: Sequence[Row], seeds: Sequence[int]) -> list[Any]:
            given = {name: [getattr(row, name) for row in rows] for name in self.takes}
            if self.captions:
                given["text"] = [self.captions[1].get(row.path, "") for row in rows]
            return self._run(media, given, seeds)

        found: dict[int, Outcome] = {}
        for some in alike([_seconds(one) for one in media], self.tokenizer.device.type):
            columns = ([column[i] for i in some] for column in (media, rows, seeds))
            found |= zip(some, attempt(run, *columns), strict=True)
        return [found[i] for i in range(len(media))]

    def _run(self, media: Sequence[Any], given: dict[str, Any], seeds: Sequence[int]) -> list[tuple[Audio | Images, Item]]:
        extent = {"size": "source"} if isinstance(self.tokenizer, ImageTokenizer) else {}
        tokens = self.tokenizer.encode(list(media), **given, **extent)
        tokens = tokens.codebooks(self.codebooks) if self.codebooks else tokens
        tokens = Tokens.combine([tokens.codebooks(role) for role in self.roles]) if self.roles else tokens
        tokens = tokens.prefix(self.positions) if self.positions else tokens
        decoded = self.tokenizer.decode(tokens, output=self.output, seed=seeds)
        backs = [fitted(back, one) if isinstance(one, Audio) else back for back, one in zip(decoded, media, strict=True)]
        codes = [tokens[i].codes[0].cpu().numpy() for i in range(len(tokens))]
        side = tokens.bits - tokens.code_bits
        bits = [{"bits": float(n), "side": float(more)} for n, more in zip(tokens.bits, side, strict=True)]
        return [(back, some | {"codes": ids}) for back, some, ids in zip(backs, bits, codes, strict=True)]

    def _takes(self, role: str) -> bool:
        return not self.roles or role in self.roles

    def latents(self, found: Item) -> Tensor | None:
        """The codebooks' entries, summed or joined as the decoder gets them, (N, D)."""
        codes = torch.from_numpy(found["codes"])[None].to(self.tokenizer.device)
        ids = [i for i, role in enumerate(self.tokenizer.roles) if self._takes(role)]
        return self.tokenizer.latents(codes, ids[: codes.shape[1]])[0].float().cpu()


def tokenized(
    tokenizer: Tokenizer,
    codebooks: Sequence[int],
    positions: Sequence[int],
    source: str = "",
    captions: Mapping[str, Captions] | None = None,
) -> list[System]:
    """The tokenizer whole, at each number of codebooks and of tokens that it can decode alone, and by its other decoders.

    source: what it was opened by, for all of them. captions: by name, what a tokenizer that takes texts gets besides the items'
    own, each of them.
    """
    spec = tokenizer.spec
    options: list[dict[str, Any]] = [{}]
    counts = [n for n in dict.fromkeys(codebooks) if spec.codebook_prefixes and n <= len(spec.roles)]
    options += [{"codebooks": n} for n in counts if tokenizer.decodes(range(n))]
    options += [{"positions": n} for n in dict.fromkeys(positions) if n in (spec.prefix_lengths or ())]
    options += [{"output": output} for output in tokenizer.outputs]
    if captions and "text" in tokenizer.takes:
        options += [some | {"captions": pair} for pair in captions.items() for some in options]
    systems: list[System] = [Tokenized(tokenizer, **some) for some in options]
    for system in systems:
        system.source = source
    return systems


def captions_of(kinds: Sequence[str], rows: Sequence[Row]) -> dict[str, Captions]:
    """Captions by the names of their systems: "none", and "others", each file's of another one, half the list away or further.

    Raises InputError where some file has no other one with another caption.
    """
    found: dict[str, Captions] = {"no captions": {}} if "none" in kinds else {}
    if "others" in kinds:
        half = len(rows) // 2
        texts = [row.text for row in (*rows[half:], *rows[:half])] * 2
        if len({*texts} - {""}) < 2:
            raise InputError("captions of others: there must be two captions at least")
        found["others' captions"] = {
            row.path: next(text for text in texts[i:] if text not in ("", row.text)) for i, row in enumerate(rows)
        }
    return found


def alike(seconds: Sequence[float], device: str) -> Iterator[list[int]]:
    """Places of items in batches of like length; a batch is as long, with padding, as a device does well (`many.SECONDS`)."""
    limit = SECONDS.get(device, SECONDS["else"])
    batch: list[int] = []
    for place in sorted(range(len(seconds)), key=seconds.__getitem__):
        if batch and (len(batch) + 1) * seconds[place] > limit:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _seconds(media: Audio | Images) -> float:
    return media.waveform.shape[-1] / media.sample_rate if isinstance(media, Audio) else IMAGE


class Original(System):
    """What came in goes out: the row that all others are judged by."""

    name = "original"

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images, Item]:
        """The same item; 16 bits a sample, 24 bits a pixel."""
        if isinstance(media, Audio):
            return media, {"bits": 16.0 * int(media.lengths[0])}
        return media, {"bits": 8.0 * media.pixels.numel()}


def fitted(decoded: Audio, original: Audio) -> Audio:
    """`decoded` at the original's rate, cut or padded with zeros to its length, which two resamplings miss by some samples."""
    length = int(original.lengths[0])
    wave = decoded.resample(original.sample_rate).waveform[..., :length]
    return Audio(torch.nn.functional.pad(wave, (0, length - wave.shape[-1])), original.sample_rate)
