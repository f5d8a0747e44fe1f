"""Shapes, padding, receptive fields; equality with independent constructions of the same layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel, MimiConfig
from transformers.models.mimi.modeling_mimi import MimiDecoder, MimiEncoder

from tokenizers_zoo.blocks import chain
from tokenizers_zoo.blocks.conv1d import Conv1d, ConvTranspose1d, pad
from tokenizers_zoo.blocks.conv2d import VQGANDecoder, VQGANEncoder
from tokenizers_zoo.blocks.dac import DACDecoder, DACEncoder
from tokenizers_zoo.blocks.dual import DualEncoder
from tokenizers_zoo.blocks.gaussian import GaussianPosterior
from tokenizers_zoo.blocks.local_transformer import TransformerEncoder
from tokenizers_zoo.blocks.seanet import SEANetDecoder, SEANetEncoder
from tokenizers_zoo.blocks.transformer import Transformer, TransformerBlock
from tokenizers_zoo.blocks.vit import PatchHead, ViTDecoder1D, ViTEncoder1D
from tokenizers_zoo.blocks.vocos import ISTFTDecoder, STFTEncoder


def opened(encoder: TransformerEncoder) -> TransformerEncoder:
    """With residual scales as after training, so that attention shows."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("_scale"):
            parameter.data.fill_(0.5)
    return encoder


SEANET = {"dim": 16, "filters": 4, "strides": [2, 4, 5]}
AUDIO_ENCODERS = {
    "seanet": lambda: SEANetEncoder(**SEANET, lstm="bidirectional"),
    "seanet causal": lambda: SEANetEncoder(
        **SEANET, causal=True, norm="none", pad_mode="constant", true_skip=True, last_kernel=3
    ),
    "seanet group norm": lambda: SEANetEncoder(**SEANET, norm="time_group_norm", pad_mode="constant"),
    "seanet finite": lambda: SEANetEncoder(**SEANET, lstm="none"),
    "stft": lambda: STFTEncoder(dim=16, hop=40, n_fft=128, width=24, depth=2),
    "stft grouped": lambda: STFTEncoder(dim=16, hop=40, n_fft=64, width=24, depth=2, group=2),
    "stft causal": lambda: STFTEncoder(dim=16, hop=40, n_fft=64, width=24, depth=2, group=2, causal=True),
    "dac": lambda: DACEncoder(16, 4, [2, 4, 5]),
    "dac causal": lambda: DACEncoder(16, 4, [2, 4, 5], causal=True),
    "transformer": lambda: opened(TransformerEncoder(SEANetEncoder(**SEANET, lstm="none"), 2, 2, context=3)),
    "transformer causal": lambda: opened(
        TransformerEncoder(STFTEncoder(16, 40, 64, 24, 1, causal=True), 2, 2, context=3, causal=True)
    ),
    "dual": lambda: DualEncoder(DACEncoder(16, 4, [2, 4, 5]), STFTEncoder(8, 40, 64, 24, 1)),
}
AUDIO_DECODERS = {
    "seanet": lambda: SEANetDecoder(16, 4, [5, 4, 2]),
    "seanet causal": lambda: SEANetDecoder(16, 4, [5, 4, 2], lstm="none", causal=True, pad_mode="constant", true_skip=True),
    "seanet group norm": lambda: SEANetDecoder(16, 4, [5, 4, 2], norm="time_group_norm"),
    "seanet finite": lambda: SEANetDecoder(16, 4, [5, 4, 2], lstm="none"),
    "istft": lambda: ISTFTDecoder(dim=16, hop=40, n_fft=160, width=24, depth=2),
    "istft grouped": lambda: ISTFTDecoder(dim=16, hop=40, n_fft=64, width=24, depth=2, group=2),
    "istft causal": lambda: ISTFTDecoder(dim=16, hop=40, n_fft=64, width=24, depth=2, group=2, causal=True),
    "dac": lambda: DACDecoder(16, 2, [5, 4, 2]),
    "dac causal": lambda: DACDecoder(16, 2, [5, 4, 2], causal=True),
}


