"""What audio and image tokenizers have in common."""

import operator
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..assembly import Assembly, Unfilled, argument, assembly_of, build
from ..blocks.base import AudioDecoder, AudioEncoder, ImageDecoder, ImageEncoder
from ..errors import InputError, TokenError, WeightsError
from ..part import Part, agree
from ..quantizers import GroupedQuantizer, Quantized, Quantizer
from ..spec import Modality
from ..tokens import Tokens, TokenSpec
from ..weights import compare, fingerprint, plain_state, shapes, unsaved, without, write_folder


@dataclass
class Reconstruction:
    """What losses need of one training batch.

    output: as the input, (B, C, S) audio or (B, 3, H, W) pixels; None where training decodes nothing (a flow decoder, whose
    losses read features). latents: what went into the quantizer, (B, N, D). quantized: codes and losses of the quantizer, None
    for a continuous autoencoder. features: named tensors of the model.
    """

    output: Tensor | None
    latents: Tensor
    quantized: Quantized | None = None
    features: dict[str, Tensor] = field(default_factory=dict)


class Tokenizer(Part, ABC):
    """Media <-> Tokens, by an encoder, a quantizer and a decoder.

    name: the variant. license and weights: of the loaded weights, the latter a fingerprint (empty for fresh ones). The zoo sets
    these three.

    modality: "audio" or "image". takes: what `encode` and `forward` take besides media, by the names that a batch has for them
    ("text"). needs: of an output the roles that it cannot do without; an output that is not listed needs all codebooks, or the
    first ones where these decode alone. role: of the codebooks of a quantizer that names none.

    A GPU's codes are a CPU's but for rounding, as long as float32 is float32 there: torch lets cuDNN's convolutions round to TF32
    unless `torch.backends.cudnn.allow_tf32 = False`, and products where set_float32_matmul_precision says so
    (benchmarks/device.sh measures what each changes). Decoded media are on the CPU.
    """

    encoder: AudioEncoder | ImageEncoder
    decoder: AudioDecoder | ImageDecoder
    quantizer: Quantizer | None
    name: str = "unnamed"
    license: str = ""
    weights: str = ""
    modality: Modality
    takes: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    role: str

    @property
    @abstractmethod
    def spec(self) -> TokenSpec:
        """What the tokens mean."""

    @abstractmethod
    def forward(self, media: Tensor, **given: Any) -> Reconstruction:
        """One training pass over media tensors; `given` are what `takes` names."""

    @abstractmethod
    def encode(self, source: Any, **given: Any) -> Tokens:
        """Tokens of media in any accepted form."""

    @abstractmethod
    def decode(self, tokens: Tokens, output: str = "main", seed: int | Sequence[int] = 0, **options: Any) -> Any:
        """Audio or Images of tokens, by the main decoder or another of `outputs`.

        seed: of a decoder that draws noise; one for all items, or one an item. An item's noise depends on its seed alone.
        options: what the decoder lets one choose, e.g. steps. Raises TokenError for tokens that are not this tokenizer's.
        """

    @abstractmethod
    def encode_latents(self, media: Tensor, **given: Any) -> Tensor:
        """Media tensors -> latents before the quantizer, (B, N, D)."""

    @abstractmethod
    def decode_latents(self, latents: Tensor, **how: Any) -> Tensor:
        """Latents (B, N, D) -> media tensors, unclamped."""

    @property
    def outputs(self) -> dict[str, nn.Module]:
        """Decoders besides the main one, by the names that `decode(tokens, output=NAME)` knows."""
        return {}

    @property
    def roles(self) -> tuple[str, ...]:
        """One word for each codebook: semantic, acoustic, pixel."""
        quantizer = self.discrete()
        return quantizer.roles or (self.role,) * len(quantizer.codebook_sizes)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of encoder and decoder; quantizers stay float32."""
        return next((p.dtype for p in self.encoder.parameters()), torch.float32)

    @property
    def config(self) -> Assembly:
        """The assembly {class_path, init_args} that builds it again. Raises WeightsError where a config could not say it."""
        return assembly_of(self, self.name)

    def check_sizes(self) -> None:
        """Raises WeightsError, with the numbers and the arguments' names, unless the parts fit each other."""
        agree(
            self._encoder_dim() | {f"{name}.dim": getattr(getattr(self, name), "dim", None) for name in ("decoder", "quantizer")}
        )

    def _encoder_dim(self) -> dict[str, float | None]:
        return {"encoder.dim": getattr(self.encoder, "dim", None)}

    def replace(self, quantizer: Assembly | Quantizer | str | None) -> Self:
        """Puts in another quantizer, in place, and returns the tokenizer, whose fingerprint is then another.

        quantizer: its assembly, its class name where it needs no arguments, a module as it is, or None for none. Raises
        WeightsError for what is no quantizer, or none for latents of this size.
        """
        before, new = self.quantizer, argument(type(self), "quantizer", quantizer)
        if new is not None:
            assembly_of(new, "quantizer")
            new.to(self.device).train(self.training)
        try:
            self.quantizer = new
            self.check_sizes()
        except WeightsError as error:
            self.quantizer = before
            raise WeightsError(f"this quantizer does not fit {self.name}: {error}") from error
        if self.weights:
            self.weights = fingerprint(plain_state(self), self.config)
        return self

    def save_pretrained(
        self, folder: str | Path, dtype: torch.dtype | None = None, weights_of: "Tokenizer | None" = None
    ) -> None:
        """Writes config.json and model.safetensors, floating weights in `dtype` if given; `load(folder)` reads them.

        Weights in half precision, cast before or by `dtype`, are others than those that they were: so is their fingerprint.
        weights_of: a variant whose weights ship with the package, as loaded; what is equal in it is named and not stored. Raises
        WeightsError, and writes nothing, where `load` could not build this tokenizer again.
        """
        config, state = self.config, plain_state(self)
        if not unsaved(self):  # a frozen helper would have to be found for it
            with Unfilled(1000 + 100 * len(state)):
                again = plain_state(build(config))
            compare(shapes(again), shapes(state), f"the config of {self.name}, because a part was changed after it was built")
        facts: dict[str, Any] = {"name": self.name, "license": self.license, **config}
        if self.weights and dtype is None and self.weights in (fingerprint(state), fingerprint(state, config)):
            facts["weights"] = self.weights
        if weights_of is not None:
            state = without(state, plain_state(weights_of), weights_of.name, weights_of.weights)
            facts |= {"weights_of": weights_of.name, "weights_of_fingerprint": weights_of.weights}
        write_folder(folder, facts, state, dtype)

    def push_to_hub(self, repo_id: str, private: bool = False) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face Hub; returns the commit's address. Raises WeightsError."""
        from huggingface_hub import HfApi

        api = HfApi()
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                api.create_repo(repo_id, private=private, exist_ok=True)
                return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
            except Exception as error:  # of the network, the account, the name; each library version has its own
                reason = str(error).strip().split("\n")[0]
                raise WeightsError(f"cannot upload to {repo_id} ({reason}); save_pretrained(FOLDER) keeps it here") from error

    def discrete(self) -> Quantizer:
        """The quantizer. Raises TokenError for a continuous autoencoder, which has none."""
        if self.quantizer is None:
            raise TokenError(
                f"{self.name} is a continuous autoencoder: use encode_latents / decode_latents, or give it a quantizer "
                f"(create(name, quantizer=...))"
            )
        return self.quantizer

    @torch.no_grad()
    def embed(self, tokens: Tokens, role: str) -> Tensor:
        """What the quantizer makes of the codes of one role, float32 (B, N, D), zeros past an item's length; for understanding.

        role "pooled": the mean over the positions of the semantic codebooks, or of the first role where none is semantic, (B, D).
        Raises TokenError where these codes are not there, or mean nothing without others.
        """
        tokens = self._own(tokens).to(self.device)
        if role == "pooled":
            words = tokens.spec.roles
            features = self.embed(tokens, "semantic" if "semantic" in words else words[0])
            count = features.shape[1] if tokens.spec.scales else tokens.lengths.clamp(min=1)[:, None].to(features)
            return features.sum(1) / count
        quantizer, ids = self.discrete(), [i for i, word in enumerate(self.roles) if word == role]
        grouped = isinstance(quantizer, GroupedQuantizer)
        if not ids or not (grouped or ids == list(range(len(ids)))):
            raise TokenError(f"{self.name} has no features of {role!r} alone; its roles are {_words(self.roles)}")
        tokens = tokens.codebooks(role)
        latents = self.latents(tokens.codes, tokens.spec.codebook_ids)
        part = quantizer.split(latents)[role] if isinstance(quantizer, GroupedQuantizer) else latents
        return part if tokens.spec.scales else part * tokens.mask[..., None]  # the positions of scales are no latents

    def latents(self, codes: Tensor, codebook_ids: Sequence[int]) -> Tensor:
        """Latents (B, N, D) of codes (B, K', N) of these codebooks; zeros past an item's length."""
        if list(codebook_ids) != list(range(len(codebook_ids))):  # to the quantizer -1 is a codebook that is not there
            known = codes.new_full((len(codes), len(self.discrete().codebook_sizes), codes.shape[-1]), -1)
            known[:, list(codebook_ids)] = codes
            codes = known
        return self.discrete().decode(codes)

    def checked(self, tokens: Tokens, output: str = "main", empty: bool = False) -> Tokens:
        """`tokens` on the model's device. Raises TokenError unless they are this tokenizer's and `output` can decode them.

        empty: whether there may be no items, or items without tokens.
        """
        if output not in {"main", *self.outputs}:
            raise TokenError(f"{self.name} has no output {output!r}; it has {', '.join(['main', *self.outputs])}")
        tokens = self._own(tokens)
        if not self.decodes(tokens.spec.codebook_ids, output):
            raise TokenError(
                f"{self.name} cannot decode the codebooks {tokens.spec.codebook_ids} ({_words(tokens.spec.roles)}) alone; "
                f"{self._wanted(output)}"
            )
        if not empty and not (len(tokens) and int(tokens.lengths.min())):
            raise TokenError("there is nothing to decode: an item has no tokens")
        return tokens.to(self.device)

    def _own(self, tokens: Tokens) -> Tokens:
        """`tokens`. Raises TokenError unless this tokenizer with these weights could have made them."""
        if not isinstance(tokens, Tokens):
            raise TokenError(
                f"decode takes Tokens, got {type(tokens).__name__}; Tokens.load reads a .tok file, and "
                f"Tokens(codes, tokenizer.spec) makes them of codes (batch, codebook, position)"
            )
        mine, theirs = self.spec, tokens.spec
        if (mine.name, mine.modality, mine.layout) != (theirs.name, theirs.modality, theirs.layout):
            raise TokenError(f"these tokens are of {theirs.name!r}, this tokenizer is {mine.name!r}: load {theirs.name!r}")
        if mine.weights and theirs.weights and mine.weights != theirs.weights:
            raise TokenError(
                f"these tokens were made by other weights of {mine.name!r} ({theirs.weights}, here {mine.weights}): "
                f"load the weights that encoded them (in a shell: --weights)"
            )
        sizes = dict(enumerate(mine.codebook_sizes))
        if any(sizes.get(i) != size for i, size in zip(theirs.codebook_ids, theirs.codebook_sizes, strict=True)):
            raise TokenError(
                f"{mine.name} here has codebooks of {mine.codebook_sizes}, these tokens are of {theirs.codebook_sizes} "
                f"(numbers {theirs.codebook_ids}): build it as it was when it encoded them"
            )
        for name in ("sample_rate", "hop", "image_size", "scales"):
            here, there = getattr(mine, name), getattr(theirs, name)
            if here != there and not (name == "scales" and there and here[: len(there)] == there):
                raise TokenError(
                    f"{mine.name} here has {name} {here}, these tokens have {there}: build it as it was when it encoded them"
                )
        return tokens

    def decodes(self, codebook_ids: Sequence[int], output: str = "main") -> bool:
        """Whether the codebooks with these numbers are enough for an output."""
        given, roles = set(codebook_ids), self.roles
        present = {roles[i] for i in given}
        leading = given == set(range(len(given))) and self.discrete().codebook_prefixes
        if output not in self.needs:
            return leading or len(given) == len(roles)
        whole = {i for i, role in enumerate(roles) if role in present} == given
        return set(self.needs[output]) <= present and (leading or whole)

    def _wanted(self, output: str) -> str:
        if output in self.needs:
            return f"output {output!r} needs those with the roles {', '.join(self.needs[output])}"
        few = "its first ones, or " if self.discrete().codebook_prefixes else ""
        return f"it needs {few}all {len(self.discrete().codebook_sizes)} (Tokens.combine puts them together again)"

    def _decodable(self) -> dict[str, Any]:
        """`decodable` of the spec: sets of roles that one of the outputs decodes; its default where none says what it needs."""
        if not self.needs:
            return {}
        roles, outputs = self.roles, ["main", *self.outputs]
        words = tuple(dict.fromkeys(roles))
        sets = [some for n in range(1, len(words) + 1) for some in combinations(words, n)]
        ids = {some: [i for i, role in enumerate(roles) if role in some] for some in sets}
        return {"decodable": tuple(some for some in sets if any(self.decodes(ids[some], output) for output in outputs))}

    def accepted(self, given: Mapping[str, Any], count: int) -> dict[str, Any]:
        """What was given besides `count` items of media, texts as a list. Raises InputError for what `takes` does not name."""
        unknown = sorted(given.keys() - set(self.takes))
        if unknown:
            taken = f"it takes {', '.join(self.takes)}" if self.takes else "it takes media alone"
            raise InputError(f"{self.name} takes no {', '.join(unknown)}; {taken}")
        known = {name: given[name] for name in self.takes if given.get(name) is not None}
        return known | ({"text": _texts(given.get("text"), count)} if "text" in self.takes else {})

    def _noise(self, count: int) -> dict[str, Tensor]:
        """Noise for a training pass, as a keyword of `decode_latents`, where the main decoder takes some."""
        shape = self.decoder.noise_shape
        return {"noise": torch.randn(count, *shape, device=self.device, dtype=self.dtype)} if shape else {}

    def _how(self, tokens: Tokens, output: str, seeds: Sequence[int], options: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of `decode_latents` besides lengths and size: output, conditions, options and noise."""
        decoder: Any = {"main": self.decoder, **self.outputs}[output]
        shape = decoder.noise_shape
        known = {*decoder.options, "noise"} if shape else set(decoder.options)
        if unknown := sorted(options.keys() - known):
            offered = f"there are {', '.join(sorted(known))}" if known else "its decoder has none"
            raise InputError(f"{self.name} has no option {', '.join(unknown)}; {offered}")
        how = dict(options) if output == "main" else {"output": output, **options}
        if "text" in self.takes:
            how["text"] = tokens.text or ("",) * len(tokens)
        how |= {name: tokens.conditions[name] for name in self.takes if name in tokens.conditions}
        if shape:
            noise = how.get("noise")
            if noise is None:  # on the CPU, item by item: neither the batch nor the device changes it
                noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
            if not isinstance(noise, Tensor) or noise.shape != (len(tokens), *shape):
                got = tuple(noise.shape) if isinstance(noise, Tensor) else f"{noise!r:.80}"
                raise InputError(f"noise must be a tensor with shape {(len(tokens), *shape)}, got {got}")
            how["noise"] = noise.to(self.device, self.dtype)
        return how


def _words(roles: Sequence[str]) -> str:
    """Each role once."""
    return ", ".join(dict.fromkeys(roles))


def _texts(text: Any, count: int) -> list[str]:
    """One string an item, "" where there is none."""
    listed = text.tolist() if isinstance(text, np.ndarray) else text
    texts = [text or ""] * count if text is None or isinstance(text, str) else listed
    if not isinstance(texts, list | tuple) or len(texts) != count or not all(isinstance(t, str | None) for t in texts):
        raise InputError(f"text must be one string for all, or a list of {count}, one an item; got {text!r:.80}")
    return [t or "" for t in texts]


def as_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed an item. Raises InputError for anything but whole numbers, one or `count` of them."""
    try:
        one = not isinstance(seed, Sequence) and not getattr(seed, "ndim", 0)  # arrays and tensors, too
        seeds = [operator.index(seed)] * count if one else [operator.index(s) for s in seed]  # type: ignore[arg-type,union-attr]
    except TypeError as error:
        raise InputError(f"seed must be a whole number, or one an item, got {seed!r}") from error
    if len(seeds) != count:
        raise InputError(f"{len(seeds)} seeds for {count} items; give one for all, or one an item")
    if not all(-(2**63) <= s < 2**64 for s in seeds):
        raise InputError(f"seeds have 64 bits, got {seed!r:.80}")
    return seeds
