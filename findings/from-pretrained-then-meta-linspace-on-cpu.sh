#!/bin/sh
# transformers 5.23.0 with torch 2.14.1: after a model was opened by from_pretrained, `with torch.device("meta")` makes linspace's tensors on
# the CPU, in that process for good, if the context had not been used before. Other constructors go to the meta device as they should.
#
# Why: while it opens a model transformers puts a function of its own in the place of torch.linspace. torch's device context asks for
# the list of constructors once, at its first use, which is inside from_pretrained, and keeps it: the list then holds that function and not
# torch's own, which the context does not know from then on. A network that is built on the meta device afterwards (rotary or relative
# positions often begin with linspace) mixes two devices.
# Around it: use the context once (`with torch.device("meta"): pass` and one constructor in it) before the first from_pretrained.
#
# Seen: after from_pretrained  linspace cpu   ones meta
#       context used before    linspace meta  ones meta
# Exits with 1 if that has changed. The torch of $PYTHON (default python3) is used if it is 2.14: it is large.
set -eu
PYTHON=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$folder" "$@"; }
"$PYTHON" -c 'import torch; assert torch.__version__.startswith("2.14.")' 2>/dev/null || install torch==2.14.1 numpy==2.4.6
install transformers==5.23.0
cat > "$folder/look.py" <<'PYTHON_END'
import sys
import tempfile

import torch
import transformers


def devices():
    with torch.device("meta"):
        return torch.linspace(0, 1, 3).device.type, torch.ones(3).device.type


if sys.argv[1] == "before":
    devices()
with tempfile.TemporaryDirectory() as model:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 8}
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(model)
    transformers.BertModel.from_pretrained(model)
print("linspace {} ones {}".format(*devices()))
PYTHON_END
cd "$folder"
after=$(PYTHONPATH=$folder "$PYTHON" look.py after 2>/dev/null)
before=$(PYTHONPATH=$folder "$PYTHON" look.py before 2>/dev/null)
echo "after from_pretrained: $after"
echo "context used before:   $before"
[ "$after" = "linspace cpu ones meta" ] && [ "$before" = "linspace meta ones meta" ] || { echo "this has changed: look again"; exit 1; }