def garbage_past(x: Tensor, lengths: Tensor) -> Tensor:
    """`x` with large noise past each item's length: nothing may read it."""
    valid = torch.arange(x.shape[-1]) < lengths[:, None, None]
    return torch.where(valid, x, torch.randn_like(x) * 1e3)


@pytest.mark.parametrize("mode", ["reflect", "constant"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 12])
def test_padding_an_item_of_a_batch_equals_padding_it_alone(mode: str, length: int) -> None:
    x, lengths = torch.randn(2, 3, 12), torch.tensor([12, length])
    alone = pad(x[1:, :, :length], None, 5, 3, 5, mode)
    together = pad(garbage_past(x, lengths), lengths, 5, 3, 5, mode)
    assert together.shape[-1] == 5 + 15 + 3
    assert torch.equal(together[1:, :, : alone.shape[-1]], alone)


def test_padding_reflects_as_torch_does() -> None:
    x = torch.randn(1, 2, 20)
    assert torch.equal(pad(x, None, 4, 3, 7, "reflect"), F.pad(x, (4, 4), mode="reflect"))


@pytest.mark.parametrize("length", [1, 5, 6, 7, 30])
@pytest.mark.parametrize("causal", [False, True])
def test_strided_convolutions_keep_whole_frames(length: int, causal: bool) -> None:
    down, up = Conv1d(1, 2, 10, 5, causal=causal), ConvTranspose1d(2, 1, 5, causal=causal)
    y, _ = down(torch.randn(1, 1, length))
    assert y.shape[-1] == -(-length // 5)
    assert up(y)[0].shape[-1] == 5 * y.shape[-1]


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
@torch.no_grad()
def test_encoders_read_nothing_past_an_item(name: str) -> None:
    encoder = AUDIO_ENCODERS[name]().eval()
    lengths = torch.tensor([1000, 1, 39, 40, 41, 733])
    x = torch.randn(6, 1, 1000)
    together = encoder(garbage_past(x, lengths), lengths)
    assert together.shape == (6, 25, encoder.dim)
    for item, row, n in zip(x, together, lengths.tolist(), strict=True):
        alone = encoder(item[None, :, :n])[0]
        assert len(alone) == -(-n // encoder.hop)
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AUDIO_DECODERS)
@torch.no_grad()
def test_decoders_read_nothing_past_an_item(name: str) -> None:
    decoder = AUDIO_DECODERS[name]().eval()
    lengths = torch.tensor([25, 1, 2, 13])
    x = torch.randn(4, 25, decoder.dim)
    together = decoder(garbage_past(x.transpose(1, 2), lengths).transpose(1, 2), lengths)
    assert together.shape == (4, 1, 25 * decoder.hop)
    for item, row, n in zip(x, together, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:, : n * decoder.hop], decoder(item[None, :n])[0], rtol=1e-4, atol=1e-5)


def reach(x: Tensor, axis: int, output: Tensor) -> tuple[int, int]:
    """First and last position of `x` along `axis` that the scalar `output` depends on, by its gradient."""
    (gradient,) = torch.autograd.grad(output, x)
    touched = gradient.abs().amax(dim=[d for d in range(x.ndim) if d != axis]).nonzero()
    return int(touched.min()), int(touched.max())


@pytest.mark.parametrize("name", [n for n, make in AUDIO_ENCODERS.items() if make().receptive_field is not None])
def test_encoder_receptive_field_covers_what_is_read(name: str) -> None:
    encoder = AUDIO_ENCODERS[name]().double().eval()
    frames, hop = 6 * encoder.receptive_field + 1, encoder.hop
    middle = frames // 2
    x = torch.randn(1, 1, frames * hop, dtype=torch.double, requires_grad=True)
    first, last = reach(x, 2, encoder(x)[0, middle].sum())
    field = encoder.receptive_field
    assert middle - field <= first // hop <= last // hop <= middle + field
    assert middle - first // hop > field // 3  # the bound is not wildly loose


