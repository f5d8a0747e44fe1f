"""A whole recipe that trains in seconds: four photos of 32 pixels, eight tokens, one block a side."""

import subprocess
from pathlib import Path
from typing import Any

import torch
import yaml
from conftest import DATA

SIZE: dict[str, Any] = {"dim": 3, "positions": 8, "image_size": 32, "patch_size": 16, "width": 16, "depth": 1, "heads": 2}
HEAD = {"class_path": "PatchHead", "init_args": {"width": 16, "patch_size": 16}}
RECIPE: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "name": "titok-toy",
        "tokenizer": {
            "class_path": "TiTok",
            "init_args": {
                "encoder": {"class_path": "ViTEncoder1D", "init_args": SIZE},
                "quantizer": {"class_path": "FSQ", "init_args": {"levels": [5, 5, 5]}},
                "decoder": {"class_path": "ViTDecoder1D", "init_args": SIZE | {"head": HEAD}},
            },
        },
        "objective": {"squared": {"loss": "torch.nn.MSELoss"}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "ema": 0.9,
    },
    "data": {
        "class_path": "ImageData",
        "init_args": {"data": str(DATA), "image_size": 32, "batch_size": 1, "workers": 0, "valid_items": 2},
    },
    "trainer": {"accelerator": "cpu", "max_steps": 2, "val_check_interval": 3, "enable_progress_bar": False},
}


def tiny_recipe(folder: Path) -> str:
    """RECIPE as a file in `folder`, whose runs go to `folder`/out."""
    recipe = RECIPE | {"trainer": RECIPE["trainer"] | {"default_root_dir": str(folder / "out")}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return str(folder / "tiny.yaml")


def command(*words: object, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own, in `folder`."""
    return subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints' parts hold the same values."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
