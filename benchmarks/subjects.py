"""Our models, what they are compared with, and what they are fed."""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo.media import as_audio, as_images
from tokenizers_zoo.models.dm_codec import DMCodec
from tokenizers_zoo.models.instella import InstellaBAE
from tokenizers_zoo.models.textok import TexTok
from tokenizers_zoo.models.titok import TiTok
from tokenizers_zoo.official import load_official
from tokenizers_zoo.quantizers import ResidualQuantizer
from tokenizers_zoo.weights import fold_weight_norm

DATA = Path(__file__).parents[1] / "tests" / "data"
SPEECHTOKENIZER = {  # the published configuration
    "n_filters": 64,
    "strides": [8, 5, 4, 2],
    "dimension": 1024,
    "semantic_dimension": 768,
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 2,
    "activation": "ELU",
    "codebook_size": 1024,
    "n_q": 8,
    "sample_rate": 16000,
}


def speech(batch: int, seconds: float, rate: int = 16000) -> Tensor:
    """(batch, 1, seconds * rate): the recordings of tests/data one after the other, again and again, else a sum of chirps."""
    files = sorted([*DATA.glob("*.wav"), *DATA.glob("*.flac")])
    if files:
        wave = torch.cat([as_audio(path, rate).waveform[0, 0] for path in files])
    else:
        time = torch.arange(20 * rate) / rate
        wave = sum(torch.sin(f * time * (1 + 0.1 * time)) * torch.sin(3 * time + f).clamp(min=0) for f in (700, 1500, 4000)) / 6
    size = round(seconds * rate)
    return wave.repeat(-(-batch * size // len(wave)))[: batch * size].view(batch, 1, size)


def images(batch: int, size: int) -> Tensor:
    """(batch, 3, size, size) in [0, 1]: the photos of tests/data, repeated, else smooth random fields."""
    files = sorted(DATA.glob("*.jpg"))
    if not files:
        noise = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        return F.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    photos = as_images(files, size).pixels
    return photos.repeat(-(-batch // len(photos)), 1, 1, 1)[:batch]


def dm_codec() -> DMCodec:
    """DM-Codec in its published size with random weights, and codebooks drawn from what they have to quantize."""
    model = tz.create("dm-codec").eval()
    assert isinstance(model, DMCodec)
    fold_weight_norm(model)
    fill_codebooks(model)
    return model


def fill_codebooks(model: DMCodec) -> None:
    """Rows near random residuals of real latents: a fresh codebook is all zeros and gives all codes the same distance."""
    residual = model.encode_latents(speech(1, 30.0))
    assert isinstance(model.quantizer, ResidualQuantizer)
    for stage in model.quantizer.stages:
        rows = stage.learner.embed[0]
        picked = residual[0, torch.randint(residual.shape[1], (len(rows),))]
        rows.copy_(picked + 0.3 * residual.std() * torch.randn_like(picked))
        residual = residual - stage.decode(stage.encode(residual))


def speechtokenizer() -> tuple[DMCodec, nn.Module]:
    """Ours and the package's with the same random weights: DM-Codec's network under its older name. Raises ImportError."""
    from speechtokenizer import SpeechTokenizer

    theirs = SpeechTokenizer(SPEECHTOKENIZER).eval()
    ours = load_official("speechtokenizer", theirs.state_dict())
    assert isinstance(ours, DMCodec)
    assert isinstance(ours.quantizer, ResidualQuantizer)
    fill_codebooks(ours)
    for layer, stage in zip(theirs.quantizer.vq.layers, ours.quantizer.stages, strict=True):
        layer._codebook.embed.copy_(stage.learner.embed[0])
    return ours, theirs


def encodec() -> nn.Module:
    """transformers' EncodecModel, 24 kHz configuration, random weights. Raises ImportError."""
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig()).eval()


class PlainTransformer(nn.Module):
    """The layers and weights of ours as a row of nn.TransformerEncoderLayer (nn.MultiheadAttention inside)."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.norm_in, self.norm_out = ours.norm_in, ours.norm_out
        self.layers = nn.ModuleList(self._layer(block) for block in ours.blocks)

    @staticmethod
    def _layer(block: nn.Module) -> nn.Module:
        width, heads = block.attention.out_proj.in_features, block.attention.heads
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        layer.norm1, layer.norm2 = block.attention_norm, block.mlp_norm
        layer.linear1, layer.linear2 = block.mlp[0], block.mlp[2]
        layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = (
            block.attention.in_proj.weight,
            block.attention.in_proj.bias,
        )
        layer.self_attn.out_proj.load_state_dict(block.attention.out_proj.state_dict())
        return layer

    def forward(self, x: Tensor, keep: slice, mask: None = None) -> Tensor:
        x = self.norm_in(x)
        for layer in self.layers:
            x = layer(x)
        return self.norm_out(x[:, keep])


def titok() -> tuple[TiTok, TiTok]:
    """TiTok-S-128 with random weights, and a copy whose two transformers are plain ones."""
    ours = tz.create("titok-s128").eval()
    assert isinstance(ours, TiTok)
    return ours, plain(ours)


def textok() -> tuple[TexTok, TexTok]:
    """The same of TexTok with 32 tokens of a codebook; captions come as features, T5 is not opened."""
    ours = tz.create("textok-vq-32").eval()
    assert isinstance(ours, TexTok)
    ours.quantizer.learner.embed.normal_()
    return ours, plain(ours)


def plain(ours: TiTok) -> TiTok:
    """A copy whose two transformers are plain ones."""
    copied = copy.deepcopy(ours)
    for side in (copied.encoder, copied.decoder):
        side.transformer = PlainTransformer(side.transformer)
    return copied.eval()


class Qwen3Block(nn.Module):
    """One of our blocks as transformers' layer of the same parts: Qwen3's, which sees both ways here. Raises ImportError."""

    def __init__(self, ours: nn.Module):
        from transformers.models.qwen3.modeling_qwen3 import Qwen3Config, Qwen3DecoderLayer

        super().__init__()
        heads, head_dim = ours.attention.heads, len(ours.attention.q_norm.weight)
        sizes = {"hidden_size": heads * head_dim, "intermediate_size": ours.mlp.fc1.out_features, "head_dim": head_dim}
        config = Qwen3Config(**sizes, num_attention_heads=heads, num_key_value_heads=heads, num_hidden_layers=1)
        config._attn_implementation = "sdpa"
        self.layer = Qwen3DecoderLayer(config, 0)
        self.layer.self_attn.is_causal = False
        names = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "attention.": "self_attn."}
        names |= {"out_proj": "o_proj", "fc1": "gate_proj", "fc2": "down_proj", "fc3": "up_proj"}
        state = ours.state_dict()
        for old, new in names.items():
            state = {key.replace(old, new): value for key, value in state.items()}
        self.layer.load_state_dict(state)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        return self.layer(x, position_embeddings=tuple(rotation[:, None]))


def instella() -> tuple[InstellaBAE, InstellaBAE]:
    """Instella BAE in its published size with random weights, and a copy of transformers' layers. Raises ImportError."""
    ours = tz.create("instella-bae").eval()
    assert isinstance(ours, InstellaBAE)
    copied = copy.deepcopy(ours)
    for side in (copied.encoder, copied.decoder):
        side.transformer.blocks = nn.ModuleList(Qwen3Block(block) for block in side.transformer.blocks)
    return ours, copied.eval()
