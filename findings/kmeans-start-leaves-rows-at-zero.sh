#!/bin/sh
# vector-quantize-pytorch 1.32.0, VectorQuantize(kmeans_init=True): a first batch that is even one vector smaller than the codebook
# leaves rows at zero, where its warning says "duplicates will be sampled".
#
# Why: too few vectors are drawn with repetition. Of equal rows the first wins every vector; the others keep their place through the
# k-means rounds, but with a count of 0, and the codebook is then computed as sum / count, which is 0. All these rows are one point, so
# each later batch moves at most one of them; as no row is ever revived unless a threshold_ema_dead_code is given, most stay.
# Around it: a first batch of at least the codebook's size, or that threshold.
#
# Seen with torch 2.14.1 (CPU), seed 0, a codebook of 1,024 rows of 16 numbers; "later" is after 20 more batches of 1,024 vectors:
#    100 vectors:  924 rows at zero, later 905
#   1023 vectors:  274 rows at zero, later 259
#   1024 vectors:    0 rows at zero, later 0
# Exits with 1 if that has changed (the exact numbers of 1,023 vectors may differ by torch's random numbers). The torch of $PYTHON
# (default python3) is used if there is one: it is not what is looked at, and large.
set -eu
PYTHON=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$folder" "$@"; }
"$PYTHON" -c 'import torch' 2>/dev/null || install torch==2.13.0 numpy==2.2.6
install --no-deps vector-quantize-pytorch==1.32.0 torch-einops-utils==0.2.0 einops==0.8.2 einx==0.4.3 frozendict==2.4.6 loguru==0.7.3 \
    sympy==1.14.0 mpmath==1.3.0
cat > "$folder/look.py" <<'PYTHON_END'
import torch
from loguru import logger
from vector_quantize_pytorch import VectorQuantize

logger.remove()
at_zero = {}
for count in (100, 1023, 1024):
    torch.manual_seed(0)
    quantizer = VectorQuantize(dim=16, codebook_size=1024, kmeans_init=True).train()
    rows = lambda: int((quantizer.codebook == 0).all(-1).sum())
    quantizer(torch.randn(1, count, 16))
    first = rows()
    for _ in range(20):
        quantizer(torch.randn(1, 1024, 16))
    at_zero[count] = first, rows()
    print(f"{count:5} vectors: {first:4} rows at zero, later {rows()}")
as_described = at_zero[100][0] == 924 and min(*at_zero[100], *at_zero[1023]) > 200 and at_zero[1024] == (0, 0)
raise SystemExit(0 if as_described else "this has changed: look again")
PYTHON_END
PYTHONPATH=$folder "$PYTHON" "$folder/look.py"
