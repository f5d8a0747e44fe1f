"""FlexTok (apple/ml-flextok; Hub: EPFL-VILAB/flextok_*).

The published configuration, the metadata of the file or a config.json beside it, is a tree of classes to be instantiated; here it
is read as data, for the few numbers that the weights do not show, and nothing that it names is looked up. Tables of positions are
those of the file.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..weights import read_metadata
from .base import Official, State, merged

_NAMES = (
    # the autoencoder, as huggingface/diffusers names it
    (r"^autoencoder\.encoder\.moments\.", "vae.vae.quant_conv."),
    (r"^autoencoder\.decoder\.latents\.", "vae.vae.post_quant_conv."),
    (r"^autoencoder\.", "vae.vae."),
    (r"^(vae\..*)\.down\.(\d)\.(\d)\.", r"\1.down_blocks.\2.resnets.\3."),
    (r"^(vae\..*)\.downsample\.(\d)\.", r"\1.down_blocks.\2.downsamplers.0.conv."),
    (r"^(vae\..*)\.up\.(\d)\.(\d)\.", r"\1.up_blocks.\2.resnets.\3."),
    (r"^(vae\..*)\.upsample\.(\d)\.", r"\1.up_blocks.\2.upsamplers.0.conv."),
    (r"^(vae\..*)\.mid\.1\.norm\.", r"\1.mid_block.attentions.0.group_norm."),
    *((rf"^(vae\..*)\.mid\.1\.{word}\.", rf"\1.mid_block.attentions.0.to_{word[0]}.") for word in ("query", "key", "value")),
    (r"^(vae\..*)\.mid\.1\.out\.", r"\1.mid_block.attentions.0.to_out.0."),
    (r"^(vae\..*)\.mid\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(vae\..*)\.mid\.2\.", r"\1.mid_block.resnets.1."),
    (r"^(vae\..*)\.shortcut\.", r"\1.conv_shortcut."),
    (r"^(vae\..*)\.norm_out\.", r"\1.conv_norm_out."),
    # encoder and decoder
    (r"^encoder\.patches\.proj\.", "encoder.module_dict.enc_patch_emb.patch_proj."),
    (r"^encoder\.patches\.places$", "encoder.module_dict.enc_posemb_module.posembs"),
    (r"^encoder\.registers$", "encoder.module_dict.enc_register_module.registers"),
    (r"^encoder\.blocks\.", "encoder.module_dict.enc_transformer.blocks."),
    (r"^encoder\.out_proj\.", "encoder.module_dict.enc_to_latents.proj."),
    (r"^decoder\.registers\.proj\.", "decoder.module_dict.dec_from_latents.proj."),
    (r"^decoder\.registers\.places$", "decoder.module_dict.dec_registers_posemb_module.posembs"),
    (r"^decoder\.registers\.mask_token$", "decoder.module_dict.dec_nested_dropout.dropout_mask_token"),
    (r"^decoder\.null_token$", "decoder.module_dict.dec_latent_dropout.nullcond"),
    (r"^decoder\.patches\.proj\.", "decoder.module_dict.dec_noise_patch_emb.patch_proj."),
    (r"^decoder\.patches\.places$", "decoder.module_dict.dec_patches_posemb_module.posembs"),
    (r"^decoder\.embed_time\.", "decoder.module_dict.dec_time_embedder.mlp."),
    (r"^decoder\.blocks\.", "decoder.module_dict.dec_transformer.blocks."),
    (r"^decoder\.block_modulations\.(\d+)\.", r"decoder.module_dict.dec_transformer.blocks.\1.adaLN_modulation."),
    (r"^decoder\.modulation\.", "decoder.module_dict.dec_to_patches.adaLN_modulation."),
    (r"^decoder\.out_proj\.", "decoder.module_dict.dec_to_patches.proj."),
    *((rf"(blocks\.\d+)\.attention\.{word}\.", rf"\1.attn.w{word[0]}.") for word in ("query", "key", "value")),
    (r"(blocks\.\d+)\.attention\.out\.", r"\1.attn.proj."),
)

_WRAPPERS = re.compile(r"(_checkpoint_wrapped_module|_orig_mod)\.")  # activation checkpointing, compilation


def _unpack(*states: State) -> State:
    return {_WRAPPERS.sub("", key): value for key, value in merged(*states).items()}


class FlexTokOfficial(Official):
    """FlexTok's files, and what their configuration says beside the weights."""

    def told(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Arguments of the assembly: the largest time, the scale of the autoencoder's latents, and whether there is a null token.

        Raises WeightsError for a configuration that gives something else for them.
        """
        tree = _configuration(paths[0])
        time, null, vae = (_part(tree, name) for name in ("dec_time_embedder", "dec_latent_dropout", "vae"))
        told: dict[str, Any] = {}
        if time:
            told["decoder.max_timestep"] = _number(time, "max_timestep", 1000.0)  # the default of their class
        if "scaling_factor" in vae:
            told["autoencoder.scale"] = _number(vae, "scaling_factor", 1.0)
        if null:
            told["decoder.learned_null"] = "Learned" in str(null.get("_target_"))
        return told


def _configuration(path: Path) -> Any:
    """The tree in the metadata of a safetensors file, whose values are Python literals, or in a config.json beside it."""
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    beside = path.parent / "config.json"
    tree = {key: _literal(value) for key, value in metadata.items()}
    if _part(tree, "dec_time_embedder") or not beside.is_file():
        return tree
    try:
        return json.loads(beside.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise WeightsError(f"{beside} is not JSON ({error}); download it again, or give the weights alone") from error


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text  # of another kind, such as the name of a format


def _part(tree: Any, name: str) -> Mapping[str, Any]:
    """The first mapping of this name anywhere in the tree, empty where there is none."""
    waiting = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, Mapping):
            if isinstance(node.get(name), Mapping):
                return node[name]
            waiting += node.values()
    return {}


def _number(part: Mapping[str, Any], name: str, default: float) -> float:
    value = part.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise WeightsError(f"the file's configuration has {name} = {value!r:.80}, which is no number above 0; download it again")
    return float(value)


FLEXTOK = {
    f"flextok-{size}": FlexTokOfficial(
        _NAMES,
        "apple-amlr (Apple Machine Learning Research Model License)",
        ((f"EPFL-VILAB/flextok_{repository}", "model.safetensors"),),
        noncommercial=True,
        unpack=_unpack,
        ignored=r"^vae\.(vae\.)?logvar$|\.\w*repa\w*\.",  # of training
    )
    for size, repository in (
        ("d12-d12", "d12_d12_in1k"),
        ("d18-d18", "d18_d18_in1k"),
        ("d18-d28", "d18_d28_in1k"),
        ("d18-d28-dfn", "d18_d28_dfn"),
    )
}
