"""Authors' models, built from their checkout in a few lines each; `authors.py` says what they are.

Nothing of tokenizers_zoo is imported here, for this runs in the authors' environment, in a process of its own (`worker.py`).
Operations take a dict of tensors: `media` (speech (B, 1, S), images (B, 3, H, W) in [0, 1]), `codes` (B, K, T), and what else a
system is given. They return codes, or media of the same kind.
"""

import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Inputs = dict[str, Tensor]
Operation = Callable[[Inputs], Tensor]
Built = tuple[nn.Module, dict[str, Operation]]
STEPS = 4  # of a flow
PARTS = {"guided step": STEPS}  # what an operation does several times


def signed(pixels: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], as most take images."""
    return 2 * pixels - 1


def unit(pixels: Tensor) -> Tensor:
    """Back again, within [0, 1]."""
    return ((pixels + 1) / 2).clamp(0, 1)


def speechtokenizer(repo: Path) -> Built:
    from speechtokenizer import SpeechTokenizer

    sizes = {"n_filters": 64, "strides": [8, 5, 4, 2], "dimension": 1024, "semantic_dimension": 768, "bidirectional": True}
    sizes |= {"dilation_base": 2, "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 2, "activation": "ELU"}
    model = SpeechTokenizer(sizes | {"codebook_size": 1024, "n_q": 8, "sample_rate": 16000})
    return model, {
        "encode": lambda x: model.encode(x["media"]).transpose(0, 1),
        "decode": lambda x: model.decode(x["codes"].transpose(0, 1))[..., : x["media"].shape[-1]],
    }


def titok(file: str) -> Callable[[Path], Built]:
    """file: of the checkout's configurations."""

    def build(repo: Path) -> Built:
        from modeling.tatitok import TATiTok
        from modeling.titok import TiTok
        from omegaconf import OmegaConf

        kind = TATiTok if file.startswith("TA-") else TiTok
        model = kind(OmegaConf.load(repo / f"configs/infer/{file}.yaml"))
        return model, {
            "encode": lambda x: model.encode(x["media"])[1]["min_encoding_indices"].flatten(1)[:, None],
            "decode": lambda x: model.decode_tokens(x["codes"], *([x["text"]] if kind is TATiTok else [])).clamp(0, 1),
        }

    return build


def flextok(repo: Path) -> Built:
    import yaml
    from flextok.flextok_wrapper import FlexTokFromHub

    model = FlexTokFromHub(yaml.safe_load(Path(__file__).with_name("flextok.yaml").read_text()))
    how = {"timesteps": STEPS, "vae_image_sizes": 32, "guidance_scale": 7.5, "perform_norm_guidance": True, "verbose": False}

    def data(x: Inputs) -> dict[str, Any]:
        return model._prepare_data_dict_for_detokenization(x["codes"][:, 0].split(1)) | {"noise": list(x["noise"].split(1))}

    return model, {
        "encode": lambda x: torch.stack(model.tokenize(signed(x["media"]))),
        "decode": lambda x: unit(torch.cat(model.decode(data(x), **how)["rgb_reconst"])),
        "guided step": lambda x: torch.cat(model.pipeline(data(x), **how)["vae_latents_reconst"]),
    }


def tokenflow(repo: Path) -> Built:
    import packaging.version

    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(packaging=packaging))  # type: ignore[arg-type]
    from tokenizer import vq_model
    from tokenizer.clip.model import VisionTransformer

    def tower(name: str, download_root: str) -> nn.Module:
        made = VisionTransformer(224, 16, 768, 12, 12, 512)
        del made.proj
        return made

    vq_model.clip.load_clip_vision = tower
    model = vq_model.TokenFlow(vq_model.ModelArgs(codebook_size=32768, teacher="clipb_224", enhanced_decoder=True))
    return model, {
        "encode": lambda x: model.encode(signed(x["media"]))[2].flatten(1)[:, None],
        "decode": lambda x: unit(model.decode_code(x["codes"][:, 0])[1]),
    }


