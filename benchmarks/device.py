"""Parity, speed, memory and training on one device; `device.sh` runs it, and says how to read what it writes."""

import argparse
import gc
import json
import logging
import math
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
import transformers
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from measure import computes
from rehearsal import local
from subjects import media_for
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.files import atomic_path
from tokenizers_zoo.provenance import commit, machine, versions
from tokenizers_zoo.quantizers import EMAVectorQuantizer, VectorQuantizer
from tokenizers_zoo.trainers.cli import cli

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ("dm-codec-tiny", "lm-spt-tiny", "titok-tiny")
EAGER: dict[str, tuple[bool, dict[str, Any]]] = {  # whether TF32 is allowed, arguments of `tz.load`
    "float32": (False, {}),
    "tf32": (True, {}),
    "bfloat16": (False, {"dtype": torch.bfloat16}),
}
COMPILED = {f"compiled {way}": (allowed, how | {"compile": True}) for way, (allowed, how) in EAGER.items() if way != "tf32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--steps", type=int, help="of training, at least 3 (default: 50; 3 on a CPU)")
    parser.add_argument("--batch", type=int, help="items of a training batch (default: the recipe's; 2 on a CPU)")
    parser.add_argument("--items", type=int, help="of 10 s, or images, that are encoded at a time (default: 16; 1 on a CPU)")
    parser.add_argument(
        "--published",
        nargs="*",
        help="for parity, with generated weights (default: dm-codec titok-l32; on a CPU dm-codec titok-s128)",
    )
    parser.add_argument("--speed", nargs="*", help="besides the embedded ones (default: those of `make bench`; on a CPU none)")
    parser.add_argument("--compiled", nargs="*", help="for speed, compiled (default: all of these; on a CPU titok-tiny)")
    parser.add_argument("--recipes", nargs="*", default=EMBEDDED)
    parser.add_argument("--limit", type=float, default=300, help="seconds after which no further part begins")
    parser.add_argument("-o", "--output", type=Path, default=Path("device.json"))
    args = parser.parse_args()
    on_cpu = args.device == "cpu"
    args.steps = args.steps or (3 if on_cpu else 50)
    args.items = args.items or (1 if on_cpu else 16)
    args.batch = args.batch or (2 if on_cpu else None)
    if args.published is None:
        args.published = ["dm-codec", "titok-s128" if on_cpu else "titok-l32"]
    if args.speed is None:
        args.speed = [] if on_cpu else ["titok-s128", "dm-codec", "lm-spt-12.5hz-24k"]
    measured = [*EMBEDDED, *args.speed]
    if args.compiled is None:
        args.compiled = ["titok-tiny"] if on_cpu else measured
    eager = {
        way: how
        for way, how in EAGER.items()
        if not on_cpu or way == "float32" or (way == "bfloat16" and computes(torch.bfloat16))
    }
    device = torch.device(args.device)
    found: dict[str, Any] = {"complete": False, "device": args.device, "machine": machine(), "commit": commit()}
    found |= {"versions": versions(), "cuda": torch.version.cuda, "options": {k: str(v) for k, v in vars(args).items()}}
    found |= {"parity": {}, "speed": {}, "training": {}, "compiled": {}, "memory_gb": {}, "seconds": {}, "skipped": []}
    parts: list[tuple[str, str, Callable[[], Any]]] = []
    for name in (*EMBEDDED, *args.published):
        parts.append(("parity", name, lambda name=name: parity(name, device, 1.0 if on_cpu and name in args.published else 5.0)))
    for name in measured:
        parts.append(("speed", name, lambda name=name: speed(name, device, args.items, eager)))
    for name in args.recipes:
        parts.append(("training", name, lambda name=name: training(name, device, args.steps, args.batch)))
    for name in args.compiled:
        compiled = {way: how for way, how in COMPILED.items() if way.removeprefix("compiled ") in eager}
        parts.append(("compiled", name, lambda name=name, ways=compiled: speed(name, device, args.items, ways)))
    began = time.perf_counter()
    for part, name, run in parts:
        start = time.perf_counter()
        if start - began > args.limit:
            found["skipped"].append(f"{part} {name}")
            continue
        free(device)
        found[part][name] = run()
        found["memory_gb"][f"{part} {name}"] = round(peak(device), 3)
        found["seconds"][f"{part} {name}"] = round(time.perf_counter() - start, 1)
        found["complete"] = (part, name) == parts[-1][:2]
        write(found, args.output)
        print(f"{part} {name}: {json.dumps(found[part][name])}", flush=True)
    write(found, args.output)


