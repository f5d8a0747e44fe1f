"""What every hostile input may cost: a documented error at most, 5 seconds, 512 MB."""

import contextlib
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

import tokenizers_zoo as tz

DOCUMENTED = (tz.InputError, tz.TokenError, tz.WeightsError, FileNotFoundError)
SECONDS, MEGABYTES = 5.0, 512
CEILING = 4 << 30  # bytes of address space above today's: what asks for more fails here, and not the machine


def fuzz(strategy: SearchStrategy[Any], call: Callable[[Any], Any], examples: int) -> None:
    """Calls with `examples` of a strategy, the same in every run. Raises what one ends in, if it is undocumented or dear."""

    # Without shrinking: what takes 5 s once would take an hour.
    checks, phases = list(HealthCheck), [Phase.generate]

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=checks, phases=phases)
    @given(strategy)
    def run(example: Any) -> None:
        frugally(call, example)

    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + CEILING, limits[1]))
    try:
        run()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def frugally(call: Callable[[Any], Any], example: Any) -> None:
    """One call. Raises AssertionError if it takes more than SECONDS of processor time or MEGABYTES above what was in use."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory is now what is in use
    before, start = _status("VmHWM"), time.process_time()
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.suppress(*DOCUMENTED):
            call(example)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, megabytes = time.process_time() - start, (_status("VmHWM") - before) / 2**20
    assert seconds < SECONDS and megabytes < MEGABYTES, f"{seconds:.1f} s, {megabytes:.0f} MB"  # noqa: PT018  one failure


def _stop(*_: Any) -> None:
    pytest.fail(f"more than {SECONDS} s")


def _status(field: str) -> int:
    """Bytes that Linux counts for this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10