def dualtoken(repo: Path) -> Built:
    from modeling.rqvaesigliptransformer.rqvaesiglip import RQVAESiglipModel, modeling_rqvaesiglip
    from modeling.rqvaesigliptransformer.rqvaesiglip.configuration_rqvaesiglip import RQVAESiglipConfig
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 192, "intermediate_size": 480, "num_attention_heads": 4}
    vision = {**sizes, "num_hidden_layers": 8, "image_size": 128, "patch_size": 14}
    text = {**sizes, "num_hidden_layers": 1, "vocab_size": 96, "max_position_embeddings": 16}
    tower = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
    modeling_rqvaesiglip.SiglipModel = types.SimpleNamespace(from_pretrained=lambda name: tower)
    codes = {"n_embed": 2048, "embed_dim": 32, "latent_shape": [9, 9, 32], "code_shape": [9, 9, 4], "decay": 0.99}
    codes |= {"shared_codebook": True, "restart_unused_codes": True}
    image = {"ch": 64, "ch_mult": [1, 1, 2, 2, 4], "attn_resolutions": [8], "decoder_in_channels": 256, "double_z": False}
    image |= {"dropout": 0.0, "in_channels": 3, "num_res_blocks": 2, "out_ch": 3, "resolution": 128}
    layers = {"layer_recon": 3, "layer_sem": 7, "layer_shortcut": 2, "weight_shortcut": 0.6, "decoder_latent_shape": [8, 8]}
    halves = {"vq_sem": codes | {"bottleneck_type": "rq_ema"}, "vq_pix": codes | {"bottleneck_type": "rq"}}
    model = RQVAESiglipModel(RQVAESiglipConfig(hidden_size=192, ddconfig=image, **layers, **halves))

    def encode(x: Inputs) -> Tensor:
        found = model.encode_image(signed(x["media"]))
        return torch.cat([found[2], found[5]], -1).flatten(1, 2).transpose(1, 2)

    def decode(x: Inputs) -> Tensor:
        rows = x["codes"][:, :4].transpose(1, 2).unflatten(1, (9, 9))
        return unit(model.decode(model.quantizer_pix.embed_code(rows).flatten(1, 2)))

    return model, {"encode": encode, "decode": decode}


def kl16(repo: Path) -> Built:
    """Its codes are latents (B, 256, 16)."""
    from models.vae import AutoencoderKL

    model = AutoencoderKL(embed_dim=16, ch_mult=(1, 1, 2, 2, 4))
    return model, {
        "encode": lambda x: model.encode(signed(x["media"])).mode().flatten(2).transpose(1, 2),
        "decode": lambda x: unit(model.decode(x["codes"].transpose(1, 2).unflatten(2, (16, 16)))),
    }


def tokenbridge(repo: Path) -> Built:
    from reconstruction import post_training_quantize

    model, plain = kl16(repo)
    indices, values = post_training_quantize(torch.linspace(-5, 5, 100_001), 6, -5, 5)
    table = torch.zeros(64).scatter(0, indices, values)
    return model, {
        "encode": lambda x: post_training_quantize(0.2325 * plain["encode"](x), 6, -5, 5)[0].transpose(1, 2),
        "decode": lambda x: plain["decode"]({"codes": table[x["codes"]].transpose(1, 2) / 0.2325}),
    }


def instella(repo: Path) -> Built:
    from bae import llama_attn
    from bae.ae_model import BAE_Model

    class Options(dict[str, Any]):
        __getattr__ = dict.__getitem__

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **how: Any) -> Tensor:
        return scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, key, value))).transpose(1, 2)

    llama_attn._flash_attention_forward = attention
    model = BAE_Model(Options(runpy.run_path(str(repo / "configs/bae_config.py"))))
    model.set_scale(1024)
    return model, {
        "encode": lambda x: model.encode(signed(x["media"]))[2]["binary_code"].long().transpose(1, 2),
        "decode": lambda x: unit(model.decode(x["codes"].transpose(1, 2).float(), *(n // 16 for n in x["media"].shape[-2:]))),
    }
