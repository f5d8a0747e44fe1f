"""TA-TiTok (bytedance/1d-tokenizer; Hub: turkeyju/tokenizer_tatitok_*, fun-research/TA-TiTok).

CLIP is in none of their files. Raw training states hold `quantize.embed_prob`, a running usage that inference does not need.
"""

from .base import Official
from .titok import NAMES

TA_TITOK = {
    f"ta-titok-{name.replace('_', '-')}": Official(
        (
            (r"^decoder\.text\.proj\.", "decoder.text_guidance_proj."),
            (r"^decoder\.text\.position_embed$", "decoder.text_guidance_positional_embedding"),
            *NAMES,
        ),
        "Apache-2.0; for research",
        ((f"turkeyju/tokenizer_tatitok_{name}", "model.safetensors"),),
        ignored=r"^quantize\.embed_prob$",
    )
    for name in ("bl32_vq", "bl64_vq", "bl128_vq", "bl32_vae", "bl64_vae", "sl128_vae")
}
