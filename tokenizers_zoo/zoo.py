"""Names -> assemblies -> weights."""

import fnmatch
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .assembly import Assembly, Unfilled, overridden
from .assembly import build as build_part
from .errors import WeightsError
from .ready import ready
from .tokenizer import Tokenizer
from .weights import (
    CONFIG,
    WEIGHTS,
    compare,
    fingerprint,
    fold_weight_norm,
    is_embedded,
    load_plain,
    load_strict,
    plain_state,
    read_folder,
    shapes,
    share,
    unsaved,
)

AUTHORS: dict[str, str] = {}  # by variant: where its authors' weights are; filled by `official`


@cache
def _variants() -> dict[str, Path]:
    return {path.stem: path for path in sorted(share("models").glob("*/*.yaml"))}


def list_tokenizers(pattern: str = "*") -> list[str]:
    """Names of all variants that match a shell-style pattern, sorted."""
    return fnmatch.filter(sorted(_variants()), pattern)


def _yaml(name: str | Path) -> Path:
    """The YAML of a variant, or of an assembly of the user's own."""
    if str(name) in _variants():
        return _variants()[str(name)]
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    raise WeightsError(f"no tokenizer is called {str(name)!r}; choose one of {', '.join(list_tokenizers())}, or a .yaml file")


def describe(name: str | Path) -> str:
    """One line on a variant, or on an assembly in a .yaml file: the comment above it."""
    lines = _read(_yaml(name)).split("class_path:")[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


def assembly(name: str | Path) -> Assembly:
    """The assembly {class_path, init_args} of a variant, or in a .yaml file. Raises WeightsError for what is neither."""
    path = _yaml(name)
    try:
        config = yaml.safe_load(_read(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise WeightsError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.setdefault("init_args", {}), dict) or "class_path" not in config:
        raise WeightsError(f"{path} must hold class_path and init_args at its top, as the files in models/ do")
    return overridden(config, {})


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def create(name: str | Path, dtype: torch.dtype = torch.float32, compile: bool = False, **overrides: Any) -> Tokenizer:
    """An untrained tokenizer: a variant at its published size, or an assembly of your own in a .yaml file.

    `dtype` and `compile` as in `load`. `overrides` replace arguments of the assembly; dots lead into its parts
    (`**{"encoder.width": 256}`). A part is {class_path, init_args} with a class of this library or one that was registered, the
    name of such a class alone, or a module, which is put in as it is. What comes out can be saved and loaded. Raises WeightsError
    for names that lead nowhere, parts that do not fit each other, and values that a config cannot hold.
    """
    told = Path(name).stem if str(name) not in _variants() else str(name)
    return ready(build(overridden(assembly(name), overrides), told), None, dtype, compile)


def build(config: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer of an assembly. Raises WeightsError for classes that are not registered and for unknown arguments."""
    tokenizer: Tokenizer = build_part({key: config.get(key) for key in ("class_path", "init_args")}, (Tokenizer,), name)
    tokenizer.name = name
    _ = tokenizer.config  # refuses what could not be saved
    return tokenizer


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    **overrides: Any,
) -> Tokenizer:
    """A trained tokenizer in evaluation mode.

    `name`: a variant with embedded weights, a folder that `save_pretrained` wrote, or the id of such a folder on the Hugging Face
    Hub. `dtype` (float32, bfloat16 or float16) is that of all weights but the quantizer's; `compile` is by torch.compile, during
    the first calls: see `ready`. `overrides` as in `create`: a part that is replaced starts fresh; where an argument of a part
    changes, the part keeps what fits. An argument called like one of these is none to override. Raises WeightsError where
    weights are missing or damaged, or the config names anything that was not registered, InputError for another dtype and where
    nothing can be compiled.
    """
    tokenizer = _load(_folder(name))
    return ready(altered(tokenizer, overrides) if overrides else tokenizer, device, dtype, compile)


def _load(folder: Path) -> Tokenizer:
    config, state = read_folder(folder)
    if not config.keys() >= {"name", "class_path", "init_args"} or not isinstance(config["name"], str):
        raise WeightsError(f"{folder / CONFIG} needs name, class_path and init_args")
    with Unfilled(1000 + 100 * len(state)):
        tokenizer = build(config, config["name"])
    if unsaved(tokenizer):  # a frozen helper may have a start of its own
        tokenizer = build(config, config["name"])
    fold_weight_norm(tokenizer)
    base = config.get("weights_of")
    load_strict(tokenizer, state if base is None else _completed(state, tokenizer, config), tokenizer.name, assign=True)
    tokenizer.license = str(config.get("license", ""))
    whole = fingerprint(plain_state(tokenizer), tokenizer.config) if base else config["sha256"][:12]
    tokenizer.weights = str(config.get("weights", whole))
    return tokenizer.eval()


def _completed(state: Mapping[str, Tensor], tokenizer: Tokenizer, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Stored weights, and for what is not stored those of the variant that the config names."""
    name = config["weights_of"]
    if not isinstance(name, str) or name not in _variants() or not is_embedded(name):
        embedded = ", ".join(filter(is_embedded, list_tokenizers()))
        raise WeightsError(f"weights_of names {name!r}, which has no embedded weights; those that have: {embedded}")
    base = load(name)
    if config.get("weights_of_fingerprint", base.weights) != base.weights:
        raise WeightsError(f"these weights stand on others of {name} than this version has: install the version that saved them")
    wanted = plain_state(tokenizer)
    return {k: v for k, v in plain_state(base).items() if k in wanted} | dict(state)


def altered(tokenizer: Tokenizer, overrides: Mapping[str, Any]) -> Tokenizer:
    """A loaded tokenizer with parts or arguments replaced as in `create`, in evaluation mode; its fingerprint is another.

    A part that is replaced starts fresh; where an argument of a part changes, the part keeps what fits by name and shape;
    everything else must fit. Raises WeightsError where it does not.
    """
    new = build(overridden(tokenizer.config, overrides), tokenizer.name)
    fold_weight_norm(new)
    mine, kept = plain_state(new), plain_state(tokenizer)
    fresh: tuple[str, ...] = ()  # prefixes of keys
    loose: tuple[str, ...] = ()
    for key in overrides:
        touched = [_touched(side, key) for side in (tokenizer, new)]
        parts = tuple(prefix for prefix, whole in touched if whole)
        fresh, loose = fresh + parts, loose if parts else loose + tuple(prefix for prefix, _ in touched)
    kept = {k: v for k, v in kept.items() if not k.startswith(fresh)}
    kept = {k: v for k, v in kept.items() if not k.startswith(loose) or (k in mine and mine[k].shape == v.shape)}
    compare({k: v for k, v in shapes(mine).items() if k in kept or not k.startswith(fresh + loose)}, shapes(kept), new.name)
    load_plain(new, mine | kept, new.name)
    moved = all(_is_local(new, key) for key in overrides)  # the same helpers, which lie elsewhere on this machine
    new.license, new.weights = tokenizer.license, tokenizer.weights if moved else fingerprint(plain_state(new), new.config)
    return new.eval()


def _is_local(tokenizer: Tokenizer, key: str) -> bool:
    """Whether an override names an argument that a part calls `local`."""
    part, _, name = key.rpartition(".")
    return name in getattr(dict(tokenizer.named_modules()).get(part), "local", ())


def _touched(tokenizer: Tokenizer, key: str) -> tuple[str, bool]:
    """Prefix of the keys of what an override changes: of a part (True), or of the part whose argument it is (False)."""
    at: Any = tokenizer
    part: Any = tokenizer
    for step in key.split("."):
        at = at.get(step) if isinstance(at, Mapping) else getattr(at, step, None)
        if isinstance(at, torch.nn.Module):
            part = at
        elif not isinstance(at, Mapping):
            break
    prefix = next(name for name, module in tokenizer.named_modules() if module is part)
    return f"{prefix}." if prefix else "", at is part and part is not tokenizer


def _folder(name: str | Path) -> Path:
    if name in _variants():
        if not is_embedded(str(name)):
            raise WeightsError(_elsewhere(str(name)))
        return share("checkpoints") / name
    if Path(name).is_dir():
        return Path(name)
    if is_hub_id(name):
        return hub_files(((str(name), CONFIG), (str(name), WEIGHTS)))[0].parent
    raise WeightsError(f"{name} is neither a variant ({', '.join(list_tokenizers())}), a folder, nor a Hub id")


def _elsewhere(name: str) -> str:
    """What to do where a variant has no embedded weights."""
    theirs = AUTHORS.get(name, f"nobody has published weights of {name}")
    return f"{name} ships without weights: {theirs}; create({name!r}) builds it untrained"


def is_hub_id(source: object) -> bool:
    """Whether it has the form OWNER/NAME of a Hugging Face repository."""
    return isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~"))


def hub_files(files: tuple[tuple[str, str], ...]) -> list[Path]:
    """Local copies of (repository, path) on the Hub. Raises WeightsError where they cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return [Path(hf_hub_download(repo, path)) for repo, path in files]
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        told = ", ".join(f"{path} of {repo}" for repo, path in files)
        raise WeightsError(f"cannot get {told} from the Hub ({reason})") from error
