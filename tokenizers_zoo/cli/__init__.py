"""`tokenizers-zoo VERB`: list, info, encode, decode, roundtrip, tokenize, import, eval, fit, validate, test, export.

Exit codes: 0 all done, 1 something could not be done (said on stderr), 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from . import parser, verbs

__all__ = ["main"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is answered as Ctrl-C is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    if argv is None:
        argv = sys.argv[1:]
        gc.freeze()  # what was imported is never garbage; looking through it takes a third of a second at the end alone
    try:
        argv = _imported(argv)
        if argv and argv[0] in parser.TRAINING:
            with _terminable():
                return verbs.train(argv)
        args = parser.build().parse_args(argv)
        with _terminable():
            verbs.check_options(args)
            code: int = args.run(args)
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has seen enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except verbs.ERRORS as error:
        return verbs.fail(error)
    except KeyboardInterrupt as stop:
        print(f"stopped{stop}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130


def _imported(argv: Sequence[str]) -> Sequence[str]:
    """Imports the modules that are named before the verb, from the working directory too, and returns the rest."""
    while len(argv) > 1 and argv[0] == "--import":
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        importlib.import_module(argv[1])
        argv = argv[2:]
    return argv


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises Terminated, so that threads end and half-written files go."""

    def stop(signum: int, frame: object) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signals
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
