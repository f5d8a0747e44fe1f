"""What is measured, what it is compared with, and what both are fed."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenizers_zoo as tz
from tokenizers_zoo import zoo
from tokenizers_zoo.media import as_audio, as_images
from tokenizers_zoo.models.dm_codec import DMCodec
from tokenizers_zoo.models.titok import TiTok
from tokenizers_zoo.official import load_official
from tokenizers_zoo.quantizers import ResidualQuantizer
from tokenizers_zoo.weights import fold_weight_norm, is_embedded

EMBEDDED = [name for name in tz.list_tokenizers() if is_embedded(name) and zoo.assembly(name)["init_args"].get("quantizer")]
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


class Subject(NamedTuple):
    """A tokenizer, and what else does its work.

    source: what `tz.load` takes. reference: what is compared with, "" for nothing; its `encode` takes the media, its `decode` the
    tokens that ours does.
    """

    name: str
    source: str | Path
    reference: str = ""
    encode: Callable[[Tensor], Any] | None = None
    decode: Callable[[tz.Tokens], Any] | None = None


def chosen(folder: Path, only: Sequence[str]) -> list[Subject]:
    """The embedded variants, and three of published size with random weights, which are saved in `folder`; those that `only`, if
    anything, begins the names of."""
    torch.manual_seed(0)
    made: dict[str, Callable[[], Subject]] = {name: partial(Subject, name, name) for name in EMBEDDED}
    for name, make in (("TiTok-S-128", titok_s128), ("DM-Codec", published_dm_codec), ("LM-SPT 24 kHz", lm_spt)):
        made[name] = partial(make, name, folder)
    return [make() for name, make in made.items() if not only or name.lower().startswith(tuple(only))]


def titok_s128(name: str, folder: Path) -> Subject:
    ours, copied = titok()
    ours.save_pretrained(folder / "titok-s128")
    return Subject(name, folder / "titok-s128", "the same layers of torch.nn", copied.encode, copied.decode)


def published_dm_codec(name: str, folder: Path) -> Subject:
    """Without the package (`make bench` installs it), DM-Codec has nothing to be compared with."""
    path = folder / "dm-codec"
    try:
        ours, package = speechtokenizer()
    except ImportError:
        dm_codec().save_pretrained(path)
        return Subject(name, path)
    ours.save_pretrained(path)
    return Subject(
        name,
        path,
        "`speechtokenizer` 1.0.1, the same network and weights",
        package.encode,
        lambda tokens: package.decode(tokens.codes.transpose(0, 1)),
    )


def lm_spt(name: str, folder: Path) -> Subject:
    """Its authors' code is not public as a whole: two of transformers' DacModel do as much, with random weights of their own."""
    from transformers import DacConfig, DacModel

    ours = tz.create("lm-spt-12.5hz-24k").eval()
    fold_weight_norm(ours)
    ours.save_pretrained(folder / "lm-spt")
    sizes = {"encoder_hidden_size": 32, "downsampling_ratios": [4, 5, 6, 8, 2], "decoder_hidden_size": 1536, "codebook_dim": 8}
    counts = ({"n_codebooks": 1, "codebook_size": 16384}, {"n_codebooks": 7, "codebook_size": 4096})
    semantic, acoustic = (DacModel(DacConfig(**sizes, **count, sampling_rate=24000)).eval() for count in counts)

    def decode(tokens: tz.Tokens) -> Tensor:
        halves = zip((semantic, acoustic), (tokens.codes[:, :1], tokens.codes[:, 1:]), strict=True)
        return acoustic.decoder(sum(model.quantizer.from_codes(codes)[0] for model, codes in halves))

    reference = "transformers' DacModel of the same sizes, twice"
    return Subject(name, folder / "lm-spt", reference, lambda wave: (semantic.encode(wave), acoustic.encode(wave)), decode)


def media_for(tokenizer: tz.Tokenizer, batch: int, seconds: float = 10.0) -> Tensor:
    """Clips (batch, 1, S), or images (batch, 3, H, W)."""
    if isinstance(tokenizer, tz.AudioTokenizer):
        return speech(batch, seconds, tokenizer.sample_rate)
    assert isinstance(tokenizer, tz.ImageTokenizer)
    return images(batch, tokenizer.image_size)


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


def plain(ours: TiTok) -> TiTok:
    """A copy whose two transformers are plain ones."""
    copied = copy.deepcopy(ours)
    for side in (copied.encoder, copied.decoder):
        side.transformer = PlainTransformer(side.transformer)
    return copied.eval()
