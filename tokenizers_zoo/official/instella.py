"""Instella-T2I's binary autoencoder (AMD-AGI/Instella-T2I, bae/; Hub: amd/Instella-T2I).

The configuration file says 64 bits a token, the Hub's card 128: the tensor of their embeddings decides.
"""

from ..tokenizer import Tokenizer
from .base import Official, State

_NAMES = (
    (r"^encoder\.patch_embed\.", "encoder.patch_embedder."),
    (r"^encoder\.latents$", "encoder.latent_tokens"),
    (r"^encoder\.out_proj\.", "encoder.proj_out."),
    (r"^decoder\.norm_in\.", "decoder.input_layer.0."),
    (r"^decoder\.in_proj\.", "decoder.input_layer.1."),
    (r"^decoder\.mask_token$", "decoder.mask_tokens"),
    (r"^decoder\.to_pixels\.", "to_pixel."),
    (r"\.transformer\.blocks\.", ".transformer_blocks."),
    (r"^encoder\.transformer\.resample\.", "encoder.down_layers."),
    (r"^decoder\.transformer\.resample\.", "decoder.up_layers."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.mlp_norm\.", ".post_attention_layernorm."),
    (r"\.attention\.q_norm\.", ".attn.norm_q."),
    (r"\.attention\.k_norm\.", ".attn.norm_k."),
    (r"\.attention\.out_proj\.", ".attn.o_proj."),
    (r"\.attention\.", ".attn."),
    (r"\.mlp\.fc1\.", ".mlp.gate_proj."),
    (r"\.mlp\.fc2\.", ".mlp.down_proj."),
    (r"\.mlp\.fc3\.", ".mlp.up_proj."),
    (r"^quantizer\.proj\.", "quantizer.proj.0."),
)


class _Instella(Official):
    def convert(self, state: State, tokenizer: Tokenizer) -> State:
        """As Official's, after the tokenizer got as many bits as the published table has rows."""
        table = state.get("quantizer.embed")
        if table is not None and table.ndim == 2:
            config = tokenizer.config["init_args"]["quantizer"]
            tokenizer.replace({**config, "init_args": {**config["init_args"], "bits": len(table)}})
        return super().convert(state, tokenizer)


INSTELLA = _Instella(
    _NAMES,
    "not stated for the weights (repository and its Hub page name none)",
    (("amd/Instella-T2I", "bae/model.safetensors"),),
)
