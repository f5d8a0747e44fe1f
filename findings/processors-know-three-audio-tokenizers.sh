#!/bin/sh
# transformers 5.23.0 with torch 2.14.1: a processor with an `audio_tokenizer` (Dia's here) accepts three model classes by name alone. A class that
# derives from PreTrainedAudioTokenizerBase, the base class "of any `audio_tokenizer`", and that AutoModelForAudioTokenization was told of and opens,
# is refused; so are classes of transformers' own list for that Auto class, as Xcodec2Model.
#
# Why: the processor's first check looks the argument up in a table of names (HiggsAudioV2TokenizerModel, DacModel, PocketTTSAudioTokenizerModel); the
# check for the base class, whose message speaks of registration, comes after it.
# Around it: derive from one of the three, without its layers, and override `encode` and `decode`.
#
# Seen: registered and opened by the Auto class True; the processor: TypeError; the same class derived from DacModel: accepted
# Exits with 1 if that has changed. The torch of $PYTHON (default python3) is used if it is 2.14: it is large.
set -eu
PYTHON=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$folder" "$@"; }
"$PYTHON" -c 'import torch; assert torch.__version__.startswith("2.14.")' 2>/dev/null || install torch==2.14.1 numpy==2.4.6
install transformers==5.23.0
cat > "$folder/look.py" <<'PYTHON_END'
import tempfile

import torch
from transformers import AutoConfig, AutoModelForAudioTokenization, DacConfig, DacFeatureExtractor, DacModel, DiaProcessor, DiaTokenizer
from transformers.modeling_utils import PreTrainedAudioTokenizerBase


class OwnConfig(DacConfig):
    model_type = "own_codec"


class Own(PreTrainedAudioTokenizerBase):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.post_init()

    def encode(self, input_values):
        raise NotImplementedError

    def decode(self, audio_codes):
        raise NotImplementedError


class Derived(DacModel):
    config_class = OwnConfig

    def __init__(self, config):
        super(DacModel, self).__init__(config)


def answer(codec):
    try:
        DiaProcessor(DacFeatureExtractor(), DiaTokenizer(), codec)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "accepted"


AutoConfig.register("own_codec", OwnConfig)
AutoModelForAudioTokenization.register(OwnConfig, Own)
with tempfile.TemporaryDirectory() as place:
    Own(OwnConfig()).save_pretrained(place)
    opened = AutoModelForAudioTokenization.from_pretrained(place)
print("opened", isinstance(opened, Own), "processor", answer(opened), "derived", answer(Derived(OwnConfig())))
PYTHON_END
cd "$folder"
found=$(PYTHONPATH=$folder "$PYTHON" look.py 2>/dev/null)
echo "$found"
[ "$found" = "opened True processor TypeError derived accepted" ] || { echo "this has changed: look again"; exit 1; }
