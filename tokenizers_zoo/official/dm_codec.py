"""DM-Codec (mubtasimahasan/DM-Codec) and SpeechTokenizer (ZhangXInFD/SpeechTokenizer; Hub: fnlp/SpeechTokenizer).

The published modules are two flat lists, `encoder.model` and `decoder.model`, in the order of ours. A training package holds the
model under `generator`; distributed training adds `module.` in front of each key.
"""

from torch import Tensor

from .load import Official

_NAMES = (
    (r"^(encoder|decoder)\.layers\.", r"\1.model."),
    (r"^(decoder\.model\.(?:3|6|9|12))\.conv\.", r"\1.convtr.convtr."),
    (r"\.conv\.", ".conv.conv."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"^quantizer\.stages\.(\d+)\.learner\.initted$", r"quantizer.vq.layers.\1._codebook.inited"),
    (r"^quantizer\.stages\.(\d+)\.learner\.", r"quantizer.vq.layers.\1._codebook."),
    (r"^semantic_head\.", "transform."),
)


def _unpack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    inner = state.get("generator", state)
    return {k.removeprefix("module."): v for k, v in dict(inner).items()}


DM_CODEC = Official(_NAMES, "Model_best_dev.pt", "Apache-2.0 (the repository's)", _unpack)
SPEECHTOKENIZER = Official(_NAMES, "speechtokenizer_hubert_avg/SpeechTokenizer.pt", "Apache-2.0 (the repository's)", _unpack)
