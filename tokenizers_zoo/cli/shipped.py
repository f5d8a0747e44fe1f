"""Recipes, suites and what recipes train by name, from the checkout or from the installed package."""

from collections.abc import Sequence
from pathlib import Path

from .. import zoo
from ..errors import InputError
from ..weights import share

TOKENIZER = "--model.tokenizer"


def shipped(kind: str, name: str | Path) -> Path:
    """`name` where that is a file, else the recipe ("trainers"), suite ("eval") or variant ("models") of that name.

    Names are those of the files without .yaml, with or without their folder: lm-spt-ablations/single-encoder, single-encoder.
    Raises InputError with all names for others.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():  # a folder of weights may well have the name of a recipe
        return path
    files = {path.relative_to(share(kind)).with_suffix("").as_posix(): path for path in sorted(share(kind).rglob("*.yaml"))}
    wanted = str(name).removesuffix(".yaml").removeprefix(f"{kind}/")
    found = [path for key, path in files.items() if wanted in (key, path.stem)]
    if wanted in files or len(found) == 1:
        return files.get(wanted, found[0])
    what = {"trainers": "recipe", "eval": "suite", "models": "variant"}[kind]
    raise InputError(f"{name} is neither a file nor one {what}; choose one of {', '.join(files)}, or give a file")


def with_recipes(argv: Sequence[str]) -> list[str]:
    """The words of a training command, recipes by their files and first, so that options win over them wherever they stand.

    A variant's name as --model.tokenizer is its file, too.
    """
    verb, *words = argv
    recipes, others = [], []
    left = iter(words)
    for word in left:
        option, _, value = word.partition("=")
        if option in ("-c", "--config", TOKENIZER) and (value := value or next(left, "")):
            if option == TOKENIZER:
                others += [option, str(shipped("models", value)) if value in zoo.list_tokenizers() else value]
            else:
                recipes += ["-c", str(shipped("trainers", value))]
        else:
            others.append(word)
    return [verb, *recipes, *others]
