"""Time, memory, floating point operations, and what the machine could do at best."""

import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], Any]


@dataclass
class Measurement:
    """One measured call. amount: seconds of audio or images per call. ratio: median over rounds of time / time of our row."""

    group: str
    operation: str
    batch: int
    subject: str
    amount: float
    unit: str
    seconds: float
    ratio: float
    gflop: float
    peak_fraction: float
    memory_mb: float | None

    @property
    def throughput(self) -> float:
        return self.amount / self.seconds

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"throughput": self.throughput}


def interleaved(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round, the calls taking turns so that a busy machine slows all of them; one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> float:
    """Median over the rounds of time / time of `base`: above 1 where `base` is the faster."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def peak_memory(call: Call) -> float | None:
    """MB that the process's resident memory rises above its level before `call` (weights are loaded); None outside Linux."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)(0)  # what earlier calls freed would hide what this one takes
    before = _status("VmRSS")
    reset.write_text("5")
    call()
    return max(0, _status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[field].split()[0])


def gigaflop(call: Call, *modules: nn.Module) -> float:
    """10^9 floating point operations of `call`: matrix products and convolutions by FlopCounterMode, the LSTMs inside
    `modules` by 8 * hidden * (inputs + hidden) a step, layer and direction (the counter cannot see their fused kernel)."""
    with FlopCounterMode(display=False) as counter, _lstm_flops(modules) as recurrent:
        call()
    return (counter.get_total_flops() + sum(recurrent)) / 1e9


@contextmanager
def _lstm_flops(modules: tuple[nn.Module, ...]) -> Iterator[list[int]]:
    operations: list[int] = []

    def count(lstm: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        assert isinstance(lstm, nn.LSTM)
        ways, hidden = 1 + lstm.bidirectional, lstm.hidden_size
        widths = [lstm.input_size] + [ways * hidden] * (lstm.num_layers - 1)
        operations.append(inputs[0].shape[:-1].numel() * ways * sum(8 * hidden * (width + hidden) for width in widths))

    hooks = [part.register_forward_hook(count) for m in modules for part in m.modules() if isinstance(part, nn.LSTM)]
    yield operations
    for hook in hooks:
        hook.remove()


def matmul_peak(size: int = 2048, rounds: int = 10) -> float:
    """GFLOP/s of the fastest of `rounds` float32 products of `size` x `size` matrices."""
    a, b = torch.randn(2, size, size)
    return 2e-9 * size**3 / min(interleaved({"product": lambda: a @ b}, rounds)["product"])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "processor": lines[0].split(":")[1].strip() if lines else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
