#!/bin/sh
# What this library does on a GPU, in at most six minutes, without a network: sh benchmarks/device.sh -o device.json
#
# Beside torch, transformers, lightning (with torchmetrics), timm (with torchvision) and einops it needs ten packages of 3 MB in all:
#
#   pip download --no-deps -d wheels -c constraints.txt vector-quantize-pytorch einx torch-einops-utils frozendict loguru \
#     jsonargparse docstring-parser typeshed-client soundfile cffi
#
# --wheels FOLDER   installs these into a folder of its own beside what the machine has (an environment would not see the packages of
#                   one that it is made from); without it, python3 (or $PYTHON) must have them
# --device cpu      the same on a CPU, with few steps and small batches: a rehearsal
# further options: python benchmarks/device.py --help
#
# Of a checkout it takes 49 MB; what else checkpoints/ has can stay behind, and all but
#   tar c benchmarks models trainers tokenizers_zoo tests/data checkpoints/dm-codec-tiny checkpoints/lm-spt-tiny checkpoints/titok-tiny
# Teachers are random networks of the recipes' sizes; speech and photos are those of tests/data, made up where they are missing.
#
# How to read the JSON:
#
# parity      for each tokenizer: `exact` and `tf32` are the shares of codes (of all, and of the first codebook) that differ from the CPU's
#             with cuDNN's and cuBLAS' TF32 off and on, `decoded` the largest difference of what is decoded from equal codes. Torch lets
#             cuDNN use TF32 unless torch.backends.cudnn.allow_tf32 = False. `bfloat16` is the share that autocast changes, `cast` that of
#             a tokenizer in bfloat16, both against float32 on the same device. Published sizes have generated weights.
# speed       seconds of audio, or images, encoded and decoded a second: float32 with TF32 off, float32 with TF32 on, bfloat16 weights;
#             `first_seconds` is what the first call of both takes.
# compiled    the same by `compile=True`, at last, as far as --limit has time: compiling is most of it. TF32 is off.
# training    of each tiny recipe, with its batch and precision, for --steps: steps and samples a second before and with the adversary,
#             the last loss, the largest relative difference between the losses of the run and those of one that was stopped at two
#             thirds, built anew and resumed (0: exactly the same), and that between two runs without a stop (what the device itself
#             does not repeat).
# memory_gb   peak of each part: of the device's allocator, or of the whole process on a CPU.
# skipped     parts that --limit left no time for; "complete" is false where a run was cut off.
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ "${1:-}" = --wheels ]; then
    extra=$(mktemp -d)
    trap 'rm -rf "$extra"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --target "$extra" "$2"/*.whl
    shift 2
fi
PYTHONPATH=$checkout${extra:+:$extra} "$python" "$checkout/benchmarks/device.py" "$@"
