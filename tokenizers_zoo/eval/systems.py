"""What is compared: tokenizers, at any number of codebooks or tokens, of any role, or without codes; and what came in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..blocks.base import ImageEncoder
from ..errors import InputError
from ..manifest import Row
from ..many import IMAGE, SECONDS
from ..media import Audio, Images, as_images
from ..tokenizer import ImageTokenizer, Tokenizer
from ..tokens import Tokens
from .base import Item, Outcome, System, attempt

Captions = Mapping[Path, str]  # what a file is said to show; nothing where it is not listed


class Tokenized(System):
    """A tokenizer. codebooks, positions: how many of its first codebooks or tokens are decoded; None for all.

    output: which of the tokenizer's decoders; other than the main one it gets the codebooks that it cannot do without. captions:
    a name, and what it is given in place of an item's own text. role: of the codebooks that are kept; where they do not decode,
    nothing comes back, and only their meaning is measured.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        codebooks: int | None = None,
        positions: int | None = None,
        output: str = "main",
        captions: tuple[str, Captions] | None = None,
        role: str = "",
    ):
        self.tokenizer, self.codebooks, self.positions, self.output = tokenizer, codebooks, positions, output
        self.captions = captions
        self.weights, self.takes = tokenizer.weights, tokenizer.takes
        self.roles: tuple[str, ...] = (role,) if role else () if output == "main" else tokenizer.needs.get(output, ())
        ids = [i for i, word in enumerate(tokenizer.roles) if not self.roles or word in self.roles]
        self.spec = tokenizer.spec.select(ids[:codebooks])
        self.sizes, self.decodes = self.spec.codebook_sizes, tokenizer.decodes(self.spec.codebook_ids, output)
        count = codebooks or (len(ids) if self.roles and not role else 0)
        parts = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((count, "codebook"), (positions, "token")) if n]
        parts += [f"{role} codes"] if role else [] if output == "main" else [f"{output} decoder"]
        self.name = ", ".join([tokenizer.name, *parts, *(captions[:1] if captions else ())])

    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images | None, Item]:
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

    def _run(self, media: Sequence[Any], given: dict[str, Any], seeds: Sequence[int]) -> list[tuple[Any, Item]]:
        extent = {"size": "source"} if isinstance(self.tokenizer, ImageTokenizer) else {}
        tokens = self.tokenizer.encode(list(media), **given, **extent)
        tokens = tokens.codebooks(self.codebooks) if self.codebooks else tokens
        tokens = Tokens.combine([tokens.codebooks(role) for role in self.roles]) if self.roles else tokens
        tokens = tokens.prefix(self.positions) if self.positions else tokens
        decoded = self.tokenizer.decode(tokens, output=self.output, seed=seeds) if self.decodes else [None] * len(tokens)
        backs = [fitted(back, one) if isinstance(back, Audio) else back for back, one in zip(decoded, media, strict=True)]
        codes = [tokens[i].codes[0].cpu().numpy() for i in range(len(tokens))]
        side = tokens.bits - tokens.code_bits
        bits = [{"bits": float(n), "side": float(more)} for n, more in zip(tokens.bits, side, strict=True)]
        return [(back, some | {"codes": ids}) for back, some, ids in zip(backs, bits, codes, strict=True)]

    def latents(self, media: Audio | Images, item: Item) -> Tensor | None:
        """What codes of one role mean (`Tokenizer.embed`), those of several as the decoder gets them, as of `placed`."""
        codes = torch.from_numpy(item["codes"])[None].to(self.tokenizer.device)
        tokens = Tokens(codes, self.spec.prefix(self.positions) if self.positions else self.spec)
        if len(roles := set(self.spec.roles)) == 1:
            return placed(self.tokenizer, self.tokenizer.embed(tokens, *roles))
        return placed(self.tokenizer, self.tokenizer.latents(tokens.codes, self.spec.codebook_ids))


class Continuous(System):
    """An image tokenizer without a quantizer, by its latents, of a posterior by the mean. It has no bits."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.name = tokenizer, tokenizer.name
        self.weights, self.takes = tokenizer.weights, tokenizer.takes

    @torch.no_grad()
    def roundtrip(self, media: Audio | Images, **given: Any) -> tuple[Audio | Images | None, Item]:
        """One image."""
        found = self.tokenizer(self._pixels(media), **self.tokenizer.accepted({k: [v] for k, v in given.items()}, 1))
        return Images(found.output.float().clamp(0, 1).cpu()), {}

    @torch.no_grad()
    def latents(self, media: Audio | Images, item: Item) -> Tensor | None:
        """Latents, as of `placed`."""
        return placed(self.tokenizer, self.tokenizer.encode_latents(self._pixels(media)))

    def _pixels(self, media: Audio | Images) -> Tensor:
        assert isinstance(self.tokenizer, ImageTokenizer)
        assert isinstance(media, Images)
        return as_images(media, self.tokenizer.target("source")).pixels.to(self.tokenizer.device, self.tokenizer.dtype)


def placed(tokenizer: Tokenizer, latents: Tensor) -> Tensor:
    """Latents of one item (1, N, D) -> (N, D); of 1D tokens, each of which means something else, all in one place, (1, N * D)."""
    latents = latents[0].float().cpu()
    encoder = tokenizer.encoder
    return latents.flatten()[None] if isinstance(encoder, ImageEncoder) and encoder.layout == "sequence" else latents


def tokenized(
    tokenizer: Tokenizer,
    codebooks: Sequence[int],
    positions: Sequence[int],
    source: str = "",
    captions: Mapping[str, Captions] | None = None,
    roles: Sequence[str] = (),
) -> list[System]:
    """The tokenizer whole, at each number of codebooks and of tokens that it can decode alone, and by its other decoders.

    source: what it was opened by, for all of them. captions: by name, what a tokenizer that takes texts gets besides the items'
    own, each of them. roles: of codebooks that are measured alone where there are others besides, and no decoder of their own.
    A tokenizer without a quantizer is there once. Raises TokenError for one of audio.
    """
    if tokenizer.quantizer is None and isinstance(tokenizer, ImageTokenizer):
        continuous = Continuous(tokenizer)
        continuous.source = source
        return [continuous]
    spec = tokenizer.spec
    options: list[dict[str, Any]] = [{}]
    counts = [n for n in dict.fromkeys(codebooks) if spec.codebook_prefixes and n <= len(spec.roles)]
    options += [{"codebooks": n} for n in counts if tokenizer.decodes(range(n))]
    options += [{"positions": n} for n in dict.fromkeys(positions) if n in (spec.prefix_lengths or ())]
    options += [{"output": output} for output in tokenizer.outputs]
    alone = [role for role in dict.fromkeys(roles) if {role} < set(tokenizer.roles)]
    options += [{"role": role} for role in alone if (role,) not in map(tokenizer.needs.get, tokenizer.outputs)]
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
