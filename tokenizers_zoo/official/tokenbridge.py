"""MAR's KL-16 (LTH14/mar, models/vae.py) and TokenBridge on it, one file (Hub: Epiphqny/TokenBridge).

The file holds its state dict under `model`. Their levels of the decoder are numbered from the highest resolution, ours run from
the lowest. The published table of TokenBridge follows from its levels and is in no file.
"""

from .base import Official, State

_LEVELS = tuple(
    rule
    for ours, theirs in enumerate(range(4, -1, -1))
    for rule in (
        (rf"^decoder\.up\.{ours}\.(\d)\.", rf"decoder.^up.{theirs}.block.\1."),
        (rf"^decoder\.upsample\.{ours}\.", rf"decoder.^up.{theirs}.upsample.conv."),
    )
)

_NAMES = (
    (r"^encoder\.map\.moments\.", "quant_conv."),
    (r"^decoder\.map\.latents\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.map\.", r"\1."),
    (r"^encoder\.down\.(\d)\.(\d)\.0\.", r"encoder.down.\1.block.\2."),  # a block with attention
    (r"^encoder\.down\.(\d)\.(\d)\.1\.", r"encoder.down.\1.attn.\2."),
    (r"^encoder\.down\.(\d)\.(\d)\.", r"encoder.down.\1.block.\2."),
    (r"^encoder\.downsample\.(\d)\.", r"encoder.down.\1.downsample.conv."),
    *_LEVELS,
    (r"\.\^up\.", ".up."),  # the mark kept a renamed level from being renamed again
    (r"\.mid\.0\.", ".mid.block_1."),
    (r"\.mid\.1\.", ".mid.attn_1."),
    (r"\.mid\.2\.", ".mid.block_2."),
    (r"\.shortcut\.", ".nin_shortcut."),
    *((rf"(attn\w*(?:\.\d)?)\.{word}\.", rf"\1.{word[0]}.") for word in ("query", "key", "value")),
    (r"(attn\w*(?:\.\d)?)\.out\.", r"\1.proj_out."),
)


def _unpack(state: State) -> State:
    return dict(state.get("model", state))


TOKENBRIDGE = {
    variant: Official(
        _NAMES,
        "not stated for the weights (repositories: MIT)",
        (("Epiphqny/TokenBridge", "pretrained_models/vae/kl16.ckpt"),),
        unpack=_unpack,
    )
    for variant in ("kl-16", "tokenbridge-kl16")
}
