"""What the comment above a recipe says is so: its commands, what it needs, and the options for local copies."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenizers_zoo import zoo
from tokenizers_zoo.cli.shipped import shipped

FILES = {path.stem: path for path in sorted(zoo.share("trainers").rglob("*.yaml"))}
REPOSITORY = re.compile(r"\b(?:openai|facebook|google-bert|sentence-transformers)/[\w.-]+")


def head(path: Path) -> str:
    return "\n".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))


def needs(path: Path) -> str:
    """The line and its options."""
    found = re.search(r"^needs: .*(\n--.*)*", head(path), re.MULTILINE)
    assert found, f"{path} does not say what it needs"
    return found[0]


def has(config: Any, key: str) -> bool:
    """Whether a recipe has the option `key`, or the part that it is an argument of."""
    *steps, _ = key.split(".")
    for step in steps:
        if step == "init_args" and isinstance(config, str):
            return True  # a class by its name alone
        if not isinstance(config, dict) or step not in config:
            return False
        config = config[step]
    return True


@pytest.mark.parametrize("name", FILES)
def test_what_a_recipe_needs_and_how_to_give_it(name: str) -> None:
    said, config = needs(FILES[name]), yaml.safe_load(FILES[name].read_text())
    text = yaml.safe_dump(config)
    assert set(REPOSITORY.findall(said)) == set(REPOSITORY.findall(text))
    assert all(word in said for word in re.findall(r"tf_efficientnet_lite0|convnext_small", text) if "what" not in said)
    for key in re.findall(r"^--([\w.]+) (?:FOLDER|FILE)$", said, re.MULTILINE):
        assert has(config, key), key
    assert re.search(r"\d [MG]B\b|what .* needs", said)


@pytest.mark.parametrize("name", FILES)
def test_names_in_the_commands_of_a_head(name: str) -> None:
    for recipe in re.findall(r"-c ([\w.-]+)", head(FILES[name])):
        assert shipped("trainers", recipe).is_relative_to(zoo.share("trainers"))
    assert set(re.findall(r"--model\.tokenizer (\S+)", head(FILES[name]))) <= set(zoo.list_tokenizers())
    assert ".ckpt" not in head(FILES[name])
