"""DM-Codec (mubtasimahasan/DM-Codec) and SpeechTokenizer (ZhangXInFD/SpeechTokenizer; Hub: fnlp/SpeechTokenizer).

The published modules are two flat lists, `encoder.model` and `decoder.model`, in the order of ours. A training package holds the
model under `generator`; distributed training adds `module.` in front of each key.
"""

from .base import Official, State

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


def _unpack(state: State) -> State:
    inner = state.get("generator", state)
    return {k.removeprefix("module."): v for k, v in dict(inner).items()}


DM_CODEC = Official(
    _NAMES,
    "not stated for the weights (repository: Apache-2.0)",
    (("", "Model_best_dev.pt"),),
    place="https://drive.google.com/file/d/1pvrPcbUTUAlo2_iGLIIf7IFNJPfzmHbh (their repository's link)",
    unpack=_unpack,
)
SPEECHTOKENIZER = Official(
    _NAMES,
    "not stated for the weights (code: Apache-2.0)",
    (("fnlp/SpeechTokenizer", "speechtokenizer_hubert_avg/SpeechTokenizer.pt"),),
    unpack=_unpack,
)
