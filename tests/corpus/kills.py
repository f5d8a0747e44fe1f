"""Runs of `tokenizers-zoo tokenize` in processes of their own, to be killed, and what holds of their folders."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from corpora import shards

from tokenizers_zoo.cli import main

SERVER = multiprocessing.get_context("forkserver")  # it has imported everything: a run is killed at its work
SERVER.set_forkserver_preload(["tokenizers_zoo.cli", "tokenizers_zoo.corpus"])
LONGEST = 900  # seconds that anything here is waited for


def _run(words: Sequence[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(main(list(words)))


def begin(words: Sequence[str]) -> BaseProcess:
    """A process that does what the command line with these words does."""
    process = SERVER.Process(target=_run, args=(words,))
    process.start()
    return process


def kill(process: BaseProcess) -> bool:
    """SIGKILL; whether it came before the process ended."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def whole(out: Path, expected: dict[str, bytes]) -> int:
    """How many shards are to be seen, each of them finished."""
    seen = {name: data for name, data in (shards(out) if out.exists() else {}).items() if name[0] != "."}
    assert seen.items() <= expected.items()
    return len(seen)


def another(out: Path, process: BaseProcess) -> bool:
    """Waits for the next shard; whether it came before the process ended."""
    before, deadline = len(list(out.glob("[!.]*.parquet"))), time.monotonic() + LONGEST
    while process.is_alive() and time.monotonic() < deadline:
        if len(list(out.glob("[!.]*.parquet"))) > before:
            return True
        time.sleep(0.002)
    return False
