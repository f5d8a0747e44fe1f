"""A training checkpoint -> a weight folder of ours, with a card that the run itself filled in."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from ..errors import WeightsError
from ..files import atomic_path
from ..tokenizer import Tokenizer
from ..weights import load_strict


def export(checkpoint: str | Path, folder: str | Path, averaged: bool = True, dtype: torch.dtype | None = None) -> Tokenizer:
    """Writes the tokenizer of a `tokenizers-zoo fit` checkpoint, without adversary and optimizer; returns it.

    averaged: the moving average of the weights where the run kept one. Raises WeightsError for anything else than such a
    checkpoint.
    """
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    prefix = "ema.module." if averaged and any(key.startswith("ema.module.") for key in state) else "tokenizer."
    config = content["assembly"]
    tokenizer = zoo.build(config, config["name"])
    load_strict(tokenizer, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, tokenizer.name)
    tokenizer.license = config["license"]
    tokenizer.eval().save_pretrained(folder, dtype)
    if content.get("run"):
        with atomic_path(Path(folder) / "run.json") as temporary:
            temporary.write_text(json.dumps(content["run"], indent=1) + "\n")
    return tokenizer


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a training run, opened with weights_only. Raises WeightsError for other files."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit` ({reason})") from error
    if not isinstance(content, dict) or not content.keys() >= {"assembly", "state_dict"}:
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit`; weight folders load with tokenizers_zoo.load")
    return content