@pytest.mark.parametrize("name", [n for n, make in AUDIO_DECODERS.items() if make().receptive_field is not None])
def test_decoder_receptive_field_covers_what_is_read(name: str) -> None:
    decoder = AUDIO_DECODERS[name]().eval()
    frames, hop = 6 * decoder.receptive_field + 1, decoder.hop
    middle = frames // 2
    x = torch.randn(1, frames, decoder.dim, requires_grad=True)
    first, last = reach(x, 1, decoder(x)[0, 0, middle * hop : (middle + 1) * hop].sum())
    field = decoder.receptive_field
    assert middle - field <= first <= last <= middle + field
    assert middle - first > field // 3


@pytest.mark.parametrize("lengths", [None, [3000, 1, 41, 1713]])
@pytest.mark.parametrize("kind", ["none", "unidirectional", "dac"])
@pytest.mark.parametrize("causal", [False, True])
def test_tiles_change_nothing(lengths: list[int] | None, kind: str, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference on a CPU runs a stage piece by piece; with gradients it runs at once."""
    monkeypatch.setattr(chain, "TILE", 3)
    if kind == "dac":
        encoder, decoder = DACEncoder(16, 4, [2, 4, 5], causal=causal), DACDecoder(16, 4, [5, 4, 2], causal=causal)
    else:
        encoder = SEANetEncoder(**SEANET, lstm=kind, causal=causal)
        decoder = SEANetDecoder(16, 4, [5, 4, 2], lstm=kind, causal=causal)
    encoder, decoder = encoder.double().eval(), decoder.double().eval()
    x, samples = torch.randn(4, 1, 3000).double(), torch.tensor(lengths) if lengths else None
    frames = None if samples is None else -(-samples // encoder.hop)
    latents = encoder(x, samples).detach()
    wave = decoder(latents, frames).detach()
    with torch.no_grad():
        tiled, tiled_wave = encoder(x, samples), decoder(latents, frames)
    for item in range(4):
        count = latents.shape[1] if frames is None else int(frames[item])
        torch.testing.assert_close(tiled[item, :count], latents[item, :count], rtol=0, atol=1e-12)
        size = count * decoder.hop
        torch.testing.assert_close(tiled_wave[item, :, :size], wave[item, :, :size], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
def test_encoders_say_whether_they_see_the_future(name: str) -> None:
    encoder = AUDIO_ENCODERS[name]().double().eval()
    x = torch.randn(1, 1, 4000, requires_grad=True, dtype=torch.double)
    _, last = reach(x, 2, encoder(x)[0, 20].sum())
    assert (last < 21 * encoder.hop) == encoder.causal


@pytest.mark.parametrize("name", AUDIO_DECODERS)
def test_decoders_say_whether_they_see_the_future(name: str) -> None:
    decoder = AUDIO_DECODERS[name]().double().eval()
    x = torch.randn(1, 60, decoder.dim, requires_grad=True, dtype=torch.double)
    _, last = reach(x, 1, decoder(x)[0, 0, 20 * decoder.hop : 21 * decoder.hop].sum())
    assert (last == 20) == decoder.causal


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_seanet_equals_transformers_encodec(causal: bool) -> None:
    """The 24 kHz (causal, weight norm) and the 48 kHz (group norm) network of EnCodec, built by transformers."""
    norm = "weight_norm" if causal else "time_group_norm"
    config = EncodecConfig(num_filters=4, hidden_size=16, upsampling_ratios=[5, 4, 2], norm_type=norm, use_causal_conv=causal)
    reference = EncodecModel(config).eval()
    encoder = SEANetEncoder(**SEANET, norm=norm, causal=causal).eval()
    decoder = SEANetDecoder(16, 4, [5, 4, 2], norm=norm, causal=causal).eval()
    for ours, theirs in ((encoder, reference.encoder), (decoder, reference.decoder)):
        state = {k.replace("layers.", "", 1): v for k, v in theirs.state_dict().items()}
        mine = {k.removeprefix("layers."): k for k in ours.state_dict()}
        assert state.keys() == mine.keys()
        ours.load_state_dict({mine[k]: v for k, v in state.items()})
    x = torch.randn(2, 1, 1000)
    latents = encoder(x)
    torch.testing.assert_close(latents.transpose(1, 2), reference.encoder(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoder(latents), reference.decoder(latents.transpose(1, 2)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_seanet_equals_transformers_mimi() -> None:
    """No LSTM, identity shortcuts, a last kernel of 3: what `true_skip` and `last_kernel` are there for."""
    config = MimiConfig(num_filters=4, hidden_size=16, upsampling_ratios=[5, 4, 2])
    options = {"lstm": "none", "norm": "none", "pad_mode": "constant", "causal": True, "true_skip": True, "last_kernel": 3}
    encoder, decoder = SEANetEncoder(**SEANET, **options).eval(), SEANetDecoder(16, 4, [5, 4, 2], **options).eval()
    x, latents = torch.randn(2, 1, 1000), torch.randn(2, 25, 16)
    reference = MimiEncoder(config).eval()
    encoder.load_state_dict(reference.state_dict())
    torch.testing.assert_close(encoder(x).transpose(1, 2), reference(x), rtol=1e-4, atol=1e-5)
    reference = MimiDecoder(config).eval()
    decoder.load_state_dict(reference.state_dict())
    torch.testing.assert_close(decoder(latents), reference(latents.transpose(1, 2)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rotary_angles_are_computed_once_a_pass() -> None:
    encoder = AUDIO_ENCODERS["transformer"]().eval()
    with torch.profiler.profile() as profile:
        encoder(torch.randn(1, 1, 1000))
    assert len(encoder.blocks) == 2
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::cos") == 1


@torch.no_grad()
def test_transformer_equals_torch() -> None:
    ours = Transformer(32, 3, 4).eval()
    layer = nn.TransformerEncoderLayer(32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    names = {"attention_norm": "norm1", "mlp_norm": "norm2", "mlp.0": "linear1", "mlp.2": "linear2"}
    names |= {"attention.in_proj.": "self_attn.in_proj_", "attention.out_proj": "self_attn.out_proj"}
    for block, layer in zip(ours.blocks, theirs.layers, strict=True):
        state = block.state_dict()
        for mine, name in names.items():
            state = {k.replace(mine, name): v for k, v in state.items()}
        layer.load_state_dict(state)
    x = torch.randn(2, 10, 32)
    torch.testing.assert_close(ours(x, slice(2, 5)), ours.norm_out(theirs(ours.norm_in(x)))[:, 2:5], rtol=1e-5, atol=1e-5)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        TransformerBlock(10, 3)
    with pytest.raises(ValueError, match="unidirectional"):
        SEANetDecoder(16, 4, [5, 4, 2], lstm="bidirectional")


@torch.no_grad()
def test_legacy_reshape_mixes_latents_as_published() -> None:
    """Entry (c, n) of the reshaped table is latent c // (W / N), channel (c mod W / N) * N + n."""
    encoder = ViTEncoder1D(8, 4, 32, 16, 16, 1, 2, legacy_reshape=True).eval()
    plain = ViTEncoder1D(8, 4, 32, 16, 16, 1, 2).eval()
    plain.load_state_dict(encoder.state_dict())
    for part in (encoder, plain):
        part.out_proj = nn.Identity()
    x = torch.rand(1, 3, 32, 32)
    mixed, table = encoder(x)[0], plain(x)[0]
    for c in range(16):
        for n in range(4):
            assert mixed[n, c] == table[c // 4, (c % 4) * 4 + n]


@torch.no_grad()
def test_patches_are_put_where_they_came_from() -> None:
    head = PatchHead(3 * 4**2, 4)
    head.to_patch.weight.copy_(torch.eye(48)[..., None, None])
    head.to_patch.bias.zero_()
    head.smooth = nn.Identity()
    x = torch.rand(1, 3, 12, 8)
    patches = F.pixel_unshuffle(x, 4).reshape(1, 3, 16, 3, 2).transpose(1, 2).reshape(1, 48, 3, 2)
    assert torch.equal(head(patches), x)


@torch.no_grad()
def test_vit_decoder_depends_on_latents_and_their_order() -> None:
    decoder = ViTDecoder1D(8, 4, 32, 16, 16, 1, 2, PatchHead(16, 16)).eval()
    x = torch.randn(1, 4, 8)
    assert decoder(x).shape == (1, 3, 32, 32)
    assert not torch.allclose(decoder(x), decoder(x.flip(1)))


@torch.no_grad()
def test_vqgan_shapes_and_quirk() -> None:
    encoder, decoder = VQGANEncoder(dim=8, channels=32), VQGANDecoder(dim=8, channels=32)
    latents = encoder(torch.rand(1, 3, 64, 48))
    assert latents.shape == (1, 8, 4, 3)
    assert decoder(latents).shape == (1, 3, 64, 48)
    block = decoder.up[1][0]  # 4 -> 2 channels: the input has no skip path
    assert block.shortcut is not None
    block.conv2.weight.zero_()
    assert block(torch.randn(1, 128, 4, 4)).abs().max() == 0


def test_posterior() -> None:
    posterior, parameters = GaussianPosterior(), torch.randn(2, 5, 8)
    mean, log_variance = posterior.split(parameters)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(posterior.kl(parameters), kl)
    draws = torch.stack([posterior.sample(parameters) for _ in range(2000)])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.25, rtol=0)
    same = [posterior.sample(parameters, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*same)
    assert posterior.split(parameters * 1e3)[1].abs().max() <= 30


@torch.no_grad()
def test_istft_inverts_a_known_spectrum() -> None:
    """A head that is given the true spectrum gives back the signal: windows and envelope fit."""
    decoder = ISTFTDecoder(dim=4, hop=40, n_fft=160, width=8, depth=1)
    x = torch.randn(1, 4000)
    padded = F.pad(x, (60, 60))
    spectrum = torch.stft(padded, 160, 40, window=decoder.window, center=False, return_complex=True)
    torch.testing.assert_close(decoder._overlap_add(spectrum.transpose(1, 2), None)[:, 0], x, rtol=1e-3, atol=1e-3)


def test_impossible_blocks_say_why() -> None:
    with pytest.raises(ValueError, match="cannot go with it"):
        DACEncoder(16, 4, [2, 4, 5], causal=True, complete=False)
    with pytest.raises(ValueError, match="multiple of group"):
        ISTFTDecoder(dim=16, hop=40, n_fft=64, width=24, depth=1, group=3)


@pytest.mark.parametrize(("n_fft", "spectra"), [(128, 1), (64, 2)])
@torch.no_grad()
def test_two_encoders_of_one_spectrum_compute_it_once(n_fft: int, spectra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [STFTEncoder(16, 40, 128, 24, 1).eval(), STFTEncoder(8, 40, n_fft, 24, 2).eval()]
    x, lengths, seen = torch.randn(2, 1, 1000), torch.tensor([1000, 733]), []
    alone = torch.cat([part(x, lengths) for part in parts], dim=-1)
    original = STFTEncoder.features
    monkeypatch.setattr(STFTEncoder, "features", lambda self, waveform: seen.append(1) or original(self, waveform))
    assert torch.equal(DualEncoder(*parts)(x, lengths), alone)
    assert len(seen) == spectra
