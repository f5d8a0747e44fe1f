"""Time in turns, memory, floating point operations, and what the machine could do at best."""

import ctypes
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], Any]


def interleaved(calls: Mapping[str, Call], rounds: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of every call in every round, the calls taking turns so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(warm_ups + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_ >= warm_ups:
                times[name].append(time.perf_counter() - start)
    return times


class Budget:
    """Seconds for a known number of groups of calls: a group gets an equal share of what is left, and the cheap ones leave some.

    least, most: rounds of a group. A group whose first round says that `least` of them would pass the end is left out.
    """

    def __init__(self, seconds: float, groups: int, least: int = 3, most: int = 15):
        self.end, self.groups, self.least, self.most = time.perf_counter() + seconds, groups, least, most

    @property
    def left(self) -> float:
        return self.end - time.perf_counter()

    def measured(self, calls: Mapping[str, Call]) -> dict[str, list[float]] | None:
        """As `interleaved`, with as many rounds as there is time for; None where there is none."""
        share = self.left / max(self.groups, 1)
        self.groups -= 1
        if self.left <= 0:
            return None
        start = time.perf_counter()
        times = interleaved(calls, 1)
        cost = sum(seconds for (seconds,) in times.values())
        if cost * (self.least - 1) > self.left:
            return None
        rounds = int((share - (time.perf_counter() - start)) / cost)
        more = interleaved(calls, min(max(rounds, self.least - 1), self.most - 1), warm_ups=0)
        return {name: times[name] + more[name] for name in calls}


def ratios(times: Mapping[str, list[float]], name: str, base: str) -> list[float]:
    """Time / time of `base`, a number a round: above 1 where `base` is the faster."""
    return [a / b for a, b in zip(times[name], times[base], strict=True)]


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> float:
    """The median of `ratios`."""
    return statistics.median(ratios(times, name, base))


def interval(values: list[float]) -> tuple[float, float]:
    """Two of the values between which the median lies with a probability of 95 %, whatever the distribution; of fewer than six
    values, which cannot say that, the least and the largest."""
    count, outside, rank = len(values), 0.0, 0
    while (outside := outside + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    rank = max(rank - 1, 0)
    return sorted(values)[rank], sorted(values)[count - 1 - rank]


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


def matmul_peak(dtype: torch.dtype = torch.float32, size: int = 2048, rounds: int = 10) -> float:
    """GFLOP/s of the fastest of `rounds` products of `size` x `size` matrices."""
    a, b = torch.randn(2, size, size, dtype=dtype)
    return 2e-9 * size**3 / min(interleaved({"product": lambda: a @ b}, rounds)["product"])


def computes(dtype: torch.dtype) -> bool:
    """Whether products in `dtype` are at least half as fast as in float32: a CPU without such arithmetic emulates it."""
    return matmul_peak(dtype, 256, 3) > matmul_peak(torch.float32, 256, 3) / 2


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
