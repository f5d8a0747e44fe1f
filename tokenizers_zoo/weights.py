"""Weight files: reading without ever unpickling objects, and our folder form {config.json, model.safetensors}."""

import hashlib
import json
import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .errors import WeightsError
from .files import atomic_path

CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", 1
HALF = (torch.float16, torch.bfloat16)
PIECE = 1 << 18  # bytes that are hashed while they are in the processor's cache
TYPES = {  # of safetensors
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
MODEL_TYPE = "tokenizers_zoo"  # by which transformers' Auto classes know a folder of ours


def share(kind: str) -> Path:
    """The folder "models", "checkpoints", "trainers" or "eval": beside the package in a checkout, inside an installed one."""
    package = Path(__file__).parent
    inside = package / "share" / kind
    return inside if inside.is_dir() else package.parent / kind


def is_embedded(name: str) -> bool:
    """Whether a variant's weights ship with the package."""
    return (share("checkpoints") / name / CONFIG).is_file()


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pt`, `.pth`, `.bin`, `.ckpt` file opened with weights_only.

    Raises WeightsError for damaged files and for pickles that hold anything but tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _parse(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on pickle protocols before it refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path} does not hold plain tensors ({reason}); convert it to safetensors") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """What the head of a safetensors file says beside its tensors. Raises WeightsError for damaged files."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def write_folder(
    folder: str | Path, config: Mapping[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Writes weights, then config.json with their checksum; floating tensors in `dtype` if given."""
    folder = Path(folder)
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
        digest = _sha256(temporary)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(
            json.dumps({"format": FORMAT, "model_type": MODEL_TYPE, **config, "sha256": digest}, indent=2) + "\n"
        )


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a folder that `write_folder` wrote, half precision widened to float32.

    Raises WeightsError where they are damaged.
    """
    config = read_config(Path(folder) / CONFIG)
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{path} is missing; a weight folder holds {CONFIG} and {WEIGHTS}")
    wrong = WeightsError(f"{path} does not match the checksum in {CONFIG}; copy or download the folder again")
    try:
        state, digest = _read_hashed(path)
    except WeightsError as error:
        raise error if _sha256(path) == config.get("sha256") else wrong from error
    if digest != config.get("sha256"):
        raise wrong
    return config, state


def _read_hashed(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of a safetensors file, and the SHA-256 of what they were read from, in one pass.

    Each is memory of its own: a mapped file could still change once it was hashed. Raises WeightsError for damaged files.
    """
    try:
        with safe_open(path, "pt") as file:
            names = file.offset_keys()  # which follow each other without a gap, or safetensors refuses
            slices = {name: file.get_slice(name) for name in names}
            known = {name: (TYPES[part.get_dtype()], part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, KeyError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in known.items()}
    head = path.stat().st_size - sum(sizes.values())  # what says all this
    halves = [sizes[name] for name, (dtype, _) in known.items() if dtype in HALF]
    passing = torch.empty(max([*halves, head]), dtype=torch.uint8)  # for what is not kept: new memory costs more than to read
    state, digest = {}, hashlib.sha256()
    with path.open("rb", buffering=0) as file:

        def fill(content: Tensor) -> Tensor:
            view, at = memoryview(content.numpy()), 0  # type: ignore[arg-type]
            while at < len(view) and (count := file.readinto(view[at : at + PIECE])):
                digest.update(view[at : at + count])
                at += count
            return content

        fill(passing[:head])
        for name, (dtype, shape) in known.items():
            if dtype in HALF:
                state[name] = fill(passing[: sizes[name]]).view(dtype).float().view(shape)
            else:
                state[name] = torch.empty(shape, dtype=dtype)
                fill(state[name].view(-1).view(torch.uint8))
    return state, digest.hexdigest()


def read_config(path: Path) -> dict[str, Any]:
    """A config.json of ours. Raises WeightsError if it is something else."""
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing; a weight folder holds {CONFIG} and {WEIGHTS}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); copy or download the folder again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a config of this library (format {FORMAT}); authors' files: load_official")
    return config


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def unsaved(module: nn.Module) -> tuple[str, ...]:
    """Prefixes of the keys of frozen helpers (`saved = False`), whose weights are not the tokenizer's."""
    parts = module.named_modules(remove_duplicate=False)
    return tuple(f"{name}." for name, part in parts if not getattr(part, "saved", True))


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with weight norm multiplied out and without frozen helpers: what inference needs, and what we store."""
    left_out = unsaved(module)
    state = {k: v for k, v in module.state_dict().items() if ".parametrizations." not in k}
    for name, part in module.named_modules():
        if parametrize.is_parametrized(part, "weight"):
            state[f"{name}.weight"] = part.weight.detach()
    return {k: v for k, v in state.items() if not k.startswith(left_out)}


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor."""
    return {k: tuple(v.shape) for k, v in state.items()}


def fingerprint(state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> str:
    """12 hexadecimal digits of names, types, shapes and values of tensors, wherever they came from; with `config` also of it."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(memoryview(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))  # type: ignore[arg-type]
    if config is not None:
        digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def without(state: Mapping[str, Tensor], base: Mapping[str, Tensor], name: str, weights: str) -> dict[str, Tensor]:
    """What of `state` is not in `base`, the variant `name` as it ships, whose fingerprint is `weights`.

    Raises WeightsError where they share nothing, and for a base that `load` would not find.
    """
    if not is_embedded(name):
        raise WeightsError(f"weights_of is {name!r}, which does not ship with this package; save without weights_of")
    config = read_config(share("checkpoints") / name / CONFIG)
    if weights != config.get("weights", config["sha256"][:12]):
        raise WeightsError(f"weights_of has other weights than load({name!r}); give that, or save without weights_of")
    rest = {k: v for k, v in state.items() if k not in base or v.shape != base[k].shape or not torch.equal(v, base[k].to(v))}
    if len(rest) == len(state):
        raise WeightsError(f"none of these weights is equal to one of {name}; save without weights_of")
    return rest


def fold_weight_norm(module: nn.Module) -> None:
    """Replaces every weight-normed weight by its value: the same function, without recomputing it at each call."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def load_plain(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copies what `plain_state` gave into a module whose weight norm is still in place. Raises WeightsError as `load_strict`."""
    state = dict(state)
    compare(shapes(plain_state(module)), shapes(state), what)
    for name, part in module.named_modules():
        if parametrize.is_parametrized(part, "weight") and f"{name}.weight" in state:  # not a frozen helper's
            part.weight = state.pop(f"{name}.weight").to(part.weight)
    module.load_state_dict(state, strict=False)


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str, assign: bool = False) -> None:
    """Copies `state` into `module`, or with `assign` puts its tensors in place of the module's, where types are equal.

    Raises WeightsError that lists missing, surplus and mis-shaped keys.
    """
    left_out, mine = unsaved(module), module.state_dict()
    compare({k: v for k, v in shapes(mine).items() if not k.startswith(left_out)}, shapes(state), what)
    if assign:
        state = {k: v.to(mine[k].dtype) for k, v in state.items()}
    module.load_state_dict(state, strict=False, assign=assign)


def compare(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
    """Raises WeightsError unless both map the same keys to the same shapes."""
    shapes = [f"{k}: {found[k]} instead of {expected[k]}" for k in expected if k in found and found[k] != expected[k]]
    problems = {
        "missing": [k for k in expected if k not in found],
        "surplus": [k for k in found if k not in expected],
        "wrong shape": shapes,
    }
    if any(problems.values()):
        text = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys)
        raise WeightsError(f"the weights do not fit {what}: {text}. Is this the file of another variant?")


def _some(keys: list[str], most: int = 20) -> str:
    return ", ".join(sorted(keys)[:most]) + (f", and {len(keys) - most} more" if len(keys) > most else "")
