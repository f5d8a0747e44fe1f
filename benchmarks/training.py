"""Training throughput of the tiny recipes: steps a second, share of the machine's matrix peak, and where the time goes.

    python benchmarks/training.py [dm-codec-tiny] [lm-spt-tiny] [titok-tiny] --steps 10 -o benchmarks/training.md

Batches are random (the data costs a core less than 5 % of a step), teachers' features and perceptual weights too. Before and
after the adversary's start are measured apart. Steps run as `tokenizers-zoo fit` runs them: bfloat16 autocast, AdamW, clipping,
averaging.

What profiles led to: attention by plain bfloat16 products where the CPU's flash kernel (slow in bfloat16) or products in
float32 would run, teachers' features from a cache instead of their forward pass, an adversary that hears 0.3 s of each clip.
What is left are products and convolutions of the model itself, and casts to bfloat16 (copy_).
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from rehearsal import local
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tokenizers_zoo.provenance import commit, machine
from tokenizers_zoo.trainers.cli import cli, plain_attention
from tokenizers_zoo.trainers.module import TokenizerModule

RECIPES = Path(__file__).parent.parent / "trainers"


def build(name: str, folder: Path) -> tuple[TokenizerModule, dict[str, torch.Tensor]]:
    """The recipe's module, and a random batch of its size."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    data = recipe["data"]["init_args"]
    data.pop("teachers", None)
    recipe = local(recipe, folder)
    recipe["trainer"] = {"accelerator": "cpu", "logger": False}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    module = cli(["-c", str(folder / "recipe.yaml")], run=False).model
    if "image_size" in data:
        return module, {"media": torch.rand(data["batch_size"], 3, data["image_size"], data["image_size"])}
    samples = int(data["seconds"] * data["sample_rate"])
    features = torch.randn(2, data["batch_size"], samples // 320, 384)
    return module, {"media": torch.randn(data["batch_size"], 1, samples) * 0.1, "speech": features[0], "language": features[1]}


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
            loss = torch.stack(list(terms.values())).sum()
            if self.adversary:
                judged = self.adversary.judge(result.output, media)
                loss = loss + judged.generator + judged.discriminator
        loss.backward()
        for optimizer in self.optimizers[: 2 if self.adversary else 1]:
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], module.clip)
            optimizer.step()
            optimizer.zero_grad()
        module.ema.update_parameters(module.tokenizer)


class Counter(FlopCounterMode):
    """Of all operations together: hooks that tell modules apart do not bear the gradient that an adversary takes on its way."""

    class Whole(contextlib.nullcontext[None]):
        parents = ("Global",)

    def __init__(self, **options: bool):
        super().__init__(**options)
        self.mod_tracker = self.Whole()


def peak() -> float:
    """Best of five bfloat16 products of 2,048 x 2,048, in FLOP/s."""
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def measure(name: str, adversarial: bool, steps: int, ceiling: float) -> str:
    """A row of the table: steps a second and the five costliest operations."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        step = Steps(*build(name, Path(folder)), adversarial)
    step()
    with Counter(display=False) as counter:
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    with profile(activities=[ProfilerActivity.CPU]) as run:
        step()
    events = sorted(run.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    share = counter.get_total_flops() / seconds / ceiling
    top = ", ".join(f"{e.key.removeprefix('aten::')} {e.self_cpu_time_total / total:.0%}" for e in events[:5])
    phase = "with adversary" if adversarial else "reconstruction"
    return f"| {name} | {phase} | {1 / seconds:.2f} | {share:.0%} | {top} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["dm-codec-tiny", "lm-spt-tiny", "titok-tiny"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, help="also write what is printed, e.g. benchmarks/training.md")
    args = parser.parse_args()
    plain_attention()
    ceiling = peak()
    lines = [
        f"Commit {commit()}, {machine()}, torch {torch.__version__}; bfloat16 matrix peak {ceiling / 1e9:.0f} GFLOP/s;",
        f"medians of {args.steps} steps. The share of the peak counts matrix products and convolutions.",
        "",
        "| recipe | phase | steps/s | share of peak | costliest operations |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in args.recipes:
        adversary = "adversary" in yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["model"]
        for adversarial in (False, True)[: 1 + adversary]:
            lines.append(measure(name, adversarial, args.steps, ceiling))
            print(lines[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
