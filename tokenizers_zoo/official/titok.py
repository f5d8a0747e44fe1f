"""TiTok (bytedance/1d-tokenizer; Hub: yucornetto/tokenizer_titok_*_imagenet, fun-research/TiTok).

Their up-sampling levels are numbered from the highest resolution, ours run from the lowest. Raw training states hold
`quantize.embed_prob`, a running usage that inference does not need.
"""

from .base import Official

_REPOSITORIES = {
    "titok-l32": "tokenizer_titok_l32_imagenet",
    "titok-b64": "tokenizer_titok_b64_imagenet",
    "titok-s128": "tokenizer_titok_s128_imagenet",
    "titok-bl64-vq": "tokenizer_titok_bl64_vq8k_imagenet",
    "titok-bl128-vq": "tokenizer_titok_bl128_vq8k_imagenet",
    "titok-sl256-vq": "tokenizer_titok_sl256_vq8k_imagenet",
    "titok-ll32-vae": "tokenizer_titok_ll32_vae_c16_imagenet",
    "titok-bl64-vae": "tokenizer_titok_bl64_vae_c16_imagenet",
    "titok-bl128-vae": "tokenizer_titok_bl128_vae_c16_imagenet",
}

_LEVELS = tuple(
    rule
    for ours, theirs in enumerate(range(4, -1, -1))
    for rule in (
        (rf"^pixel_decoder\.up\.{ours}\.(\d+)\.", rf"pixel_decoder.^up.{theirs}.block.\1."),
        (rf"^pixel_decoder\.upsample\.{ours}\.", rf"pixel_decoder.^up.{theirs}.upsample_conv."),
    )
)

NAMES = (
    (r"^encoder\.latents$", "latent_tokens"),
    (r"\.class_token$", ".class_embedding"),
    (r"\.position_embed$", ".positional_embedding"),
    (r"\.latent_embed$", ".latent_token_positional_embedding"),
    (r"\.transformer\.norm_in\.", ".ln_pre."),
    (r"\.transformer\.norm_out\.", ".ln_post."),
    (r"\.transformer\.blocks\.", ".transformer."),
    (r"\.attention_norm\.", ".ln_1."),
    (r"\.mlp_norm\.", ".ln_2."),
    (r"\.attention\.in_proj\.", ".attn.in_proj_"),
    (r"\.attention\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.c_fc."),
    (r"\.mlp\.2\.", ".mlp.c_proj."),
    (r"^encoder\.out_proj\.", "encoder.conv_out."),
    (r"^decoder\.in_proj\.", "decoder.decoder_embed."),
    (r"^decoder\.head\.to_logits\.", "decoder.ffn."),
    (r"^decoder\.head\.to_patch\.", "decoder.ffn.0."),
    (r"^decoder\.head\.smooth\.", "decoder.conv_out."),
    (r"^decoder\.head\.codebook\.", "pixel_quantize.embedding."),
    (r"^decoder\.head\.decoder\.", "pixel_decoder."),
    (r"\.shortcut\.", ".nin_shortcut."),
    *_LEVELS,
    (r"\.\^up\.", ".up."),  # the mark kept a renamed level from being renamed again
    (r"^quantizer\.", "quantize."),
)

TITOK = {
    variant: Official(
        NAMES,
        "Apache-2.0; trained on ImageNet, for research",
        ((f"yucornetto/{repository}", "model.safetensors"),),
        ignored=r"^quantize\.embed_prob$",
    )
    for variant, repository in _REPOSITORIES.items()
}
