"""Names -> assemblies -> weights."""

import copy
import fnmatch
import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from .errors import WeightsError
from .tokenizer import Tokenizer
from .weights import CONFIG, WEIGHTS, fold_weight_norm, load_strict, read_folder

ASSEMBLY = {"class_path", "init_args"}


def share(kind: str) -> Path:
    """The folder "models" or "checkpoints": beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    inside = package / "share" / kind
    return inside if inside.is_dir() else package.parent / kind


@cache
def registry() -> dict[str, type[nn.Module]]:
    """Every class that a config may name: the modules defined in blocks, quantizers and models, by class name."""
    classes = {}
    for room in ("blocks", "quantizers", "models"):
        package = importlib.import_module(f"{__package__}.{room}")
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            for name, value in inspect.getmembers(module, inspect.isclass):
                if issubclass(value, nn.Module) and value.__module__ == info.name:
                    classes[name] = value
    return classes


@cache
def _variants() -> dict[str, Path]:
    return {path.stem: path for path in sorted(share("models").glob("*/*.yaml"))}


def list_tokenizers(pattern: str = "*") -> list[str]:
    """Names of all variants that match a shell-style pattern, sorted."""
    return fnmatch.filter(sorted(_variants()), pattern)


def is_embedded(name: str) -> bool:
    """Whether a variant's weights ship with the package."""
    return (share("checkpoints") / name / CONFIG).is_file()


def describe(name: str) -> str:
    """One line on a variant: the comment above its assembly."""
    lines = _variants()[name].read_text().split("class_path:")[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


def assembly(name: str) -> dict[str, Any]:
    """The assembly {class_path, init_args} of a variant. Raises WeightsError for an unknown name."""
    if name not in _variants():
        raise WeightsError(f"no tokenizer is called {name!r}; choose one of {', '.join(list_tokenizers())}")
    config: dict[str, Any] = yaml.safe_load(_variants()[name].read_text())
    return config


def create(name: str, **overrides: Any) -> Tokenizer:
    """An untrained tokenizer of the variant's published size.

    `overrides` replace arguments of the assembly; dots lead into its parts (`**{"encoder.width": 256}`), and a part is
    {class_path, init_args} with a class of this library.
    """
    config = assembly(name)
    for key, value in overrides.items():
        *path, last = key.split(".")
        args = config["init_args"]
        for part in path:
            if not isinstance(args.get(part), dict):
                raise WeightsError(f"{name} has no part {part!r}; its arguments here are {', '.join(args)}")
            args = args[part].get("init_args", args[part])
        args[last] = value
    return build(config, name)


def build(config: dict[str, Any], name: str) -> Tokenizer:
    """The tokenizer of an assembly. Raises WeightsError for classes outside this library and for unknown arguments."""
    tokenizer = _build(config)
    if not isinstance(tokenizer, Tokenizer):
        raise WeightsError(f"{config['class_path']!r} is not a tokenizer")
    tokenizer.name = name
    tokenizer.config = copy.deepcopy({key: config[key] for key in ASSEMBLY})
    return tokenizer


def _build(value: Any) -> Any:
    if isinstance(value, list):
        return [_build(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(item, dict) and "class_path" in item for item in value.values()):
        return {key: _build(item) for key, item in value.items()}  # parts by name
    if not {"class_path"} <= value.keys():
        raise WeightsError(f"a part of an assembly needs class_path and init_args, got {sorted(value)}")
    name = value["class_path"]
    known = registry()
    if not isinstance(name, str) or name not in known:
        raise WeightsError(f"class_path {name!r} is not a class of this library; known: {', '.join(sorted(known))}")
    arguments = value.get("init_args") or {}
    if not isinstance(arguments, dict):
        raise WeightsError(f"init_args of {name} must map names to values, got {type(arguments).__name__}")
    try:
        inspect.signature(known[name]).bind(**arguments)
    except TypeError as error:
        raise WeightsError(f"{name} cannot be built: {error}; it takes {inspect.signature(known[name])}") from error
    parts = {key: _build(item) for key, item in arguments.items()}
    try:
        return known[name](**parts)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{name} cannot be built from these arguments: {error}") from error


def load(name: str | Path, device: torch.device | str = "cpu") -> Tokenizer:
    """A trained tokenizer in evaluation mode.

    `name`: a variant with embedded weights, a folder that `save_pretrained` wrote, or the id of such a folder on the Hugging Face
    Hub. Raises WeightsError where weights are missing or damaged, or the config names anything outside this library.
    """
    folder = _folder(name)
    config, state = read_folder(folder)
    if not config.keys() >= ASSEMBLY | {"name"}:
        raise WeightsError(f"{folder / CONFIG} needs name, class_path and init_args")
    tokenizer = build(config, config["name"])
    fold_weight_norm(tokenizer)
    load_strict(tokenizer, state, tokenizer.name)
    tokenizer.license, tokenizer.weights = str(config.get("license", "")), config["sha256"][:12]
    return tokenizer.to(device).eval()


def _folder(name: str | Path) -> Path:
    if name in _variants():
        if not is_embedded(str(name)):
            raise WeightsError(
                f"{name} ships without weights; load_official({name!r}, FILE_OR_HUB_ID) loads those of its authors, if they "
                f"published any, create({name!r}) builds it untrained"
            )
        return share("checkpoints") / name
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return hub_files(name, (CONFIG, WEIGHTS))[0].parent
    raise WeightsError(f"{name} is neither a variant ({', '.join(list_tokenizers())}), a folder, nor a Hub id")


def hub_files(repo_id: str, names: tuple[str, ...]) -> list[Path]:
    """Local copies of files of a Hub repository. Raises WeightsError where they cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return [Path(hf_hub_download(repo_id, name)) for name in names]
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"cannot get {', '.join(names)} of {repo_id} from the Hub ({reason})") from error
