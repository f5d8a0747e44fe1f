"""A training checkpoint -> a weight folder of ours."""

import pickle
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from ..errors import WeightsError
from ..tokenizer import Tokenizer
from ..weights import load_strict
from .card import write_card

AVERAGE = "ema.module."  # what the names of averaged weights begin with in a checkpoint


def export(checkpoint: str | Path, folder: str | Path, averaged: bool = True, dtype: torch.dtype | None = None) -> Tokenizer:
    """Writes the tokenizer of a `tokenizers-zoo fit` checkpoint, without adversary and optimizer, and its card; returns it.

    averaged: the moving average of the weights where the run kept one. Raises WeightsError for anything else than such a
    checkpoint.
    """
    content = read_checkpoint(checkpoint)
    averaged = averaged and any(key.startswith(AVERAGE) for key in content["state_dict"])
    tokenizer = trained(content, averaged)
    tokenizer.save_pretrained(folder, dtype)
    write_card(tokenizer, content, averaged, Path(checkpoint).parent, Path(folder))
    return tokenizer


def trained(checkpoint: dict[str, Any], averaged: bool) -> Tokenizer:
    """The tokenizer of a checkpoint in evaluation mode, with the moving average of its weights or the last ones."""
    config, prefix = checkpoint["assembly"], AVERAGE if averaged else "tokenizer."
    tokenizer = zoo.build(config, config["name"])
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    load_strict(tokenizer, state, tokenizer.name)
    tokenizer.license = config["license"]
    return tokenizer.eval()


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
