"""The systems that `official.py` knows: which variant of ours, how the authors' is built, and what stands in for what.

Nothing of tokenizers_zoo is imported here: the authors' environment reads this table, too.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from checkouts import Built, dualtoken, flextok, instella, kl16, speechtokenizer, titok, tokenbridge, tokenflow
from torch import nn


class System(NamedTuple):
    """variant: ours. build: of a checkout. size: seconds of speech, or pixels. given: shapes of what an item has besides media,
    in values of standard normal noise. root: of the checkout, what is imported from. needs: packages besides torch.
    stand_in: what replaces a part that a CPU, or today's packages, cannot run. overrides: of ours, where sizes are not published.
    batch: besides single items.
    """

    variant: str
    build: Callable[[Path], Built]
    size: float
    needs: str
    root: str = "."
    given: Mapping[str, tuple[int, ...]] = {}
    stand_in: str = ""
    overrides: Mapping[str, Any] = {}
    batch: int = 8


TABLES = re.compile(r"(embed|embedding|codebook)(\.weight)?$")


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Weights that depend on their key and shape alone, of a scale that keeps activations, and the rows of tables, near 1."""
    for key, value in module.state_dict().items():
        if value.is_floating_point() and "zero_" not in key:
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
            if value.ndim < 2 or key.endswith("weight_g"):
                value.copy_(0.1 * noise + key.endswith(("weight", "weight_g")))
            else:
                value.copy_(noise if value.ndim == 2 and TABLES.search(key) else noise / value[0].numel() ** 0.5)


LEVELS = {"codebook_size": 2048, "levels": 4}
SMALL: dict[str, dict[str, Any]] = {
    "encoder": {"image_size": 128, "width": 192, "depths": [2, 1, 4], "heads": 4, "hidden": 480},
    "quantizer.groups.pixel": LEVELS,
    "quantizer.groups.semantic": LEVELS,
    "decoder": {"image_size": 128, "width": 192, "channels": 64, "multipliers": [1, 1, 2, 2, 4]},
    "head": {"width": 192, "heads": 4, "hidden": 480},
}
TITOK = {
    **{f"titok-{name}": f"TiTok/titok_{name}" for name in ("s128", "b64", "l32")},
    **{f"titok-{name}-vq": f"TiTok/titok_{name}_vq8k" for name in ("bl64", "bl128", "sl256")},
    **{f"ta-titok-{name}-vq": f"TA-TiTok/tatitok_{name}_vq" for name in ("bl32", "bl64", "bl128")},
}
SYSTEMS = {
    "speechtokenizer": System("speechtokenizer", speechtokenizer, 10, "speechtokenizer==1.0.1 beartype lion-pytorch"),
    **{
        name: System(name, titok(file), 256, "omegaconf", given={"text": (77, 768)} if name.startswith("ta-") else {})
        for name, file in TITOK.items()
    },
    "flextok-d12-d12": System(
        "flextok-d12-d12", flextok, 256, "hydra-core diffusers mup", given={"noise": (16, 32, 32)}, batch=1
    ),
    "tokenflow-clipb": System(
        "tokenflow-clipb",
        tokenflow,
        224,
        "ftfy transformers==4.44.2",
        "tokenflow",
        stand_in="CLIP's tower built, not downloaded",
    ),
    "dualtoken-384": System(
        "dualtoken-384",
        dualtoken,
        128,
        "transformers==4.44.2",
        stand_in="small sizes, of which 640 M parameters are a multiple; SigLIP 2's tower built, not downloaded",
        overrides={f"{part}.{name}": value for part, values in SMALL.items() for name, value in values.items()},
    ),
    "kl-16": System("kl-16", kl16, 256, ""),
    "tokenbridge-kl16": System("tokenbridge-kl16", tokenbridge, 256, "torch-fidelity scipy"),
    "instella-bae": System(
        "instella-bae", instella, 256, "diffusers", stand_in="torch's attention for the fused CUDA kernel that transformers calls"
    ),
}
