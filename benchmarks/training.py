"""Training throughput of the two tiny recipes: steps a second, share of the machine's matrix peak, and where the time goes.

    python benchmarks/training.py [dm-codec-tiny] [titok-tiny] --steps 10

Batches are random (the data costs a core less than 5 % of a step), teachers' features and perceptual weights too. Before and
after the adversary's start are measured apart. Steps run as `tokenizers-zoo fit` runs them: bfloat16 autocast, AdamW, clipping,
averaging.
"""

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

import timm
import torch
import yaml
from safetensors.torch import save_file
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tokenizers_zoo.trainers.cli import cli
from tokenizers_zoo.trainers.module import TokenizerModule

RECIPES = Path(__file__).parent.parent / "trainers"


def build(name: str, folder: Path) -> tuple[TokenizerModule, dict[str, torch.Tensor]]:
    """The recipe's module, and a random batch of its size."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    data = recipe["data"]["init_args"]
    data["data"] = str(folder)
    data.pop("teachers", None)
    recipe["model"]["tokenizer"] = str((RECIPES / recipe["model"]["tokenizer"]).resolve())
    recipe["trainer"] = {"accelerator": "cpu", "logger": False}
    for term in recipe["model"]["objective"].values():
        network = isinstance(term["loss"], dict) and term["loss"]["init_args"].get("network")
        if network:
            state = timm.create_model(network["init_args"]["name"]).state_dict()
            network["init_args"]["weights"] = str(folder / "network.safetensors")
            save_file({k: v for k, v in state.items() if "num_batches" not in k}, folder / "network.safetensors")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    module = cli(["-c", str(folder / "recipe.yaml")], run=False).model
    if "image_size" in data:
        return module, {"media": torch.rand(data["batch_size"], 3, data["image_size"], data["image_size"])}
    samples = int(data["seconds"] * data["sample_rate"])
    features = torch.randn(2, data["batch_size"], samples // 320, 384)
    return module, {"media": torch.randn(data["batch_size"], 1, samples) * 0.1, "speech": features[0], "text": features[1]}


class Steps:
    """What a trainer does in a step, without the trainer."""

    def __init__(self, module: TokenizerModule, batch: dict[str, torch.Tensor], adversarial: bool):
        self.module, self.batch = module, batch
        self.adversary = module.adversary if adversarial else None
        self.optimizers = module.configure_optimizers()[0]

    def __call__(self) -> None:
        module, media = self.module, self.batch["media"]
        with torch.autocast("cpu", torch.bfloat16):
            result = module(media)
            terms = module.objective(result, self.batch)
            judged = self.adversary.judge(result.output.float(), media) if self.adversary else None
            terms |= self.adversary.terms(result.output.float(), media) if self.adversary else {}
        if judged is not None:
            judged.backward()
        torch.stack(list(terms.values())).sum().backward()
        for optimizer in self.optimizers[: 2 if self.adversary else 1]:
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], module.clip)
            optimizer.step()
            optimizer.zero_grad()
        module.ema.update_parameters(module.tokenizer)


def peak() -> float:
    """Best of five bfloat16 products of 2,048 x 2,048, in FLOP/s."""
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def measure(name: str, adversarial: bool, steps: int, ceiling: float) -> dict[str, object]:
    """Steps a second and the five costliest operations."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        step = Steps(*build(name, Path(folder)), adversarial)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - start) / steps
    with profile(activities=[ProfilerActivity.CPU]) as run:
        step()
    events = sorted(run.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    share = counter.get_total_flops() / seconds / ceiling
    top = {e.key: f"{e.self_cpu_time_total / total:.0%}" for e in events[:5]}
    return {
        "recipe": name,
        "adversary": adversarial,
        "steps/s": round(1 / seconds, 2),
        "share of peak": round(share, 3),
        "top": top,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["dm-codec-tiny", "titok-tiny"])
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.backends.cuda.enable_flash_sdp(False)
    ceiling = peak()
    print(f"{torch.get_num_threads()} threads, bfloat16 matrix peak {ceiling / 1e9:.0f} GFLOP/s")
    for name in args.recipes:
        for adversarial in (False, True):
            print(json.dumps(measure(name, adversarial, args.steps, ceiling)))


if __name__ == "__main__":
    main()
