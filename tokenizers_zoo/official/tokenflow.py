"""TokenFlow (ByteVisionLab/TokenFlow; Hub: ByteVisionLab/TokenFlow, once ByteFlow-AI/TokenFlow).

What their files hold besides: `codebook_used`, a running usage; two constants of SigLIP's colours; and of SigLIP all behind its
26th block, the last block, the norm and the pooling head, which their code does not use either. The semantic decoder has no bias
of keys: it would add the same to all that a query is compared with. Training states hold the model beside other things.
"""

from .base import Official, State

_TOWER = r"^(encoder_vqkd\..*)"
_CLIP = (
    (r"^encoder\.semantic\.patch_embed\.", "encoder_vqkd.conv1."),
    (r"^encoder\.semantic\.class_token$", "encoder_vqkd.class_embedding"),
    (r"^encoder\.semantic\.position_embed$", "encoder_vqkd.positional_embedding"),
    (r"^encoder\.semantic\.norm_in\.", "encoder_vqkd.ln_pre."),
    (r"^encoder\.semantic\.norm_out\.", "encoder_vqkd.ln_post."),
    (r"^encoder\.semantic\.blocks\.", "encoder_vqkd.transformer.resblocks."),
    (_TOWER + r"\.attention_norm\.", r"\1.ln_1."),
    (_TOWER + r"\.mlp_norm\.", r"\1.ln_2."),
    (_TOWER + r"\.attention\.in_proj\.", r"\1.attn.in_proj_"),
    (_TOWER + r"\.attention\.out_proj\.", r"\1.attn.out_proj."),
    (_TOWER + r"\.mlp\.0\.", r"\1.mlp.c_fc."),
    (_TOWER + r"\.mlp\.2\.", r"\1.mlp.c_proj."),
)
_SIGLIP = (
    (r"^encoder\.semantic\.patch_embed\.", "encoder_vqkd.vision_model.embeddings.patch_embedding."),
    (r"^encoder\.semantic\.position_embed$", "encoder_vqkd.vision_model.embeddings.position_embedding.weight"),
    (r"^encoder\.semantic\.blocks\.", "encoder_vqkd.vision_model.encoder.layers."),
    (_TOWER + r"\.attention_norm\.", r"\1.layer_norm1."),
    (_TOWER + r"\.mlp_norm\.", r"\1.layer_norm2."),
    (_TOWER + r"\.attention\.in_proj\.", r"\1.self_attn.{q,k,v}_proj."),
    (_TOWER + r"\.attention\.out_proj\.", r"\1.self_attn.out_proj."),
    (_TOWER + r"\.mlp\.0\.", r"\1.mlp.fc1."),
    (_TOWER + r"\.mlp\.2\.", r"\1.mlp.fc2."),
)
_NAMES = (
    (r"^encoder\.projection\.", "encode_task_layer."),
    (r"^semantic_decoder\.projection\.", "decode_task_layer."),
    (r"^semantic_decoder\.in_proj\.", "decoder_vqkd.patch_embed.proj."),
    (r"^semantic_decoder\.class_token$", "decoder_vqkd.cls_token"),
    (r"^semantic_decoder\.position_embed$", "decoder_vqkd.pos_embed"),
    (r"^semantic_decoder\.norm_out\.", "decoder_vqkd.fc_norm."),
    (r"^semantic_decoder\.", "decoder_vqkd."),
    (r"^(decoder_vqkd\..*)\.attention_norm\.", r"\1.norm1."),
    (r"^(decoder_vqkd\..*)\.mlp_norm\.", r"\1.norm2."),
    (r"^(decoder_vqkd\..*)\.attention\.in_proj\.weight$", r"\1.attn.qkv.weight"),
    (r"^(decoder_vqkd\..*)\.attention\.in_proj\.bias$", r"\1.attn.{q,,v}_bias"),
    (r"^(decoder_vqkd\..*)\.attention\.out_proj\.", r"\1.attn.proj."),
    (r"^(decoder_vqkd\..*)\.mlp\.0\.", r"\1.mlp.fc1."),
    (r"^(decoder_vqkd\..*)\.mlp\.2\.", r"\1.mlp.fc2."),
    (r"^encoder\.pixel\.out_proj\.", "quant_conv."),
    (r"^decoder\.in_proj\.", "post_quant_conv."),
    (r"^encoder\.pixel\.", "encoder."),
    (r"^((?:en|de)coder)\.(?:down|up)\.(\d)\.blocks\.", r"\1.conv_blocks.\2.res."),
    (r"^((?:en|de)coder)\.(?:down|up)\.(\d)\.attention\.", r"\1.conv_blocks.\2.attn."),
    (r"^((?:en|de)coder)\.(downsample|upsample)\.(\d)\.", r"\1.conv_blocks.\3.\2.conv."),
    (r"^((?:en|de)coder\..*)\.(q)uery\.", r"\1.\2."),
    (r"^((?:en|de)coder\..*)\.(k)ey\.", r"\1.\2."),
    (r"^((?:en|de)coder\..*)\.(v)alue\.", r"\1.\2."),
    (r"^((?:en|de)coder\..*)\.out\.", r"\1.proj_out."),
    (r"^((?:en|de)coder\..*)\.shortcut\.", r"\1.nin_shortcut."),
    (r"^quantizer\.(?:stage\.)?semantic\.", "quantize.embedding_vqkd."),
    (r"^quantizer\.(?:stage\.)?pixel\.", "quantize.embedding_vqgan."),
)


def _unpack(state: State) -> State:
    inner = next((state[name] for name in ("ema", "model", "state_dict") if name in state), state)
    return {key.removeprefix("module."): value for key, value in dict(inner).items()}


def _of(names: tuple[tuple[str, str], ...], file: str) -> Official:
    return Official(
        names + _NAMES,
        "MIT",
        (("ByteVisionLab/TokenFlow", file),),
        unpack=_unpack,
        ignored=r"^quantize\.codebook_used$|^scaling_layer\.(shift|scale)$"
        r"|^encoder_vqkd\.vision_model\.(encoder\.layers\.26|post_layernorm|head)\.",
    )


TOKENFLOW = {
    "tokenflow-clipb": _of(_CLIP, "tokenflow_clipb_32k_enhanced.pt"),
    "tokenflow-clipb-256": _of(_CLIP, "tokenflow_clipb_32k_enhanced.pt"),
    "tokenflow-siglip-xl": _of(_SIGLIP, "tokenflow_siglip_32k.pt"),
}
