"""The last step of `load`, `create` and `load_official`: where a tokenizer computes, in what precision, compiled or not."""

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from .errors import InputError
from .quantizers import Quantizer
from .tokenizer import Tokenizer

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BACKEND = "inductor"  # of torch.compile
KINDS = 64  # of blocks, by shapes, that a tokenizer may have; past torch's 8 they would silently not be compiled
NEEDS = {"cpu": "a C++ compiler and Python's headers (apt install g++ python3-dev)", "cuda": "triton and a C compiler"}


def ready(
    tokenizer: Tokenizer, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32, compile: bool = False
) -> Tokenizer:
    """`tokenizer` on `device` (None: where it is), its weights cast, its blocks compiled; in place.

    dtype: of encoder, decoders, heads and all other parts, float32, bfloat16 or float16: weights are cast once, norms sum up in
    float32. Quantizers and their distances, Fourier transforms, and text encoders, which are none of its modules, stay float32;
    latents are cast up before the quantizer and down behind it. The fingerprint stays, as on another device: some codes differ
    (benchmarks/loading.md), all of them decode. What `save_pretrained` writes of cast weights has a fingerprint of its own.

    compile: by torch.compile, each of the blocks that the networks have in a row, for clips and batches of any size.
    Once each, at the first call, for a batch of one, a batch of several, and one of several lengths. A copy is not compiled.

    Raises InputError for another dtype, and where nothing can be compiled on this device.
    """
    if dtype not in DTYPES:
        known = ", ".join(map(str, DTYPES))
        raise InputError(f"dtype is one of {known}, got {dtype!r}; of float64, load and then call double()")
    if not isinstance(compile, bool):
        raise InputError(f"compile is True or False, got {compile!r}")
    if device is not None:
        tokenizer.to(device)
    if dtype != torch.float32:
        tokenizer.to(dtype)
    if compile:
        import torch._dynamo.config as limits  # a second of import, only when needed

        limits.recompile_limit = max(limits.recompile_limit, KINDS)
        _try(tokenizer.device.type, BACKEND)
        for block in _blocks(tokenizer):
            block.compile(backend=BACKEND, dynamic=True)
    return tokenizer


def _blocks(part: nn.Module) -> Iterator[nn.Module]:
    """Modules with weights that networks hold in lists, of lists in lists the outer ones: what a network spends its time in.

    What reads lengths and strings stands around them. Equal blocks are compiled once.
    """
    for child in part.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if _is_compilable(block))
        elif not isinstance(child, Quantizer):
            yield from _blocks(child)


def _is_compilable(block: nn.Module) -> bool:
    """Whether it has weights, and no LSTM, which torch.compile leaves to its own kernels."""
    return next(block.parameters(), None) is not None and not any(isinstance(m, nn.RNNBase) for m in block.modules())


@cache
def _try(device: str, backend: Any) -> None:
    """Compiles one line. Raises InputError where that fails: later it would in the middle of `encode`."""
    new = float(time.time_ns() % 2**30)  # a line that no cache on this machine has
    try:
        torch.compile(lambda x: x * new + 1, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # each compiler has its own
        inner = getattr(error, "inner_exception", error)
        reason = f"{type(inner).__name__}: {inner}".split("\n")[0]
        needs = NEEDS.get(device, "a backend of torch.compile")
        raise InputError(f"compile=True fails on {device} ({reason}); install {needs}, or leave compile out") from error