def write(found: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


def free(device: torch.device) -> None:
    gc.collect()
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> float:
    """GB."""
    on_device = device.type == "cuda"
    return torch.cuda.max_memory_allocated() / 2**30 if on_device else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions and products of float32 round to 10 bits."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = allowed
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


@torch.no_grad()
def fill(tokenizer: tz.Tokenizer, media: Tensor) -> None:
    """Codebooks near what they have to quantize: to a fresh one all codes may be equally far."""
    residual = tokenizer.encode_latents(media).flatten(0, 1)
    for stage in tokenizer.quantizer.modules() if tokenizer.quantizer else ():
        if isinstance(stage, EMAVectorQuantizer | VectorQuantizer):
            rows = stage.learner.embed[0] if isinstance(stage, EMAVectorQuantizer) else stage.embedding.weight
            picked = residual[torch.randint(len(residual), (len(rows),))]
            rows.copy_(picked + 0.3 * residual.std(0) * torch.randn_like(picked))
            residual = residual - stage.decode(stage.encode(residual[None]))[0]


def content(media: tz.Audio | tz.Images) -> Tensor:
    return media.waveform if isinstance(media, tz.Audio) else media.pixels


def changed(codes: Tensor, reference: Tensor) -> dict[str, float]:
    flips = codes.cpu() != reference.cpu()
    return {"all": float(flips.float().mean()), "first": float(flips[:, 0].float().mean()), "codes": flips.numel()}


def parity(name: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """Codes and decoded media of the CPU in float32 against those of the device; of three clips of `seconds`, or images."""
    tokenizer = tz.load(name) if name in EMBEDDED else tz.create(name).eval()
    media = media_for(tokenizer, 3, seconds)
    if name not in EMBEDDED:
        fill(tokenizer, media)
    reference = tokenizer.encode(media)
    decoded = content(tokenizer.decode(reference))
    tokenizer.to(device)
    found: dict[str, Any] = {}
    for key, allowed in (("tf32", True), ("exact", False)):
        with tf32(allowed):
            codes = tokenizer.encode(media).codes
            difference = (content(tokenizer.decode(reference)) - decoded).abs().max()
        found[key] = changed(codes, reference.codes) | {"decoded": float(difference)}
    with torch.autocast(device.type, torch.bfloat16):
        found["bfloat16"] = changed(tokenizer.encode(media).codes, codes)
    found["cast"] = changed(tokenizer.to(torch.bfloat16).encode(media).codes, codes)
    return found


def speed(name: str, device: torch.device, items: int, ways: dict[str, tuple[bool, dict[str, Any]]]) -> dict[str, Any]:
    """Seconds of audio, or images, a second in each way, and seconds of the first call of both; a way that fails is its error."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if name not in EMBEDDED:
            tz.create(name).save_pretrained(folder)
        for way, (allowed, how) in ways.items():
            try:
                tokenizer = tz.load(name if name in EMBEDDED else folder, device, **how)
                with tf32(allowed):
                    found[way] = rates(tokenizer, items, device)
            except ValueError as error:
                found[way] = str(error)
    return found


@torch.no_grad()
def rates(tokenizer: tz.Tokenizer, items: int, device: torch.device) -> dict[str, float]:
    """The median of three calls after one."""
    media = media_for(tokenizer, items)
    amount = items * (10.0 if isinstance(tokenizer, tz.AudioTokenizer) else 1.0)
    start = time.perf_counter()
    tokenizer.decode(tokens := tokenizer.encode(media))
    wait(device)
    found = {"first_seconds": time.perf_counter() - start}
    for key, call in (("encode", lambda: tokenizer.encode(media)), ("decode", lambda: tokenizer.decode(tokens))):
        times = []
        for _ in range(4):
            start = time.perf_counter()
            call()
            wait(device)
            times.append(time.perf_counter() - start)
        found[key] = amount / sorted(times[1:])[1]
    return found


class Clock(lightning.Callback):
    """Losses of every step, and the time at the start of those in `marks`."""

    def __init__(self, device: torch.device, marks: tuple[int, ...]):
        self.device, self.marks = device, marks
        self.losses: list[Tensor] = []
        self.times: dict[int, float] = {}

    def on_train_batch_start(self, trainer: lightning.Trainer, *args: Any) -> None:
        self._mark(trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(outputs["total"].detach())
        self._mark(trainer.global_step)  # the end of the last step

    def _mark(self, step: int) -> None:
        if step in self.marks and step not in self.times:
            wait(self.device)
            self.times[step] = time.perf_counter()


def training(name: str, device: torch.device, steps: int, batch: int | None) -> dict[str, Any]:
    """A run, the same again, and one with a break."""
    start, stop = max(1, steps // 2), max(1, 2 * steps // 3)
    warm = min(5, start // 2)
    marks = (warm, start, min(start + warm, steps - 1), steps)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = local(yaml.safe_load((ROOT / f"trainers/{name}.yaml").read_text()), folder, batch)
        recipe["model"]["adversary"]["start"] = start
        recipe["trainer"] = {"accelerator": "cpu", "logger": False, "precision": recipe["trainer"]["precision"]}
        recipe.pop("checkpoints", None)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))

        def run(end: int, resume: Path | None = None) -> Clock:
            made = cli(["-c", str(folder / "recipe.yaml")], run=False)
            clock = Clock(device, marks)
            trainer = lightning.Trainer(
                accelerator=device.type,
                devices=1,
                precision=recipe["trainer"]["precision"],
                max_steps=end,
                logger=False,
                limit_val_batches=0,
                check_val_every_n_epoch=None,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                default_root_dir=folder,
                callbacks=[clock, ModelCheckpoint(folder, "last", every_n_train_steps=stop, enable_version_counter=False)],
            )
            trainer.fit(made.model, made.datamodule, ckpt_path=resume, weights_only=True if resume else None)
            return clock

        whole, again = run(steps), run(steps)
        broken = run(stop)
        resumed = run(steps, folder / "last.ckpt")
    items = recipe["data"]["init_args"]["batch_size"]
    found: dict[str, Any] = {"steps": steps, "batch": items, "stopped_at": stop}
    for key, (first, last) in {"reconstruction": marks[:2], "with_adversary": marks[2:]}.items():
        speed = (last - first) / (whole.times[last] - whole.times[first]) if last > first else math.nan
        found[key] = {"steps_a_second": speed, "samples_a_second": items * speed}
    losses = torch.stack(whole.losses).double().cpu()
    found["last_loss"] = float(losses[-1])
    for key, parts in {"resumed_differs": [*broken.losses, *resumed.losses], "repeated_differs": again.losses}.items():
        found[key] = float(((torch.stack(parts).double().cpu() - losses) / losses).abs().max())
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    main()
