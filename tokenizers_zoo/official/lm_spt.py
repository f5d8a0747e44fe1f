"""LM-SPT (kakao/lmspt; Hub: kakaocorp/lmspt): the released 24 kHz model.

The published stages are lists, `block` in encoders and `model` in decoders. Inference does not read the two usage counters.
"""

from .base import Official

_NAMES = (
    (r"^encoder\.(semantic|acoustic)\.layers\.", r"\1_encoder.block."),
    (r"^auxiliary\.layers\.", "aux_decoder.model."),
    (r"^decoder\.layers\.", "decoder.model."),
    (r"(_encoder\.block\.\d+)\.([0-4])\.", r"\1.block.\2."),
    (r"(_decoder\.model\.\d+|^decoder\.model\.\d+)\.([0-4])\.", r"\1.block.\2."),
    (r"\.conv\.", "."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"^quantizer\.semantic\.", "quantizer.rvq_first.quantizers.0."),
    (r"^quantizer\.acoustic\.stages\.", "quantizer.rvq_rest.quantizers."),
    (r"\.embedding\.weight$", ".codebook.weight"),
)
LM_SPT = Official(
    _NAMES,
    "CC-BY-NC-4.0",
    (("kakaocorp/lmspt", "lmspt_12d5hz_16384_4096.safetensors"),),
    noncommercial=True,
    ignored=r"^quantizer\.(semantic|acoustic)_vocab_usage$",
    published={f"{part}.complete": False for part in ("encoder.semantic", "encoder.acoustic", "decoder", "auxiliary")},
)
