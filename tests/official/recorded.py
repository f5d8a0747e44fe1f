"""Recorded inputs and outputs of the reference implementations under deterministic weights.

Each tensor of a published state dict is generated from its key, its shape and the case's salt, so that a case is small:
`cases/NAME.json` {salt, tensors: {key: [shape, fill]}} and `cases/NAME.safetensors` with inputs and outputs.
"""

import json
import zlib
from collections.abc import Container
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

CASES = Path(__file__).parent / "cases"


def manifest(case: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published state dict."""
    tensors = json.loads((CASES / f"{case}.json").read_text())["tensors"]
    return {key: tuple(shape) for key, (shape, _) in tensors.items()}


def state(case: str, keys: Container[str] | None = None) -> dict[str, Tensor]:
    """The published state dict with generated values, or what `keys` holds of it."""
    recorded = json.loads((CASES / f"{case}.json").read_text())
    wanted = {key: spec for key, spec in recorded["tensors"].items() if keys is None or key in keys}
    return {key: _tensor(f"{recorded['salt']}:{key}", *spec) for key, spec in wanted.items()}


def io(case: str) -> dict[str, Tensor]:
    """Inputs and outputs; images are stored as bytes."""
    tensors = load_file(CASES / f"{case}.safetensors")
    return {k: v.float() / 255 if v.dtype == torch.uint8 else v for k, v in tensors.items()}


def _tensor(seed: str, shape: list[int], fill: list) -> Tensor:
    random, (kind, *values) = np.random.RandomState(zlib.crc32(seed.encode())), fill
    if kind == "normal":
        array = values[0] + values[1] * random.standard_normal(shape)
    elif kind == "uniform":
        array = random.uniform(*values, shape)
    else:
        assert kind == "constant"
        array = np.full(shape, values[0])
    return torch.from_numpy(np.ascontiguousarray(array)).float().reshape(shape)
