"""A training checkpoint -> a weight folder of ours."""

import pickle
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from ..errors import WeightsError
from ..tokenizer import Tokenizer
from ..weights import fingerprint, fold_weight_norm, load_strict, plain_state
from .card import write_card
from .checkpoints import FOLDER, last_checkpoint

AVERAGE = "ema.module."  # what the names of averaged weights begin with in a checkpoint


def export(
    checkpoint: str | Path, folder: str | Path, averaged: bool = True, dtype: torch.dtype | None = None, name: str = ""
) -> Tokenizer:
    """Writes the tokenizer of a `tokenizers-zoo fit` checkpoint, without adversary and optimizer, and its card; returns it.

    checkpoint: a file, or a folder, which stands for the newest last.ckpt below it. averaged: the moving average of the weights
    where the run kept one. name: of what comes out, where it is no longer what the recipe names. Raises WeightsError for anything
    else than such a checkpoint.
    """
    path = last_checkpoint(checkpoint)
    content = read_checkpoint(path)
    content["assembly"] |= {"name": name} if name else {}
    averaged = averaged and has_average(content)
    tokenizer = trained(content, averaged)
    tokenizer.save_pretrained(folder, dtype)
    write_card(tokenizer, content, averaged, logs_of(content, path), Path(folder))
    return tokenizer


def logs_of(content: dict[str, Any], path: Path) -> list[Path]:
    """Where the run of a checkpoint and those that it went on from have logged; for one that was moved, the folder it lies in."""
    told = [Path(folder) for folder in content.get("fit", {}).get("logs", [])]
    return [folder for folder in told if folder.is_dir()] or [path.parent.parent if path.parent.name == FOLDER else path.parent]


def trained(checkpoint: dict[str, Any], averaged: bool) -> Tokenizer:
    """The tokenizer of a checkpoint in evaluation mode, with the moving average of its weights or the last ones."""
    config, prefix = checkpoint["assembly"], AVERAGE if averaged else "tokenizer."
    tokenizer = zoo.build(config, config["name"])
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    load_strict(tokenizer, state, tokenizer.name)
    tokenizer.license, tokenizer.weights = config["license"], fingerprint(plain_state(tokenizer))
    return tokenizer.eval()


def has_average(checkpoint: dict[str, Any]) -> bool:
    """Whether the run kept a moving average of its weights."""
    return any(key.startswith(AVERAGE) for key in checkpoint["state_dict"])


def from_checkpoint(path: str | Path) -> Tokenizer:
    """What `export` would write of a checkpoint, or of a folder's newest, ready to use. Raises WeightsError for other files."""
    content = read_checkpoint(last_checkpoint(path))
    tokenizer = trained(content, has_average(content))
    fold_weight_norm(tokenizer)
    return tokenizer


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a training run, opened with weights_only. Raises WeightsError for other files."""
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit` ({reason})") from error
    if not isinstance(content, dict) or not content.keys() >= {"assembly", "state_dict"}:
        raise WeightsError(f"{path} is not a checkpoint of `tokenizers-zoo fit`; weight folders load with tokenizers_zoo.load")
    return content
