"""Published generators: TiTok's MaskGIT (bytedance/1d-tokenizer; Hub: yucornetto/generator_titok_*_imagenet, and as .bin in
fun-research/TiTok), TokenBridge (YuqingWang1029/TokenBridge; Hub: Epiphqny/TokenBridge).
"""

import torch

from .base import Official, State, merged

_BERT = (
    (r"^embedding\.", "model.embeddings.word_embeddings."),
    (r"^position_embed$", "model.embeddings.position_embeddings.weight"),
    (r"^transformer\.norm_in\.", "model.embeddings.LayerNorm."),
    (r"^transformer\.blocks\.", "model.encoder.layer."),
    (r"\.attention\.in_proj\.", ".attention.self.qkv."),
    (r"\.attention\.out_proj\.", ".attention.output.dense."),
    (r"\.attention_norm\.", ".attention.output.LayerNorm."),
    (r"\.mlp\.0\.", ".intermediate.dense."),
    (r"\.mlp\.2\.", ".output.dense."),
    (r"\.mlp_norm\.", ".output.LayerNorm."),
    (r"^to_logits\.", "model.lm_head."),
)
_BLOCK = (
    (r"\.attention_norm\.", ".norm1."),
    (r"\.attention\.in_proj\.", ".attn.qkv."),
    (r"\.attention\.out_proj\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.mlp_norm\.", ".norm2."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"\.modulation\.", ".adaLN_modulation.1."),
)
_UVIT = (
    (r"^embedding\.", "embeddings."),
    (r"^position_embed$", "pos_embed"),
    (r"^transformer\.first\.", "in_blocks."),
    (r"^transformer\.middle\.", "mid_block."),
    (r"^transformer\.second\.", "out_blocks."),
    (r"^transformer\.joins\.(\d+)\.", r"out_blocks.\1.skip_linear."),
    (r"^transformer\.norm_out\.", "norm."),
    (r"^to_logits\.", "lm_head."),
    *_BLOCK,
)
_TOKENBRIDGE = (
    (r"^class_embed\.", "class_emb."),
    (r"^in_proj\.", "z_proj."),
    (r"^norm_in\.", "z_proj_ln."),
    (r"^encoder\.", "encoder_blocks."),
    (r"^decoder\.", "decoder_blocks."),
    (r"^decoder_proj\.", "decoder_embed."),
    (r"^(encoder|decoder)_positions$", r"\1_pos_embed_learned"),
    (r"^output_positions$", "output_pos_embed"),
    (r"^head\.in_proj\.", "condition_proj."),
    (r"^head\.embeddings\.", "token_embeddings."),
    (r"^head\.step_embed$", "channel_embed"),
    (r"^head\.step_condition$", "timesteps_embeddings"),
    (r"^head\.blocks\.", "channel_blocks."),
    (r"^head\.norm_out\.", "channel_norm."),
    (r"^head\.modulation\.", "channel_final.modulation."),
    (r"^head\.to_logits\.", "channel_heads."),
    *_BLOCK,
)


def _joined(*states: State) -> State:
    """BERT's state with queries, keys and values in one, and positions with the only token type that is used."""
    state = merged(*states)
    for name in [key.removesuffix("query.weight") for key in state if key.endswith(".self.query.weight")]:
        for kind in ("weight", "bias"):
            three = [f"{name}{part}.{kind}" for part in ("query", "key", "value")]
            if all(key in state for key in three):
                state[f"{name}qkv.{kind}"] = torch.cat([state.pop(key) for key in three])
    places, types = (f"model.embeddings.{name}_embeddings.weight" for name in ("position", "token_type"))
    if places in state and types in state:
        state[places] = state[places] + state.pop(types)[0]
    return state


def _averaged(*states: State) -> State:
    """TokenBridge's moving average out of a training state, or a bare state; no class is one more class."""
    state = merged(*states)
    for kind in ("model_ema", "model"):
        if isinstance(state.get(kind), dict):
            state = dict(state[kind])
    if "class_emb.weight" in state and "fake_latent" in state:
        state["class_emb.weight"] = torch.cat([state["class_emb.weight"], state.pop("fake_latent")])
    return state


def _titok(size: str, bert: bool) -> Official:
    return Official(
        _BERT if bert else _UVIT,
        "Apache-2.0; trained on ImageNet, for research",
        ((f"yucornetto/generator_titok_{size}_imagenet", "model.safetensors"),),
        unpack=_joined if bert else merged,
        ignored=r"^model\.embeddings\.position_ids$",
    )


def _tokenbridge(size: str) -> Official:
    return Official(
        _TOKENBRIDGE,
        "MIT; trained on ImageNet",
        (("Epiphqny/TokenBridge", f"tokenbridge/tokenbridge_{size}/checkpoint-last.pth"),),
        unpack=_averaged,
        ignored=r"^(channel_mask|reconstruction_values|boundaries)$",  # computed, and not in the average
        fresh=r"^quantizer\.",
    )


GENERATORS = {
    "maskgit-titok-l32": _titok("l32", True),
    "maskgit-titok-b64": _titok("b64", True),
    "maskgit-titok-s128": _titok("s128", False),
    "tokenbridge-l": _tokenbridge("large"),
    "tokenbridge-h": _tokenbridge("huge"),
}
